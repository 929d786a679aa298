"""Photos of any shape, by index, from any store: for whoever looks at whole photos, and not at central squares."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from labels4free.data.decoding import decode_image
from labels4free.data.images.dataset import ImageStore, open_source
from labels4free.ops.photo_scaling import working_shape

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


_DECODING = threading.Lock()


class SharedStore(ImageStore):
    """An :class:`ImageStore` that several threads may use, which then decode in turns."""

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        with _DECODING:
            return super()._pixels(index)


class PhotoStore(SharedStore):
    """All images of a store at their own aspect; :func:`open_photos` makes one.

    As :class:`SharedStore`, but nothing is cropped: the longer side is R pixels, the other in
    proportion, resized by Lanczos as a segmenter does it with the photos that it is given.
    """

    def photo(self, index: int) -> NDArray[np.uint8]:
        """One photo, [H, W, 3], uint8 RGB; the longer side is R.

        Raises:
            IndexError: If there is no such index; negative ones count from the end.
            DataError: If no photo is readable any more.
        """
        return self._pixels(index)

    def _decode(self, encoded: bytes, label: str) -> NDArray[np.uint8]:
        whole = Image.fromarray(decode_image(encoded, None, label))
        size = working_shape(*whole.size, self.resolution)
        return np.asarray(whole if whole.size == size else whole.resize(size, Image.Resampling.LANCZOS))


def open_shared(path: str | Path, resolution: int) -> SharedStore:
    """:func:`labels4free.data.images.dataset.open_images` for several threads."""
    return SharedStore(open_source(path, resolution, check_headers=True), resolution)


def open_photos(path: str | Path, resolution: int) -> PhotoStore:
    """Open photos, whichever way they are kept.

    Args:
        path: As for :func:`labels4free.data.images.dataset.open_images`.
        resolution: Longer side R of the photos, in pixels.

    Raises:
        DataError: If there is nothing that can be read, or the store is unfinished.
    """
    return PhotoStore(open_source(path, resolution, check_headers=True), resolution)
