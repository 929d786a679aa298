"""Seeds or latents in, pictures out: images alone, without masks."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from PIL import Image

from labels4free.data.parallel import threaded_map
from labels4free.errors import ConfigError, DataError
from labels4free.generating.latent_files import read_latents, write_latents
from labels4free.generating.picture_folder import FileFormat, open_folder
from labels4free.generating.rendering import shrunk
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.pictures.pixels import write_png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.generating.rendering import Renderer
    from labels4free.generators.base import Generator

CONTACT_SHEET = "contact_sheet.png"
LATENTS = "latents.npz"

_WRITERS = 2
_SHEET_COLUMNS, _SHEET_PICTURES, _SHEET_CELL = 8, 64, 160


@dataclass(frozen=True, eq=False)
class Sources:
    """What pictures are made of: seeds, and latents from files behind them.

    Attributes:
        seeds: Different seeds, from 0 to 2^32 - 1; the styles of seed s are ``generator.draw_ws(s, 0)``.
        latents: [N, num_ws, w_dim]; None is as good as N = 0.
    """

    seeds: Sequence[int] = ()
    latents: Tensor | None = None

    @classmethod
    def read(cls, seeds: Sequence[int], files: Iterable[str | Path], generator: Generator) -> Self:
        """Seeds, and behind them the latents of files.

        Raises:
            DataError, CheckpointError: As :func:`labels4free.generating.latent_files.read_latents`.
        """
        latents = [read_latents(path, generator) for path in files]
        return cls(seeds, torch.cat(latents) if latents else None)

    def __len__(self) -> int:
        return len(self.seeds) + (0 if self.latents is None else len(self.latents))

    def name(self, k: int) -> str:
        """Name of picture k, without an ending: ``seed00042``, or ``latent00000`` by the place in the files."""
        count = len(self.seeds)
        return f"seed{self.seeds[k]:05d}" if k < count else f"latent{k - count:05d}"

    def number(self, k: int) -> int:
        """What random noise of picture k is drawn from: its seed, or its place in the files."""
        return self.seeds[k] if k < len(self.seeds) else k - len(self.seeds)

    def ws(self, k: int, renderer: Renderer) -> Tensor:
        """Styles of picture k, truncated, [1, num_ws, w_dim]."""
        if k < len(self.seeds):
            return renderer.ws_of_seed(self.seeds[k])
        assert self.latents is not None
        at = k - len(self.seeds)
        return renderer.truncate(self.latents[at : at + 1])


@dataclass(frozen=True)
class ImagesSummary:
    """What :func:`generate_images` made.

    Attributes:
        out: The folder.
        num: Pictures that were asked for; all are there now.
        rendered: Pictures rendered by this call; the others were there.
        seconds: Duration of this call.
    """

    out: Path
    num: int
    rendered: int
    seconds: float

    @property
    def contact_sheet(self) -> Path:
        """The file with the first pictures side by side."""
        return self.out / CONTACT_SHEET


def generate_images(
    renderer: Renderer,
    out: str | Path,
    sources: Sources,
    file_format: FileFormat | None = None,
    *,
    generator_name: str | None = None,
    save_latents: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImagesSummary:
    """Render pictures into a folder, one file for each seed and latent; those that it already has are left alone.

    A picture depends on its seed and the settings alone: on a CPU to the byte, on an accelerator up to the rounding of
    its batched arithmetic. Every file appears whole or not at all.

    Args:
        renderer: Generator and settings.
        out: A new or empty folder, or one with pictures of the same settings, generator and latents, where missing
            ones are added. It gets a contact sheet of the first 64 as well.
        sources: What to render.
        file_format: Of the pictures; None for PNG.
        generator_name: Name of the generator for the manifest.
        save_latents: Write all ws, as they were rendered, into ``latents.npz``.
        progress: Called as ``progress(pictures done, their number)`` at the start and after every picture.

    Raises:
        ConfigError: If there is nothing to render.
        RunError: If the folder holds something else.
        DataError: If a file cannot be written, for example because no space is left.
    """
    start, out, file_format = time.monotonic(), Path(out), file_format or FileFormat()
    if not len(sources):
        raise ConfigError("There is nothing to render: give seeds, latents or both.")
    open_folder(out, renderer, sources.latents, file_format, generator_name)
    paths = [out / f"{sources.name(k)}{file_format.ending}" for k in range(len(sources))]
    missing = [k for k, path in enumerate(paths) if not path.is_file()]
    done = len(sources) - len(missing)
    if progress:
        progress(done, len(sources))

    def write(made: tuple[int, NDArray[np.uint8]]) -> None:
        file_format.write(paths[made[0]], made[1])

    # In threads, while the next pictures are rendered.
    with closing(threaded_map(write, _render(renderer, sources, missing), _WRITERS, 2 * _WRITERS)) as files:
        for _ in files:
            done += 1
            if progress:
                progress(done, len(sources))
    if save_latents:
        ws = (sources.ws(k, renderer) for k in range(len(sources)))
        numbers = [*sources.seeds, *[-1] * (len(sources) - len(sources.seeds))]
        write_latents(out / LATENTS, ws, numbers, renderer.generator.w_avg)
    _write_sheet(out, paths[:_SHEET_PICTURES], sources)
    return ImagesSummary(out, len(sources), len(missing), time.monotonic() - start)


def _render(renderer: Renderer, sources: Sources, wanted: list[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    for first in range(0, len(wanted), renderer.batch_size):
        batch = wanted[first : first + renderer.batch_size]
        ws = torch.cat([sources.ws(k, renderer) for k in batch])
        yield from zip(batch, renderer.pictures(ws, renderer.noise_of([sources.number(k) for k in batch])), strict=True)


def _write_sheet(out: Path, paths: list[Path], sources: Sources) -> None:
    """The first pictures as they are on disk, each row with the name of its first."""
    cells = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                cells.append(shrunk(np.array(picture.convert("RGB")), _SHEET_CELL))
        except OSError as error:
            raise DataError(f"{path} is damaged ({error}): remove it, and the same command makes it again.") from error
    starts = range(0, len(cells), _SHEET_COLUMNS)
    rows = [cells[k : k + _SHEET_COLUMNS] for k in starts]
    write_png(out / CONTACT_SHEET, contact_sheet(rows, (), [sources.name(k) for k in starts], cell=_SHEET_CELL))
