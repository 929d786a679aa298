"""How good generated images are beside real ones, without a network: diversity, sliced Wasserstein distance.

And how close one picture is to another: PSNR, SSIM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from labels4free.seeds import generator_for

if TYPE_CHECKING:
    from torch import Tensor

_COARSE = 16
_PATCH, _PATCHES, _PROJECTIONS = 7, 64, 256
_DRAWS = 0x51D
_SSIM_SIGMA, _SSIM_RADIUS = 1.5, 5
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2


def diversity(images: Tensor, real: Tensor) -> float:
    """How much images differ from each other, as a fraction of what real ones do: near 0 where all are the same.

    The root of the mean variance over the images of each pixel and channel, averaged to at most 16x16 pixels; for the
    generated divided by for the real.

    Args:
        images: [N, 3, R, R], N >= 2.
        real: [M, 3, R, R], M >= 2.

    Returns:
        >= 0; 1 where they vary as real ones do.
    """
    own, theirs = (_coarse(x).var(dim=0).mean().sqrt().item() for x in (images, real))
    return own / max(theirs, 1e-8)


def sliced_wasserstein(images: Tensor, real: Tensor, seed: int = 0) -> float:
    """Sliced Wasserstein distance (SWD) of patches on the levels of a Laplacian pyramid, mean over the levels.

    Karras et al. 2018, arXiv 1710.10196, section 5: patches of 7x7 pixels at each level, each channel normalised by its
    mean and deviation over all patches of its set, distance of their projections on random directions. (In NVIDIA's
    code there are 128 patches an image and 512 directions; here 64 and 256. It is an absolute difference, not times
    1,000.) It needs no network, so that it means the same for every class of images.

    Args:
        images: [N, 3, R, R], about [-1, 1].
        real: The same shape: both sets must be of a size.
        seed: Decides patches and directions.

    Returns:
        >= 0.

    Raises:
        ValueError: If the shapes differ.
    """
    if images.shape != real.shape:
        raise ValueError(f"Two sets of one shape are needed, got {list(images.shape)} and {list(real.shape)}.")
    distances = []
    for level, (own, theirs) in enumerate(zip(_pyramid(images), _pyramid(real), strict=True)):
        rng = generator_for(seed, _DRAWS, level)
        side = own.shape[-1] - _PATCH + 1
        corners = torch.randint(side, (2, len(own), _PATCHES), generator=rng)
        directions = F.normalize(torch.randn(3 * _PATCH**2, _PROJECTIONS, generator=rng), dim=0)
        one, other = (_patches(x.cpu(), corners) @ directions for x in (own, theirs))
        distances.append((one.sort(dim=0).values - other.sort(dim=0).values).abs().mean().item())
    return sum(distances) / len(distances)


def psnr(image: Tensor, other: Tensor) -> float:
    """Peak signal-to-noise ratio (PSNR) of two pictures in decibels, larger is closer; infinite where they are equal.

    Args:
        image: [1, 3, H, W]; values outside [-1, 1] are clamped.
        other: The same.
    """
    error = (_unit_range(image) - _unit_range(other)).square().mean()
    return float(-10 * error.log10())


def ssim(image: Tensor, other: Tensor) -> float:
    """Structural similarity (SSIM) of two pictures, mean over the channels; 1 where they are equal.

    Wang et al. 2004, doi 10.1109/TIP.2003.819861: a Gaussian window of 11x11 pixels with a deviation of 1.5,
    K1 = 0.01, K2 = 0.03, at places where the whole window lies in the picture.

    Args:
        image: [1, 3, H, W], sides of at least 11 pixels; values outside [-1, 1] are clamped.
        other: The same.

    Raises:
        ValueError: If the shapes differ or a side is too small.
    """
    if image.shape != other.shape or min(image.shape[2:]) <= 2 * _SSIM_RADIUS:
        raise ValueError(f"Two pictures of one shape and 11 pixels or more, got {list(image.shape)}.")
    a, b = _unit_range(image), _unit_range(other)
    mean_a, mean_b, aa, bb, ab = (_windowed(x) for x in (a, b, a * a, b * b, a * b))
    means = (2 * mean_a * mean_b + _SSIM_C1) / (mean_a.square() + mean_b.square() + _SSIM_C1)
    covariance, variances = ab - mean_a * mean_b, aa - mean_a.square() + bb - mean_b.square()
    return float((means * (2 * covariance + _SSIM_C2) / (variances + _SSIM_C2)).mean())


def _unit_range(x: Tensor) -> Tensor:
    return (x.detach().double().clamp(-1, 1) + 1) / 2


def _windowed(x: Tensor) -> Tensor:
    """Means over the Gaussian window, channel by channel."""
    places = torch.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1, dtype=x.dtype, device=x.device)
    window = torch.exp(-(places**2) / (2 * _SSIM_SIGMA**2))
    window = (window / window.sum()).expand(x.shape[1], 1, -1)
    x = F.conv2d(x, window[:, :, :, None], groups=x.shape[1])
    return F.conv2d(x, window[:, :, None, :], groups=x.shape[1])


def _coarse(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, min(_COARSE, x.shape[-1]))


def _pyramid(x: Tensor) -> list[Tensor]:
    """Differences of each halving to the one before, down to 16 pixels a side, and that itself."""
    levels = []
    while x.shape[-1] >= 2 * _COARSE:
        smaller = F.avg_pool2d(x, 2)
        levels.append(x - F.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False))
        x = smaller
    return [*levels, x]


def _patches(x: Tensor, corners: Tensor) -> Tensor:
    """[N * P, 3 * 49], normalised by channel: patches at corners [2, N, P]."""
    reach = torch.arange(_PATCH)
    rows = (corners[0][:, :, None] + reach)[:, None, :, :, None]  # [N, 1, P, 7, 1]
    columns = (corners[1][:, :, None] + reach)[:, None, :, None, :]
    sample, channel = torch.arange(len(x))[:, None, None, None, None], torch.arange(3)[None, :, None, None, None]
    found = x[sample, channel, rows, columns]  # [N, 3, P, 7, 7]
    mean, deviation = (f(dim=(0, 2, 3, 4), keepdim=True) for f in (found.mean, found.std))
    return ((found - mean) / (deviation + 1e-8)).transpose(1, 2).flatten(0, 1).flatten(1)
