"""Seeded random numbers in blocks: drawn one by one, they would be a fifth of a picture's time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from labels4free.seeds import generator_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 512


class Draws:
    """Random numbers that depend on a few numbers alone, from :func:`labels4free.seeds.generator_for`."""

    def __init__(self, *numbers: int) -> None:
        self._rng = generator_for(*numbers)
        self._left: list[float] = []

    def uniform(self, low: float, high: float) -> float:
        """Evenly spread between two numbers."""
        if not self._left:
            self._refill()
        return low + (high - low) * self._left.pop()

    def chance(self, fraction: float) -> bool:
        """True in this fraction of the cases."""
        return self.uniform(0, 1) < fraction

    def below(self, count: int) -> int:
        """A whole number from 0 to count - 1."""
        return int(self.uniform(0, count))

    def many(self, count: int) -> NDArray[np.float64]:
        """Numbers [count] evenly spread over [0, 1), at most 512 of them."""
        if len(self._left) < count:
            self._refill()
        taken, self._left = self._left[-count:], self._left[:-count]
        return np.array(taken)

    def _refill(self) -> None:
        self._left = torch.rand(_BLOCK, generator=self._rng, dtype=torch.float64).tolist()
