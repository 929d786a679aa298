"""Random seeds: every one is derived here, so that each draw depends on what it is for alone, and on nothing before it.

A resumed run is therefore the uninterrupted one, and old seeds give old images: ``tests/test_seeds.py`` pins a value of
every derivation.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = 0x5F3C
"""Series of the samples' classes, beside that of their latents; see :func:`series`."""
MIXED_STYLES = 0x31C5
"""Series of the latents that style mixing takes the fine styles from."""
OTHER_STYLES = 0x313C5
"""Series of the latents whose fine styles show whether an alpha stays where it is."""
OTHER_NOISE = 0x015E
"""Noise that shows whether an alpha stays where it is; a number for :func:`derive_seed`."""
CALIBRATION = 0x5EED
"""Series of the latents that a cache's projection is fitted on."""
MAIN_AXES = 0xA7E5
"""Latents whose styles show along which axes styles vary most; a number for :func:`generator_for`."""
PROJECTION = 0x9204
"""First noise maps of a projection, and the noise on its latents; a number for :func:`generator_for`."""

_STEP, _STRIDE = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03  # odd, so that no product loses a bit
_NOISE = 0x6E6F697365


def derive_seed(*numbers: int) -> int:
    """Derive a seed of 63 bits from a few numbers; PyTorch's CPU generator takes the low 32, which all reach."""
    value = 0
    for number in numbers:
        value = (value ^ (number & 0xFFFFFFFFFFFF)) * _STEP % (1 << 64)
        value ^= value >> 29
    return value >> 1


def hashed_seed(*parts: int | str) -> int:
    """A seed of 63 bits from numbers and words; PyTorch's CPU generator takes the low 32 of them."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def series(seed: int, purpose: int) -> int:
    """The seed of a series of samples for another purpose than the samples of ``seed`` themselves."""
    return seed ^ purpose


def sample_seed(seed: int, index: int) -> int:
    """The seed of sample ``index`` of the series ``seed``."""
    return (seed * _STEP + index * _STRIDE) % (1 << 63)


def noise_seed(number: int) -> int:
    """The seed of the per-layer noise of a picture with this number."""
    return (number * _STEP + _NOISE) % (1 << 63)


def draw(seed: int, index: int, what: str) -> float:
    """An even draw from [0, 1) that depends on its arguments alone, on every machine and in every version."""
    digest = hashlib.sha256(f"labels4free {what} {seed} {index}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def generator_for(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A ``torch.Generator`` seeded by :func:`derive_seed` of the numbers (and depending on the kind of device)."""
    return torch.Generator(device).manual_seed(derive_seed(*numbers))


class SeededRandom:
    """Seeded random numbers one by one, from :func:`generator_for` of a few numbers."""

    def __init__(self, *numbers: int) -> None:
        self.rng = generator_for(*numbers)

    def uniform(self, low: float, high: float) -> float:
        """Evenly spread between two numbers."""
        return low + (high - low) * float(torch.rand((), generator=self.rng))

    def chance(self, fraction: float) -> bool:
        """True in this fraction of the cases."""
        return float(torch.rand((), generator=self.rng)) < fraction

    def below(self, count: int) -> int:
        """A whole number from 0 to count - 1."""
        return int(torch.randint(count, (), generator=self.rng))

    def normal(self, *shape: int) -> Tensor:
        """A tensor of normally distributed numbers."""
        return torch.randn(shape, generator=self.rng)

    def colour(self) -> Tensor:
        """A colour [1, 3, 1, 1], evenly spread over the image range [-1, 1]."""
        return torch.rand((1, 3, 1, 1), generator=self.rng) * 2 - 1
