"""Seeds of draws: each depends on what it is for alone, so that a resumed run is the uninterrupted one."""

from __future__ import annotations

import torch


def mix(*numbers: int) -> int:
    """A seed of 63 bits from a few numbers; PyTorch's CPU generator takes the low 32, which all of them reach."""
    value = 0
    for number in numbers:
        value = (value ^ (number & 0xFFFFFFFFFFFF)) * 0x9E3779B97F4A7C15 % (1 << 64)
        value ^= value >> 29
    return value >> 1


def generator_for(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A source of random numbers that depends on :func:`mix` of the numbers alone (and on the kind of device)."""
    return torch.Generator(device).manual_seed(mix(*numbers))
