from __future__ import annotations

import pytest
import torch
from tests.small_pictures import seeded, square
from torch.autograd import gradcheck

from labels4free.ops.push_pull import fill_holes


def test_where_the_weight_is_1_the_image_stays():
    image, weight = torch.randn(2, 3, 16, 16), torch.rand(2, 1, 16, 16)
    assert torch.equal(fill_holes(image, torch.ones(2, 1, 16, 16)), image)
    weight[..., ::3, ::2] = 1
    filled = fill_holes(image, weight)
    known = (weight == 1).expand_as(image)
    assert torch.equal(filled[known], image[known])
    assert not torch.equal(filled[~known], image[~known])


@pytest.mark.parametrize("weight", [square(0, 16), 1 - square(3, 12), square(0, 1), 0.5 * square(0, 16)])
def test_a_constant_image_stays_constant(weight):
    colour = torch.tensor([0.7, -0.2, 0.1]).view(1, 3, 1, 1)
    image = torch.where(weight > 0, colour, torch.full_like(colour, 9.0))  # what lies in a hole must not be looked at
    torch.testing.assert_close(fill_holes(image, weight), colour.expand(1, 3, 16, 16), rtol=1e-4, atol=1e-4)


def test_a_hole_is_filled_between_its_neighbours():
    image = torch.full((1, 1, 16, 16), 99.0)
    weight = torch.zeros(1, 1, 16, 16)
    image[..., :4], image[..., 12:] = -1.0, 1.0
    weight[..., :4] = weight[..., 12:] = 1
    filled = fill_holes(image, weight)
    across = filled[0, 0, 8]
    assert (across[:4] == -1).all()
    assert (across[12:] == 1).all()
    assert -1 <= across.min() <= across.max() <= 1
    assert (across.diff() >= -1e-6).all()
    torch.testing.assert_close(across[7] + across[8], torch.tensor(0.0), rtol=0, atol=1e-4)
    assert across[5] < -0.1
    assert across[10] > 0.1


def test_a_single_known_pixel_fills_everything():
    image, weight = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    image[..., 5, 9], weight[..., 5, 9] = 0.8, 1
    torch.testing.assert_close(fill_holes(image, weight), torch.full((1, 1, 32, 32), 0.8), rtol=1e-3, atol=0)


def test_nothing_known_gives_finite_numbers():
    assert torch.isfinite(fill_holes(torch.randn(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))).all()


def test_gradients_of_the_filling():
    image = torch.randn(1, 2, 4, 4, dtype=torch.float64, generator=seeded(0)).requires_grad_()
    weight = (0.1 + 0.6 * torch.rand(1, 1, 4, 4, dtype=torch.float64, generator=seeded(1))).requires_grad_()
    assert gradcheck(fill_holes, (image, weight))
