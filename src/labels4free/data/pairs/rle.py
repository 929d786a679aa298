"""Masks as COCO keeps them: run lengths down the columns (RLE), exact, and their text.

The format is that of ppwwyyxx/cocoapi common/maskApi.h and common/maskApi.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labels4free.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BITS = 5  # of a number in one character
_MORE = 1 << _BITS
_SIGN = 1 << (_BITS - 1)
_FIRST = 48  # the character "0"
_LONGEST = 7  # characters of a difference of two 32-bit counts


def encode(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The run lengths of a mask, down its columns from the left: background first, then in turns.

    Args:
        mask: [H, W], boolean.

    Returns:
        [N], the pixels of each run; only the first may be 0.
    """
    flat = np.ascontiguousarray(mask.T).ravel()
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = np.concatenate(([0] if flat.size and flat[0] else [], turns, [flat.size])).astype(np.int64)
    return np.diff(ends, prepend=0)


def decode(counts: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """The mask of run lengths, boolean [height, width]; undoes :func:`encode`.

    Raises:
        DataError: If the runs do not fill that size.
    """
    if (counts < 0).any() or counts.sum() != height * width:
        raise DataError(
            f"The run lengths of a mask cover {counts.sum()} pixels, expected were {height} x {width}; is it damaged?"
        )
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def area(counts: NDArray[np.int64]) -> int:
    """Pixels of the foreground."""
    return int(counts[1::2].sum())


def bounding_box(counts: NDArray[np.int64], height: int) -> tuple[int, int, int, int]:
    """The foreground's left, top, width and height in pixels; zeros where there is none.

    Args:
        counts: Run lengths.
        height: Of the mask, in pixels.
    """
    stops = np.cumsum(counts)[1::2]
    lengths = counts[1::2]
    starts, last = (stops - lengths)[lengths > 0], stops[lengths > 0] - 1
    if not len(starts):
        return 0, 0, 0, 0
    left, right = int(starts[0]) // height, int(last[-1]) // height
    if (starts // height != last // height).any():  # a run goes over a column's end: it touches top and bottom
        return left, 0, right - left + 1, height
    top, bottom = int((starts % height).min()), int((last % height).max())
    return left, top, right - left + 1, bottom - top + 1


def to_text(counts: NDArray[np.int64]) -> str:
    """COCO's text of run lengths, the value of ``counts`` in a compressed segmentation.

    From the fourth on, each count gives its difference to the one two before it. A number goes out five bits a
    character, the lowest first, as signed: bit 5 says that more follow, and 48 is added.
    """
    values = counts.copy()
    values[3:] -= counts[1:-2]
    characters = np.zeros((len(values), _LONGEST), dtype=np.uint8)
    open_ = np.ones(len(values), dtype=bool)
    for place in range(_LONGEST):
        low = values & (_MORE - 1)
        values >>= _BITS
        more = values != np.where(low & _SIGN, -1, 0)
        characters[open_, place] = (low + _MORE * more + _FIRST)[open_]
        open_ &= more
    return characters[characters > 0].tobytes().decode("ascii")


def from_text(text: str) -> NDArray[np.int64]:
    """The run lengths of COCO's text; undoes :func:`to_text`.

    Raises:
        DataError: If it is no such text.
    """
    codes = np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64) - _FIRST
    if not len(codes) or codes.min() < 0 or codes.max() >= 2 * _MORE or codes[-1] & _MORE:
        raise DataError(f"This is no text of run lengths: {text[:40]!r}.")
    last = np.flatnonzero((codes & _MORE) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    if (last - first).max() >= _LONGEST:
        raise DataError(f"This is no text of run lengths: {text[:40]!r}.")
    places = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((codes & (_MORE - 1)) << (_BITS * places), first)
    values -= np.where(codes[last] & _SIGN, np.int64(1) << (_BITS * (places[last] + 1)), 0)
    counts = values.copy()
    counts[1::2] = np.cumsum(values[1::2])
    counts[2::2] = np.cumsum(values[2::2])
    return counts
