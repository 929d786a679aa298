from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labels4free.metrics.distributions import (
    Moments,
    frechet_distance,
    inception_score,
    kernel_distance,
    kernel_distance_of_subsets,
    precision_recall,
)

# Of torch-fidelity 0.4.0 for the features below; NVIDIA's code gives the same precision, recall and kernel distance.
FRECHET, KERNEL = 1.1923140056666384, 0.14420341480810972
SCORE = (2.471397349066814, 0.20949365264910258)
PRECISION, RECALL = 0.5807692408561707, 0.9300000071525574


@pytest.fixture(scope="module")
def sets():
    """Features of 300 "real" and 260 "generated" images, as a ReLU gives them."""
    rng = torch.Generator().manual_seed(3)
    mix = torch.randn(24, 24, generator=rng) / 24**0.5
    one = (torch.randn(300, 24, generator=rng) @ mix).relu()
    other = (torch.randn(260, 24, generator=rng) @ mix * 1.1 + 0.2).relu()
    return one.double(), other.double()


def test_equal_to_torch_fidelity(sets):
    one, other = sets
    assert frechet_distance(Moments.of(one), Moments.of(other)) == pytest.approx(FRECHET, abs=1e-9)
    assert kernel_distance(one[:260], other) == pytest.approx(KERNEL, abs=1e-9)
    assert inception_score(2 * one) == pytest.approx(SCORE, abs=1e-9)


@pytest.mark.parametrize("tile", [100, 10_000])
def test_precision_and_recall_equal_to_nvidia_and_torch_fidelity(sets, tile):
    one, other = sets
    assert precision_recall(one.float(), other.float(), tile=tile) == pytest.approx((PRECISION, RECALL), abs=1e-6)


def normal(seed, count, scale=1.0, shift=0.0, width=4):
    draws = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draws * scale + shift


# Moments


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_moments_do_not_depend_on_the_batches(sets, batch):
    features = sets[0].float() + 1000  # an offset that the naive sum of squares would drown in
    moments = Moments(24)
    for part in features.split(batch):
        moments.add(part)
    moments.add(features[:0])
    assert moments.count == 300
    expected = np.cov(features.double().numpy(), rowvar=False)
    np.testing.assert_allclose(moments.mean, features.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, expected, atol=1e-10)


def test_moments_by_hand():
    moments = Moments.of(torch.tensor([[0.0, 0.0], [2.0, 4.0]]))
    assert moments.mean.tolist() == [1, 2]
    assert moments.covariance.tolist() == [[2, 4], [4, 8]]
    with pytest.raises(ValueError, match="at least two feature vectors, got 1"):
        _ = Moments.of(torch.zeros(1, 2)).covariance


# Fréchet distance


def exact(mean, covariance):
    """Moments that are known, not measured."""
    moments = Moments(len(mean))
    moments.count, moments.mean = 2, torch.tensor(mean, dtype=torch.float64)
    moments.scatter = torch.tensor(covariance, dtype=torch.float64)
    return moments


def test_frechet_distance_by_hand():
    one = exact([0, 0], [[4, 0], [0, 9]])
    other = exact([3, 4], [[1, 0], [0, 1]])
    assert frechet_distance(one, other) == pytest.approx(25 + (2 - 1) ** 2 + (3 - 1) ** 2)
    assert frechet_distance(other, one) == pytest.approx(30)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12)


def test_frechet_distance_with_fewer_images_than_features():
    few, many = normal(0, 5, width=40), normal(1, 2000, width=40)
    distance = frechet_distance(Moments.of(few), Moments.of(many))
    assert math.isfinite(distance)
    assert distance > 10 * frechet_distance(Moments.of(normal(2, 2000, width=40)), Moments.of(many))
    assert frechet_distance(Moments.of(few), Moments.of(few)) == pytest.approx(0, abs=1e-6)


def test_features_of_two_networks():
    for compare in (
        lambda: frechet_distance(Moments(2), Moments(3)),
        lambda: kernel_distance(torch.zeros(3, 2), torch.zeros(3, 3)),
        lambda: precision_recall(torch.zeros(9, 2), torch.zeros(9, 3)),
    ):
        with pytest.raises(ValueError, match="Features of one network are needed, got vectors of 2 and of 3 numbers"):
            compare()


# Kernel distance


def test_kernel_distance_by_hand():
    one, other = torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [1.0]])
    # k(1, 1) = 8, all others 1: the off-diagonal means are 1 and 8, the mean between the sets (8 + 8 + 1 + 1) / 4
    assert kernel_distance(one, other) == pytest.approx(1 + 8 - 2 * 4.5)


def test_kernel_distance_is_unbiased():
    values = [kernel_distance(normal(2 * k, 20), normal(2 * k + 1, 20)) for k in range(200)]
    spread = float(np.std(values)) / len(values) ** 0.5
    assert abs(float(np.mean(values))) < 3 * spread
    assert min(values) < 0 < max(values)


def test_kernel_distance_of_subsets(sets):
    one, other = sets
    found = kernel_distance_of_subsets(one, other, subsets=20, size=100, seed=4)
    assert found == kernel_distance_of_subsets(one, other, subsets=20, size=100, seed=4)
    assert found != kernel_distance_of_subsets(one, other, subsets=20, size=100, seed=5)
    assert abs(found.mean - kernel_distance(one, other)) < 3 * found.deviation / 20**0.5
    assert found.deviation > 0
    whole = kernel_distance_of_subsets(other, other, subsets=2, size=1000)
    assert whole == (pytest.approx(kernel_distance(other, other)), 0)  # all images are in every subset
    with pytest.raises(ValueError, match="at least two feature vectors of each set, got 1 and 1"):
        kernel_distance_of_subsets(one[:1], other)


# Precision and recall


def test_precision_and_recall_at_their_extremes():
    real = normal(0, 50)
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real, real + 1000) == (0, 0)
    one_mode = real[:1] + 1e-3 * normal(1, 50)
    precision, recall = precision_recall(real, one_mode)
    assert precision == 1
    assert recall <= 0.04


def test_precision_and_recall_by_hand():
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0]])  # the balls of k = 1 reach 1, 1, 1 and 8 far
    generated = torch.tensor([[2.5], [17.0], [18.5], [30.0]])  # 14.5, 1.5, 1.5 and 11.5
    assert precision_recall(real, generated, neighbours=1) == (0.5, 1)
    assert precision_recall(generated, real, neighbours=1) == (1, 0.5)


def test_precision_and_recall_far_from_the_origin():
    real, generated = normal(0, 100), normal(1, 100, scale=0.5)
    near = precision_recall(real.float(), generated.float())
    assert precision_recall(real.float() + 500, generated.float() + 500) == pytest.approx(near, abs=0.011)


def test_too_few_images_for_precision():
    with pytest.raises(ValueError, match="more than 3 images of each set, got 3 and 9"):
        precision_recall(torch.zeros(3, 2), torch.zeros(9, 2))


# Inception score


def test_inception_score_at_its_extremes():
    sure = 1000 * torch.eye(10).repeat(10, 1)
    assert inception_score(sure) == pytest.approx((10, 0))
    assert inception_score(torch.zeros(20, 10)) == pytest.approx((1, 0))
    assert inception_score(sure[:1].repeat(20, 1)) == pytest.approx((1, 0))
    with pytest.raises(ValueError, match="of 10 parts needs as many images, got 9"):
        inception_score(sure[:9])
