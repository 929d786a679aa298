"""Seeds of draws: each depends on what it is for alone, so that a resumed run is the uninterrupted one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def mix(*numbers: int) -> int:
    """A seed of 63 bits from a few numbers; PyTorch's CPU generator takes the low 32, which all of them reach."""
    value = 0
    for number in numbers:
        value = (value ^ (number & 0xFFFFFFFFFFFF)) * 0x9E3779B97F4A7C15 % (1 << 64)
        value ^= value >> 29
    return value >> 1


class Draws:
    """Random numbers one by one, from :func:`generator_for` of a few numbers."""

    def __init__(self, *numbers: int) -> None:
        self.rng = generator_for(*numbers)

    def uniform(self, low: float, high: float) -> float:
        """Evenly spread between two numbers."""
        return low + (high - low) * float(torch.rand((), generator=self.rng))

    def chance(self, share: float) -> bool:
        """True in this share of the cases."""
        return float(torch.rand((), generator=self.rng)) < share

    def below(self, count: int) -> int:
        """A whole number from 0 to count - 1."""
        return int(torch.randint(count, (), generator=self.rng))

    def normal(self, *shape: int) -> Tensor:
        """A tensor of normally distributed numbers."""
        return torch.randn(shape, generator=self.rng)

    def colour(self) -> Tensor:
        """A colour [1, 3, 1, 1], evenly spread over the image range [-1, 1]."""
        return torch.rand((1, 3, 1, 1), generator=self.rng) * 2 - 1


def generator_for(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A source of random numbers that depends on :func:`mix` of the numbers alone (and on the kind of device)."""
    return torch.Generator(device).manual_seed(mix(*numbers))
