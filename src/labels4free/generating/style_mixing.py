"""Grids of mixed styles: one picture's coarse or fine layers in another picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labels4free.errors import ConfigError
from labels4free.generating.picture_folder import FileFormat, open_folder
from labels4free.generating.rendering import grid_cell, shrunk
from labels4free.generating.seed_ranges import format_numbers
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.pictures.pixels import write_png

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.generating.rendering import Renderer


@dataclass(frozen=True)
class Mixing:
    """What styles are mixed.

    Attributes:
        rows: Seeds of the pictures at the left edge.
        columns: Seeds of the pictures at the top edge.
        layers: Rows of ws that come from the column; none at all stands for :func:`usual_layers`.
        singles: Whether each mixed picture goes to a file of its own besides.
    """

    rows: Sequence[int]
    columns: Sequence[int]
    layers: Sequence[int] = ()
    singles: bool = False


def mixing_grid(
    renderer: Renderer,
    rows: Sequence[int],
    columns: Sequence[int],
    layers: Sequence[int],
    *,
    single: Callable[[int, int, NDArray[np.uint8]], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Style mixing: each row's picture, with some layers from each column's (arXiv 1812.04948, section 3.1).

    Args:
        renderer: Generator and settings.
        rows: Seeds of the pictures at the left edge, which give all other layers (and random noise).
        columns: Seeds of the pictures at the top edge, which give ``layers``.
        layers: Rows of ws that come from the column, from 0, coarse to fine.
        single: Called as ``single(row seed, column seed, uint8 [size, size, 3])`` for each mixed picture.
        progress: Called as ``progress(pictures done, their number)``.

    Returns:
        The grid, [H, W, 3], uint8 RGB, sources along the edges. Pictures are shrunk where it would exceed 64 million
        pixels.

    Raises:
        ConfigError: If rows, columns or layers are empty, or there is no such layer.
    """
    for what, numbers in (("rows", rows), ("columns", columns), ("layers", layers)):
        if not numbers:
            raise ConfigError(f"Style mixing needs rows, columns and layers; got no {what}.")
    check_layers(renderer, layers)
    total = (len(rows) + 1) * (len(columns) + 1) - 1
    cell = grid_cell(renderer.size, total + 1)
    done = 0

    def render(ws: Tensor, seed: int, other: int | None = None) -> NDArray[np.uint8]:
        nonlocal done
        picture = renderer.pictures(ws, renderer.noise_of([seed]))[0]
        if single and other is not None:
            single(seed, other, picture)
        done += 1
        if progress:
            progress(done, total)
        return shrunk(picture, cell)

    column_ws = [renderer.ws_of_seed(seed) for seed in columns]
    blank = np.full((cell, cell, 3), 255, dtype=np.uint8)
    grid = [[blank, *(render(ws, seed) for ws, seed in zip(column_ws, columns, strict=True))]]
    for seed in rows:
        ws = renderer.ws_of_seed(seed)
        pictures = [render(ws, seed)]
        for other, taken in zip(columns, column_ws, strict=True):
            mixed = ws.clone()
            mixed[:, list(layers)] = taken[:, list(layers)]
            pictures.append(render(mixed, seed, other))
        grid.append(pictures)
    titles = ["", *(f"seed {seed}" for seed in columns)], ["", *(f"seed {seed}" for seed in rows)]
    return contact_sheet(grid, *titles, cell=cell)


def usual_layers(num_ws: int) -> list[int]:
    """The layers that make pose and shape, rather than texture and colour: 0 to 6 of the 18 that 1024 pixels take."""
    return list(range(max(1, round(num_ws * 7 / 18))))


def write_mixing(
    renderer: Renderer,
    out: str | Path,
    mixing: Mixing,
    file_format: FileFormat | None = None,
    *,
    generator_name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a grid of mixed styles, ``mix_0-6.png`` for layers 0 to 6, into a folder of pictures.

    Args:
        renderer: Generator and settings.
        out: A new or empty folder, or one with pictures of the same settings and generator.
        mixing: What to mix; with its ``singles`` every mixed picture also goes to a file of its own,
            ``mix_0-6/seed00001_seed00010.png`` for row 1 and column 10.
        file_format: Of those files; None for PNG. The grid is always PNG.
        generator_name: Name of the generator for the manifest.
        progress: Called as ``progress(pictures done, their number)``.

    Returns:
        The grid's file.

    Raises:
        ConfigError: As :func:`mixing_grid`.
        RunError: If the folder holds something else.
        DataError: If a file cannot be written.
    """
    out, file_format = Path(out), file_format or FileFormat()
    check_layers(renderer, mixing.layers)
    layers = sorted(mixing.layers) or usual_layers(renderer.generator.num_ws)
    open_folder(out, renderer, None, file_format, generator_name)
    name = f"mix_{format_numbers(layers)}"

    def write(row: int, column: int, picture: NDArray[np.uint8]) -> None:
        file_format.write(out / name / f"seed{row:05d}_seed{column:05d}{file_format.ending}", picture)

    single = write if mixing.singles else None
    grid = mixing_grid(renderer, mixing.rows, mixing.columns, layers, single=single, progress=progress)
    write_png(out / f"{name}.png", grid)
    return out / f"{name}.png"


def check_layers(renderer: Renderer, layers: Sequence[int]) -> None:
    """See whether the generator has such layers.

    Raises:
        ConfigError: If not.
    """
    last = renderer.generator.num_ws - 1
    if any(not 0 <= layer <= last for layer in layers):
        raise ConfigError(f"This generator has layers 0 to {last} to mix, got {format_numbers(sorted(layers))}.")
