"""Small pictures and random sources that several tests share."""

from __future__ import annotations

import torch


def seeded(seed: int) -> torch.Generator:
    """Make a source of random numbers."""
    return torch.Generator().manual_seed(seed)


def square(low: int, high: int, size: int = 16) -> torch.Tensor:
    """Draw a mask that is 1 inside the square, [1, 1, size, size]."""
    mask = torch.zeros(1, 1, size, size)
    mask[..., low:high, low:high] = 1
    return mask
