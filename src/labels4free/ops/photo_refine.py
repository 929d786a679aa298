"""Alpha of a photo at its border, and the colours of what alpha cuts out: NumPy and Pillow alone, in bounded memory.

Both fit smooth maps at a small size and apply them at the photo's own size, a strip of rows at a time: beside the
photo, alpha and the result, all as bytes, memory does not grow with the photo. ``ops/refine.py`` has the same filter
for batches of tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from labels4free.ops.photo_scaling import enlarged_rows, reduced, strips, to_bytes, working_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from numpy.typing import NDArray

FIT_SIZE = 256
"""Longer side in pixels of the maps that are fitted."""

_REACH = 64  # alpha may change up to this part of the longer side from the border
_SURE = 242  # of 255: alpha beyond which a pixel shows the foreground alone; mirrored for the background


def refine_guided(photo: NDArray[np.uint8], alpha: NDArray[np.uint8], *, eps: float = 1e-4) -> NDArray[np.uint8]:
    """Let alpha follow the photo's edges by the guided filter (He et al. 2013, Guided Image Filtering, section 3).

    In every window alpha is fitted by ``a . colour + b`` with penalty ``eps |a|²``; a pixel takes the mean of the fits
    of all windows that hold it. The windows, a 32nd of the photo's longer side wide, are fitted on a reduced photo (He
    and Sun 2015, Fast Guided Filter, arXiv 1505.00996). Where alpha is constant it stays.

    Args:
        photo: [H, W, 3].
        alpha: [H, W]; 255 is foreground.
        eps: Colours in [0, 1] whose variance within a window is far below this are taken for flat; above 0.

    Returns:
        [H, W].
    """
    height, width = alpha.shape
    guide = _reduced(photo).astype(np.float64).transpose(2, 0, 1) / 255
    values = _reduced(alpha).astype(np.float64) / 255
    radius = max(1, round(max(values.shape) / _REACH))
    fits = [Image.fromarray(fit.astype(np.float32)) for fit in local_fits(guide, values, radius, eps)]
    refined = np.empty_like(alpha)
    for top, bottom in strips(width, height):
        red, green, blue, offset = (enlarged_rows(fit, width, height, top, bottom) for fit in fits)
        colours = photo[top:bottom].astype(np.float32) * np.float32(1 / 255)
        refined[top:bottom] = to_bytes(
            red * colours[..., 0] + green * colours[..., 1] + blue * colours[..., 2] + offset
        )
    return refined


def local_fits(guide: NDArray[np.float64], values: NDArray[np.float64], radius: int, eps: float) -> NDArray[np.float64]:
    """Fit values by the guide's colours in every window, and average the fits of a pixel's windows.

    Args:
        guide: [3, H, W], in [0, 1].
        values: [H, W].
        radius: Half a window's side in pixels; windows are cut at the edge.
        eps: The penalty on slopes.

    Returns:
        [4, H, W]: the slopes over the three colours, and the offset.
    """
    left, right = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]
    mean = _window_mean(values.shape, radius)
    means = mean(np.concatenate((guide, values[None], guide[left] * guide[right], guide * values)))
    colour, value = means[:3], means[3]
    slope = np.stack(solve_slopes(means[4:10] - colour[left] * colour[right], means[10:] - colour * value, eps))
    return mean(np.concatenate((slope, (value - (slope * colour).sum(axis=0))[None])))


def solve_slopes(variances: Iterable[Any], covariances: Iterable[Any], eps: float) -> tuple[Any, Any, Any]:
    """Solve ``(variances + eps) slope = covariances`` at every pixel.

    By elimination: a solver that is called a million times is slower.

    Args:
        variances: Six arrays or tensors of one shape: those of red with red, green and blue, green with green and
            blue, and blue with blue.
        covariances: Three: of the values with red, green and blue.
        eps: Added to a colour's own variance; above 0.

    Returns:
        The slopes over red, green and blue.
    """
    rr, rg, rb, gg, gb, bb = variances
    r, g, b = covariances
    rr = rr + eps
    g_r, b_r = rg / rr, rb / rr
    gg, gb, g = gg + eps - g_r * rg, gb - g_r * rb, g - g_r * r
    b_g = gb / gg
    bb, b = bb + eps - b_r * rb - b_g * gb, b - b_r * r - b_g * g
    blue = b / bb
    green = g / gg - b_g * blue
    return r / rr - g_r * green - b_r * blue, green, blue


class Layers(NamedTuple):
    """Foreground and background of a photo where each is hidden or mixed, small and smooth: 8-bit RGB pictures."""

    foreground: Image.Image
    background: Image.Image


def fill_layers(photo: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> Layers:
    """Continue what is surely foreground, and what is surely background, over all of a reduced photo (push-pull).

    Args:
        photo: [H, W, 3].
        alpha: [H, W]; 255 is foreground.

    Returns:
        Both layers; where there is nothing sure of one, that layer is the photo.
    """
    colours, values = _reduced(photo).astype(np.float32), _reduced(alpha)
    filled = []
    for sure in (values >= _SURE, values <= 255 - _SURE):
        layer = push_pull(colours, sure.astype(np.float32)) if sure.any() else colours
        filled.append(Image.fromarray(to_bytes(layer * np.float32(1 / 255))))
    return Layers(*filled)


def foreground_rows(
    photo: NDArray[np.uint8], alpha: NDArray[np.uint8], layers: Layers, top: int, bottom: int
) -> NDArray[np.uint8]:
    """Colours of the foreground alone in some rows, so that its border does not carry the old background.

    With F, B the filled layers, the estimate is ``F + alpha (photo - alpha F - (1 - alpha) B)``: the layer, and of what
    it leaves unexplained the fraction that is the foreground's (Forte 2021, Approximate Fast Foreground Colour
    Estimation, equation 7). Where alpha is 1 it is the photo.

    Args:
        photo: [H, W, 3].
        alpha: [H, W]; 255 is foreground.
        layers: What :func:`fill_layers` made of both.
        top: The first row.
        bottom: The row after the last.

    Returns:
        [bottom - top, W, 3].
    """
    height, width = alpha.shape
    rows, pixels = alpha[top:bottom], photo[top:bottom]
    if (rows == 255).all():
        return pixels.copy()
    foreground, background = (picture_rows(layer, width, height, top, bottom) for layer in layers)
    result = np.where((rows == 255)[..., None], pixels, foreground)
    mixed = (rows > 0) & (rows < 255)
    fraction = rows[mixed].astype(np.float32)[:, None] * np.float32(1 / 255)
    f, b = foreground[mixed].astype(np.float32), background[mixed].astype(np.float32)
    estimate = f + fraction * (pixels[mixed] - fraction * f - (1 - fraction) * b)
    result[mixed] = to_bytes(estimate * np.float32(1 / 255))
    return result


def picture_rows(picture: Image.Image, width: int, height: int, top: int, bottom: int) -> NDArray[np.uint8]:
    """Rows ``top`` to ``bottom`` of an 8-bit picture resized to width x height, bilinearly."""
    if picture.size == (width, height):
        return np.asarray(picture.crop((0, top, width, bottom)))
    scale = picture.height / height
    box = (0.0, top * scale, float(picture.width), bottom * scale)
    return np.asarray(picture.resize((width, bottom - top), Image.Resampling.BILINEAR, box=box))


def push_pull(image: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep an image where its weight is 1 and fill it smoothly from around where it is 0.

    ``ops/push_pull.py`` for a picture of any size: [H, W, 3] and [H, W] in [0, 1] to [H, W, 3].
    """
    height, width = weight.shape
    if height == width == 1:
        return image
    padding = ((0, height % 2), (0, width % 2))
    image, weight = np.pad(image, (*padding, (0, 0))), np.pad(weight, padding)
    pooled = _halved(weight[..., None])
    coarse = _halved(weight[..., None] * image) / (pooled + np.float32(1e-6))
    # The weights of a 2x2 block saturate at half of them: a level that knows enough is not asked further.
    filled = push_pull(coarse, np.minimum(2 * pooled[..., 0], 1))
    size = (weight.shape[1], weight.shape[0])
    bands = [np.ascontiguousarray(filled[..., band]) for band in range(3)]
    wide = [np.asarray(Image.fromarray(band).resize(size, Image.Resampling.BILINEAR)) for band in bands]
    around: NDArray[np.float32] = np.stack(wide, axis=2)
    result: NDArray[np.float32] = weight[..., None] * image + (1 - weight[..., None]) * around
    return result[:height, :width]


def _halved(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of each 2x2 block of [H, W, C] with even sides."""
    return 0.25 * (image[0::2, 0::2] + image[1::2, 0::2] + image[0::2, 1::2] + image[1::2, 1::2])


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H, W] or [H, W, 3] with a longer side of at most FIT_SIZE."""
    height, width = pixels.shape[:2]
    return pixels if max(height, width) <= FIT_SIZE else reduced(pixels, *working_shape(width, height, FIT_SIZE))


def _window_mean(shape: tuple[int, ...], radius: int) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A function that takes [C, H, W] to the means over windows, cut at the edge, of (2 radius + 1)²."""
    bounds = []
    for size in shape:
        at = np.arange(size)
        bounds.append((np.maximum(at - radius, 0), np.minimum(at + radius + 1, size)))
    counts = np.outer(*(high - low for low, high in bounds))

    def mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
        for axis, (low, high) in zip((1, 2), bounds, strict=True):
            before = [(0, 0)] * 3
            before[axis] = (1, 0)
            sums = np.pad(x.cumsum(axis=axis), before)
            x = sums.take(high, axis=axis) - sums.take(low, axis=axis)
        result: NDArray[np.float64] = x / counts
        return result

    return mean
