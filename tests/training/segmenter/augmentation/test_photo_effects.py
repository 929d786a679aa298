from __future__ import annotations

import math

import pytest
import torch
from tests.tiny_distillation import disc

from labels4free.seeds import SeededRandom
from labels4free.training.segmenter.augmentation import photo_effects as effects
from labels4free.training.segmenter.augmentation.photo_effects import Placement


def picture(size=32):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def centre(alpha):
    """Middle of mass (x, y), in halves of the side."""
    at = (torch.arange(alpha.shape[-1]) + 0.5) / alpha.shape[-1] * 2 - 1
    total = alpha.sum()
    return float((alpha[0, 0].sum(0) * at).sum() / total), float((alpha[0, 0].sum(1) * at).sum() / total)


# Moving


def test_a_picture_at_its_place_stays():
    torch.testing.assert_close(effects.moved(picture(), Placement(1.0)), picture())


def test_mirroring_is_exact_to_rounding():
    torch.testing.assert_close(effects.moved(picture(), Placement(1.0, mirror=True)), picture().flip(-1))


@pytest.mark.parametrize(("shift", "where"), [((0.5, 0.0), (0.5, 0.0)), ((0.0, -0.25), (0.0, -0.25))])
def test_a_shift_is_to_the_right_and_down(shift, where):
    moved = effects.moved(disc(radius=0.3), Placement(1.0, shift=shift))
    assert centre(moved) == pytest.approx(where, abs=1e-4)


def test_half_the_scale_is_a_quarter_of_the_area():
    moved = effects.moved(disc(radius=0.6), Placement(0.5))
    assert float(moved.sum() / disc(radius=0.6).sum()) == pytest.approx(0.25, rel=0.05)


def test_turning_is_clockwise():
    moved = effects.moved(disc(radius=0.2, centre=(0.5, 0.0)), Placement(1.0, math.pi / 2))
    assert centre(moved) == pytest.approx((0.0, 0.5), abs=1e-3)


def test_mirroring_comes_before_the_shift():
    moved = effects.moved(disc(radius=0.2, centre=(0.3, 0.0)), Placement(1.0, shift=(0.5, 0.0), mirror=True))
    assert centre(moved) == pytest.approx((0.2, 0.0), abs=2e-3)


def test_mirroring_comes_before_the_turn():
    moved = effects.moved(disc(radius=0.2, centre=(-0.5, 0.0)), Placement(1.0, math.pi / 2, mirror=True))
    assert centre(moved) == pytest.approx((0.0, 0.5), abs=1e-3)


def test_edges_go_on():
    image = torch.full((1, 1, 8, 8), -1.0)
    image[..., 0, :] = 1
    moved = effects.moved(image, Placement(0.5))
    assert moved[0, 0, :2].min() == 1
    assert moved[0, 0, 4:].max() == -1


# Light


@pytest.mark.parametrize("seed", range(5))
def test_tones_stay_in_range_and_differ(seed):
    toned = effects.toned(picture(), SeededRandom(seed), 0.3)
    assert toned.min() >= -1
    assert toned.max() <= 1
    assert (toned - picture()).abs().mean() > 0.01


def test_no_strength_is_no_change():
    torch.testing.assert_close(effects.toned(picture(), SeededRandom(0), 0.0), picture())


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_recolouring_moves_the_mean_a_share_of_the_way(fraction):
    colour = torch.tensor([0.1, -0.1, 0.0]).view(1, 3, 1, 1)
    before = picture() / 4  # far from the ends of the range, where colours would be cut off
    after = effects.recoloured(before, colour, fraction).mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(after, torch.lerp(before.mean(dim=(2, 3), keepdim=True), colour, fraction))


def test_recolouring_stays_in_range():
    assert effects.recoloured(picture(), torch.ones(1, 3, 1, 1), 1.0).max() <= 1


def test_side_light_has_no_mean():
    lit = effects.lit_from_a_side(picture(), SeededRandom(3), 0.35) - picture()
    assert abs(float(lit.mean())) < 1e-6
    assert 0 < float(lit.abs().max()) <= 0.35 * math.sqrt(2)


def test_a_spot_lights_what_is_near_it():
    white = torch.ones(1, 3, 32, 32)
    darkest = []
    for seed in range(20):
        lit = (effects.lit_by_a_spot(white, SeededRandom(seed), 0.9) + 1) / 2
        fraction = lit / lit.amax(dim=(2, 3), keepdim=True)
        assert fraction.min() >= 0.1 - 1e-6
        darkest.append(float(fraction.min()))
    assert min(darkest) < 0.4
    black = -torch.ones(1, 3, 32, 32)
    assert torch.equal(effects.lit_by_a_spot(black, SeededRandom(0), 0.9), black)


def test_grey_has_three_equal_colours():
    grey = effects.grey(picture())
    assert grey.shape == (1, 3, 32, 32)
    torch.testing.assert_close(grey[:, 0], picture().mean(1))


# Lens and sensor


def test_blur_keeps_the_mean_of_a_point_and_spreads_it():
    point = torch.zeros(1, 1, 33, 33)
    point[..., 16, 16] = 1
    blurred = effects.blurred(point, 2.0)
    at = torch.arange(33.0) - 16
    assert float(blurred.sum()) == pytest.approx(1)
    assert float((blurred[0, 0].sum(0) * at**2).sum()) == pytest.approx(4, rel=0.1)  # sigma squared, its tails cut


def test_blur_of_nothing_is_none_and_of_much_fits():
    image = picture(8)
    assert effects.blurred(image, 0.1) is image
    assert effects.blurred(torch.ones(1, 3, 8, 8), 20.0).sub(1).abs().max() < 1e-5


def test_resampling_takes_detail_away():
    less = effects.resampled(picture(), 0.25)
    assert less.shape == picture().shape
    assert less.diff(dim=-1).abs().mean() < 0.3 * picture().diff(dim=-1).abs().mean()


def test_noise_has_its_deviation():
    noise = effects.noisy(torch.zeros(1, 3, 64, 64), SeededRandom(0), 0.1)
    assert float(noise.std()) == pytest.approx(0.1, rel=0.05)


def test_jpeg_comes_back_near():
    smooth = effects.blurred(picture(), 4.0)
    back = effects.through_jpeg(smooth, 95)
    assert back.dtype == torch.float32
    assert 0 < (back - smooth).abs().max() < 0.1
    worse = effects.through_jpeg(smooth, 5)
    assert (worse - smooth).abs().mean() > 3 * (back - smooth).abs().mean()
