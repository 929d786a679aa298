"""The pages of pictures that ``test_sample.py`` of RameenAbdal/Labels4Free writes: sixteen samples each, in a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from labels4free.data.pairs.formats import read_pairs
from labels4free.data.parallel import batches
from labels4free.pictures.pixels import write_png

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

GRIDS = "grids"
"""Folder of the pages, in the data set's."""

GRID_NAMES = {
    "composite": "composite",
    "alpha": "alpha_mask",
    "image": "original",
    "background": "background",
    "mask": "hard_mask",
}
"""Part -> what its pages are called there."""

_SAMPLES = 16  # its default batch
_PADDING = 2  # black, as torchvision's save_image draws it


def write_grids(out: Path) -> int:
    """Write the pages of a finished data set: ``grids/000000_composite.png`` and so on, for the parts that it has.

    Args:
        out: The data set's folder.

    Returns:
        How many pages each part has.

    Raises:
        DataError: If the data set cannot be read, or a page cannot be written.
    """
    page = 0
    for page, pairs in enumerate(batches(read_pairs(out), _SAMPLES), start=1):
        for part, name in GRID_NAMES.items():
            if all(part in pair.pictures for pair in pairs):
                pictures = [_eight_bits(pair.pictures[part]) for pair in pairs]
                write_png(out / GRIDS / f"{page - 1:06d}_{name}.png", grid(pictures))
    return page


def grid(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one size, [H, W, 3] or [H, W], in rows of at most four with black lines around each.

    Returns:
        uint8, [H', W', 3] or [H', W'].
    """
    columns = min(int(_SAMPLES**0.5), len(pictures))
    rows = -(-len(pictures) // columns)
    height, width, *colours = pictures[0].shape
    size = (rows * (height + _PADDING) + _PADDING, columns * (width + _PADDING) + _PADDING, *colours)
    page = np.zeros(size, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        y = _PADDING + number // columns * (height + _PADDING)
        x = _PADDING + number % columns * (width + _PADDING)
        page[y : y + height, x : x + width] = picture
    return page


def _eight_bits(picture: NDArray[Any]) -> NDArray[np.uint8]:
    return (picture // 257).astype(np.uint8) if picture.dtype == np.uint16 else picture.astype(np.uint8)
