"""Editing that keeps the background: the new foreground, over what the original shows behind the old one.

Any editor will do: what it made of the background is thrown away. Leaves PyTorch alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from labels4free.data.mask_files import is_hard, read_mask, resize_mask
from labels4free.errors import ConfigError, DataError
from labels4free.files import failing_as, opened_atomically
from labels4free.ops.inpainting import inpaint, margin_pixels, widened
from labels4free.ops.photo_refine import fill_layers, foreground_rows, refine_guided
from labels4free.ops.photo_scaling import strips, to_bytes
from labels4free.segmenting.cutout import KEPT, Cutout
from labels4free.segmenting.photo import laid_on_white, read_photo

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from labels4free.ops.inpainting import Fill
    from labels4free.segmenting.segmenter import Segmenter

    Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]
    """A file, its content, an open picture, or pixels [H, W, 3], uint8 RGB."""

    Mask = str | Path | bytes | Image.Image | NDArray[Any]
    """A mask file, its content, an open picture, or [H, W]: bool, or uint8 with 255 for the object."""

_HAZE = 10  # of 255: so close to 0 and 1 alpha is taken for 0 and 1
_SAME_COLOUR, _SAME_ALPHA = 3, 13  # of 255: differences that encoding a picture anew makes
_COMPRESSION = 2  # of PNG, as for cut-outs


@dataclass(frozen=True, eq=False)
class Recomposed:
    """An edited picture over the original's background.

    Attributes:
        pixels: [H, W, 3], uint8 RGB, at the original's size.
        filled: [H, W], bool: where the original's background was covered and had to be made up.
        notes: What a user should know: how the pictures were read and scaled.
        icc_profile: The original's colour profile, for files of it.
    """

    pixels: NDArray[np.uint8]
    filled: NDArray[np.bool_]
    notes: tuple[str, ...] = ()
    icc_profile: bytes | None = None

    @cached_property
    def filled_fraction(self) -> float:
        """Fraction of the pixels that were made up, in [0, 1]."""
        return float(self.filled.mean())

    def save(self, path: Path) -> None:
        """Write a PNG that appears complete or not at all; missing folders are made.

        Raises:
            DataError: If it cannot be written.
        """
        with failing_as(DataError, path), opened_atomically(path, sync=False) as file:
            picture = Image.fromarray(self.pixels)
            picture.save(file, format="PNG", compress_level=_COMPRESSION, icc_profile=self.icc_profile)


def keep_background(
    edited: Picture,
    original: Picture,
    *,
    segmenter: Segmenter | None = None,
    foreground_mask: Mask | None = None,
    background_mask: Mask | None = None,
    refine: bool = True,
    fill: Fill = "patches",
    margin: int | None = None,
) -> Recomposed:
    """Composite an edited picture's foreground over the background of the original.

        keep_background("older.png", "photo.jpg", segmenter=Segmenter.load()).save(Path("older_there.png"))

    Args:
        edited: What any editor made of the original. One of another size, but the same aspect, is scaled to it.
        original: The picture whose background is kept.
        segmenter: Finds the object in each picture that no mask is given for.
        foreground_mask: Where the object is in the edited picture, in place of the segmenter.
        background_mask: Where it was in the original.
        refine: Let the segmenter's alpha and hard masks follow the pictures' edges; soft masks are taken as they are.
        fill: How :func:`labels4free.ops.inpainting.inpaint` fills what the old object covered and the new one does not.
        margin: As for :func:`recompose`.

    Raises:
        ConfigError: If there is neither a mask nor a segmenter, or as :func:`recompose`.
        DataError: If something cannot be read, sizes do not fit, or as :func:`recompose`.
    """
    front = _cut(edited, foreground_mask, segmenter, "the edited picture", refine=refine)
    back = _cut(original, background_mask, segmenter, "the original", refine=refine)
    return recompose(front, back, fill=fill, margin=margin)


def recompose(front: Cutout, back: Cutout, *, fill: Fill = "patches", margin: int | None = None) -> Recomposed:
    """Put the foreground of a segmented picture over the background of another.

    What the old object and the margin around it cover is filled, unless the new object covers it. Over that goes the
    new object, in colours that do not carry the background it had. At its border, pixels that the editor left alone
    stay as they are in the original. Outside of both, the result is the original bit for bit.

    Args:
        front: The edited picture.
        back: The original, of the same aspect.
        fill: As for :func:`keep_background`.
        margin: How far around the old object the original is not trusted, since hair and shadows reach there, in
            pixels; None is a fiftieth of the longer side.

    Raises:
        ConfigError: If the margin is negative, or the library to fill with is missing.
        DataError: If nothing was found in the edited picture, the aspects differ, or there is nothing to fill from.
    """
    height, width = back.alpha.shape
    margin = margin_pixels(margin, height, width)
    if not (front.alpha > 127).any():
        raise DataError(
            "Nothing to put over the background was found in the edited picture; give a mask of it, white where the "
            "object is."
        )
    notes = [f"the edited picture: {note}" for note in front.notes]
    notes += [f"the original: {'laid its transparency on white' if note == KEPT else note}" for note in back.notes]
    back = replace(back, photo=laid_on_white(back.photo, back.opacity), opacity=None)
    if front.alpha.shape != back.alpha.shape:
        notes.append(f"scaled the edited picture from {_size(front.photo)} to {_size(back.photo)} pixels")
        front = _scaled(front, width, height)
    if front.icc_profile and front.icc_profile != back.icc_profile:
        notes.append("the two have different colour profiles, which were left aside: colours may look different")
    new, old = _without_haze(front.alpha), _without_haze(back.alpha)
    untouched = _untouched(front, back) & widened(new > 0, margin)
    covered = widened(old > 0, margin)
    hole = covered & ~untouched & (new < 255)
    behind = inpaint(back.photo, hole, covered & ~hole, fill=fill)
    layers = fill_layers(front.photo, new)
    for top, bottom in strips(width, height):
        fraction = new[top:bottom]
        there = (fraction > 0) & ~(untouched[top:bottom] & (fraction < 255))
        if there.any():
            colours = foreground_rows(front.photo, new, layers, top, bottom)[there].astype(np.float32)
            part = fraction[there][:, None].astype(np.float32) * np.float32(1 / 255)
            mixed = part * colours + (1 - part) * behind[top:bottom][there]
            behind[top:bottom][there] = to_bytes(mixed * np.float32(1 / 255))
    return Recomposed(behind, hole, tuple(notes), back.icc_profile)


def _cut(source: Picture, mask: Mask | None, segmenter: Segmenter | None, name: str, *, refine: bool) -> Cutout:
    """A picture with the alpha of its object."""
    name = str(source) if isinstance(source, str | Path) else name
    if mask is None:
        if segmenter is None:
            raise ConfigError(f"Give a segmenter, or a mask of the object in {name}.")
        return segmenter.segment(source, refine="guided" if refine else None, name=name)
    photo = read_photo(source, name)
    alpha = _read_alpha(mask, f"the mask of {name}")
    height, width = photo.pixels.shape[:2]
    if alpha.shape != (height, width):
        _check_aspect(alpha.shape, (height, width), "A mask", name)
        note = f"scaled the mask from {_size(alpha)} to {_size(photo.pixels)} pixels"
        photo = replace(photo, notes=(*photo.notes, note))
    values = to_bytes(resize_mask(alpha, height, width))
    if refine and is_hard(alpha):
        values = refine_guided(photo.on_white(), values)
    return Cutout.of(photo, values)


def _read_alpha(mask: Mask, name: str) -> NDArray[np.float32]:
    """[H, W], in [0, 1]."""
    if not isinstance(mask, np.ndarray):
        return read_mask(Path(mask)).alpha if isinstance(mask, str | Path) else read_mask(mask, name).alpha
    if mask.ndim != 2 or not mask.size or mask.dtype not in (np.bool_, np.uint8):
        raise DataError(f"{name} must be [H, W], bool or uint8; got {mask.dtype} {list(mask.shape)}.")
    return mask.astype(np.float32) / np.float32(1 if mask.dtype == np.bool_ else 255)


def _scaled(cutout: Cutout, width: int, height: int) -> Cutout:
    _check_aspect(cutout.alpha.shape, (height, width), "The edited picture", "the original")
    photo = Image.fromarray(cutout.photo).resize((width, height), Image.Resampling.LANCZOS)
    alpha = Image.fromarray(cutout.alpha).resize((width, height), Image.Resampling.BILINEAR)
    return replace(cutout, photo=np.array(photo), alpha=np.array(alpha), opacity=None)


def _check_aspect(got: tuple[int, ...], wanted: tuple[int, int], what: str, whose: str) -> None:
    """Refuse sizes, (height, width), that are no scaled versions of each other but for rounding."""
    (height, width), (whole_height, whole_width) = got, wanted
    off = min(abs(whole_width / width * height - whole_height), abs(whole_height / height * width - whole_width))
    if off > max(1.0, whole_height / height, whole_width / width):
        raise DataError(
            f"{what} of {width}x{height} pixels does not fit {whose}, which has {whole_width}x{whole_height}: give "
            "both of the same frame and aspect, neither cropped nor turned."
        )


def _size(array: NDArray[Any]) -> str:
    height, width = array.shape[:2]
    return f"{width}x{height}"


def _without_haze(alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch alpha so that what is almost 0 or almost 1 is exactly that: a haze would reach all over the picture."""
    values = (np.arange(256, dtype=np.float32) - _HAZE) / np.float32(255 - 2 * _HAZE)
    return to_bytes(values)[alpha]


def _untouched(front: Cutout, back: Cutout) -> NDArray[np.bool_]:
    """Where both pictures show the same, and as much of the object: [H, W]."""
    height, width = back.alpha.shape
    same = np.empty((height, width), dtype=np.bool_)
    for top, bottom in strips(width, height):
        rows = slice(top, bottom)
        colours = np.abs(front.photo[rows].astype(np.int16) - back.photo[rows]).max(axis=2)
        alphas = np.abs(front.alpha[rows].astype(np.int16) - back.alpha[rows])
        same[rows] = (colours <= _SAME_COLOUR) & (alphas <= _SAME_ALPHA)
    return same
