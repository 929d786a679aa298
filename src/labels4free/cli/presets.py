"""``labels4free presets``: the settings that training knows by name."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg


def run(name: Annotated[Positional[str | None], arg(metavar="[NAME]", help_behavior_hint="")] = None) -> None:
    """List the presets of "labels4free train" and "train-generator", or print one with every field and what it means.

    What is printed is a file for --config: labels4free presets ffhq-single-gpu > my.toml

    Args:
        name: The preset to print.
    """
    from labels4free.training.config_file import as_toml
    from labels4free.training.presets import preset_named

    if name is None:
        _list()
        return
    preset = preset_named(name)
    size = f" For generators of {preset.resolution}x{preset.resolution} pixels." if preset.resolution else ""
    print(f"# {preset.name}: {preset.source}{size}\n{as_toml(preset.config)}", end="")


def _list() -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from labels4free.training.presets import PRESETS

    headings = ("name", "recipe", "generator", "source")
    rows = [
        (p.name, p.recipe, f"{p.resolution}x{p.resolution}" if p.resolution else "any", p.source)
        for p in PRESETS.values()
    ]
    console = Console()
    if console.is_terminal:
        table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:  # one line a preset, fields parted by tabs, for other programs
        print("\n".join("\t".join(row) for row in (headings, *rows)))
