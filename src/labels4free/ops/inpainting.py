"""Filling what an object covered: by patches of what is around, or smoothly. NumPy and Pillow; patches need a library.

Patches: the library ``PyPatchMatch`` (the extra "inpainting"), which fills a hole from coarse to fine with the patches
that fit best (Wexler et al. 2007, Space-Time Completion of Video; Barnes et al. 2009, PatchMatch).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from PIL import Image

from labels4free.errors import ConfigError, DataError
from labels4free.ops.photo_refine import FIT_SIZE, picture_rows, push_pull
from labels4free.ops.photo_scaling import reduced, strips, to_bytes, working_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

Fill = Literal["patches", "smooth"]
"""The ways of filling a hole."""

FILL_SIZE = 1024
"""Longer side in pixels of the picture that patches are found in: larger ones are filled at this size."""

_PATCH_RADIUS = 3  # 7x7 pixels: smaller patches lose structures, larger ones take twice the time and gain nothing
_SEED = 0
_MARGINS = 50  # of the longer side: how wide the margin is by default. Half of that left hair that masks had missed


def inpaint(
    picture: NDArray[np.uint8],
    hole: NDArray[np.bool_],
    hidden: NDArray[np.bool_] | None = None,
    *,
    fill: Fill = "patches",
) -> NDArray[np.uint8]:
    """Fill the hole of a picture from what is around it. The same input gives the same result.

    Args:
        picture: [H, W, 3].
        hole: [H, W], where to fill.
        hidden: [H, W], what is neither filled nor taken from; the hole goes before.
        fill: ``patches``, textures included, at a longer side of at most :data:`FILL_SIZE` and enlarged from there,
            and smooth where not one whole patch can be seen; or ``smooth``, colours alone (push-pull).

    Returns:
        [H, W, 3]; outside of the hole exactly the picture.

    Raises:
        ConfigError: If there is no such way, or its library is missing.
        DataError: If nothing is left to fill from.
    """
    if fill not in get_args(Fill):
        raise ConfigError(f"A hole can be filled by {' or '.join(get_args(Fill))}; got {fill!r}.")
    result = picture.copy()
    if not hole.any():
        return result
    height, width = hole.shape
    size = FILL_SIZE if fill == "patches" else FIT_SIZE
    known = ~hole if hidden is None else ~(hole | hidden)
    colours, inside, source = picture, hole, known
    if max(height, width) > size:
        small = working_shape(width, height, size)
        colours = reduced(picture, *small)
        inside, source = reduced(_white(hole), *small) > 0, reduced(_white(known), *small) == 255
    if not source.any():
        raise DataError("Nothing of the background can be seen, so that there is nothing to fill it from.")
    # Of what must not be seen nothing may reach the patches' coarse levels: they, too, start from smooth colours.
    plain = np.where(source[..., None], colours, _smooth(colours, source))
    filled = Image.fromarray(plain if fill == "smooth" else _patches(plain, inside, source))
    for top, bottom in strips(width, height):
        rows = hole[top:bottom]
        if rows.any():
            result[top:bottom][rows] = picture_rows(filled, width, height, top, bottom)[rows]
    return result


def margin_pixels(margin: int | None, height: int, width: int) -> int:
    """How far around an old object its picture is not trusted: as asked for, or a fiftieth of the longer side.

    Raises:
        ConfigError: If it is negative.
    """
    if margin is not None and margin < 0:
        raise ConfigError(f"The margin around the old object must be 0 pixels or more, got {margin}.")
    return max(1, round(max(height, width) / _MARGINS)) if margin is None else margin


def widened(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Where a square of (2 radius + 1)² pixels around a pixel holds one of the mask: [H, W] to [H, W]."""
    mask = mask.copy()
    for axis in (0, 1):
        reach = 0
        while reach < radius:  # as far again as it has come, so that large squares take few steps
            step = min(reach + 1, radius - reach)
            before = np.moveaxis(mask, axis, 0)
            after = before.copy()
            after[step:] |= before[:-step]
            after[:-step] |= before[step:]
            mask = np.moveaxis(after, 0, axis)
            reach += step
    return np.ascontiguousarray(mask)


def _patches(picture: NDArray[np.uint8], hole: NDArray[np.bool_], source: NDArray[np.bool_]) -> NDArray[np.uint8]:
    try:
        import patchmatch
    except ImportError as error:
        raise ConfigError(
            "Filling by patches needs PyPatchMatch: pip install PyPatchMatch, or fill smooth, which does "
            "for plain backgrounds."
        ) from error
    if not patchmatch.patchmatch_available:
        raise ConfigError(
            "Filling by patches needs the compiled part of PyPatchMatch, which cannot be loaded here; install a wheel "
            "of it, or fill smooth, which does for plain backgrounds."
        )
    if not _any_patch(source):  # then the library would darken what it fills
        return picture
    patchmatch.set_random_seed(_SEED)
    unused = ~(hole | source)
    filled: NDArray[np.uint8] = patchmatch.inpaint(picture, hole, global_mask=unused, patch_size=_PATCH_RADIUS)
    return filled


def _any_patch(source: NDArray[np.bool_]) -> bool:
    """Whether the source holds a whole patch."""
    r = _PATCH_RADIUS
    return bool((~widened(~source, r))[r:-r, r:-r].any())


def _smooth(picture: NDArray[np.uint8], source: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return to_bytes(push_pull(picture.astype(np.float32), source.astype(np.float32)) * np.float32(1 / 255))


def _white(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return mask.astype(np.uint8) * np.uint8(255)
