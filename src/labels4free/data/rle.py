"""Masks as COCO keeps them: run lengths down the columns, their text, and polygons along the pixels' edges.

The formats are those of ppwwyyxx/cocoapi common/maskApi.h and common/maskApi.c (run lengths and their text) and
PythonAPI/pycocotools/coco.py (what an annotation holds). Run lengths are exact. Polygons follow the pixels' edges, so
that COCO's own rasteriser, which fills what lies inside an odd number of times, gives the mask back exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labels4free.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ring = list[tuple[int, int]]

_BITS = 5  # of a number in one character
_MORE = 1 << _BITS
_SIGN = 1 << (_BITS - 1)
_FIRST = 48  # the character "0"
_LONGEST = 7  # characters of a difference of two 32-bit counts

_EAST, _SOUTH, _WEST, _NORTH = range(4)


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


def polygons(mask: NDArray[np.bool_]) -> list[list[int]]:
    """The borders of a mask's components, as COCO writes polygons.

    Pixels belong together where they touch by an edge. Coordinates are those of the pixels' corners: pixel (x, y)
    covers [x, x + 1] x [y, y + 1]. COCO's polygons know no holes: a hole is joined to the border left of it by a cut
    without width, walked there and back.

    Args:
        mask: [H, W], boolean.

    Returns:
        One polygon a component, ``[x0, y0, x1, y1, ...]``, clockwise on the screen; none for an empty mask.
    """
    rings, places = _rings(mask)
    joined: list[list[tuple[int, int, Ring]]] = [[] for _ in rings]  # for each ring: after how many corners, -y, what
    areas = [_doubled_area(ring) for ring in rings]
    holes = [number for number, doubled in enumerate(areas) if doubled < 0]
    # From the right: what hangs on a hole is there before the hole itself goes to the ring on its left.
    for number in sorted(holes, key=lambda hole: min(rings[hole]), reverse=True):
        x, y = leftmost = min(rings[number])
        ring = _spliced(rings[number], joined[number])
        start = ring.index(leftmost)
        background = np.flatnonzero(~mask[y, :x])  # what is left of the hole, up to the border before it, is foreground
        cut = (int(background[-1]) + 1 if len(background) else 0, y)
        parent, place = places[cut]
        joined[parent].append((place, -y, [cut, *ring[start:], *ring[: start + 1], cut]))
    outer = [number for number, doubled in enumerate(areas) if doubled > 0]
    return [[value for point in _spliced(rings[number], joined[number]) for value in point] for number in outer]


def _rings(mask: NDArray[np.bool_]) -> tuple[list[Ring], dict[tuple[int, int], tuple[int, int]]]:
    """The closed walks along the mask's border with the foreground on their right.

    Returns:
        The corners of each walk, and for each pixel (x, y) whose left edge is walked: the number of its ring, and how
        many corners come before that edge.
    """
    height, width = mask.shape
    padded = np.zeros((height + 2, width + 2), dtype=np.uint8)
    padded[1:-1, 1:-1] = mask
    # The four pixels round each corner, and which ways lead on from there, as bits.
    upper_left, upper_right = padded[:-1, :-1], padded[:-1, 1:]
    lower_left, lower_right = padded[1:, :-1], padded[1:, 1:]
    east, south = lower_right & ~upper_right, lower_left & ~lower_right
    west, north = upper_left & ~lower_left, upper_right & ~upper_left
    ways = ((east << _EAST) | (south << _SOUTH) | (west << _WEST) | (north << _NORTH)).tobytes()
    only = {1 << way: way for way in range(4)}
    pitch = width + 1
    steps = (1, pitch, -1, -pitch)
    left = bytearray(ways)
    rings: list[Ring] = []
    places: dict[tuple[int, int], tuple[int, int]] = {}
    for position in np.flatnonzero(np.frombuffer(ways, dtype=np.uint8)).tolist():
        while left[position]:
            ring: Ring = []
            way, heading = (left[position] & -left[position]).bit_length() - 1, -1
            while left[position] & (1 << way):
                left[position] ^= 1 << way
                y, x = divmod(position, pitch)
                if way != heading:
                    ring.append((x, y))
                if way == _NORTH:
                    places[x, y - 1] = len(rings), len(ring)
                position += steps[way]
                heading = way
                # Where the way forks, turn right, round the same pixel: pixels that touch by a corner stay apart.
                way = only.get(ways[position], (heading + 1) % 4)
            rings.append(ring)
    return rings, places


def _doubled_area(ring: Ring) -> int:
    """Twice the area inside, positive where the ring runs clockwise on the screen."""
    return sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in zip(ring, ring[1:] + ring[:1], strict=True))


def _spliced(ring: Ring, pieces: list[tuple[int, int, Ring]]) -> Ring:
    """The ring with pieces put in, each after so many of its corners."""
    result: Ring = []
    begin = 0
    for place, _, piece in sorted(pieces):
        result += ring[begin:place] + piece
        begin = place
    return result + ring[begin:]
