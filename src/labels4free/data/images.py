"""Images for training, by index, from any store; conversions between uint8 RGB files and image tensors."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from labels4free.data.decoding import decode_image
from labels4free.data.image_formats import open_source
from labels4free.errors import DataError
from labels4free.files import write_atomically, write_failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.data.image_store import ImageSource

_logger = logging.getLogger(__name__)

_NAMED_IN_WARNING = 5
_CACHE_BYTES = 256 * 2**20


class ImageStore:
    """All images of a store, square and of one size, by index. :func:`open_images` makes one.

    An image is decoded by the rule of ``data/decoding.py`` (turned upright, laid on white where it is transparent,
    8-bit RGB), cropped to its central square and resized: by area averaging where it shrinks, as composites are
    reduced, so that sharpness does not tell the two apart; by Lanczos where it grows.

    Images that cannot be read are skipped. Damage shows when an image is first used, and the next readable one then
    takes its place, so that an index always gives the same image. Images beyond Pillow's limit against decompression
    bombs (89 million pixels) count as unreadable.

    A store can be pickled and lives through a fork: each process opens its files for itself, on first use. Within a
    process one thread at a time may decode: Python's filters of warnings, set meanwhile, are one for all threads.

    Args:
        source: The encoded images.
        resolution: Side R of the images, in pixels.
        cache_bytes: Decoded images are kept in memory up to this many bytes (3 R^2 each).

    Attributes:
        path: Where the store lies.
        skipped: What an image is called -> why it cannot be used, as far as is known yet.
    """

    def __init__(self, source: ImageSource, resolution: int, *, cache_bytes: int = _CACHE_BYTES) -> None:
        _check_resolution(resolution)
        self.source, self.path = source, source.path
        self.resolution = resolution
        self.skipped: dict[str, str] = dict(source.skipped)
        self._cache_bytes = self._room = cache_bytes
        self._cache: dict[int, NDArray[np.uint8]] = {}
        if self.skipped:
            self._warn(list(self.skipped))

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Tensor:
        """One image, [3, R, R], float32 in [-1, 1].

        Raises:
            IndexError: If there is no such index; negative ones count from the end.
            DataError: If no image is readable any more.
        """
        return self.batch([index])[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": {}, "_room": self._cache_bytes}

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Several images, [N, 3, R, R], float32 in [-1, 1].

        Raises:
            IndexError, DataError: As ``self[index]``.
        """
        if not indices:
            return torch.empty(0, 3, self.resolution, self.resolution)
        return from_uint8(np.stack([self._pixels(index) for index in indices]))

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        """[R, R, 3] of the first readable image at or after the index, from the cache if it is there."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} images, there is no number {index}.")
        index %= len(self)
        if index in self._cache:
            return self._cache[index]
        for step in range(len(self)):
            candidate = (index + step) % len(self)
            label = self.source.label(candidate)
            if label in self.skipped:
                continue
            try:
                pixels = self._decode(self.source.read(candidate), label)
            except DataError as error:
                self.skipped[label] = str(error)
                self._warn([label])
                continue
            if pixels.nbytes <= self._room:
                self._room -= pixels.nbytes
                self._cache[index] = pixels
            return pixels
        raise DataError(f"{self.path} holds no readable image: all {len(self)} image files in it are damaged.")

    def _decode(self, encoded: bytes, label: str) -> NDArray[np.uint8]:
        """[R, R, 3] of an image file."""
        return decode_image(encoded, self.resolution, label)

    def _warn(self, labels: Sequence[str]) -> None:
        reasons = [self.skipped[label] for label in labels]
        shown = " ".join(reasons[:_NAMED_IN_WARNING])
        more = f" And {len(reasons) - _NAMED_IN_WARNING} more." if len(reasons) > _NAMED_IN_WARNING else ""
        _logger.warning("Skipped %d image file(s) in %s: %s%s", len(reasons), self.path, shown, more)


def open_images(path: str | Path, resolution: int, *, cache_bytes: int = _CACHE_BYTES) -> ImageStore:
    """Open images for training, whichever way they are kept.

    Args:
        path: A folder of images at any depth, a zip file, an LMDB as rosinality's StyleGAN2 lays it out, or WebDataset
            shards: a folder of them, one, or a pattern such as ``set-{000000..000009}.tar``.
        resolution: Side R of the images, in pixels. An LMDB must hold this size; other images are resized.
        cache_bytes: Decoded images are kept in memory up to this many bytes (3 R^2 each).

    Raises:
        DataError: If there is nothing that can be read, the store is unfinished, or an LMDB does not hold this size.
    """
    _check_resolution(resolution)
    return ImageStore(open_source(path, resolution, check_headers=True), resolution, cache_bytes=cache_bytes)


def _check_resolution(resolution: int) -> None:
    if resolution < 1:
        raise DataError(f"Images need a resolution of at least 1 pixel, got {resolution}.")


def read_image(path: str | Path, resolution: int | None = None) -> NDArray[np.uint8]:
    """Read an image file of any format and colour mode; upright, transparency laid on white.

    Args:
        path: The file; the first frame is read.
        resolution: Crop to the central square and resize to this side; None keeps size and shape.

    Returns:
        [H, W, 3], uint8 RGB. 16-bit greys are scaled down to 8 bits.

    Raises:
        DataError: If it is missing, unreadable, damaged or beyond Pillow's pixel limit.
    """
    return np.array(decode_image(Path(path), resolution))


def to_uint8(image: Tensor) -> NDArray[np.uint8]:
    """Convert image tensors for a file: [-1, 1] becomes 0 .. 255, rounded; values outside are clamped.

    Args:
        image: [N, 3, H, W] (or [N, C, H, W]), float, any device.

    Returns:
        [N, H, W, 3], uint8, contiguous.
    """
    # In place from the second operation on: fresh memory costs a CPU more than the arithmetic.
    values = image.detach().float().mul(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return np.ascontiguousarray(values.permute(0, 2, 3, 1).cpu().numpy())


def from_uint8(pixels: NDArray[np.uint8]) -> Tensor:
    """Convert pixels of a file to image tensors; :func:`to_uint8` undoes it exactly.

    Args:
        pixels: [N, H, W, 3], uint8.

    Returns:
        [N, 3, H, W], float32 in [-1, 1], on the CPU.
    """
    values = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)
    return values.to(torch.float32, memory_format=torch.contiguous_format).div(127.5).sub(1.0)


def write_png(path: str | Path, array: NDArray[np.uint8]) -> None:
    """Write a PNG file that appears complete or not at all; missing folders are made, an older file is replaced.

    Args:
        path: The file.
        array: uint8, [H, W, 3] RGB or [H, W] grey.

    Raises:
        DataError: If the array is something else, or the file cannot be written (no space, read-only folder).
    """
    if (
        array.dtype != np.uint8
        or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3))
        or 0 in array.shape
    ):
        raise DataError(f"A PNG file needs a uint8 array [H, W, 3] or [H, W], got {array.dtype} {list(array.shape)}.")
    buffer = io.BytesIO()
    # Four times as fast as the default level, for 6 % more bytes.
    Image.fromarray(array).save(buffer, format="PNG", compress_level=2)
    try:
        write_atomically(path, buffer.getbuffer(), sync=False)
    except OSError as error:
        raise DataError(write_failure(path, error)) from error
