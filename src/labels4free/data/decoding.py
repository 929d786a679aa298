"""From an image file of any kind to pixels: the one rule for all stores of images. Leaves PyTorch alone.

Turned upright (EXIF), the first frame of an animation, transparency laid on white, 16-bit greys scaled down to 8 bits,
everything else (grey, palette, CMYK, ...) converted to RGB, colour profiles not applied.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from labels4free.data.walk import register_formats
from labels4free.errors import DataError
from labels4free.pictures.pixels import uint16_to_uint8

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

LARGEST_FILE = 2**30
"""Bytes of the largest image file that is read: more than any image within Pillow's limit of pixels needs."""

_REFUSED_FORMATS = frozenset({"EPS"})  # reading one would run another program on it


@contextlib.contextmanager
def opened_image(
    source: Path | bytes, name: str | None = None, *, max_pixels: int | None = None
) -> Iterator[Image.Image]:
    """Open an image, as a context; only its header is read so far.

    Args:
        source: The file, or its content.
        name: What the content is called in messages.
        max_pixels: Refuse larger images; None is Pillow's limit against decompression bombs, 89 million. A limit of
            one's own holds for all threads until the context closes.

    Raises:
        DataError: Whatever goes wrong until the context closes, as a sentence that names the file.
    """
    name = name or str(source)
    register_formats()
    pillows_limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = max_pixels or pillows_limit
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities that Pillow puts up with, such as a damaged EXIF block
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                if image.format in _REFUSED_FORMATS:
                    raise ValueError(f"its format, {image.format}, is not read")
                yield image
    except FileNotFoundError as error:
        raise DataError(f"There is no image at {name}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"{max_pixels / 1e6:.0f} million pixels" if max_pixels else "Pillow's limit against decompression bombs"
        raise DataError(f"{name} has more {'' if max_pixels else 'pixels '}than {limit}; make it smaller.") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        reason = str(error).removesuffix(".") or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # its own words hold a memory address
            reason = "its format is unknown"
        raise DataError(f"{name} cannot be read as an image ({reason}).") from error
    finally:
        Image.MAX_IMAGE_PIXELS = pillows_limit


def decode_image(source: Path | bytes, resolution: int | None = None, name: str | None = None) -> NDArray[np.uint8]:
    """Decode an image by the rule of this module.

    Args:
        source: The file, or its content.
        resolution: Crop to the central square and resize to this side; None keeps size and shape.
        name: What the content is called in messages.

    Returns:
        [H, W, 3], uint8 RGB, read-only.

    Raises:
        DataError: If it is missing, unreadable, damaged or beyond Pillow's pixel limit.
    """
    with opened_image(source, name) as image:
        if resolution is not None and min(image.size) >= 4 * resolution:
            # Lets a JPEG decode at a half, quarter or eighth of its size, if that leaves twice what is needed.
            image.draft(None, (2 * resolution, 2 * resolution))
        rgb = upright_rgb(image)
        return np.asarray(rgb if resolution is None else central_square(rgb, resolution))


def upright_rgb(image: Image.Image) -> Image.Image:
    """Decode an open image into 8-bit RGB by the rule of this module; it may itself be changed and returned."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion clips at 255
        image = Image.fromarray(uint16_to_uint8(np.asarray(image).clip(0, 65535).astype(np.uint16)))
    return image if image.mode == "RGB" else image.convert("RGB")


def central_square(image: Image.Image, resolution: int, resample: Image.Resampling | None = None) -> Image.Image:
    """Crop to the central square and resize; the image itself where there is nothing to do.

    Args:
        image: 8-bit RGB.
        resolution: Side R of the result, in pixels.
        resample: The filter; None averages areas where the image shrinks (as composites are reduced, so that sharpness
            does not tell the two apart) and takes Lanczos where it grows.
    """
    side = min(image.size)
    if image.size == (resolution, resolution):
        return image
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if resample is None:
        resample = Image.Resampling.BOX if side >= resolution else Image.Resampling.LANCZOS
    return image.resize((resolution, resolution), resample, box=(left, top, left + side, top + side))


def read_bytes(path: Path) -> bytes:
    """The content of an image file.

    Raises:
        DataError: If it cannot be read, or is larger than :data:`LARGEST_FILE`.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(too_large(str(path)))
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"There is no image at {path}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def too_large(name: str) -> str:
    """The sentence on a file beyond :data:`LARGEST_FILE`."""
    return f"{name} is larger than 1 GiB, more than an image needs; make it smaller."
