"""Losses of projections: how far a picture is from the photo, and how much a picture hides in noise maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from labels4free.evaluation.generators.feature_nets import FeatureNet
    from labels4free.generating.projection.config import ProjectionConfig

_SMALLEST_NOISE = 8  # pixels of the last map of the pyramid


class PhotoDistance:
    """How far a picture is from one photo: pixels at several sizes, a perceptual network, the discriminator's maps.

    Args:
        photo: [1, 3, R, R], in [-1, 1]. What the networks see in it is computed once.
        config: Weights.
        perceptual: EfficientNet-Lite0 or LPIPS.
        discriminator: The generator's own; None leaves it out.
    """

    def __init__(
        self, photo: Tensor, config: ProjectionConfig, perceptual: FeatureNet, discriminator: FeatureNet | None
    ) -> None:
        self._config = config
        small = reduced(photo, config.side)
        self._pixels = _pyramid(small, config.pixel_scales)
        self._perceptual = perceptual.distance_to(small) if config.perceptual else None
        judged = discriminator is not None and config.discriminator
        self._discriminator = discriminator.distance_to(photo) if judged and discriminator is not None else None

    def __call__(self, image: Tensor) -> Tensor:
        """The weighted sum, a scalar with gradients; ``image`` is [1, 3, R, R], about [-1, 1]."""
        config, small = self._config, reduced(image, self._config.side)
        total = image.new_zeros(())
        if config.pixels:
            own = _pyramid(small, config.pixel_scales)
            errors = [F.mse_loss(a, b) for a, b in zip(own, self._pixels, strict=True)]
            total = total + config.pixels * torch.stack(errors).mean()
        if self._perceptual is not None:
            total = total + config.perceptual * self._perceptual(small).sum()
        if self._discriminator is not None:
            total = total + config.discriminator * self._discriminator(image).sum()
        return total


def noise_autocorrelation(maps: Sequence[Tensor]) -> Tensor:
    """Autocorrelation of noise maps at several scales: near 0 for noise, larger where it carries a picture.

    Karras et al. 2020, arXiv 1912.04958, appendix D: the squares of the mean products of each map with itself, moved by
    a pixel to the right and down, summed over the map and its halvings down to 8 pixels. The paper doubles the values
    at each halving, the published code does not; nor does this.

    Args:
        maps: Each [1, 1, R, R].

    Returns:
        A scalar with gradients, >= 0.
    """
    parts = []
    for noise in maps:
        x = noise
        while True:
            parts += [(x * x.roll(1, dims=dim)).mean().square() for dim in (3, 2)]
            if x.shape[-1] <= _SMALLEST_NOISE:
                break
            x = F.avg_pool2d(x, 2)
    return torch.stack(parts).sum()


@torch.no_grad()
def normalize_noise(maps: Sequence[Tensor]) -> None:
    """Give each map a mean of 0 and a mean square of 1 again, in place."""
    for noise in maps:
        noise -= noise.mean()
        noise *= noise.square().mean().rsqrt()


def reduced(image: Tensor, side: int) -> Tensor:
    """A picture [N, 3, R, R] averaged over whole blocks until it has at most about ``side`` pixels a side."""
    factor = image.shape[-1] // side
    return F.avg_pool2d(image, factor) if factor > 1 else image


def _pyramid(image: Tensor, scales: int) -> list[Tensor]:
    levels = [image]
    while len(levels) < scales and levels[-1].shape[-1] > 1:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels
