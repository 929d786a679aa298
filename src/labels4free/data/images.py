"""Images on disk: a folder of them as training data, and conversions between uint8 RGB files and image tensors."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps

from labels4free.errors import DataError
from labels4free.files import write_atomically, write_failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

_logger = logging.getLogger(__name__)

_REFUSED_FORMATS = frozenset({"EPS"})  # reading one would run another program on it
_NAMED_IN_WARNING = 5


class ImageFolder:
    """All images below a folder, square and of one size, by index.

    Every file with the ending of a format that Pillow reads, at any depth, in natural order (``2.png`` before
    ``10.png``); hidden files and folders are left out. An image is turned upright (EXIF), laid on white where it is
    transparent, converted to 8-bit RGB, cropped to its central square and resized: by area averaging where it shrinks,
    as composites are reduced, so that sharpness does not tell the two apart; by Lanczos where it grows.

    Files that cannot be read as an image are skipped. Their headers are looked at when the folder is opened; damage
    behind the header shows when a file is first used, and the next readable one then takes its place, so that an index
    always gives the same image. Images beyond Pillow's limit against decompression bombs (89 million pixels) count as
    unreadable.

    Args:
        path: The folder.
        resolution: Side R of the images, in pixels.
        cache_bytes: Decoded images are kept in memory up to this many bytes (3 R^2 each).

    Attributes:
        paths: The files, in order.
        skipped: File -> why it cannot be used, as far as is known yet.

    Raises:
        DataError: If the path is no folder or cannot be read, or holds no readable image.
    """

    def __init__(self, path: str | Path, resolution: int, *, cache_bytes: int = 256 * 2**20) -> None:
        if resolution < 1:
            raise DataError(f"Images need a resolution of at least 1 pixel, got {resolution}.")
        self.path = Path(path)
        self.resolution = resolution
        self.skipped: dict[Path, str] = {}
        self._room = cache_bytes
        self._cache: dict[int, NDArray[np.uint8]] = {}
        candidates = _find_images(self.path)
        self.paths = tuple(candidate for candidate in candidates if self._has_image_header(candidate))
        if not self.paths:
            found = f"the {len(candidates)} image files in it are damaged" if candidates else "no image files in it"
            raise DataError(
                f"{self.path} holds no readable image ({found}): give a folder of PNG, JPEG or other image files."
            )
        if self.skipped:
            self._warn(self.skipped)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """One image, [3, R, R], float32 in [-1, 1].

        Raises:
            IndexError: If there is no such index; negative ones count from the end.
            DataError: If no file is readable any more.
        """
        return self.batch([index])[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Several images, [N, 3, R, R], float32 in [-1, 1].

        Raises:
            IndexError, DataError: As ``self[index]``.
        """
        if not indices:
            return torch.empty(0, 3, self.resolution, self.resolution)
        return from_uint8(np.stack([self._pixels(index) for index in indices]))

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        """[R, R, 3] of the first readable file at or after the index, from the cache if it is there."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} images, there is no number {index}.")
        index %= len(self)
        if index in self._cache:
            return self._cache[index]
        for path in self.paths[index:] + self.paths[:index]:
            if path in self.skipped:
                continue
            try:
                pixels = read_image(path, self.resolution)
            except DataError as error:
                self.skipped[path] = str(error)
                self._warn([path])
                continue
            if pixels.nbytes <= self._room:
                self._room -= pixels.nbytes
                self._cache[index] = pixels
            return pixels
        raise DataError(f"{self.path} holds no readable image: all {len(self)} image files in it are damaged.")

    def _has_image_header(self, path: Path) -> bool:
        try:
            with _open(path):
                return True
        except DataError as error:
            self.skipped[path] = str(error)
            return False

    def _warn(self, paths: Iterable[Path]) -> None:
        reasons = [self.skipped[path] for path in paths]
        shown = " ".join(reasons[:_NAMED_IN_WARNING])
        more = f" And {len(reasons) - _NAMED_IN_WARNING} more." if len(reasons) > _NAMED_IN_WARNING else ""
        _logger.warning("Skipped %d image file(s) in %s: %s%s", len(reasons), self.path, shown, more)


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
    with _open(Path(path)) as image:
        if resolution is not None:
            # Lets a JPEG decode at a half, quarter or eighth of its size, if that leaves twice what is needed.
            image.draft(None, (2 * resolution, 2 * resolution))
        rgb = _to_rgb(ImageOps.exif_transpose(image))
        if resolution is not None:
            rgb = _square(rgb, resolution)
        return np.array(rgb)


def to_uint8(image: Tensor) -> NDArray[np.uint8]:
    """Convert image tensors for a file: [-1, 1] becomes 0 .. 255, rounded; values outside are clamped.

    Args:
        image: [N, 3, H, W] (or [N, C, H, W]), float, any device.

    Returns:
        [N, H, W, 3], uint8, contiguous.
    """
    values = image.detach().float().mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
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


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open an image file; whatever goes wrong until the context closes becomes a DataError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities that Pillow puts up with, such as a damaged EXIF block
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.format in _REFUSED_FORMATS:
                    raise ValueError(f"its format, {image.format}, is not read")
                yield image
    except FileNotFoundError as error:
        raise DataError(f"There is no image at {path}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{path} has more pixels than Pillow's limit against decompression bombs; make it smaller."
        ) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        reason = str(error).removesuffix(".") or type(error).__name__
        raise DataError(f"{path} cannot be read as an image ({reason}).") from error


def _find_images(folder: Path) -> list[Path]:
    """Every file below the folder whose ending is that of a readable format, in natural order."""
    try:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise DataError(f"{folder} {what}: give a folder of images.")
        files = list(_walk(folder))
    except OSError as error:
        raise DataError(
            f"{error.filename or folder} cannot be read: {error.strerror}; change its permissions or move it away."
        ) from error
    Image.init()
    readable = Image.OPEN.keys() - _REFUSED_FORMATS
    endings = {ending for ending, name in Image.registered_extensions().items() if name in readable}
    return sorted((path for path in files if path.suffix.lower() in endings), key=_natural_key)


def _walk(folder: Path) -> Iterator[Path]:
    """Every file at any depth but the hidden ones; links are followed, into every folder once."""

    def fail(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in files if not name.startswith("."))


def _natural_key(path: Path) -> tuple[list[list[str | int]], str]:
    """Numbers inside names compare as numbers, letters without regard to case."""
    parts = [[int(s) if s.isdecimal() else s.casefold() for s in re.split(r"(\d+)", part)] for part in path.parts]
    return parts, str(path)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion clips at 255
        grey = np.asarray(image).astype(np.float64).clip(0, 65535) / 257
        image = Image.fromarray(grey.round().astype(np.uint8))
    return image.convert("RGB")


def _square(image: Image.Image, resolution: int) -> Image.Image:
    """Crop to the central square and resize."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    method = Image.Resampling.BOX if side >= resolution else Image.Resampling.LANCZOS
    return image.resize((resolution, resolution), method, box=(left, top, left + side, top + side))
