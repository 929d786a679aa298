from __future__ import annotations

import pytest
import torch
from tests.small_pictures import seeded, square
from torch.nn import functional as F

from labels4free.training.alpha.backgrounds import (
    draw_backgrounds,
    filled_fraction,
    filled_surroundings,
)
from labels4free.training.alpha.config import BackgroundConfig
from labels4free.training.alpha.feature_cache import CachedBatch, FeatureCache

# filled_surroundings


def cache_of(images: torch.Tensor, backgrounds: torch.Tensor | None = None, masks: torch.Tensor | None = None):
    """A cache whose only level is alpha's logits."""
    logits = (
        torch.zeros(len(images), 1, *images.shape[2:])
        if masks is None
        else 40 * masks.expand(len(images), -1, -1, -1) - 20
    )
    return FeatureCache(images.half(), (images if backgrounds is None else backgrounds).half(), [logits.half()], None)


def first(levels):
    return levels[0]


def test_objects_are_filled_in_from_around_them():
    mask = square(5, 11)
    colours = torch.linspace(-1, 0.5, 5).view(5, 1, 1, 1)
    images = torch.where(mask > 0, 1.0, colours.expand(5, 3, 16, 16))
    filled = filled_surroundings(CachedBatch(images, []), mask.expand(5, -1, -1, -1))
    torch.testing.assert_close(filled, colours.expand(5, 3, 16, 16), rtol=0, atol=0.02)


def test_without_an_object_the_image_stays():
    images = torch.rand(3, 3, 16, 16)
    filled = filled_surroundings(CachedBatch(images, []), torch.zeros(3, 1, 16, 16))
    torch.testing.assert_close(filled, images, rtol=0, atol=5e-3)


def test_what_a_mask_leaves_behind_is_seen_and_its_gradient_says_so():
    image = torch.where(square(4, 12) > 0, 1.0, -1.0).expand(1, 3, 16, 16)
    alpha = square(6, 10).clone().requires_grad_()  # cut too short
    filled = filled_surroundings(CachedBatch(image, []), alpha)
    assert filled.mean() > -0.7
    filled.mean().backward()
    rim = (square(4, 12) - square(6, 10)).bool()
    assert (alpha.grad[rim] < 0).all()  # more alpha there, less of the object left


# filled_fraction


def test_share_by_hand():
    config = BackgroundConfig(filled_fraction=0.8, filled_from_step=10, filled_full_step=30)
    fractions = {step: filled_fraction(config, step) for step in (-100, 0, 10, 15, 20, 30, 1000)}
    assert fractions == pytest.approx({-100: 0, 0: 0, 10: 0, 15: 0.2, 20: 0.4, 30: 0.8, 1000: 0.8})
    assert filled_fraction(BackgroundConfig(filled_fraction=0.0), 10_000) == 0


# draw_backgrounds

PLAIN = BackgroundConfig(blur=1, jitter=0.0)


@pytest.fixture
def cache():
    """Images are 0; backgrounds hold their number on the left and that number plus 100 on the right."""
    numbers = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 8, 8).clone()
    numbers[..., 4:] += 100
    return cache_of(torch.zeros(8, 3, 8, 8), numbers)


def draw(cache, config=PLAIN, *, n: int = 200, seed: int = 0, fraction: float = 0.0, flip=None, samples=None):
    indices = torch.arange(n) % len(cache)
    flip = torch.zeros(n, dtype=torch.bool) if flip is None else flip
    samples = len(cache) if samples is None else samples
    return draw_backgrounds(cache, first, (indices, flip), config, samples=samples, fraction=fraction, rng=seeded(seed))


def test_backgrounds_are_other_samples_mirrored_or_not(cache):
    drawn = draw(cache)
    assert drawn.shape == (200, 3, 8, 8)
    left, right = drawn[:, 0, 0, 0], drawn[:, 0, 0, 7]
    is_mirrored = left > right
    assert 0.35 < is_mirrored.float().mean() < 0.65
    number = torch.minimum(left, right)
    assert set(number.tolist()) == set(range(8))
    assert torch.equal(torch.maximum(left, right), number + 100)
    assert (number == torch.arange(200) % 8).float().mean() < 0.3  # by chance an eighth


def test_same_latent_gives_each_foreground_its_own_background(cache):
    flip = torch.rand(200, generator=seeded(5)) < 0.5
    drawn = draw(cache, BackgroundConfig(blur=1, jitter=0.0, same_latent=True), flip=flip)
    left, right = drawn[:, 0, 0, 0], drawn[:, 0, 0, 7]
    assert torch.equal(torch.minimum(left, right), (torch.arange(200) % 8).float())
    assert torch.equal(left > right, flip)


@pytest.fixture
def numbered():
    """Nothing is object; images hold minus their number on the left and that minus 100 on the right."""
    numbers = -torch.arange(1.0, 9).view(8, 1, 1, 1).expand(8, 3, 8, 8).clone()
    numbers[..., 4:] -= 100
    return cache_of(numbers, torch.zeros(8, 3, 8, 8), masks=torch.zeros(1, 1, 8, 8))


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_share_of_the_filled(numbered, fraction):
    is_filled = (draw(numbered, n=1000, fraction=fraction) < -0.5).flatten(1)
    assert torch.equal(is_filled.all(dim=1), is_filled.any(dim=1))
    assert is_filled[:, 0].float().mean().item() == pytest.approx(fraction, abs=0.05 if 0 < fraction < 1 else 0)


def test_filled_ones_are_drawn_from_all_and_mirrored(numbered):
    drawn = draw(numbered, fraction=1.0)
    left, right = drawn[:, 0, 0, 0], drawn[:, 0, 0, 7]
    assert 0.35 < (left < right).float().mean() < 0.65
    assert len(torch.maximum(left, right).round().unique()) == 8


@pytest.mark.slow
def test_samples_beyond_the_bound_are_never_drawn(numbered, cache):
    assert draw(cache, samples=3).remainder(100).max() <= 2
    assert draw(numbered, fraction=1.0, samples=3).amax(dim=(1, 2, 3)).min() > -3.5


def test_gradients_reach_the_masks_of_the_filled(numbered):
    logits = numbered.levels[0].float().requires_grad_()
    indices, flip = torch.arange(8), torch.zeros(8, dtype=torch.bool)
    drawn = draw_backgrounds(numbered, lambda _: logits, (indices, flip), PLAIN, samples=8, fraction=1.0, rng=seeded(0))
    drawn.square().sum().backward()
    assert logits.grad.abs().sum() > 0


@pytest.mark.slow
def test_draws_depend_on_the_given_source_alone(cache):
    config = BackgroundConfig(blur=2, jitter=0.3)
    before = torch.get_rng_state()
    drawn = draw(cache, config, fraction=0.5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(draw(cache, config, fraction=0.5), drawn)
    assert not torch.equal(draw(cache, config, fraction=0.5, seed=1), drawn)


def test_blur_averages_over_blocks():
    noise = torch.randn(8, 3, 16, 16, generator=seeded(0))
    config = BackgroundConfig(blur=4, jitter=0.0, same_latent=True)
    drawn = draw(cache_of(noise), config, n=8)
    expected = F.interpolate(F.avg_pool2d(noise.half().float(), 4), size=16, mode="bilinear")
    torch.testing.assert_close(drawn, expected)
    constant = cache_of(torch.full((8, 3, 16, 16), 0.5))
    torch.testing.assert_close(draw(constant, config, n=8), torch.full((8, 3, 16, 16), 0.5))


def test_jitter_changes_contrast_and_colour_up_to_its_bound():
    values = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2).repeat(8, 3, 8, 4)
    drawn = draw(cache_of(values), BackgroundConfig(blur=1, jitter=0.25, same_latent=True), n=400)
    contrast = (drawn[:, :, 0, 1] - drawn[:, :, 0, 0]) / 2
    tint = (drawn[:, :, 0, 1] + drawn[:, :, 0, 0]) / 2
    torch.testing.assert_close(contrast.std(dim=1), torch.zeros(400), rtol=0, atol=1e-5)  # one for all colours
    assert 0.75 <= contrast.min() < 0.8 < 1.2 < contrast.max() <= 1.25
    assert -0.25 <= tint.min() < -0.2 < 0.2 < tint.max() <= 0.25
    assert tint.std(dim=1).mean() > 0.05
