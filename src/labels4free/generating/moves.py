"""Pictures moved along a direction in w, by degrees: what grids, films and edits of directions are made of."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from labels4free.errors import ConfigError
from labels4free.generating.images import Sources
from labels4free.generating.picture_folder import FileFormat, open_folder
from labels4free.generating.rendering import grid_cell, shrunk
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.pictures.pixels import write_png

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from labels4free.generating.rendering import Renderer

LARGEST_DEGREE = 1000.0
"""Beyond it no generator shows anything, and arithmetic ends a little later."""

_MOST = 1000
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::({_NUMBER}))?", re.ASCII)


def parse_degrees(text: str) -> tuple[float, ...]:
    """Read degrees: numbers and ranges with commas between them, such as ``-3..3``, ``-3..3:0.5`` or ``-5,0,5``.

    A range has both its ends and goes by steps of 1, or of what stands behind the colon; it may fall.

    Raises:
        ConfigError: If there is none, a part is neither a number nor a range, a step is not positive or does not lead
            to the range's end, a degree is not finite or beyond 1000, one comes twice, or there are more than 1000.
    """
    degrees: list[float] = []
    for part in (part.strip() for part in text.split(",")):
        match = _RANGE.fullmatch(part)
        degrees += _range(part, *match.groups()) if match else [_number(part)]
        if len(degrees) > _MOST:
            raise ConfigError(f"There may be {_MOST} degrees at once, {text[:40]!r} asks for more.")
    check_degrees(degrees)
    return tuple(degrees)


def check_degrees(degrees: Sequence[float]) -> None:
    """See whether something can be moved by these degrees.

    Raises:
        ConfigError: If there is none, one is not finite or beyond 1000, or one comes twice.
    """
    if not degrees:
        raise ConfigError("Say by how many degrees to move, such as -3..3.")
    if wrong := [degree for degree in degrees if not abs(degree) <= LARGEST_DEGREE]:  # NaN is not, either
        raise ConfigError(f"Degrees lie in [-{LARGEST_DEGREE:g}, {LARGEST_DEGREE:g}], got {wrong[0]:g}; 3 is usual.")
    if len(set(degrees)) < len(degrees):
        twice = next(degree for degree in degrees if degrees.count(degree) > 1)
        raise ConfigError(f"Degrees must differ, {twice:g} comes twice.")


@dataclass(frozen=True)
class Move:
    """A direction, and how far to go along it.

    Attributes:
        name: Of the direction, for titles and files: its number.
        step: [num_ws, w_dim], what one degree adds to ws, see :meth:`Directions.step`.
        degrees: One picture each, as in rosinality's ``apply_factor.py``: ``w + degree * direction``, and truncated
            then, so that with a truncation_psi of 0.5 a picture goes half as far.

    Raises:
        ConfigError: As :func:`check_degrees`.
    """

    name: str
    step: Tensor
    degrees: tuple[float, ...]

    def __post_init__(self) -> None:
        check_degrees(self.degrees)


@dataclass(frozen=True, eq=False)
class MovedSources(Sources):
    """What pictures are made of, each moved by every degree in turn: all of the first, then all of the second.

    Attributes:
        move: Direction and degrees.
    """

    move: Move | None = None

    @classmethod
    def of(cls, sources: Sources, move: Move) -> MovedSources:
        """Sources, moved."""
        return cls(sources.seeds, sources.latents, move)

    @property
    def degrees(self) -> tuple[float, ...]:
        """Those of the move; 0 alone where there is none."""
        return (0.0,) if self.move is None else self.move.degrees

    def __len__(self) -> int:
        return super().__len__() * len(self.degrees)

    def name(self, k: int) -> str:
        """Name of picture k, without an ending: ``seed00042_by+3``."""
        source, degree = self._parts(k)
        return f"{super().name(source)}_by{signed(degree)}"

    def number(self, k: int) -> int:
        return super().number(self._parts(k)[0])

    def ws(self, k: int, renderer: Renderer) -> Tensor:
        source, degree = self._parts(k)
        config, ws = renderer.config, super().ws(source, renderer)
        psi = renderer.psi if source < len(self.seeds) else config.truncation_psi
        scale = torch.full((renderer.generator.num_ws, 1), 1.0 if psi is None else psi)
        if config.truncation_cutoff is not None:
            scale[config.truncation_cutoff :] = 1
        return ws if self.move is None else ws + (degree * scale * self.move.step).to(ws)

    def _parts(self, k: int) -> tuple[int, float]:
        source, at = divmod(k, len(self.degrees))
        return source, self.degrees[at]


def write_moves(
    renderer: Renderer,
    out: str | Path,
    sources: Sources,
    move: Move,
    *,
    generator_name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a grid, ``direction_3.png``, into a folder of pictures: each picture in a row, each degree in a column.

    Args:
        renderer: Generator and settings.
        out: A new or empty folder, or one with pictures of the same settings, generator and latents.
        sources: What to move.
        move: Along which direction, and how far.
        generator_name: Name of the generator for the manifest.
        progress: Called as ``progress(pictures done, their number)``.

    Returns:
        The grid's file. Its pictures are shrunk where it would exceed 64 million pixels.

    Raises:
        ConfigError: If there is nothing to move.
        RunError: If the folder holds something else.
        DataError: If a file cannot be written.
    """
    if not len(sources):
        raise ConfigError("There is nothing to move: give seeds, latents or both.")
    out, moved, columns = Path(out), MovedSources.of(sources, move), len(move.degrees)
    open_folder(out, renderer, sources.latents, FileFormat(), generator_name)
    cell, pictures = grid_cell(renderer.size, len(moved)), []
    for k in range(len(moved)):
        made = renderer.pictures(moved.ws(k, renderer), renderer.noise_of([moved.number(k)]))[0]
        pictures.append(shrunk(made, cell))
        if progress:
            progress(k + 1, len(moved))
    rows = [pictures[first : first + columns] for first in range(0, len(moved), columns)]
    titles = list(map(signed, move.degrees)), [sources.name(k) for k in range(len(sources))]
    path = out / f"direction_{move.name}.png"
    write_png(path, contact_sheet(rows, *titles, cell=cell))
    return path


def signed(degree: float) -> str:
    """A degree as titles and files have it: +3, -1.5, 0."""
    return f"{degree:+g}" if degree else "0"


def fingerprint(*tensors: Tensor) -> str:
    """SHA-256 over the numbers of tensors, in hexadecimal."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            f"Degrees are numbers and ranges with commas between them, such as -3..3 or -5,0,5; got {text[:40]!r}."
        ) from None


def _range(part: str, first: str, last: str, step: str | None) -> list[float]:
    """The degrees of a range, rounded so that -0.3..0.3:0.1 has a 0."""
    begin, end, width = float(first), float(last), 1.0 if step is None else float(step)
    steps = abs(end - begin) / width if width > 0 else math.nan
    if not (steps <= _MOST and abs(steps - round(steps)) < 1e-6):
        raise ConfigError(
            f"A range of degrees goes from one to another by steps that lead there, at most {_MOST}, such as -3..3 or "
            f"-3..3:0.5; got {part[:40]!r}."
        )
    return [round(begin + math.copysign(k * width, end - begin), 9) for k in range(round(steps) + 1)]
