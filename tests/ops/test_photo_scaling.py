from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from torch.nn import functional as F

from labels4free.ops import photo_scaling
from labels4free.ops.photo_scaling import (
    alpha_from_logits,
    decided,
    reduced,
    sigmoid,
    strips,
    working_copy,
    working_shape,
)
from labels4free.pictures.pixels import from_uint8


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((512, 256), (256, 128)),
        ((100, 400), (64, 256)),
        ((1, 1), (256, 256)),
        ((20000, 1), (256, 1)),
        ((256, 7), (256, 7)),
    ],
)
def test_the_longer_side_becomes_the_working_size(size, expected):
    assert working_shape(*size, 256) == expected


def test_a_photo_of_the_working_size_is_only_converted():
    photo = pixels(32, 24)
    values, size = working_copy(photo, 32, 8)
    assert size == (24, 32)
    assert values.dtype == np.float32
    assert values.flags["C_CONTIGUOUS"]
    torch.testing.assert_close(torch.from_numpy(values), from_uint8(photo[None]), rtol=0, atol=0)


def test_sides_are_padded_by_their_edges():
    values, size = working_copy(pixels(32, 20), 32, 16)
    assert size == (20, 32)
    assert values.shape == (1, 3, 32, 32)
    assert (values[..., 20:] == values[..., 19:20]).all()


def test_other_sizes_are_scaled_by_lanczos():
    photo = pixels(80, 40)
    values, size = working_copy(photo, 40, 4)
    expected = np.asarray(Image.fromarray(photo).resize((20, 40), Image.Resampling.LANCZOS))
    assert size == (20, 40)
    np.testing.assert_array_equal(np.round((values[0] + 1) * 127.5).transpose(1, 2, 0), expected)


def test_large_photos_are_reduced_first_to_nearly_the_same(monkeypatch):
    smooth = np.asarray(Image.fromarray(pixels(6, 9)).resize((900, 600), Image.Resampling.BICUBIC))
    whole, size = working_copy(smooth, 32, 32)
    monkeypatch.setattr(photo_scaling, "_LARGE", 10_000)
    found, same_size = working_copy(smooth, 32, 32)
    assert size == same_size
    assert not np.array_equal(whole, found)
    np.testing.assert_allclose(whole, found, atol=0.05)


def test_reducing_averages_areas_in_any_number_of_parts(monkeypatch):
    photo = pixels(64, 96)
    expected = photo.reshape(16, 4, 24, 4, 3).mean((1, 3))
    np.testing.assert_allclose(reduced(photo, 24, 16), expected, atol=1.01)  # rounded along each axis
    uneven = reduced(photo, 23, 15)
    monkeypatch.setattr(photo_scaling, "_AT_ONCE", 500)
    np.testing.assert_allclose(reduced(photo, 24, 16), expected, atol=1.01)
    np.testing.assert_allclose(reduced(photo, 23, 15).astype(int), uneven.astype(int), atol=1)


def test_alpha_is_the_sigmoid_of_logits_enlarged_as_pytorch_does():
    logits = np.random.default_rng(0).normal(size=(8, 12)).astype(np.float32) * 3
    expected = F.interpolate(torch.from_numpy(logits)[None, None], (50, 75), mode="bilinear").sigmoid()[0, 0] * 255
    np.testing.assert_allclose(alpha_from_logits(logits, 75, 50), expected, atol=0.51)


@pytest.mark.parametrize("value", [-1e9, -2.0, 0.0, 0.5, 1e9])
def test_what_is_the_same_all_around_is_decided_three_times_as_much(value):
    np.testing.assert_allclose(decided(np.full((3, 40), value, np.float32)), np.float32(3 * value))


def test_a_border_stays_as_soft_as_it_is():
    logits = np.linspace(-30, 30, 61, dtype=np.float32)[None].repeat(5, 0)[:, 10:-10]  # 41 wide: 2 pixels to each side
    found = decided(logits)
    assert np.array_equal(found, found[:1].repeat(5, 0))
    alpha = np.float64(1) / (1 + np.exp(-logits[0].astype(np.float64)))
    for column in (2, 19, 20, 22, 38):
        spread = alpha[column - 2 : column + 3].max() - alpha[column - 2 : column + 3].min()
        assert found[0, column] == pytest.approx(logits[0, column] * (3 - 2 * spread), rel=1e-5)


def test_deciding_sees_as_far_as_a_32nd_of_the_longer_side_along_both_axes():
    logits = np.full((40, 64), -20, np.float32)
    logits[20, 30] = 20
    near = decided(logits) > -30  # a factor of 1; elsewhere 3
    expected = np.zeros((40, 64), bool)
    expected[18:23, 28:33] = True
    assert np.array_equal(near, expected)
    assert np.array_equal(decided(logits.T), decided(logits).T)


@pytest.mark.slow
@given(arrays(np.float32, (7, 9), elements=st.floats(-50, 50, width=32, allow_subnormal=False)))
def test_deciding_leaves_the_mask_and_makes_nothing_less_certain(logits):
    found = decided(logits)
    assert np.array_equal(np.sign(found), np.sign(logits))
    assert (np.abs(found) >= np.abs(logits) * 0.9999).all()
    assert (np.abs(found) <= np.abs(logits) * 3.0001).all()


def test_strips_change_nothing(monkeypatch):
    logits = np.random.default_rng(0).normal(size=(8, 12)).astype(np.float32) * 3
    for shape in ((75, 50), (5, 3), (12, 8)):
        whole = alpha_from_logits(logits, *shape)
        with monkeypatch.context() as patch:
            patch.setattr(photo_scaling, "_STRIP_PIXELS", 100)
            found = alpha_from_logits(logits, *shape)
        np.testing.assert_allclose(found.astype(int), whole.astype(int), atol=1)


def test_strips_cover_every_row_once():
    found = list(strips(1 << 17, 5))
    assert found == [(0, 2), (2, 4), (4, 5)]
    assert list(strips(1 << 30, 2)) == [(0, 1), (1, 2)]


def test_the_sigmoid_is_exact_far_out():
    values = np.array([-1e9, -100, 0, 100, 1e9], dtype=np.float32)
    assert sigmoid(values).tolist() == [0, 0, 0.5, 1, 1]
