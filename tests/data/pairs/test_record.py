from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from labels4free.data.pairs.record import PairRecord, component_sizes, measure
from labels4free.errors import DataError


def _alpha(bits: int = 8) -> np.ndarray:
    """16x16: 1 in the middle 8x8, a fifth in half of the first row, 0 elsewhere."""
    top = (1 << bits) - 1
    alpha = np.zeros((16, 16), dtype=np.uint8 if bits == 8 else np.uint16)
    alpha[4:12, 4:12] = top
    alpha[0, :8] = top // 5
    return alpha


@pytest.mark.parametrize("bits", [8, 16])
def test_measurements_by_hand(bits: int) -> None:
    alpha = _alpha(bits)
    mask = np.where(alpha > alpha.max() // 2, np.uint8(255), np.uint8(0))
    assert measure(
        7, alpha, mask, truncation_psi=0.5, label=3, uncertainty=0.1234567, discriminator_score=-2.0
    ) == PairRecord(
        index=7,
        foreground_ratio=64 / 256,
        alpha_mean=round((64 + 8 * 0.2) / 256, 6),
        sharpness=round(1 - 2 * 8 * 0.2 / 256, 6),
        center_bias=round(1 - 8 * 0.2 / (256 - 12 * 12), 6),
        components=1,
        largest_component_fraction=1.0,
        truncation_psi=0.5,
        label=3,
        uncertainty=0.123457,
        discriminator_score=-2.0,
    )


def test_extremes() -> None:
    frame = np.full((32, 32), 255, dtype=np.uint8)
    frame[4:28, 4:28] = 0
    record = measure(0, frame, frame)
    assert (record.center_bias, record.sharpness, record.foreground_ratio) == (-1.0, 1.0, round(1 - 24 * 24 / 1024, 6))
    undecided = np.full((32, 32), 128, dtype=np.uint8)
    record = measure(0, undecided, np.zeros_like(frame))
    assert (record.center_bias, record.foreground_ratio, record.components, record.largest_component_fraction) == (
        0.0,
        0.0,
        0,
        0.0,
    )
    assert record.sharpness < 0.005
    assert measure(0, frame[:1, :1], frame[:1, :1]).center_bias == 0.0  # there is no border


def test_components_and_the_share_of_the_largest() -> None:
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[2:12, 2:12] = 255
    mask[12:22, 12:22] = 255  # touches by a corner only
    mask[40:45, 40:44] = 255
    mask[60, 60] = mask[0, 63] = 255  # specks, below a thousandth
    record = measure(0, mask, mask)
    assert record.components == 3
    assert record.largest_component_fraction == round(100 / 222, 6)
    assert component_sizes(mask > 0).tolist() == [1, 100, 100, 20, 1]


def _flood(mask: np.ndarray) -> list[int]:
    """Sizes of the components, by flooding one after the other."""
    left, sizes = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    for start in sorted(left):
        if start not in left:
            continue
        left.discard(start)
        front, size = [start], 0
        while front:
            y, x = front.pop()
            size += 1
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in left:
                    left.discard(near)
                    front.append(near)
        sizes.append(size)
    return sizes


@pytest.mark.slow
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_components_are_those_that_a_flood_finds(mask: np.ndarray) -> None:
    assert component_sizes(mask).tolist() == _flood(mask)


def test_a_spiral_is_one_component() -> None:
    spiral = np.zeros((41, 41), dtype=bool)
    y, x, dy, dx, length = 20, 20, 0, 1, 2
    spiral[y, x] = True
    while length < 40:
        for _ in range(2):
            for _ in range(length):
                y, x = y + dy, x + dx
                if 0 <= y < 41 and 0 <= x < 41:
                    spiral[y, x] = True
            dy, dx = dx, -dy
        length += 2
    assert component_sizes(spiral).tolist() == [spiral.sum()]


@given(st.floats(0, 1), st.none() | st.integers(0, 9), st.none() | st.floats(0, 1))
def test_records_survive_json(foreground_ratio: float, label: int | None, uncertainty: float | None) -> None:
    record = PairRecord(3, foreground_ratio, 0.5, 0.9, 0.1, 2, 0.75, 0.7, label, uncertainty)
    values = record.to_json()
    assert PairRecord.from_json(values) == record
    assert ("label" in values) == (label is not None)


@pytest.mark.parametrize(
    "change",
    [{"index": "3"}, {"index": 3.0}, {"foreground_ratio": True}, {"unknown": 1}, {"center_bias": None}],
)
def test_what_is_no_record(change: dict[str, object]) -> None:
    values = PairRecord(3, 0.1, 0.5, 0.9, 0.1, 2, 0.75, 0.7).to_json()
    with pytest.raises(DataError, match="no measurements of a pair"):
        PairRecord.from_json(values | change)
    del values["components"]
    with pytest.raises(DataError, match="no measurements of a pair"):
        PairRecord.from_json(values)
