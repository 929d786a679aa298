"""``labels4free inspect``: what a checkpoint file is and holds, and a picture of what it makes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg, configure

from labels4free.checkpoints.contents import describe, ignored_rows, settings_row
from labels4free.cli.progress import progress_bar
from labels4free.cli.tables import print_table
from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from labels4free.checkpoints.contents import Checkpoint
    from labels4free.generators.base import Generator


@configure(FlagCreatePairsOff)
def run(
    file: Annotated[Positional[str], arg(metavar="FILE")],
    *,
    picture: Annotated[Path | None, arg(metavar="PNG", help_behavior_hint="")] = None,
    no_picture: bool = False,
) -> None:
    """Say what a checkpoint is and what is inside, and draw a picture with it. No code of the file is run.

    Args:
        file: A checkpoint: native, or of any format that "convert" takes.
            Also the folder of a finished training run, or a name of the model zoo.
        picture: Where to write samples of the generator, the same without their objects and, with an alpha network,
            their masks. By default FILE's name with .inspect.png, in the current folder.
        no_picture: Render nothing and write nothing.
    """
    if picture is not None and no_picture:
        raise ConfigError("Give --picture or --no-picture, not both.")
    from labels4free.checkpoints.loading import read_checkpoint

    checkpoint = read_checkpoint(file)
    print_table([("file", str(checkpoint.path)), *describe(checkpoint), *_origin(checkpoint), *_settings(checkpoint)])
    if no_picture:
        return
    generator = checkpoint.generator or _generator_of(checkpoint)
    if generator is None:
        print("No picture: it takes a generator, which is not in this file.", file=sys.stderr)
        return
    _draw(checkpoint, generator, picture or Path(f"{checkpoint.path.stem}.inspect.png"))


def _origin(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Where a native file comes from, what was left out of a foreign one, and what to know about it."""
    info = checkpoint.info
    words = ("source", "source_sha256", "source_format", "licence", "credit", "reference")
    rows = [(word.replace("_", " "), info[word]) for word in words if word in info]
    own = checkpoint.made_for.get("name")
    rows += [("trained on", own)] if own else []
    rows += [("left out", f"{entries} ({reason})") for entries, reason in ignored_rows(checkpoint.ignored)]
    rows += [("note", note) for note in (*checkpoint.notes, *info.get("notes", []))]
    return [(name, str(value)) for name, value in rows]


def _settings(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """The settings of the training that wrote the file, as far as it keeps them."""
    words = settings_row(checkpoint.settings)
    return [("training settings", words)] if words else []


def _generator_of(checkpoint: Checkpoint) -> Generator | None:
    """The generator that an alpha network was trained on, if it is at hand and has the right weights."""
    from labels4free.checkpoints import model_zoo
    from labels4free.checkpoints.loading import generator_name_of, load_generator
    from labels4free.checkpoints.state_hash import state_hash

    if checkpoint.alpha_network is None:
        return None
    name = generator_name_of(checkpoint)
    if name is None or (name in model_zoo.MODELS and not model_zoo.is_fetched(name)):
        return None
    generator = load_generator(name)
    return generator if state_hash(generator) == checkpoint.made_for.get("state_hash") else None


def _draw(checkpoint: Checkpoint, generator: Generator, picture: Path) -> None:
    from labels4free.checkpoints.self_check import self_check
    from labels4free.pictures.pixels import write_png

    with progress_bar("Rendering") as update:
        check = self_check(
            generator, checkpoint.discriminator, checkpoint.alpha_network, what=str(checkpoint.path), progress=update
        )
    write_png(picture, check.picture)
    print(f"Picture: {picture}")
    for warning in check.warnings:
        print(f"Unusual: {warning}", file=sys.stderr)
