"""Confidence intervals of scores by the bootstrap: how far a figure would move if other images had been drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_LOW, _HIGH = 2.5, 97.5  # percentiles: 95 % of the resamplings lie between


@dataclass(frozen=True)
class Interval:
    """A figure and where 95 % of its values lie when the images are drawn anew; None without resampling."""

    value: float
    low: float | None = None
    high: float | None = None


def bootstrap_intervals(
    rows: NDArray[np.float64],
    figures: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    resamplings: int,
    seed: int,
) -> list[Interval]:
    """Percentile bootstrap (Efron 1979) over the images: figures of a set with their 95 % intervals.

    Args:
        rows: [N, K], what is known of each image.
        figures: Makes [S, F] figures of [S, K] sums of rows.
        resamplings: How often the images are drawn anew, with replacement; 0 for no intervals.
        seed: Decides the draws.

    Returns:
        F intervals; without resampling, or with fewer than two images, the figures alone.
    """
    values = figures(rows.sum(axis=0, keepdims=True))[0]
    if not resamplings or len(rows) < 2:
        return [Interval(float(value)) for value in values]
    rng = np.random.Generator(np.random.PCG64(seed))
    sums = np.empty((resamplings, rows.shape[1]))
    for drawn in sums:  # one at a time, so that memory does not grow with their number
        drawn[:] = np.bincount(rng.integers(len(rows), size=len(rows)), minlength=len(rows)) @ rows
    low, high = np.percentile(figures(sums), [_LOW, _HIGH], axis=0)
    return [Interval(*map(float, ends)) for ends in zip(values, low, high, strict=True)]
