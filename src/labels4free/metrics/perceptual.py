"""Perceptual distances of images from a network's maps, and the perceptual path length (PPL) of a generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

PATH_SIDE = 256
"""Side in pixels that images of a path are reduced to, if they are larger."""

_LOW, _HIGH = 0.01, 0.99
_EPSILON = 1e-10


def perceptual_distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Perceptual distance of each pair of images: LPIPS (Zhang et al. 2018, arXiv 1801.03924) with all its weights 1.

    The channels of each map are brought to length 1 at every pixel; the squared differences are summed over the
    channels, averaged over the pixels and summed over the maps. Differentiable.

    Args:
        one: Maps of the one images, each [N, C, H, W].
        other: The same maps of the others.

    Returns:
        [N], from 0 to 4 times the number of maps.
    """
    return unit_distance(unit_maps(one), unit_maps(other))


def unit_maps(maps: Sequence[Tensor]) -> list[Tensor]:
    """Maps [N, C, H, W] with the channels brought to length 1 at every pixel."""
    return [x * (x.square().sum(dim=1, keepdim=True) + _EPSILON).rsqrt() for x in maps]


def unit_distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """:func:`perceptual_distance` of :func:`unit_maps`, so that those of an image that stays are made once."""
    parts = [(a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in zip(one, other, strict=True)]
    return torch.stack(parts).sum(dim=0)


def great_circle(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Points between two directions on their great circle (slerp), as NVIDIA's path length takes them.

    Args:
        a: [N, D], not zero.
        b: [N, D], not zero, nor along the same line.
        t: [N], how far; 0 is a, 1 is b.

    Returns:
        [N, D], of length 1.
    """
    a, b = F.normalize(a, dim=1, eps=0), F.normalize(b, dim=1, eps=0)
    cosine = (a * b).sum(dim=1, keepdim=True)
    angle = t[:, None] * cosine.acos()
    across = F.normalize(b - cosine * a, dim=1, eps=0)
    return F.normalize(a * angle.cos() + across * angle.sin(), dim=1, eps=0)


def path_image(image: Tensor, *, crop: bool) -> Tensor:
    """What of a picture a path length looks at.

    Args:
        image: [N, 3, R, R].
        crop: Take the middle where a face is: rows 3/8 to 7/8, columns 2/8 to 6/8.

    Returns:
        Averaged over blocks of ``R // 256`` pixels; R is that of the image before the crop.
    """
    factor, eighth = image.shape[-1] // PATH_SIDE, image.shape[-1] // 8
    if crop:
        image = image[:, :, 3 * eighth : 7 * eighth, 2 * eighth : 6 * eighth]
    return F.avg_pool2d(image, factor) if factor > 1 else image


def path_length(distances: Tensor, epsilon: float) -> float:
    """Perceptual path length (Karras et al. 2019, arXiv 1812.04948, section 4.1) from the distances of its steps.

    Args:
        distances: [N], perceptual distances of images whose latents are ``epsilon`` of the way apart.
        epsilon: That step.

    Returns:
        The mean of ``distances / epsilon^2`` without the lowest and the highest hundredth.

    Raises:
        ValueError: If there are no distances.
    """
    if not len(distances):
        raise ValueError("A path length needs at least one pair of images.")
    lengths = distances.double() / epsilon**2
    low = torch.quantile(lengths, _LOW, interpolation="lower")
    high = torch.quantile(lengths, _HIGH, interpolation="higher")
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())
