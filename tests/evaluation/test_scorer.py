from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from tests.evaluation.mask_folders import disc
from tests.refusals import refuses

from labels4free.errors import DataError
from labels4free.evaluation.config import EvaluationConfig
from labels4free.evaluation.report import CLASS_SCORES
from labels4free.evaluation.scorer import MaskScorer

pytestmark = pytest.mark.slow

TRUTH = disc() / np.float32(255)
QUICK = EvaluationConfig(bootstrap=0)


def scored(*masks, config=QUICK, groups=None):
    scorer = MaskScorer(config)
    for number, (alpha, truth) in enumerate(masks):
        scorer.add(str(number), alpha, truth, group=groups[number] if groups else "")
    return scorer.report()


def values(report):
    return {name: interval.value for name, interval in report.total.per_image.items()}


def test_perfect():
    report = scored((TRUTH, TRUTH), (TRUTH, TRUTH))
    assert all(value == pytest.approx(1) for row in report.total.pooled.values() for value in row.values())
    found = values(report)
    assert found.pop("mae") == 0
    assert found.pop("e_measure_mean") == pytest.approx(1 - 0.75 / 256)  # one threshold calls everything foreground
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


def test_inverted():
    report = scored((1 - TRUTH, TRUTH))
    assert all(value == 0 for row in report.total.pooled.values() for value in row.values())
    found = values(report)
    assert found["mae"] == 1
    assert found["e_measure"] == pytest.approx(0)
    assert found["s_measure"] == 0


def test_empty_and_full():
    fraction = float(TRUTH.mean())
    empty, full = scored((0 * TRUTH, TRUTH)), scored((0 * TRUTH + 1, TRUTH))
    assert empty.total.pooled["foreground"] == pytest.approx(
        {"iou": 0, "f1": 0, "precision": 0, "recall": 0, "accuracy": 1 - fraction}
    )
    assert empty.total.pooled["background"]["iou"] == pytest.approx(1 - fraction)
    assert full.total.pooled["foreground"] == pytest.approx(
        {"iou": fraction, "f1": 2 * fraction / (1 + fraction), "precision": fraction, "recall": 1, "accuracy": fraction}
    )
    assert full.total.pooled["mean"]["iou"] == pytest.approx(fraction / 2)
    assert values(empty)["boundary_f"] == values(full)["boundary_f"] == 0


def test_half_right():
    truth, alpha = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)
    truth[:2], alpha[:, :2] = 1, 1
    report = scored((alpha, truth))
    assert set(report.total.pooled["mean"]) == set(CLASS_SCORES)
    assert report.total.pooled["foreground"] == pytest.approx(
        {"iou": 1 / 3, "f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.5}
    )
    assert report.total.pooled["mean"] == pytest.approx(report.total.pooled["background"])
    assert report.total.counts == {"tp": 4, "fp": 4, "fn": 4, "tn": 4}


def test_foreground_is_foreground():
    """The original's rows are the wrong way round."""
    alpha = TRUTH.copy()
    alpha[:2] = 1  # too much: precise about the background, less so about the object
    pooled = scored((alpha, TRUTH)).total.pooled
    assert pooled["foreground"]["recall"] == pooled["background"]["precision"] == 1
    assert pooled["foreground"]["precision"] < 1
    assert pooled["background"]["recall"] < 1


def test_pooled_and_mean_over_images():
    small = np.ones((2, 2), np.float32)
    large = np.ones((10, 10), np.float32)
    report = scored((small, small), (0 * large, large))
    assert report.total.pooled["foreground"]["iou"] == pytest.approx(4 / 104)
    assert values(report)["iou_foreground"] == pytest.approx(0.5)


def test_thresholds():
    alpha = np.array([[0.4, 0.6, 1.0]], np.float32)
    truth = np.array([[0.4, 0.6, 0.5]], np.float32)  # foreground above 0.5: the second
    assert scored((alpha, truth)).total.counts == {"tp": 1, "fp": 1, "fn": 0, "tn": 1}
    high = scored((alpha, truth), config=EvaluationConfig(threshold=0.7))
    assert high.total.counts == {"tp": 0, "fp": 1, "fn": 1, "tn": 1}
    assert values(high)["mae"] == pytest.approx(0.5 / 3)  # soft values, whatever the threshold


def test_what_does_not_count():
    scorer = MaskScorer(QUICK)
    valid = np.ones(TRUTH.shape, bool)
    valid[:, 12:] = False
    wrong = TRUTH.copy()
    wrong[:, 12:] = 1 - wrong[:, 12:]
    scores = scorer.add("a", wrong, TRUTH, valid=valid)
    assert scores.pop("mae") == 0
    assert scores.pop("e_measure_mean") == pytest.approx(1 - 0.75 / 256)
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0))
    assert sum(scorer.report().total.counts.values()) == valid.sum()


def test_groups():
    masks = [(TRUTH, TRUTH), (1 - TRUTH, TRUTH), (TRUTH, TRUTH)]
    report = scored(*masks, groups=["b", "a", "b"])
    assert list(report.groups) == ["b", "a"]
    assert (report.groups["b"].images, report.groups["a"].images, report.total.images) == (2, 1, 3)
    assert report.groups["b"].pooled["mean"]["iou"] == 1
    assert report.groups["a"].pooled["mean"]["iou"] == 0
    assert report.total.counts == {
        name: sum(group.counts[name] for group in report.groups.values()) for name in report.total.counts
    }
    assert (report.images.names, report.images.groups) == (("0", "2", "1"), ("b", "b", "a"))
    assert report.images.worst(2) == [2, 0]
    assert scored(*masks, groups=["b", "b", "b"]).groups == {}


def test_json():
    report = scored((TRUTH, TRUTH), (1 - TRUTH, TRUTH), groups=["x", "y"], config=EvaluationConfig(bootstrap=50))
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert content["settings"]["bootstrap"] == 50
    assert content["total"]["images"] == 2
    assert content["groups"]["y"]["pooled"]["foreground"]["iou"] == 0
    assert content["images"][1]["name"] == "1"
    assert content["images"][1]["group"] == "y"
    assert content["images"][1]["mae"] == 1
    assert content["total"]["baselines"]["all_foreground"]["iou_foreground"] == pytest.approx(TRUTH.mean(), abs=1e-6)


def test_intervals_are_those_of_the_mean():
    """Of 400 values, half 0 and half 1, the mean's standard deviation is 0.025."""
    one, none = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)
    masks = [(one, one), (none, one)] * 200
    interval = scored(*masks, config=EvaluationConfig(bootstrap=2000)).total.per_image["iou_foreground"]
    assert interval.value == 0.5
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.006)
    assert interval.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.006)


def test_the_interval_of_the_pooled_miou():
    masks = [(disc(shift=k) / np.float32(255), TRUTH) for k in range(5)]
    total = scored(*masks, config=EvaluationConfig(bootstrap=300)).total
    assert total.pooled_miou.low < total.pooled_miou.value < total.pooled_miou.high
    assert total.pooled_miou.value == pytest.approx(total.pooled["mean"]["iou"])
    same = scored(*masks, config=EvaluationConfig(bootstrap=300)).total
    assert same.pooled_miou == total.pooled_miou
    other = scored(*masks, config=EvaluationConfig(bootstrap=300, seed=1)).total
    assert other.pooled_miou.value == total.pooled_miou.value
    assert other.pooled_miou.low != total.pooled_miou.low


def test_no_interval_of_one_image_or_without_resampling():
    assert scored((TRUTH, TRUTH), config=EvaluationConfig()).total.pooled_miou.low is None
    report = scored((TRUTH, TRUTH), (1 - TRUTH, TRUTH))
    assert report.total.per_image["miou"].low is None


def test_tensors_and_arrays_alike():
    frozen = TRUTH.copy()
    frozen.setflags(write=False)
    report = scored((torch.from_numpy(TRUTH).double(), torch.from_numpy(TRUTH) > 0.5), (frozen, frozen))
    assert report.total.pooled["mean"]["iou"] == 1


@pytest.mark.parametrize(
    ("alpha", "truth", "words"),
    [
        (
            np.zeros((2, 2)),
            np.zeros((2, 3)),
            r"masks of x must have one size, got \[2, 2\] predicted and \[2, 3\] true",
        ),
        (np.zeros((1, 2, 2)), np.zeros((2, 2)), r"predicted mask of x must have shape \[H, W\], got \[1, 2, 2\]"),
        (np.zeros((2, 2)), np.zeros((0, 2)), r"true mask of x must have shape \[H, W\], got \[0, 2\]"),
        (np.full((2, 2), 255), np.zeros((2, 2)), "predicted mask of x must hold numbers from 0 to 1, got 255 to 255"),
        (np.full((2, 2), math.nan), np.zeros((2, 2)), "predicted mask of x must hold numbers from 0 to 1, got nan"),
    ],
)
def test_wrong_masks(alpha, truth, words):
    refuses(DataError, words, MaskScorer().add, "x", alpha, truth)


def test_no_image():
    refuses(DataError, "There is no image to score", MaskScorer().report)
