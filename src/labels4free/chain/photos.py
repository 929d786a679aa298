"""The photos that a chain begins with: how many can be read, how large they are, whether they will do."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from labels4free.data.images.dataset import ImageStore, open_source, shorter_sides
from labels4free.errors import ConfigError, DataError
from labels4free.training.generator.recipe import FEWEST_PHOTOS

if TYPE_CHECKING:
    from pathlib import Path

_LOOKED_AT = 500


def open_photos_of_class(path: Path, resolution: int) -> ImageStore:
    """Open a folder (or other store) of photos of one class, and see that they will do.

    Args:
        path: As for :func:`labels4free.data.images.dataset.open_images`.
        resolution: Side of the generator's images, in pixels.

    Raises:
        ConfigError: If most photos are smaller than the resolution.
        DataError: If there is nothing that can be read, or too little.
    """
    source = open_source(path, check_headers=True)
    if len(source) < FEWEST_PHOTOS:
        count = len(source)
        damaged = f" that can be read, and {len(source.skipped)} that cannot" if source.skipped else ""
        raise DataError(
            f"{path} has {count} image{'' if count == 1 else 's'}{damaged}; a generator needs some hundred photos of "
            f"one kind of thing to learn from, and begins with no fewer than {FEWEST_PHOTOS}: give more."
        )
    sides = shorter_sides(source, _LOOKED_AT)
    if not sides:
        raise DataError(f"{path} holds no readable image: those that were looked at are damaged.")
    small = sum(side < resolution for side in sides)
    if 2 * small > len(sides):
        middle = int(median(sides))
        fitting = 1 << (middle.bit_length() - 1)
        what = f"choose at most {fitting}" if fitting >= 8 else "give larger photos"
        raise ConfigError(
            f"A resolution of {resolution} is larger than {small} of the {len(sides)} photos that were looked at (the "
            f"shorter side is {middle} pixels in the middle of them): {what}."
        )
    return ImageStore(source, resolution)
