from __future__ import annotations

import pytest
import torch

from labels4free.training.alpha.masks import disturb, random_masks


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [8, 16, 64])
@pytest.mark.parametrize("n", [1, 5])
def test_shape_and_range(n, size):
    masks = random_masks(n, size, seeded(0))
    assert masks.shape == (n, 1, size, size)
    assert masks.dtype == torch.float32
    assert 0 <= masks.min() <= masks.max() <= 1
    assert disturb(torch.zeros(n, 1, size, size), seeded(0)).shape == (n, 1, size, size)


def test_masks_are_of_every_share_and_center_bias():
    masks = torch.cat([random_masks(8, 16, seeded(seed)) for seed in range(25)])
    fraction = masks.mean(dim=(1, 2, 3))
    assert fraction.mean().item() == pytest.approx(0.5, abs=0.1)
    assert fraction.min() < 0.15
    assert fraction.max() > 0.85
    middle, corner = masks[..., 4:12, 4:12].mean(dim=(1, 2, 3)), masks[..., :4, :4].mean(dim=(1, 2, 3))
    assert 0.3 < (middle > corner).float().mean() < 0.7
    binary = 1 - 2 * torch.minimum(masks, 1 - masks).mean(dim=(1, 2, 3))
    assert binary.min() < 0.4  # some are soft
    assert binary.max() > 0.9  # some are hard


def test_masks_are_smooth():
    masks = torch.cat([random_masks(8, 64, seeded(seed)) for seed in range(5)])
    steps = (masks[..., 1:] - masks[..., :-1]).abs()
    assert steps.mean() < 0.05
    assert masks.std(dim=(1, 2, 3)).mean() > 0.1


def test_draws_depend_on_the_given_source_alone():
    logits = torch.randn(3, 1, 16, 16)
    for draw in (lambda rng: random_masks(3, 16, rng), lambda rng: disturb(logits, rng)):
        before = torch.get_rng_state()
        first = draw(seeded(1))
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(7)
        assert torch.equal(draw(seeded(1)), first)
        assert not torch.equal(draw(seeded(2)), first)


def test_disturbing_changes_parts_of_some_masks_more_than_of_others():
    sure = torch.full((64, 1, 16, 16), 100.0)
    disturbed = disturb(sure, seeded(0))
    assert sure.eq(100).all()  # the argument is not changed
    turned = (disturbed < 0).float().mean(dim=(1, 2, 3))
    assert turned.min() == 0  # a weak one: nothing is turned round
    assert turned.max() > 0.1  # a strong one, even on a mask as sure as this
    assert turned.mean() < 0.5


def test_disturbing_is_fair():
    logits = torch.zeros(400, 1, 8, 8)
    disturbed = torch.cat([disturb(part, seeded(i)) for i, part in enumerate(logits.split(8))])
    assert disturbed.mean().abs() < 0.3
    assert disturbed.std() > 1
