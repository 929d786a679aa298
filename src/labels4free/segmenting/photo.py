"""Reading photos: the rule of ``data/decoding.py``, for photos of up to half a billion pixels.

Turned upright, CMYK, palette, grey and more bits to 8-bit RGB, the first frame of an animation and the first page of a
document: of what was left out the photo's notes say a word. Transparency is kept beside the colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from labels4free.data.decoding import opened_image, reading_failures, upright_layers
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
        pixels: [H, W, 3], uint8 RGB, upright; white where nothing shows.
        notes: What a user should know of how it was read; mostly empty.
        icc_profile: Its colour profile, where the pixels are still in it.
        opacity: [H, W], uint8, 255 where the colours hide what is behind; None where they do so everywhere.
    """

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()
    icc_profile: bytes | None = None
    opacity: NDArray[np.uint8] | None = None

    def on_white(self) -> NDArray[np.uint8]:
        """The pixels, [H, W, 3], with what is transparent laid on white."""
        return laid_on_white(self.pixels, self.opacity)


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
        with reading_failures(name or "The picture", LARGEST_PHOTO):
            return _decoded(source.copy())  # decoding may turn it in place
    if isinstance(source, bytes) and not source:
        raise DataError(f"{name or 'The photo'} is empty, expected an image.")
    if not isinstance(source, str | Path | bytes):
        raise DataError(f"A photo is a file, its content, an open picture or pixels; got {type(source).__name__}.")
    source = Path(source) if isinstance(source, str) else source
    with opened_image(source, name, max_pixels=LARGEST_PHOTO) as image:
        return _decoded(image)


def _decoded(image: Image.Image) -> Photo:
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _STILLS:
        notes.append(f"took the first of {frames} {'pages' if image.format == 'TIFF' else 'frames'}")
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P", "PA") else None
    rgb, layer = upright_layers(image)
    pixels = np.empty((rgb.height, rgb.width, 3), dtype=np.uint8)
    opacity = None if layer is None else np.asarray(layer)
    for top, bottom in strips(*rgb.size):  # the whole at once would take three times its size
        pixels[top:bottom] = np.asarray(rgb.crop((0, top, rgb.width, bottom)))
        if opacity is not None:
            pixels[top:bottom][opacity[top:bottom] == 0] = 255
    return Photo(pixels, tuple(notes), profile, opacity)


def laid_on_white(pixels: NDArray[np.uint8], opacity: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] with what is transparent, by an opacity [H, W] or None, laid on white."""
    if opacity is None:
        return pixels
    laid = np.empty_like(pixels)
    for top, bottom in strips(*opacity.shape[::-1]):
        share = opacity[top:bottom, :, None].astype(np.uint32)
        laid[top:bottom] = (share * pixels[top:bottom] + (255 - share) * 255 + 127) // 255
    return laid
