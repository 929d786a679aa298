from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labels4free.errors import DataError
from labels4free.metrics.masks import METRICS, Counts, count, pool, score_images, score_pooled

TRUTH = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0]], dtype=torch.bool)[None]  # half foreground
HALF = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)[None]  # right in half of the pixels


def test_counts_by_hand():
    prediction = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0]], dtype=torch.bool)[None]
    assert [int(c) for c in count(prediction, TRUTH)] == [3, 1, 1, 3]
    assert [int(c) for c in count(TRUTH, TRUTH)] == [4, 0, 0, 4]
    assert [int(c) for c in count(~TRUTH, TRUTH)] == [0, 4, 4, 0]


def test_counts_are_per_image_and_the_channel_axis_is_optional():
    prediction, truth = torch.cat([TRUTH, HALF]), torch.cat([TRUTH, TRUTH])
    counts = count(prediction[:, None], truth)
    assert [c.tolist() for c in counts] == [[4, 2], [0, 2], [0, 2], [4, 2]]
    assert [int(c) for c in pool(counts)] == [6, 2, 2, 6]
    one_channel = torch.ones(2, 1, 4, dtype=torch.bool)  # [N, H, W] with H = 1, not a channel axis
    assert count(one_channel, one_channel).tp.tolist() == [4, 4]


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (TRUTH, dict.fromkeys(METRICS, 1.0)),
        (~TRUTH, dict.fromkeys(METRICS, 0.0)),
        (
            HALF,
            {
                "miou": 1 / 3,
                "iou_foreground": 1 / 3,
                "iou_background": 1 / 3,
                "precision": 0.5,
                "recall": 0.5,
                "f1": 0.5,
            }
            | {"accuracy": 0.5},
        ),
        (
            torch.zeros_like(TRUTH),
            {
                "miou": 0.25,
                "iou_foreground": 0,
                "iou_background": 0.5,
                "precision": 0,
                "recall": 0,
                "f1": 0,
                "accuracy": 0.5,
            },
        ),
        (
            torch.ones_like(TRUTH),
            {"miou": 0.25, "iou_foreground": 0.5, "iou_background": 0, "precision": 0.5, "recall": 1, "f1": 2 / 3}
            | {"accuracy": 0.5},
        ),
    ],
    ids=["perfect", "inverted", "half right", "empty", "full"],
)
def test_scores_by_hand(prediction, expected):
    counts = count(prediction, TRUTH)
    assert score_images(counts) == pytest.approx(expected)
    assert score_pooled(counts) == pytest.approx(expected)


def test_a_class_that_does_not_occur():
    nothing, everything = torch.zeros(1, 2, 2, dtype=torch.bool), torch.ones(1, 2, 2, dtype=torch.bool)
    assert score_images(count(nothing, nothing)) == dict.fromkeys(METRICS, 1.0)
    assert score_images(count(everything, everything)) == dict.fromkeys(METRICS, 1.0)
    found_what_is_not_there = score_images(count(everything, nothing))
    assert found_what_is_not_there == dict.fromkeys(METRICS, 0.0)
    assert score_images(count(nothing, everything)) == dict.fromkeys(METRICS, 0.0)


def test_mean_over_images_and_pooled_differ():
    counts = Counts(*(torch.tensor(c) for c in ([90, 1], [10, 3], [0, 0], [0, 96])))
    assert score_images(counts)["iou_foreground"] == pytest.approx((0.9 + 0.25) / 2)
    assert score_pooled(counts)["iou_foreground"] == pytest.approx(91 / 104)


@pytest.mark.slow
@given(st.lists(st.tuples(*[st.integers(0, 50)] * 4).filter(any), min_size=1, max_size=5))
def test_relations_that_always_hold(rows):
    counts = Counts(*(torch.tensor(c) for c in zip(*rows, strict=True)))
    for scores in (score_images(counts), score_pooled(counts)):
        assert all(0 <= value <= 1 for value in scores.values())
        assert scores["miou"] == pytest.approx((scores["iou_foreground"] + scores["iou_background"]) / 2)
    iou = score_pooled(counts)["iou_foreground"]
    assert score_pooled(counts)["f1"] == pytest.approx(2 * iou / (1 + iou))
    swapped = Counts(counts.tn, counts.fn, counts.fp, counts.tp)  # background as foreground
    assert score_pooled(swapped)["iou_background"] == score_pooled(counts)["iou_foreground"]
    assert math.isclose(score_pooled(swapped)["miou"], score_pooled(counts)["miou"])


def test_large_counts_are_exact():
    counts = Counts(*(torch.tensor([c]) for c in (2**40 + 1, 1, 0, 0)))
    assert score_pooled(counts)["precision"] == (2**40 + 1) / (2**40 + 2)


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (TRUTH.float(), TRUTH, "predicted mask must be boolean, got torch.float32"),
        (TRUTH, TRUTH.byte(), "true mask must be boolean, got torch.uint8"),
        (TRUTH[0], TRUTH, r"predicted mask must have shape .*got \[2, 4\]"),
        (TRUTH, TRUTH[:, None].expand(1, 3, 2, 4), r"true mask must have shape .*got \[1, 3, 2, 4\]"),
        (TRUTH, TRUTH[..., :3], r"one shape, got \[1, 2, 4\] predicted and \[1, 2, 3\] true"),
    ],
)
def test_errors(prediction, truth, message):
    with pytest.raises(DataError, match=message):
        count(prediction, truth)


def test_no_images():
    counts = count(torch.zeros(0, 2, 2, dtype=torch.bool), torch.zeros(0, 2, 2, dtype=torch.bool))
    for score in (score_images, score_pooled):
        with pytest.raises(DataError, match="no image to score"):
            score(counts)
