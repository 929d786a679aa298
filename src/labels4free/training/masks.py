"""Masks that no network made: what the discriminator learns from besides the alpha network's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

_GRIDS = (2, 3, 4, 6, 8)
_STRONGEST = 8.0  # logits: enough to turn a sure pixel round


def random_masks(n: int, size: int, rng: torch.Generator) -> Tensor:
    """Smooth blobs of any scale, share, polarity and sharpness.

    Returns:
        [n, 1, size, size], in [0, 1], on the CPU.
    """
    field = _smooth_field(n, size, rng) + 0.7 * torch.randn(n, 1, 1, 1, generator=rng)
    sharpness = 10 ** (1.5 * torch.rand(n, 1, 1, 1, generator=rng))
    return (field * sharpness).sigmoid()


def disturb(logits: Tensor, rng: torch.Generator) -> Tensor:
    """Add a smooth random field of random strength to alpha logits: parts are cut off, parts are added.

    Args:
        logits: [N, 1, R, R].
        rng: Source of the draws, on the CPU.

    Returns:
        [N, 1, R, R], logits.
    """
    n, size = len(logits), logits.shape[-1]
    strength = _STRONGEST * torch.rand(n, 1, 1, 1, generator=rng)
    return logits.clamp(-4, 4) + (_smooth_field(n, size, rng) * strength).to(logits.device)


def _smooth_field(n: int, size: int, rng: torch.Generator) -> Tensor:
    """[n, 1, size, size], normal draws on a coarse grid, a scale for the whole batch, interpolated."""
    grid = _GRIDS[int(torch.randint(len(_GRIDS), (1,), generator=rng))]
    coarse = torch.randn(n, 1, grid, grid, generator=rng)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
