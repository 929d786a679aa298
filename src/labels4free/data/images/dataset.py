"""Images for training, by index, from any store: the formats in which they are kept, and which lies at a path."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labels4free.data.decoding import decode_image, opened_image
from labels4free.data.images.base import ImageWriter, check_finished
from labels4free.data.images.folder import FolderSource, FolderWriter
from labels4free.data.images.lmdb import LmdbSource, LmdbWriter
from labels4free.data.images.shards import ShardSource, ShardWriter
from labels4free.data.images.zip import ZipSource
from labels4free.data.names import PARTS, is_data_set
from labels4free.data.walk import find_files, is_image_name, listed
from labels4free.errors import DataError
from labels4free.pictures.pixels import from_uint8

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.data.images.base import ImageSource

_logger = logging.getLogger(__name__)

_BESIDE = "{} lies beside the folder {} and is left out."
_CACHE_BYTES = 256 * 2**20

IMAGE_FORMATS: dict[str, type[LmdbSource | ZipSource | ShardSource | FolderSource]] = {
    "lmdb": LmdbSource,
    "zip": ZipSource,
    "webdataset": ShardSource,
    "folder": FolderSource,  # the last: the others' folders are folders too
}
"""Name -> reader, in the order in which they are looked for."""

IMAGE_WRITERS: dict[str, type[ImageWriter]] = {"lmdb": LmdbWriter, "webdataset": ShardWriter, "folder": FolderWriter}
"""Name -> writer, of the formats that are written."""


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
        side = self.resolution
        return from_uint8(np.array([self._pixels(index) for index in indices], np.uint8).reshape(-1, side, side, 3))

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
        reasons = listed(self.skipped[label] for label in labels)
        _logger.warning("Skipped %d image file(s) in %s: %s", len(labels), self.path, reasons)


def open_source(path: str | Path, resolution: int | None = None, *, check_headers: bool = False) -> ImageSource:
    """Open a store of images, whichever format it has.

    Of a data set of pairs, ours or any folder with ``images/`` and ``masks/``, its images are opened, not its masks.

    Args:
        path: A folder of images, a zip file, an LMDB, a folder of tar shards, a shard or a pattern of shards.
        resolution: The size wanted, where a store keeps several; None takes the largest.
        check_headers: In a folder, leave out and list files that are no images.

    Raises:
        DataError: If there is nothing, nothing that can be read, nothing finished, or (in an LMDB) not this size.
    """
    path = Path(path)
    check_finished(path)
    beside: dict[str, str] = {}
    if (path / PARTS["image"]).is_dir() and (is_data_set(path) or (path / PARTS["mask"]).is_dir()):
        if not is_data_set(path):
            names = find_files(path, is_image_name, depth=1).names
            beside = {str(path / name): _BESIDE.format(path / name, PARTS["image"]) for name in names}
        path /= PARTS["image"]
    try:
        found = next((kind for kind in IMAGE_FORMATS.values() if kind.matches(path)), None)
    except OSError as error:
        raise DataError(
            f"{error.filename or path} cannot be read: {error.strerror}; change its permissions or move it away."
        ) from error
    if found is None:
        what = "is a file of another kind" if path.exists() else "does not exist"
        raise DataError(f"{path} {what}: give a folder of images, a zip file, an LMDB or tar shards.")
    source = found(path, resolution, check_headers=check_headers) if found is FolderSource else found(path, resolution)
    source.skipped |= beside
    return source


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


def shorter_sides(source: ImageSource, at_most: int) -> list[int]:
    """Shorter sides in pixels of about so many images that lie evenly over a store, by their headers."""
    sides = []
    for index in range(0, len(source), max(1, len(source) // at_most)):
        try:
            with opened_image(source.read(index), source.label(index)) as image:
                sides.append(min(image.size))
        except DataError:  # damaged; named when it is used
            continue
    return sides


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
