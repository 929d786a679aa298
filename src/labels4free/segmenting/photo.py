"""Reading photos: the rule of ``data/decoding.py``, for photos of up to half a billion pixels.

Turned upright (EXIF), transparency laid on white, CMYK, palette, grey and 16 bits to 8-bit RGB, the first frame of an
animation and the first page of a document. Of what was left out the photo's notes say a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from labels4free.data.decoding import opened_image, upright_rgb
from labels4free.errors import DataError
from labels4free.ops.photo_scaling import strips

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_PHOTO = 2**29
"""Pixels of the largest photo that is read: 23,000 x 23,000. It takes up to 9 bytes a pixel, 16 with transparency."""

_STILLS = frozenset({"MPO", "JPEG"})  # whose further pictures are previews, depth or gain maps


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as it was read.

    Attributes:
        pixels: [H, W, 3], uint8 RGB, upright.
        notes: What a user should know of how it was read; mostly empty.
        icc_profile: Its colour profile, where the pixels are still in it.
    """

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()
    icc_profile: bytes | None = None


def read_photo(source: str | Path | bytes | Image.Image | NDArray[np.uint8], name: str | None = None) -> Photo:
    """Read a photo by the rule of this module.

    Args:
        source: A file, its content, an open picture, or pixels: uint8, [H, W, 3] RGB or [H, W] grey.
        name: What it is called in messages.

    Raises:
        DataError: If it is missing, unreadable, truncated, no image, or larger than :data:`LARGEST_PHOTO`.
    """
    if isinstance(source, np.ndarray):
        if (
            source.dtype != np.uint8
            or source.ndim not in (2, 3)
            or source.shape[2:] not in ((), (3,))
            or not source.size
        ):
            raise DataError(f"A photo needs uint8 pixels [H, W, 3] or [H, W], got {source.dtype} {list(source.shape)}.")
        pixels = np.ascontiguousarray(source if source.ndim == 3 else np.repeat(source[..., None], 3, axis=2))
        return Photo(pixels)
    if isinstance(source, Image.Image):
        try:
            return _decoded(source.copy())  # decoding may turn it in place
        except OSError as error:
            raise DataError(f"{name or 'The picture'} cannot be read as an image ({error}).") from error
    source = Path(source) if isinstance(source, str) else source
    if isinstance(source, bytes) and not source:
        raise DataError(f"{name or 'The photo'} is empty, expected an image.")
    with opened_image(source, name, max_pixels=LARGEST_PHOTO) as image:
        return _decoded(image)


def _decoded(image: Image.Image) -> Photo:
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _STILLS:
        notes.append(f"took the first of {frames} {'pages' if image.format == 'TIFF' else 'frames'}")
    if image.has_transparency_data:
        notes.append("laid its transparency on white")
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P", "PA") else None
    rgb = upright_rgb(image)
    pixels = np.empty((rgb.height, rgb.width, 3), dtype=np.uint8)
    for top, bottom in strips(*rgb.size):  # the whole at once would take three times its size
        pixels[top:bottom] = np.asarray(rgb.crop((0, top, rgb.width, bottom)))
    return Photo(pixels, tuple(notes), profile)
