"""From an image file of any kind to pixels: the one rule for all stores of images. Leaves PyTorch alone.

Turned upright where an orientation can be read (EXIF, XMP), whatever else stands beside the pixels; the first frame of
an animation; transparency laid on white; everything (grey, palette, CMYK, ...) converted to 8-bit RGB, colour profiles
not applied. Greys of more than 8 bits are shares of the largest value:

- 16 bits: of 65535;
- 32-bit integers: of 255 if none is larger, else of 65535; negative and larger ones are refused;
- floats: of 1; negative and larger ones, and what is no number, are refused.

Of colours with 16 bits Pillow reads the upper 8.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from labels4free.data.png_chunks import pixel_chunks
from labels4free.data.walk import register_formats
from labels4free.errors import DataError
from labels4free.pictures.pixels import unit_to_uint8

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

LARGEST_FILE = 2**30
"""Bytes of the largest image file that is read: more than any image within Pillow's limit of pixels needs."""

_REFUSED_FORMATS = frozenset({"EPS"})  # reading one would run another program on it
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LONGEST_REASON = 200
_LARGEST_8, _LARGEST_16 = 255, 65535
_BLACK = 1 / 257  # of the largest value: what has 8 bits in a file of 16
_16_BIT_FORMATS = frozenset({"PNG", "PPM"})  # whose 16 bits older versions of Pillow call 32


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
    name = name or ("The picture" if isinstance(source, bytes) else str(source))
    register_formats()
    with reading_failures(name, max_pixels), contextlib.ExitStack() as stack:
        file = io.BytesIO(source) if isinstance(source, bytes) else stack.enter_context(source.open("rb"))
        image = stack.enter_context(Image.open(pixel_chunks(file)))
        if image.format in _REFUSED_FORMATS:
            raise ValueError(f"its format, {image.format}, is not read")
        _mend(image)
        yield image


@contextlib.contextmanager
def reading_failures(name: str, max_pixels: int | None = None) -> Iterator[None]:
    """A context in which pictures are decoded: whatever Pillow raises becomes one short sentence.

    Args:
        name: What the picture is called in messages.
        max_pixels: As for :func:`opened_image`.

    Raises:
        DataError: Whatever goes wrong.
    """
    pillows_limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = max_pixels or pillows_limit
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities that Pillow puts up with, such as a damaged EXIF block
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except FileNotFoundError as error:
        raise DataError(f"There is no image at {name}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"{max_pixels / 1e6:.0f} million pixels" if max_pixels else "Pillow's limit against decompression bombs"
        raise DataError(f"{name} has more {'' if max_pixels else 'pixels '}than {limit}; make it smaller.") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        reason = " ".join(str(error).split())[:_LONGEST_REASON].removesuffix(".") or type(error).__name__
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
    """Decode an open image into 8-bit RGB by the rule of this module; it may itself be closed or returned."""
    rgb, opacity = upright_layers(image)
    if opacity is None:
        return rgb
    rgb.putalpha(opacity)
    white = Image.new("RGBA", rgb.size, "white")
    return Image.alpha_composite(white, rgb).convert("RGB")


def upright_layers(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Decode an open image into its colours and its transparency; it may itself be closed or returned.

    Returns:
        8-bit RGB, as it is where nothing shows, too; and 8-bit grey, 255 where the colours hide what is behind, or None
        if they do so everywhere.

    Raises:
        ValueError: If its values are beyond the rule of this module.
    """
    image = upright(image)
    grey, opacity = deep_grey(image), None
    if grey is not None:
        if 0 < grey.max(initial=0) <= _BLACK:
            raise ValueError("its values reach only to a 257th of the largest, which is black: scale them")
        if "transparency" in image.info:  # which Pillow compares with values clipped to 8 bits
            hides = np.asarray(image) != image.info["transparency"]
            opacity = Image.fromarray(np.where(hides, np.uint8(_LARGEST_8), np.uint8(0)))
        image = Image.fromarray(unit_to_uint8(grey))
    elif image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        opacity = image.getchannel("A")
    if opacity is not None and opacity.getextrema()[0] == _LARGEST_8:
        opacity = None
    return image if image.mode == "RGB" else image.convert("RGB"), opacity


def upright(image: Image.Image) -> Image.Image:
    """Decode an open image and turn it as its orientation says; it may itself be closed or returned."""
    image.load()
    turn = _TURNS.get(orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    # Without the orientation; and without the pixels, which would take as much memory again.
    turned.info = {key: value for key, value in image.info.items() if key == "transparency"}
    image.close()
    return turned


def orientation(image: Image.Image) -> int:
    """The orientation of an open image, 1 to 8 as EXIF numbers them; 1, upright, where none can be read."""
    try:
        with reading_failures("the orientation"):
            value = image.getexif().get(_ORIENTATION, 1)
            if isinstance(value, str | bytes | tuple):  # of a type that it should not have
                value = int(value[0])
            return value if value in _TURNS else 1
    except DataError:
        return 1


def deep_grey(image: Image.Image) -> NDArray[np.float32] | None:
    """Grey values of more than 8 bits as shares of the largest, by the rule of this module.

    Returns:
        [H, W], in [0, 1]; None if the image has 8 bits, or colours.

    Raises:
        ValueError: If there are values that the rule does not know.
    """
    if image.mode != "F" and not image.mode.startswith("I"):
        return None
    values = np.asarray(image)
    smallest, largest = values.min(initial=0), values.max(initial=0)  # what is no number comes out as such
    if image.mode == "F":
        if np.isnan(smallest):
            raise ValueError("it holds floats that are no numbers")
        if not (smallest >= 0 and largest <= 1):
            raise ValueError(f"it holds floats from {smallest:g} to {largest:g}, expected 0 to 1: scale them")
        return values
    if smallest < 0 or largest > _LARGEST_16:
        raise ValueError(f"it holds numbers from {smallest} to {largest}, expected 0 to {_LARGEST_16}: scale them")
    return values.astype(np.float32) / np.float32(white_value(image, values))


def white_value(image: Image.Image, values: NDArray[Any]) -> int:
    """Which of the whole numbers of an image with more than 8 bits is white, by the rule of this module."""
    eight = image.mode == "I" and image.format not in _16_BIT_FORMATS and values.max(initial=0) <= _LARGEST_8
    return _LARGEST_8 if eight else _LARGEST_16


def _mend(image: Image.Image) -> None:
    """Correct what a file says of an image, where Pillow would stumble over it while decoding."""
    if not isinstance(image.info.get("xmp", b""), bytes):
        del image.info["xmp"]
    if not isinstance(image, PngImagePlugin.PngImageFile) or not image.tile or "transparency" not in image.info:
        return
    # The transparent colour has the file's depth, and is compared with pixels of 8 bits.
    depth, colour = image.tile[0][3], image.info["transparency"]
    if depth in ("L;2", "L;4"):
        image.info["transparency"] = colour * (85 if depth == "L;2" else 17)
    elif depth == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)


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
