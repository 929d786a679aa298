"""What stands behind the object of a composite, where it is not the generator's: the user's pictures, or one colour."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import torch

from labels4free.data.images.dataset import open_images

if TYPE_CHECKING:
    from torch import Tensor

_CACHE_BYTES = 64 * 2**20


class PictureBackgrounds:
    """Pictures of a folder or another store, cropped to their central square and resized.

    A picture that cannot be read is passed over: the next readable one stands in for it.

    Args:
        path: The store, see :func:`labels4free.data.images.dataset.open_images`.
        resolution: Side of the pictures that are given out, in pixels.

    Raises:
        DataError: If there is none that can be read.
    """

    def __init__(self, path: str, resolution: int) -> None:
        self._path, self._resolution = path, resolution
        self._store = open_images(path, resolution, cache_bytes=_CACHE_BYTES)
        self._lock = threading.Lock()  # a store decodes on one thread at a time

    def __reduce__(self) -> tuple[type[PictureBackgrounds], tuple[str, int]]:
        return type(self), (self._path, self._resolution)  # locks stay in their process

    @property
    def digest(self) -> str:
        """SHA-256 over the names of the pictures, in their order: another set of pictures is another data set."""
        names = "\n".join(self._store.source.label(index) for index in range(len(self._store)))
        return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()

    def picture(self, draw: float) -> tuple[Tensor, tuple[str, ...]]:
        """The picture that a number in [0, 1) means.

        Returns:
            The picture [1, 3, R, R], about [-1, 1], on the CPU; and the names of those that were passed over for it.

        Raises:
            DataError: If no picture is readable any more.
        """
        count = len(self._store)
        first = min(int(draw * count), count - 1)
        with self._lock:
            picture = self._store.batch([first])
            passed: list[str] = []
            while (name := self._store.source.label((first + len(passed)) % count)) in self._store.skipped:
                passed.append(name)
        return picture, tuple(passed)


def solid_background(colour: tuple[int, int, int], resolution: int) -> Tensor:
    """One colour, 0 to 255 each, as an image [1, 3, R, R] in [-1, 1]."""
    return (torch.tensor(colour, dtype=torch.float32) / 127.5 - 1).view(1, 3, 1, 1).expand(1, 3, resolution, resolution)
