"""The scores that need to know where pixels are, and those of soft masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labels4free.errors import DataError
from labels4free.metrics.masks import (
    Counts,
    boundary_f,
    count,
    e_measure,
    iou_background,
    iou_foreground,
    mean_absolute_error,
    s_measure,
    soft_agreement,
    swap_classes,
    threshold_counts,
)

ROWS, COLUMNS = np.mgrid[0:24, 0:32]
TRUTH = (COLUMNS - 18) ** 2 + 1.5 * (ROWS - 10) ** 2 < 60

LIBRARY = {
    "truth": (0.9999999999999943, 0.998370273794),
    "shifted": (0.7228644471886326, 0.9044078991922433),
    "soft": (0.7923728554689983, 0.6521409327760463),
    "ramp": (0.41636570686894603, 0.40944473128652054),
    "noise": (0.301205378158407, 0.3859649959165946),
    "inverted": (0.0, 0.0009778357235984355),
    "empty": (0.4016927083333333, 0.25032594524119955),
}
"""S-measure and mean E-measure by pysodmetrics 1.6.2 (PyPI), each mask and TRUTH given to ``step`` of ``Smeasure`` and
``Emeasure`` as ``(mask / 255, TRUTH, normalize=False)``; of the latter's results the mean of the curve."""
MASKS = {
    "truth": TRUTH * 255,
    "shifted": np.roll(TRUTH, 3, 1) * 255,
    "soft": np.clip(255 * np.exp(-((COLUMNS - 16) ** 2 + (ROWS - 11) ** 2) / 60), 0, 255).round(),
    "ramp": COLUMNS * 255 // 31,
    "noise": np.random.Generator(np.random.PCG64(5)).integers(0, 256, (24, 32)),
    "inverted": ~TRUTH * 255,
    "empty": TRUTH * 0,
}


def square(size: int, top: int, left: int, side: int) -> torch.Tensor:
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize("name", LIBRARY)
def test_s_and_e_measure_are_those_of_the_library(name):
    alpha, truth = torch.from_numpy(MASKS[name] / 255), torch.from_numpy(TRUTH)
    s, e = LIBRARY[name]
    assert s_measure(alpha, truth) == pytest.approx(s, abs=1e-7)
    ours = float(e_measure(threshold_counts(alpha, truth)).mean())
    assert ours * truth.numel() / (truth.numel() - 1) == pytest.approx(e, abs=1e-9)  # the library divides by n - 1


def test_e_measure_by_hand():
    half = Counts(*(torch.tensor([n]) for n in (2, 2, 2, 2)))  # right in half of the pixels, both means one half
    assert float(e_measure(half)) == pytest.approx(0.5)
    quarter = Counts(*(torch.tensor(n) for n in (1, 0, 0, 3)))
    assert float(e_measure(quarter)) == 1
    empty = Counts(*(torch.tensor(n) for n in (0, 0, 4, 4)))
    assert float(e_measure(empty)) == pytest.approx(0.25)
    # Truth 1/2, prediction 1/4: 2ab / (a^2 + b^2) is 12/13 at tp, 4/5 at tn, and -4/5 at fn.
    some = Counts(*(torch.tensor(n) for n in (1, 0, 1, 2)))
    assert float(e_measure(some)) == pytest.approx(((25 / 13) ** 2 + 0.2**2 + 2 * 1.8**2) / 16)


@pytest.mark.parametrize(("predicted", "score"), [((0, 3, 0, 5), 5 / 8), ((0, 0, 0, 8), 1), ((0, 8, 0, 0), 0)])
def test_e_measure_without_an_object(predicted, score):
    counts = Counts(*(torch.tensor(n) for n in predicted))
    assert float(e_measure(counts)) == score
    assert float(e_measure(swap_classes(counts))) == score


def test_s_measure_of_extremes():
    truth = square(12, 2, 3, 6)
    assert s_measure(truth.float(), truth) == pytest.approx(1)
    assert s_measure(1 - truth.float(), truth) == 0
    nothing, everything = torch.zeros(4, 4), torch.ones(4, 4)
    assert s_measure(nothing, nothing.bool()) == 1
    assert s_measure(everything, nothing.bool()) == 0
    assert s_measure(everything, everything.bool()) == 1
    assert s_measure(everything / 4, nothing.bool()) == 0.75
    assert s_measure(everything / 4, everything.bool()) == 0.25


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (1, 3), (2, 2)])
def test_s_measure_of_images_too_small_for_four_regions(shape):
    truth = torch.zeros(shape, dtype=torch.bool)
    truth[-1, -1] = True
    assert s_measure(truth.float(), truth) == pytest.approx(1)
    assert 0 <= s_measure(torch.full(shape, 0.5), truth) < 1


def test_threshold_counts_by_hand():
    counts = threshold_counts(torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[True, False, True]]))
    assert [c[0].item() for c in counts] == [2, 1, 0, 0]
    assert [c[128].item() for c in counts] == [1, 1, 1, 0]  # one half is 127.5, rounded to 128
    assert [c[129].item() for c in counts] == [1, 0, 1, 1]
    assert [c[255].item() for c in counts] == [1, 0, 1, 1]
    valid = torch.tensor([[True, True, False]])
    counts = threshold_counts(torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[True, False, True]]), valid)
    assert [c[0].item() for c in counts] == [1, 1, 0, 0]


def test_mean_absolute_error():
    alpha, truth = torch.tensor([[0.5, 1.0, 0.0]]), torch.tensor([[0.25, 0.0, 0.0]])
    assert mean_absolute_error(alpha, truth) == pytest.approx(1.25 / 3)
    assert mean_absolute_error(alpha, truth, torch.tensor([[True, False, True]])) == pytest.approx(0.125)
    assert mean_absolute_error(alpha, truth, torch.zeros(1, 3, dtype=torch.bool)) == 0


def test_boundary_f_by_hand():
    truth, moved = square(100, 30, 30, 20), square(100, 30, 33, 20)
    diagonal = math.hypot(100, 100)
    assert boundary_f(truth, truth) == 1
    assert boundary_f(moved, truth, tolerance=3 / diagonal) == 1
    # Within one pixel lie of each contour's 76 pixels: 18 of the top, 18 of the bottom, two ends of one side.
    assert boundary_f(moved, truth, tolerance=1.001 / diagonal) == pytest.approx(38 / 76)
    far = square(100, 60, 60, 20)
    assert boundary_f(far, truth) == 0


def test_boundary_f_against_all_distances():
    rng = torch.Generator().manual_seed(3)
    for tolerance in (0.02, 0.055, 0.1):
        masks = [torch.rand(7, 6, generator=rng)[:, :, None, None] > 0.5 for _ in range(2)]
        a, b = (mask.expand(7, 6, 3, 4).permute(0, 2, 1, 3).reshape(21, 24) for mask in masks)
        assert boundary_f(a, b, tolerance=tolerance) == pytest.approx(slow_boundary_f(a, b, tolerance))


def slow_boundary_f(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> float:
    def contour(mask):
        h, w = mask.shape
        beside = lambda y, x: [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]  # noqa: E731
        return [
            (y, x)
            for y in range(h)
            for x in range(w)
            if mask[y, x] and any(0 <= v < h and 0 <= u < w and not mask[v, u] for v, u in beside(y, x))
        ]

    ours, theirs = contour(a), contour(b)
    reach = tolerance * math.hypot(*a.shape)
    near = lambda p, q: sum(any(math.dist(s, t) <= reach for t in q) for s in p) / len(p)  # noqa: E731
    precise, found = near(ours, theirs), near(theirs, ours)
    return 2 * precise * found / (precise + found)


def test_boundary_f_without_contours():
    nothing, everything = torch.zeros(8, 8, dtype=torch.bool), torch.ones(8, 8, dtype=torch.bool)
    assert boundary_f(nothing, nothing) == boundary_f(everything, everything) == 1
    assert boundary_f(nothing, everything) == boundary_f(everything, nothing) == 0
    assert boundary_f(nothing, square(8, 2, 2, 3)) == boundary_f(square(8, 2, 2, 3), everything) == 0


def test_boundary_f_leaves_out_what_does_not_count():
    truth, predicted = square(60, 20, 20, 20), square(60, 20, 20, 20)
    predicted[20:40, 40:55] = True  # too much on one side, where nothing counts
    valid = torch.ones(60, 60, dtype=torch.bool)
    valid[:, 40:] = False
    assert boundary_f(predicted, truth) < 0.8
    assert boundary_f(predicted, truth, valid) == 1
    short = truth.clone()
    short[:, 36:] = False
    # The truth's contour: 19 pixels of top and bottom each, 18 of the left side, none where it meets what is not known.
    # The prediction's: 16, 16, 18 and 18; they share 16, 16 and 18.
    assert boundary_f(short, truth, valid, tolerance=0.001) == pytest.approx(2 * 50 / (56 + 68))


def test_counts_leave_out_what_does_not_count():
    predicted, truth = torch.tensor([[[True, True, False, False]]]), torch.tensor([[[True, False, True, False]]])
    assert [int(c) for c in count(predicted, truth, truth)] == [1, 0, 1, 0]
    assert [int(c) for c in count(predicted, truth, torch.ones_like(truth))] == [1, 1, 1, 1]
    with pytest.raises(DataError, match=r"valid pixels of masks \[1, 1, 4\] must have their shape, got \[1, 1, 3\]"):
        count(predicted, truth, truth[..., :3])
    with pytest.raises(DataError, match=r"valid mask must be boolean, got torch\.float32"):
        count(predicted, truth, truth.float())


def test_swapped_classes():
    counts = Counts(*(torch.tensor(n) for n in (1, 2, 3, 4)))
    assert [int(c) for c in swap_classes(counts)] == [4, 3, 2, 1]
    assert iou_foreground(swap_classes(counts)) == iou_background(counts)
    assert swap_classes(swap_classes(counts)) == counts


@pytest.mark.slow
@given(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1), st.integers(1, 7))
def test_what_always_holds(bits, other_bits, width):
    cells = [
        torch.tensor([(number >> k) & 1 for k in range(2 * width)]).view(2, width).bool()
        for number in (bits, other_bits)
    ]
    predicted, truth = cells
    scores = {
        "boundary": boundary_f(predicted, truth),
        "s": s_measure(predicted.float(), truth),
        "e": float(e_measure(count(predicted[None], truth[None]))),
        "mae": mean_absolute_error(predicted.float(), truth.float()),
    }
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in scores.values())
    assert boundary_f(truth, predicted) == pytest.approx(scores["boundary"])
    if (predicted == truth).all():
        assert scores == pytest.approx({"boundary": 1, "s": 1, "e": 1, "mae": 0})
    elif scores["mae"] == 1:
        assert scores["e"] == pytest.approx(0)


@pytest.mark.parametrize("score", [s_measure, boundary_f, threshold_counts])
@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (torch.zeros(2, 2), torch.zeros(2, 3, dtype=torch.bool), r"one shape \[H, W\], got \[2, 2\] and \[2, 3\]"),
        (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool), r"got \[1, 2, 2\] and \[1, 2, 2\]"),
        (torch.zeros(0, 2), torch.zeros(0, 2, dtype=torch.bool), r"got \[0, 2\] and \[0, 2\]"),
        (torch.zeros(2, 2), torch.zeros(2, 2), "true mask must be boolean, got torch.float32"),
    ],
)
def test_errors(score, prediction, truth, message):
    with pytest.raises(DataError, match=message):
        score(prediction, truth)


def test_soft_agreement_by_hand():
    a, b = torch.tensor([1.0, 0.5, 0.0, 0.0]), torch.tensor([0.5, 0.5, 0.5, 0.0])
    assert soft_agreement(a, b) == pytest.approx((1.0 / 2.0 + 2.0 / 3.0) / 2)
    assert soft_agreement(b, a) == soft_agreement(a, b)


def test_the_same_masks_agree_wholly_and_opposite_ones_not_at_all():
    mask = torch.tensor([1.0, 1.0, 0.0])
    assert soft_agreement(mask, mask) == 1
    assert soft_agreement(mask, 1 - mask) == 0
    assert soft_agreement(torch.zeros(3), torch.zeros(3)) == 1
    assert soft_agreement(torch.ones(3), torch.zeros(3)) == 0


def test_soft_agreement_of_hard_masks_is_the_mean_iou():
    a, b = torch.tensor([1.0, 1, 1, 0, 0, 0, 0, 0]), torch.tensor([0.0, 1, 1, 1, 0, 0, 0, 0])
    assert soft_agreement(a, b) == pytest.approx((2 / 4 + 4 / 6) / 2)
