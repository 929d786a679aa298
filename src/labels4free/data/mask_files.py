"""From a mask file of any kind to alpha in [0, 1]: the one rule for masks that are read. Leaves PyTorch alone.

White is the object. Turned upright (EXIF), the first frame of an animation; then, by what the file is:

- grey, or colours that are grey (RGB, CMYK, a palette of greys): the grey value over the largest one, which with more
  than 8 bits is that of ``data/decoding.py``;
- with transparency: laid on black, so that what cannot be seen is background;
- a cut-out (transparency, and colours where it can be seen): the transparency alone is the mask;
- a palette with colours (DAVIS, PASCAL VOC): a map of labels, in which 0 is background and every other is the object;
- greys that are labels and no shades (few values in plain areas, but 0 and 255): a map of labels, refused unless the
  values are given that are the object, which may be done for any file without colours;
- any other colours: a picture and no mask, refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from labels4free.data.decoding import deep_grey, opened_image, orientation, reading_failures, upright, white_value
from labels4free.errors import DataError
from labels4free.pictures.pixels import unit_to_uint8

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COLOUR_SPREAD = 32  # of 255, between the channels of a pixel: a grey JPEG stays far below
_COLOURED_FRACTION = 0.01
_WHITE = 250 / 255  # of the largest value: from here on the object, as encoders leave it
_MOST_LABELS = 32  # of a map; shades that are enlarged by the nearest pixel have more, and else no plain areas
_FEW_LABELS = 8
_NAMED = 8

Foreground = tuple[int, ...]
"""Labels that are the object; none stands for all but 0."""


@dataclass(frozen=True, eq=False)
class MaskFile:
    """A mask as its file has it.

    Attributes:
        alpha: [H, W], float32 in [0, 1]; 1 is the object.
        labels: [H, W]: the grey value 0 .. 255, or the label where the file is a map of labels.
    """

    alpha: NDArray[np.float32]
    labels: NDArray[Any]

    def is_hard(self) -> bool:
        """Whether every value is 0 or 1."""
        return is_hard(self.alpha)


def read_mask(
    source: Path | bytes | Image.Image,
    name: str | None = None,
    foreground: Foreground | None = None,
    *,
    only_labels: bool = False,
    void: int | None = None,
) -> MaskFile:
    """Read a mask by the rule of this module.

    Args:
        source: The file, its content, or an open picture.
        name: What it is called in messages.
        foreground: Take the file for a map of labels, in which these are the object, or, if empty, all but 0.
        only_labels: Do so only with what is a map of labels by the rule, and none of 0 and 255.
        void: A grey value that is no label and no shade either.

    Raises:
        DataError: If it is missing, unreadable, damaged, a picture, or beyond Pillow's limit of pixels; or, without
            ``foreground``, a map of labels in grey.
    """
    name = name or (str(source) if isinstance(source, Path) else "The mask")
    if isinstance(source, Image.Image):
        with reading_failures(name):
            mask = _decode(upright(source.copy()), foreground, only_labels=only_labels, void=void)
    else:
        with opened_image(source, name) as image:
            mask = _decode(upright(image), foreground, only_labels=only_labels, void=void)
    if isinstance(mask, str):
        raise DataError(f"{name} is no mask: {mask}.")
    return mask


def mask_size(path: Path) -> tuple[int, int]:
    """(height, width) of an upright image, from its header alone (but for TIFF).

    Raises:
        DataError: If it is missing, no image, or beyond Pillow's limit of pixels.
    """
    with opened_image(path) as image:
        if image.format == "TIFF":  # which Pillow itself turns while it decodes
            image.load()
        swapped = orientation(image) in (5, 6, 7, 8)
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


def _decode(
    image: Image.Image, foreground: Foreground | None, *, only_labels: bool, void: int | None
) -> MaskFile | str:
    """The mask, or why it is none."""
    expected = foreground is not None
    labelled = expected and not only_labels
    if image.mode == "P" and (labelled or (not image.has_transparency_data and _has_coloured_palette(image))):
        return _object_of(np.asarray(image), foreground or ())
    if labelled and image.mode.startswith(("I", "F")):
        return _object_of(np.asarray(image), foreground or ())
    if (deep := deep_grey(image)) is not None:
        values = np.asarray(image)
        if "transparency" in image.info:  # a value that cannot be seen
            deep = np.where(values == image.info["transparency"], np.float32(0), deep)
        mask = MaskFile(deep, unit_to_uint8(deep))
        white = white_value(image, values)
        labels = [] if image.mode == "F" else label_values(values, white, void, expected=expected)
    else:
        grey = _grey(image)
        if isinstance(grey, str | MaskFile):
            return grey
        values, mask = grey, MaskFile(_unit(grey), grey)
        labels = label_values(grey, 255, void, expected=expected)
    if foreground is not None and image.mode != "1" and (labels or labelled):
        return _object_of(values, foreground)
    return _words_on(labels) if labels else mask


def _grey(image: Image.Image) -> NDArray[np.uint8] | MaskFile | str:
    """Grey values [H, W] of 8 bits; of a cut-out its mask; or why it is none."""
    if image.has_transparency_data:
        layer = np.asarray(image.convert("RGBA"))
        opacity = layer[:, :, 3]
        if (opacity < 255).any() and _coloured_fraction(layer[:, :, :3], opacity > 0) > _COLOURED_FRACTION:
            return MaskFile(_unit(opacity), opacity)
        image = Image.composite(
            image.convert("RGB"), Image.new("RGB", image.size), Image.fromarray(np.ascontiguousarray(opacity))
        )
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
        fraction = _coloured_fraction(np.asarray(image))
        if fraction > _COLOURED_FRACTION:
            return f"{fraction:.0%} of its pixels are coloured; give masks that are white on black, or cut-outs"
    return np.asarray(image.convert("L"))


def _object_of(labels: NDArray[Any], foreground: Foreground) -> MaskFile:
    found = np.isin(labels, foreground) if foreground else labels != 0
    return MaskFile(found.astype(np.float32), labels)


def _words_on(labels: list[int]) -> str:
    named = ", ".join(map(str, labels[:_NAMED])) + (f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else "")
    return (
        f"it is a map of labels, with the values {named}; say which are the object (evaluate --foreground), or make it "
        "0 and 255"
    )


def label_values(values: NDArray[Any], white: int, void: int | None = None, *, expected: bool = False) -> list[int]:
    """The values of a map of labels; none where they are the shades of a mask.

    Labels are few, and leave out numbers or lie side by side in plain areas with a step of more than 1 between them,
    where shades pass through those between. What is all 0 and 1, or nested like that, cannot be told from faint shades.

    Args:
        values: [H, W], whole numbers from 0 to ``white``.
        white: The largest value.
        void: A value that does not count.
        expected: Take what cannot be told apart for labels.
    """
    values = values if void is None else np.where(values == void, 0, values)
    if ((values == 0) | (values == white)).all():
        return []
    for part in (values[::16], values):  # shades show in a part, and counting all takes as long as decoding
        found = np.flatnonzero(np.bincount(part.ravel(), minlength=1))
        shades = found[(found > 0) & (found < _WHITE * white)]
        if shades.size > _MOST_LABELS:
            return []
    if not shades.size:
        return []
    leaves_out = expected or shades[0] > 1 or bool((np.diff(shades) > 1).any())
    faint = found[-1] < white / 2
    if faint and leaves_out and shades.size <= _FEW_LABELS:
        return found.tolist()
    return found.tolist() if _has_plain_areas(values.astype(np.int32), _WHITE * white) else []


def _has_plain_areas(values: NDArray[np.int32], white: float) -> bool:
    """Whether values between black and white fill areas, mostly with a step of more than 1 to the next area."""
    inner = values[:-1, :-1]
    shade = (inner > 0) & (inner < white)
    plain = (inner == values[1:, :-1]) & (inner == values[:-1, 1:])
    if 2 * (plain & shade).sum() < max(1, shade.sum()):
        return False
    steps = jumps = 0
    for rows in (values, values.T):
        before, after = rows[:, 1:-2], rows[:, 2:-1]
        step = (rows[:, :-3] == before) & (rows[:, 3:] == after) & (before != after)
        step &= ((before > 0) & (before < white)) | ((after > 0) & (after < white))
        steps += int(step.sum())
        jumps += int((step & (abs(before - after) > 1)).sum())
    return 2 * jumps > steps


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
