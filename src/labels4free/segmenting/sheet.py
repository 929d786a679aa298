"""A sheet of segmented photos beside their cut-outs, those first of which the segmenter is least sure."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from labels4free.pictures.contact_sheet import caption, captioned_sheet, thumbnail
from labels4free.segmenting.cutout import Cutout

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_PHOTOS = 300
"""Photos on a sheet at most. It is then 2,400 x 20,000 pixels; JPEG ends at 65,535."""

_CELL = 192
_ABREAST = 3
_COLUMNS = ("", "photo", "cut-out")
_BEHIND = "#2d4fc8"
_WORDS = "The least certain first: 1 is where alpha is 0 or 1 everywhere, 0 where nothing was found."


class _Block(NamedTuple):
    """What a photo has on the sheet, in the order of the sheet."""

    certainty: float
    number: int
    name: str
    pictures: tuple[NDArray[np.uint8], NDArray[np.uint8]]


class LeastCertain:
    """Collects segmented photos, as small pictures, and draws those that most need a look.

    Args:
        most: Photos to keep at most: the least certain.
    """

    def __init__(self, most: int = MOST_PHOTOS) -> None:
        self._most = most
        self._blocks: list[_Block] = []
        self._seen = 0

    def __len__(self) -> int:
        """How many photos are on the sheet."""
        return len(self._blocks)

    def add(self, name: str, cutout: Cutout) -> None:
        """Take note of a photo.

        Args:
            name: What it is called on the sheet.
            cutout: The segmented photo.
        """
        small = Cutout(thumbnail(cutout.photo, _CELL), thumbnail(cutout.alpha, _CELL))
        pictures = (small.photo, np.asarray(small.over(_BEHIND)))
        # The number decides between equals, so that pictures are never compared.
        bisect.insort(self._blocks, _Block(cutout.certainty, self._seen, name, pictures))
        del self._blocks[self._most :]
        self._seen += 1

    def draw(self) -> NDArray[np.uint8]:
        """Draw the sheet, [H, W, 3], uint8 RGB.

        Raises:
            DataError: If no photo was added.
        """
        blocks = [
            [caption(f"{rank}. {block.name}", [f"certainty {block.certainty:.3f}"], _CELL), *block.pictures]
            for rank, block in enumerate(self._blocks, start=1)
        ]
        kept, seen = len(blocks), self._seen
        shown = f"The {kept} least certain of {seen} photos." if kept < seen else f"Photos: {seen}."
        return captioned_sheet(blocks, _COLUMNS, [f"{shown} {_WORDS}"], _ABREAST, _CELL)
