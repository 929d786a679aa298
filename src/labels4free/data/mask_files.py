"""From a mask file of any kind to alpha in [0, 1]: the one rule for masks that are read. Leaves PyTorch alone.

White is the object. Turned upright (EXIF), the first frame of an animation; then, by what the file is:

- grey (1, 8 or 16 bits, floats from 0 to 1), or colours that are grey (RGB, CMYK, a palette of greys): the grey value
  over the largest one;
- with transparency: laid on black, so that what cannot be seen is background;
- a cut-out (transparency, and colours where it can be seen): the transparency alone is the mask;
- a palette with colours (DAVIS, PASCAL VOC): a map of labels, in which 0 is background and every other is the object;
- any other colours: a picture and no mask, refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from labels4free.data.decoding import opened_image
from labels4free.errors import DataError
from labels4free.pictures.pixels import unit_to_uint8

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_COLOUR_SPREAD = 32  # of 255, between the channels of a pixel: a grey JPEG stays far below
_COLOURED_FRACTION = 0.01
_ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 are those that swap height and width


@dataclass(frozen=True, eq=False)
class MaskFile:
    """A mask as its file has it.

    Attributes:
        alpha: [H, W], float32 in [0, 1]; 1 is the object.
        labels: [H, W], uint8: the grey value 0 .. 255, or the label where the file is a map of labels.
    """

    alpha: NDArray[np.float32]
    labels: NDArray[np.uint8]

    def is_hard(self) -> bool:
        """Whether every value is 0 or 1."""
        return is_hard(self.alpha)


def read_mask(source: Path | bytes, name: str | None = None) -> MaskFile:
    """Read a mask by the rule of this module.

    Args:
        source: The file, or its content.
        name: What the content is called in messages.

    Raises:
        DataError: If it is missing, unreadable, damaged, a picture, or beyond Pillow's limit of pixels.
    """
    with opened_image(source, name) as image:
        ImageOps.exif_transpose(image, in_place=True)
        image.load()
        mask = _decode(image)
    if isinstance(mask, str):
        raise DataError(f"{name or source!s} is no mask: {mask}.")
    return mask


def mask_size(path: Path) -> tuple[int, int]:
    """(height, width) of an upright image, from its header alone.

    Raises:
        DataError: If it is missing, no image, or beyond Pillow's limit of pixels.
    """
    with opened_image(path) as image:
        swapped = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return (image.width, image.height) if swapped else (image.height, image.width)


def is_hard(alpha: NDArray[Any]) -> bool:
    """Whether every value is 0 or 1."""
    return bool(((alpha == 0) | (alpha == 1)).all())


def resize_mask(alpha: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize a mask: hard ones by the nearest pixel, so that they stay hard, soft ones bilinearly.

    Args:
        alpha: [H, W], in [0, 1].
        height: Of the result, in pixels.
        width: Of the result, in pixels.
    """
    if alpha.shape == (height, width):
        return alpha
    filter_ = Image.Resampling.NEAREST if is_hard(alpha) else Image.Resampling.BILINEAR
    resized = Image.fromarray(np.ascontiguousarray(alpha, dtype=np.float32)).resize((width, height), filter_)
    return np.asarray(resized).clip(0, 1)


def _decode(image: Image.Image) -> MaskFile | str:
    """The mask, or why it is none."""
    if image.mode == "F":
        values = np.array(image)
        if not ((values >= 0) & (values <= 1)).all():
            return "its floats must lie between 0 and 1"
        return MaskFile(values, unit_to_uint8(values))
    if image.mode.startswith("I"):
        values = (np.asarray(image).clip(0, 65535) / np.float32(65535)).astype(np.float32)
        return MaskFile(values, unit_to_uint8(values))
    if image.mode == "P" and not image.has_transparency_data and _has_coloured_palette(image):
        labels = np.asarray(image)
        return MaskFile((labels > 0).astype(np.float32), labels)
    if image.has_transparency_data:
        layer = np.asarray(image.convert("RGBA"))
        opacity = layer[:, :, 3]
        if (opacity < 255).any() and _coloured_fraction(layer[:, :, :3], opacity > 0) > _COLOURED_FRACTION:
            return MaskFile(_unit(opacity), opacity)
        image = Image.composite(
            image.convert("RGB"), Image.new("RGB", image.size), Image.fromarray(np.ascontiguousarray(opacity))
        )
    if image.mode not in ("1", "L"):
        rgb = image.convert("RGB")
        fraction = _coloured_fraction(np.asarray(rgb))
        if fraction > _COLOURED_FRACTION:
            return f"{fraction:.0%} of its pixels are coloured; give masks that are white on black, or cut-outs"
        image = rgb
    grey = np.asarray(image.convert("L"))
    return MaskFile(_unit(grey), grey)


def _has_coloured_palette(image: Image.Image) -> bool:
    palette = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    used = np.flatnonzero(image.histogram()[: len(palette)])
    return bool((np.ptp(palette[used].astype(np.int16), axis=1) > _COLOUR_SPREAD).any())


def _coloured_fraction(rgb: NDArray[np.uint8], where: NDArray[np.bool_] | None = None) -> float:
    """Fraction of the pixels [H, W, 3], of those at ``where``, whose channels differ."""
    red, green, blue = rgb[:, :, 0], rgb[:, :, 1], rgb[:, :, 2]
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    coloured = spread > _COLOUR_SPREAD
    if where is None:
        return float(coloured.mean())
    return float((coloured & where).sum() / max(int(where.sum()), 1))


def _unit(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    return values.astype(np.float32) / np.float32(255)
