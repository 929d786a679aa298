"""What masks look like, in numbers that need no labels: foreground, sharpness, contrast, which way round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_BORDER = 1 / 8  # of the image's width


def mask_numbers(alpha: Tensor) -> dict[str, float]:
    """Metrics of masks [N, 1, R, R], in [0, 1]: foreground ratio, sharpness, contrast, center bias.

    Returns:
        ``foreground_ratio``, mean alpha, in [0, 1]; ``foreground_ratio_sd``, its standard deviation over the images;
        ``foreground_ratio_min`` and ``foreground_ratio_max``, mean alpha of the images that have least and most;
        ``sharpness``, 1 where every alpha is 0 or 1, 0 where all are 0.5; ``contrast``, standard deviation of alpha
        over the pixels of an image, mean over the images, in [0, 0.5]; ``center_bias``, mean alpha of the middle minus
        that of the border, in [-1, 1]: objects sit in the middle.
    """
    foreground_ratio = alpha.mean(dim=(1, 2, 3))
    middle, border = _middle_and_border(alpha)
    return {
        "foreground_ratio": float(foreground_ratio.mean()),
        "foreground_ratio_sd": float(foreground_ratio.std(correction=0)),
        "sharpness": 1 - 2 * float(torch.minimum(alpha, 1 - alpha).mean()),
        "contrast": float(alpha.flatten(1).std(dim=1, correction=0).mean()),
        "center_bias": float(middle - border),
        "foreground_ratio_min": float(foreground_ratio.min()),
        "foreground_ratio_max": float(foreground_ratio.max()),
    }


def _middle_and_border(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Mean alpha of the disc of half the image's width, and of the frame of an eighth of it."""
    size = alpha.shape[-1]
    at = (torch.arange(size, device=alpha.device) + 0.5) / size - 0.5
    disc = at.square()[:, None] + at.square()[None, :] < 0.25**2
    frame = (at.abs()[:, None] > 0.5 - _BORDER) | (at.abs()[None, :] > 0.5 - _BORDER)
    flat = alpha.flatten(0, 1)
    return flat[:, disc].mean(), flat[:, frame].mean()
