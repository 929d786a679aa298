"""Photos of any size to what a segmenter looks at, and its answer back: NumPy and Pillow alone.

Whoever runs a segmenter, PyTorch or a file for another runtime, goes through these functions, so that results agree. At
the photo's own size only bytes are held; floats are made a strip of rows at a time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_LARGE = 1 << 24  # pixels from which on a photo is reduced before it is scaled
_AHEAD = 8  # to this many times the size that it is scaled to
_AT_ONCE = 1 << 22  # pixels that are reduced at a time
_STRIP_PIXELS = 1 << 18  # a few float maps of a strip stay in a core's cache
_BORDER_PART = 32  # how far a border's blur may reach, as a part of the longer side
_DECISION = 3.0  # what logits are multiplied by where alpha is the same all around


def working_shape(width: int, height: int, working_size: int) -> tuple[int, int]:
    """The width and height of a picture scaled so that its longer side is ``working_size`` pixels; at least 1 each."""
    scale = working_size / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def working_copy(
    photo: NDArray[np.uint8], working_size: int, multiple: int
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Scale a photo to the size that a segmenter works at, by Lanczos, and pad it at the right and the bottom.

    Args:
        photo: [H, W, 3], any size. One of more than 16 million pixels is first reduced by area averaging.
        working_size: Longer side of the scaled photo, in pixels.
        multiple: The sides are padded to multiples of this, by repeating the last row and column.

    Returns:
        [1, 3, H, W], float32 in [-1, 1], contiguous; and how much of it is the photo: (width, height).
    """
    height, width = photo.shape[:2]
    size = working_shape(width, height, working_size)
    if width * height > _LARGE:
        photo = reduced(photo, *working_shape(width, height, min(max(width, height), _AHEAD * working_size)))
    small = photo
    if small.shape[1::-1] != size:
        small = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))
    pixels = np.pad(small, ((0, -size[1] % multiple), (0, -size[0] % multiple), (0, 0)), mode="edge")
    # As data/images/dataset.py has it, so that a photo is what the training's images are: in float32, divided first.
    values = pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None]), size


def reduced(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Area averages of [H, W] or [H, W, 3], in parts, since Pillow copies what it gets.

    Args:
        pixels: uint8.
        width: Of the result, at most the picture's.
        height: Of the result, at most the picture's.

    Returns:
        [height, width] or [height, width, 3].
    """
    result = np.empty((height, width, *pixels.shape[2:]), dtype=np.uint8)
    step = pixels.shape[0] / height
    rows = max(1, int(_AT_ONCE / (pixels.shape[1] * step)))
    for first in range(0, height, rows):
        last = min(first + rows, height)
        top, bottom = int(first * step), min(pixels.shape[0], math.ceil(last * step))
        part = Image.fromarray(pixels[top:bottom])
        box = (0.0, first * step - top, float(part.width), min(last * step - top, part.height))
        result[first:last] = np.asarray(part.resize((width, last - first), Image.Resampling.BOX, box=box))
    return result


def decided(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make up a segmenter's mind over areas it hesitates about, and leave its borders as soft as they are.

    Logits grow by a factor of 1 where alpha runs from 0 to 1 within a 32nd of the longer side (edges, hair), of 3 where
    it is the same all around: what was half there in the middle of nowhere is then there or not. Signs, and with them
    the mask, stay.

    Args:
        logits: [h, w], without padding.

    Returns:
        [h, w].
    """
    alpha = sigmoid(logits)
    reach = math.ceil(max(logits.shape) / _BORDER_PART)
    spread = _neighbourhood(alpha, reach, np.maximum) - _neighbourhood(alpha, reach, np.minimum)
    return logits * (np.float32(1) + np.float32(_DECISION - 1) * (np.float32(1) - spread))


def _neighbourhood(values: NDArray[np.float32], reach: int, of_two: np.ufunc) -> NDArray[np.float32]:
    """The largest or smallest value up to ``reach`` pixels away along both axes, [h, w]."""
    for _ in range(2):
        rows = len(values)
        padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
        values = padded[:rows]
        for shift in range(1, 2 * reach + 1):
            values = of_two(values, padded[shift : shift + rows])
        values = values.T
    return values


def alpha_from_logits(logits: NDArray[np.float32], width: int, height: int) -> NDArray[np.uint8]:
    """Resize logits bilinearly (averaging where they shrink) and turn them into alpha, strip by strip.

    Args:
        logits: [h, w], float32, without padding.
        width: Of the photo, in pixels.
        height: Of the photo, in pixels.

    Returns:
        [height, width], uint8: 255 is foreground.
    """
    source = Image.fromarray(np.ascontiguousarray(logits, dtype=np.float32))
    alpha = np.empty((height, width), dtype=np.uint8)
    for top, bottom in strips(width, height):
        alpha[top:bottom] = to_bytes(sigmoid(enlarged_rows(source, width, height, top, bottom)))
    return alpha


def enlarged_rows(source: Image.Image, width: int, height: int, top: int, bottom: int) -> NDArray[np.float32]:
    """Rows ``top`` to ``bottom`` of a float picture resized to width x height, bilinearly, [bottom - top, width]."""
    if source.size == (width, height):
        return np.asarray(source)[top:bottom]
    scale = source.height / height
    box = (0.0, top * scale, float(source.width), bottom * scale)  # pixels around the box take part, too
    return np.asarray(source.resize((width, bottom - top), Image.Resampling.BILINEAR, box=box))


def strips(width: int, height: int) -> Iterator[tuple[int, int]]:
    """(top, bottom) of strips of rows, none of more pixels than fit into a cache (but one row at least)."""
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logistic function; exactly 0 and 1 far out, without overflow."""
    half = np.float32(0.5)
    result: NDArray[np.float32] = half * np.tanh(half * values) + half
    return result


def to_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[0, 1] to 0 .. 255, rounded; values outside are clamped."""
    return (values * 255 + 0.5).clip(0, 255).astype(np.uint8)
