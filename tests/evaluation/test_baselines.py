from __future__ import annotations

import pytest
import torch

from labels4free.evaluation.baselines import TruthMap, score_baselines
from labels4free.metrics.masks import METRICS, Counts, count, pool


def filled(*truths, valid=None):
    result = TruthMap()
    for truth in truths:
        result.add(truth, valid)
    return result


def ellipse(height, width, size=256):
    centres = (torch.arange(size) + 0.5) * 2 / size - 1
    return (centres / height).square()[:, None] + (centres / width).square()[None] < 1


def test_everything_by_hand():
    truth = torch.zeros(4, 8, dtype=torch.bool)
    truth[:, 2:] = True
    scores = score_baselines(filled(truth))
    assert scores["all_foreground"].iou_foreground == pytest.approx(0.75)
    assert scores["all_foreground"].miou == pytest.approx(0.375)
    assert scores["all_background"].iou_background == pytest.approx(0.25)
    assert scores["all_background"].f1 == 0
    assert scores["mean_mask"].miou == pytest.approx(1)


@pytest.mark.slow
def test_an_ellipse_is_found():
    found = score_baselines(filled(ellipse(0.8, 0.5)))["ellipse"]
    assert found.description == "best centred ellipse, 80% of the height by 50% of the width"
    assert found.miou > 0.98


@pytest.mark.slow
def test_the_mean_mask_is_what_most_have():
    left, right = torch.zeros(2, 128, 128, dtype=torch.bool)
    left[:, :64] = True
    right[:, 64:] = True
    assert score_baselines(filled(left, left, right))["mean_mask"].iou_foreground == pytest.approx(1 / 2)


@pytest.mark.parametrize("size", [(128, 128), (256, 384), (100, 37), (1000, 130), (3, 5)])
def test_counts_are_in_pixels_whatever_the_size(size):
    rng = torch.Generator().manual_seed(0)
    truths = [torch.rand(size, generator=rng) > 0.3 for _ in range(3)]
    counted = filled(*truths).counts(torch.ones(128, 128, dtype=torch.bool))
    foreground = sum(int(truth.sum()) for truth in truths)
    assert float(counted.tp) == pytest.approx(foreground)
    assert float(counted.fp) == pytest.approx(3 * size[0] * size[1] - foreground)
    assert float(counted.fn) == pytest.approx(0, abs=1e-6)


def test_exact_where_the_grid_fits():
    rng = torch.Generator().manual_seed(1)
    truths = torch.rand(4, 256, 256, generator=rng) > 0.5
    mask = torch.rand(128, 128, generator=rng) > 0.5
    large = mask.repeat_interleave(2, 0).repeat_interleave(2, 1)
    expected = pool(count(large.expand_as(truths), truths))
    counts = filled(*truths).counts(mask)
    assert [float(n) for n in counts] == pytest.approx([float(n) for n in expected])
    for metric in METRICS.values():
        assert float(metric(counts)) == pytest.approx(float(metric(Counts(*expected))))


@pytest.mark.slow
def test_what_does_not_count_is_in_neither_class():
    truth, valid = torch.ones(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    valid[:2] = True
    whole = filled(truth, valid=valid)
    assert float(whole.foreground.sum()) == pytest.approx(8)
    assert float(whole.background.sum()) == 0
    assert score_baselines(whole)["all_foreground"].iou_foreground == pytest.approx(1)
    nothing = filled(truth, valid=torch.zeros_like(valid))
    assert float(nothing.foreground.sum()) == 0


def test_adding_maps():
    a, b = filled(torch.ones(2, 2, dtype=torch.bool)), filled(torch.zeros(4, 4, dtype=torch.bool))
    a += b
    assert (float(a.foreground.sum()), float(a.background.sum())) == pytest.approx((4, 16))
