"""Contact sheets of a data set: its first pairs, and the first candidates that were left out, with the reasons."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from labels4free.data.decoding import upright_rgb
from labels4free.errors import DataError
from labels4free.pictures.contact_sheet import contact_sheet, thumbnail
from labels4free.pictures.pixels import write_png
from labels4free.sampling.filters import NO_FILTERS
from labels4free.sampling.pair import PairRenderer
from labels4free.sampling.stream import Choice, finished_candidates
from labels4free.sampling.summary import CONTACT_SHEET, DROPPED_SHEET
from labels4free.sampling.uncertainty import UncertaintyConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from labels4free.data.pairs.record import Pair
    from labels4free.sampling.config import SampleConfig
    from labels4free.sampling.summary import Tally

_CELL = 192
_PREVIEWED = 24  # candidates whose pictures are kept for the sheets, which mostly need the first ones
_ALWAYS = ("image", "alpha", "mask")
_IF_ASKED = ("composite", "background", "cutout")


class Previews:
    """Small pictures of the first candidates, so that the sheets need not render them again. For any thread.

    Args:
        config: The data set's settings, which say what a sheet shows.

    Attributes:
        parts: What a sheet shows of each candidate.
    """

    def __init__(self, config: SampleConfig) -> None:
        self.parts = (*_ALWAYS, *(part for part in _IF_ASKED if part in config.parts))
        self._pictures: dict[int, list[NDArray[np.uint8]]] = {}

    def offer(self, pair: Pair) -> None:
        """Keep the pictures of a candidate, if a sheet may want them and they are all there."""
        if pair.record.index < _PREVIEWED and all(part in pair.pictures for part in self.parts):
            self.add(pair)

    def add(self, pair: Pair) -> None:
        """Keep the pictures of a candidate."""
        self._pictures[pair.record.index] = [_small(pair.pictures[part]) for part in self.parts]

    def missing(self, indices: Sequence[int]) -> list[int]:
        """The candidates whose pictures are not there."""
        return [index for index in indices if index not in self._pictures]

    def row(self, index: int) -> list[NDArray[np.uint8]]:
        """The pictures of a candidate, [192, 192, 3] each."""
        return self._pictures[index]


def write_sheets(renderer: PairRenderer, out: Path, tally: Tally, previews: Previews) -> None:
    """Write the contact sheets; candidates whose pictures are not at hand are rendered again.

    Args:
        renderer: The data set's.
        out: Its folder.
        tally: Knows which candidates the sheets show.
        previews: Pictures that are at hand; takes those that are rendered now.

    Raises:
        DataError: If a sheet cannot be written.
    """
    shown = [record.index for record in tally.first_kept] + [record.index for record, _ in tally.first_dropped]
    if missing := previews.missing(shown):
        config = dataclasses.replace(
            renderer.config,
            parts=previews.parts,
            filters=NO_FILTERS,
            uncertainty=UncertaintyConfig(),
            discriminator=None,
        )
        for _ in finished_candidates(PairRenderer(renderer.layered, config), missing, Choice(look=previews.add)):
            pass
    titles = list(previews.parts)
    kept = [(record.index, f"{record.index:05d}") for record in tally.first_kept]
    dropped = [(record.index, f"{record.index:05d} {reason}") for record, reason in tally.first_dropped]
    for name, rows in ((CONTACT_SHEET, kept), (DROPPED_SHEET, dropped)):
        if rows:
            pictures = [previews.row(index) for index, _ in rows]
            write_png(out / name, contact_sheet(pictures, titles, [title for _, title in rows], cell=_CELL))
        else:
            _remove(out / name)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path} cannot be removed: {error.strerror or error}.") from error


def _small(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """A picture of any part as RGB, no larger than a cell."""
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    return thumbnail(np.array(upright_rgb(Image.fromarray(np.ascontiguousarray(picture)))), _CELL)
