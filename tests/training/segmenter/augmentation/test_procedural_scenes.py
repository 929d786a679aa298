from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import ImageChops

from labels4free.seeds import SeededRandom
from labels4free.training.segmenter.augmentation import procedural_scenes
from labels4free.training.segmenter.augmentation.procedural_scenes import (
    architecture,
    dead_leaves,
    foliage,
    landscape,
    log_uniform,
    smooth_noise,
)

KINDS = [dead_leaves, foliage, architecture, landscape]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [32, 96])
def test_each_kind_is_a_picture(kind, size):
    for seed in range(4):
        picture = kind(SeededRandom(seed, 3), size)
        assert picture.shape == (1, 3, size, size)
        assert picture.dtype == torch.float32
        assert picture.isfinite().all()
        assert picture.min() >= -1
        assert picture.max() <= 1.2 + 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_numbers_give_the_same_picture_and_others_another(kind):
    assert torch.equal(kind(SeededRandom(1), 48), kind(SeededRandom(1), 48))
    assert len({kind(SeededRandom(seed), 48).sum().item() for seed in range(10)}) == 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_edges_that_a_gradient_has_not(kind):
    gradient = torch.linspace(-1, 1, 96).expand(1, 3, 96, 96)
    pictures = [kind(SeededRandom(seed), 96) for seed in range(8)]
    assert np.median([_steps(picture) for picture in pictures]) > 3 * _steps(gradient)


def _steps(picture):
    return float((picture[..., 1:] - picture[..., :-1]).pow(2).mean().sqrt())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_numbers_give_a_finer_picture_at_a_larger_size(kind):
    coarse, fine = (kind(SeededRandom(5), size) for size in (48, 96))
    fine = torch.nn.functional.avg_pool2d(fine, 2)
    alike = torch.corrcoef(torch.stack((coarse.flatten(), fine.flatten())))[0, 1]
    assert alike > 0.75


def test_small_dead_leaves_are_many():
    """Of radii as r ** -3, three in four lie below twice the least."""
    least, most = 2.0, 100.0
    radius = procedural_scenes._radii(SeededRandom(3), 4000, least, most)
    assert least <= radius.min()
    assert radius.max() <= most
    assert (radius < 2 * least).mean() == pytest.approx(0.75, abs=0.03)


def test_a_canvas_takes_polygons_in_their_order_and_leaves_out_what_is_behind_the_eye():
    canvas = procedural_scenes._Canvas(8, np.array([10.0, 20.0, 30.0]))
    whole = np.array([[[0.0, 0], [1, 0], [1, 1], [0, 1]]])
    behind = np.diag([1.0, 1, -1])
    before = canvas.image.copy()
    canvas.paint(SeededRandom(0), whole, np.array([[200.0, 0, 0]]), behind)
    assert ImageChops.difference(canvas.image.convert("RGB"), before.convert("RGB")).getbbox() is None
    two = np.concatenate((whole, whole / 2))
    canvas.paint(SeededRandom(0), two, np.array([[300.0, 0, 0], [0, 99, -5]]), np.eye(3))
    assert canvas.image.getpixel((2, 2))[:3] == (0, 99, 0)
    assert canvas.image.getpixel((13, 13))[:3] == (255, 0, 0)


def test_no_polygon_is_no_error():
    canvas = procedural_scenes._Canvas(8, np.zeros(3))
    canvas.paint(SeededRandom(0), np.zeros((0, 4, 2)), np.zeros((0, 3)), np.eye(3))
    assert canvas.image.convert("RGB").getbbox() is None


def test_a_bevel_lights_two_edges_and_shades_two():
    points, colours = procedural_scenes._bevelled(np.array([[0.0, 0, 10, 10]]), 1.0, np.full(3, 100.0), True)
    assert points.shape == (5, 4, 2)
    assert points[4].tolist() == [[1, 1], [9, 1], [9, 9], [1, 9]]
    assert points[0].tolist() == [[0, 0], [10, 0], [9, 1], [1, 1]]
    assert [shade[0] > 100 for shade in colours] == [True, False, False, True, False]
    assert colours[4].tolist() == [100, 100, 100]


def test_log_uniform_stays_between_and_halves_at_the_geometric_mean():
    random = SeededRandom(4)
    numbers = np.array([log_uniform(random, 1, 100) for _ in range(800)])
    assert numbers.min() >= 1
    assert numbers.max() <= 100
    assert (numbers < 10).mean() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("size", [32, 96])
def test_smooth_noise_is_smooth(size):
    noise = smooth_noise(SeededRandom(2), size, 4)
    assert noise.shape == (1, 1, size, size)
    assert _steps(noise) < 0.35 * float(noise.std())
