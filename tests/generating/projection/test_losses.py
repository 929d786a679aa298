from __future__ import annotations

import pytest
import torch
from tests.evaluation.generators.small_nets import SmallNet
from torch.nn import functional as F

from labels4free.generating.projection.config import ProjectionConfig
from labels4free.generating.projection.losses import (
    PhotoDistance,
    noise_autocorrelation,
    normalize_noise,
    reduced,
)


def test_the_weighted_sum():
    torch.manual_seed(0)
    photo, image = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)
    config = ProjectionConfig(side=64, pixels=3.0, pixel_scales=2, perceptual=5.0)
    small, other = F.avg_pool2d(photo, 2), F.avg_pool2d(image, 2)
    pixels = (F.mse_loss(small, other) + F.mse_loss(F.avg_pool2d(small, 2), F.avg_pool2d(other, 2))) / 2
    expected = 3 * pixels + 5 * SmallNet().distance(other, small)[0]
    torch.testing.assert_close(PhotoDistance(photo, config, SmallNet(), None)(image), expected)
    assert PhotoDistance(photo, config, SmallNet(), None)(photo) == 0


def test_weights_of_nothing_leave_a_loss_out():
    photo, image = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    alone = ProjectionConfig(pixels=0.0, perceptual=2.0)
    expected = 2 * SmallNet().distance(image, photo)[0]
    torch.testing.assert_close(
        PhotoDistance(photo, alone, SmallNet(), SmallNet(weight=9.0))(image), expected + 81 * expected / 2
    )
    pixels = ProjectionConfig(pixels=1.0, perceptual=0.0, pixel_scales=1)
    torch.testing.assert_close(PhotoDistance(photo, pixels, SmallNet(), None)(image), F.mse_loss(photo, image))


def test_noise_has_little_autocorrelation_and_a_picture_much():
    rng = torch.Generator().manual_seed(0)
    noise = [torch.randn(1, 1, side, side, generator=rng) for side in (4, 8, 32)]
    smooth = [F.avg_pool2d(one, 3, 1, 1) for one in noise]
    normalize_noise(smooth)
    assert noise_autocorrelation(smooth) > 5 * noise_autocorrelation(noise)


def test_autocorrelation_by_hand():
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])[None, None]
    across, down = (2 + 2 + 15 + 15) / 4, (3 + 3 + 10 + 10) / 4
    assert float(noise_autocorrelation([x])) == pytest.approx(across**2 + down**2)
    large = torch.randn(1, 1, 16, 16)
    both = noise_autocorrelation([F.avg_pool2d(large, 2)]) + sum(
        (large * large.roll(1, dims=dim)).mean().square() for dim in (2, 3)
    )
    torch.testing.assert_close(noise_autocorrelation([large]), both)


def test_reduced():
    assert [reduced(torch.zeros(1, 3, side, side), 256).shape[-1] for side in (64, 256, 384, 512, 1024)] == [
        64, 256, 384, 256, 256
    ]  # fmt: skip
