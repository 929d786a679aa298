"""Masks that no network made: what the discriminator learns from besides the alpha network's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from labels4free.training_loop.distributed import process_group

if TYPE_CHECKING:
    from torch import Tensor

_GRIDS = (2, 3, 4, 6, 8)
_STRONGEST = 8.0  # logits: enough to turn a sure pixel round


def random_masks(n: int, size: int, rng: torch.Generator) -> Tensor:
    """Smooth blobs of any scale, area, orientation and sharpness.

    Args:
        n: How many.
        size: Their side in pixels.
        rng: Source of the draws, on the CPU; the same in every process.

    Returns:
        [n / processes, 1, size, size], in [0, 1], on the CPU: this process's part, every so many-th.
    """
    group = process_group()
    field = _smooth_field(n, size, rng) + group.shard_batch(0.7 * torch.randn(n, 1, 1, 1, generator=rng))
    sharpness = group.shard_batch(10 ** (1.5 * torch.rand(n, 1, 1, 1, generator=rng)))
    return (field * sharpness).sigmoid()


def disturb(logits: Tensor, rng: torch.Generator) -> Tensor:
    """Add a smooth random field of random strength to alpha logits: parts are cut off, parts are added.

    Args:
        logits: [N, 1, R, R], this process's shard of the batch.
        rng: Source of the draws, on the CPU; the same in every process.

    Returns:
        [N, 1, R, R], logits.
    """
    group = process_group()
    n, size = len(logits) * group.size, logits.shape[-1]
    strength = group.shard_batch(_STRONGEST * torch.rand(n, 1, 1, 1, generator=rng))
    return logits.clamp(-4, 4) + (_smooth_field(n, size, rng) * strength).to(logits.device)


def _smooth_field(n: int, size: int, rng: torch.Generator) -> Tensor:
    """This process's shard of [n, 1, size, size]: normal draws on a coarse grid, interpolated; a scale for all."""
    grid = _GRIDS[int(torch.randint(len(_GRIDS), (1,), generator=rng))]
    coarse = process_group().shard_batch(torch.randn(n, 1, grid, grid, generator=rng))
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
