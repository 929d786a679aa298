"""What the verbs share that move pictures along a direction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from labels4free.generating.moves import Move
    from labels4free.generators.base import Generator


def parse_by(by: str) -> tuple[float, ...]:
    """Read --by.

    Raises:
        ConfigError: As :func:`labels4free.generating.moves.parse_degrees`.
    """
    from labels4free.generating.moves import parse_degrees

    return parse_degrees(by)


def read_move(directions: Path | None, number: int, degrees: tuple[float, ...], generator: Generator) -> Move:
    """The move that --directions, --direction and --by ask for.

    Args:
        directions: A file or folder; None for SeFa's directions of all layers.
        number: Of the direction.
        degrees: How far.
        generator: What they are to fit.

    Raises:
        CheckpointError: If the file cannot be read, or is of another generator.
        ConfigError: If there is no such direction.
    """
    from labels4free.generating.directions import read_directions, sefa
    from labels4free.generating.moves import Move

    found = sefa(generator) if directions is None else read_directions(directions, generator)
    return Move(str(number), found.step(number, generator.num_ws), degrees)


def alpha_of(generator: str, alpha: str | None) -> str | None:
    """The alpha network to use: what --alpha says, or that which ships for a model of the zoo, or none."""
    from labels4free.checkpoints.model_zoo import MODELS

    return alpha or (generator if generator in MODELS else None)


def check_folder(out: Path) -> None:
    """Refuse a folder to write to that is a file.

    Raises:
        ConfigError: If it is one.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out names the file {out}; give a folder.")
