from __future__ import annotations

import numpy as np
import pytest
import torch

from labels4free.ops import photo_refine, photo_scaling
from labels4free.ops.photo_refine import fill_layers, foreground_rows, local_fits, push_pull, refine_guided
from labels4free.ops.push_pull import fill_holes
from labels4free.ops.refine import guided_filter


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def halves(size=64, left=(200, 30, 30), right=(20, 60, 200)):
    """A picture of two colours, side by side."""
    photo = np.empty((size, size, 3), dtype=np.uint8)
    photo[:, : size // 2], photo[:, size // 2 :] = left, right
    return photo


def ramp(size=64, width=16):
    """Alpha from 255 at the left to 0 at the right, over ``width`` pixels in the middle."""
    across = np.clip(0.5 + (size / 2 - 0.5 - np.arange(size)) / width, 0, 1)
    return np.repeat((across * 255).round().astype(np.uint8)[None], size, axis=0)


@pytest.mark.parametrize("radius", [1, 3, 40])
def test_the_fits_are_those_of_the_filter_for_tensors(radius):
    rng = np.random.default_rng(0)
    guide, values = rng.random((3, 20, 31)), rng.random((20, 31))
    slopes = local_fits(guide, values, radius, 1e-3)
    found = ((slopes[:3] * guide).sum(0) + slopes[3]).clip(0, 1)
    tensors = torch.from_numpy(guide)[None], torch.from_numpy(values)[None, None]
    # from a radius of 16 on, the other is fitted on pooled maps
    expected = guided_filter(*tensors, radius, 1e-3)[0, 0].numpy() if radius < 16 else found
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert slopes.shape == (4, 20, 31)


def test_a_soft_alpha_snaps_to_the_edge():
    soft = ramp(256, 4)
    assert ((soft > 5) & (soft < 250)).any(axis=0).sum() == 4
    refined = refine_guided(halves(256), soft)
    assert soft[0, 127] < 180
    assert (refined[:, :128] > 210).all()
    assert (refined[:, 128:] < 45).all()


@pytest.mark.parametrize("level", [0, 77, 255])
@pytest.mark.parametrize("size", [(1, 1), (40, 30), (300, 500)])
def test_a_constant_alpha_stays(level, size):
    alpha = np.full(size, level, dtype=np.uint8)
    assert (refine_guided(noise(*size), alpha) == level).all()


def test_a_large_photo_is_fitted_small_and_keeps_its_edge(monkeypatch):
    monkeypatch.setattr(photo_refine, "FIT_SIZE", 64)
    refined = refine_guided(halves(512), ramp(512, 8))
    assert refined.shape == (512, 512)
    assert (refined[:, :256] > 200).all()
    assert (refined[:, 256:] < 55).all()


def test_strips_change_nothing(monkeypatch):
    photo, alpha = noise(90, 70), ramp(90)[:, :70]
    whole = refine_guided(photo, alpha)
    layers = fill_layers(photo, alpha)
    colours = foreground_rows(photo, alpha, layers, 0, 90)
    np.testing.assert_array_equal(foreground_rows(photo, alpha, layers, 30, 50), colours[30:50])
    monkeypatch.setattr(photo_scaling, "_STRIP_PIXELS", 200)
    np.testing.assert_allclose(refine_guided(photo, alpha).astype(int), whole.astype(int), atol=1)


def test_push_pull_is_that_for_tensors():
    image = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    weight = (np.random.default_rng(1).random((16, 16)) > 0.7).astype(np.float32)
    expected = fill_holes(torch.from_numpy(image.transpose(2, 0, 1))[None], torch.from_numpy(weight)[None, None])
    np.testing.assert_allclose(push_pull(image, weight).transpose(2, 0, 1), expected[0], atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 13), (13, 1), (7, 10)])
def test_push_pull_fills_any_size(size):
    image = np.full((*size, 3), 0.25, dtype=np.float32)
    weight = np.zeros(size, dtype=np.float32)
    weight[0, 0] = 1
    np.testing.assert_allclose(push_pull(image, weight), 0.25, atol=1e-4)


def test_colours_of_a_soft_border_are_the_foregrounds():
    alpha = ramp()
    fraction = alpha[..., None] / 255
    red, green = np.array([220, 40, 30]), np.array([20, 180, 60])
    photo = (fraction * red + (1 - fraction) * green).round().astype(np.uint8)
    layers = fill_layers(photo, alpha)
    found = foreground_rows(photo, alpha, layers, 0, 64)
    mixed = (alpha > 25) & (alpha < 230)
    assert mixed.sum() > 500
    assert np.abs(found[mixed].astype(int) - red).max() <= 12
    assert np.abs(photo[mixed].astype(int) - red).max() > 100
    np.testing.assert_array_equal(found[alpha == 255], photo[alpha == 255])


def test_detail_of_the_foreground_stays():
    rng = np.random.default_rng(0)
    alpha = np.full((64, 64), 255, dtype=np.uint8)
    alpha[:, 40:] = 0
    alpha[:, 36:40] = 230
    foreground = rng.integers(100, 200, (64, 64, 3))
    fraction = alpha[..., None] / 255
    photo = (fraction * foreground + (1 - fraction) * 20).round().astype(np.uint8)
    found = foreground_rows(photo, alpha, fill_layers(photo, alpha), 0, 64)
    before, after = (np.abs(x[:, 36:40].astype(int) - foreground[:, 36:40]).mean() for x in (photo, found))
    assert after < 0.5 * before


@pytest.mark.parametrize("level", [0, 100, 255])
def test_a_photo_with_one_layer_keeps_its_colours(level):
    photo = noise(20, 30)
    alpha = np.full((20, 30), level, dtype=np.uint8)
    layers = fill_layers(photo, alpha)
    found = foreground_rows(photo, alpha, layers, 0, 20)
    assert found.shape == photo.shape
    np.testing.assert_allclose(found.astype(int), photo.astype(int), atol=1)
