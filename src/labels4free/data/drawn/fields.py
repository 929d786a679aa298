"""Procedural textures: noise out of plane waves, stripes, marble, spots, checks; and the colours that they mix.

All are functions of coordinates, so that a picture is the same scene at every size. Coordinates run from -1 at the left
and the top of a picture to 1 at its right and bottom; x and y are given apart, [W] and [H].
"""

from __future__ import annotations

import colorsys
import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from labels4free.data.drawn.draws import Draws

Field: TypeAlias = "NDArray[np.float32]"
"""Numbers over a picture or a part of it, [H, W]; colours are [3, H, W]."""

Hues: TypeAlias = "Sequence[tuple[float, float]]"
"""Ranges of hues in [0, 1], each as likely as the others."""


def waves(random: Draws, x: Field, y: Field, count: int, low: float, high: float) -> Field:
    """Smooth noise: plane waves of random directions and phases, from ``low`` to ``high`` periods a picture.

    Returns:
        [H, W], of mean 0 and variance 1 over many draws. Longer waves are stronger.
    """
    angles, phases = 2 * math.pi * random.many(2 * count).reshape(2, count)
    periods = low * (high / low) ** (np.arange(count) / (count - 1))
    strengths = periods**-0.5
    strengths /= math.sqrt(float(np.square(strengths).sum()) / 2)
    along_x = (math.pi * periods * np.cos(angles)).astype(np.float32)
    along_y = (math.pi * periods * np.sin(angles)).astype(np.float32)
    # sin(a + b) in products of functions of x and of y alone: one matrix product instead of a sine a pixel and wave.
    angles_x = along_x[:, None] * x[None, :]
    angles_y = y[:, None] * along_y[None, :] + phases.astype(np.float32)
    weights = strengths.astype(np.float32)
    left = np.concatenate([np.sin(angles_y) * weights, np.cos(angles_y) * weights], axis=1)
    field: Field = left @ np.concatenate([np.cos(angles_x), np.sin(angles_x)])
    return field


def smooth_step(field: Field, width: float) -> Field:
    """From 0 to 1 where a field passes zero, smoothly over ``width``."""
    t = np.clip(field * np.float32(1 / width) + np.float32(0.5), 0, 1)
    step: Field = t * t * (3 - 2 * t)
    return step


def texture(random: Draws, x: Field, y: Field) -> Field:
    """A pattern of a random kind, [H, W] in [0, 1]."""
    kind = random.below(6)
    if kind == 0:  # clouds
        return smooth_step(waves(random, x, y, 20, 1.0, random.uniform(4, 12)), 4)
    if kind == 1:  # grain
        return smooth_step(waves(random, x, y, 24, random.uniform(3, 8), random.uniform(12, 24)), 5)
    softness = random.uniform(0.4, 2.2)
    if kind == 2:  # marble
        folds = waves(random, x, y, 12, 0.7, random.uniform(2, 5)) * np.float32(random.uniform(2, 5))
        return smooth_step(np.sin(folds), softness)
    angle, periods = random.uniform(0, math.pi), random.uniform(2, 8)
    across = _turned(x, y, angle, periods)
    if kind == 3:  # stripes that wander
        return smooth_step(np.sin(across + waves(random, x, y, 8, 0.5, 3) * np.float32(random.uniform(0, 1))), softness)
    along = _turned(x, y, angle + math.pi / 2, periods * random.uniform(0.6, 1))
    if kind == 4:  # spots
        return smooth_step(np.sin(across) * np.sin(along) - np.float32(random.uniform(0.1, 0.5)), softness)
    return smooth_step(np.sin(across) * np.sin(along), softness * 0.6)  # checks


def surface(random: Draws, x: Field, y: Field, colours: Field) -> Field:
    """A textured surface.

    Args:
        random: Decides on its patterns.
        x: [W].
        y: [H].
        colours: [3, 3]: a colour [3] in [0, 1] in each row.

    Returns:
        [3, H, W], about [0, 1].
    """
    drift = waves(random, x, y, 8, 0.3, 2) * np.float32(0.2) + np.float32(0.3)
    slope = x[None, :] * np.float32(random.uniform(-0.15, 0.15)) + y[:, None] * np.float32(random.uniform(-0.15, 0.15))
    fine = waves(random, x, y, 20, 6, 24) * np.float32(random.uniform(0.0, 0.05)) + slope
    fields = np.stack([np.ones_like(drift), texture(random, x, y), drift, fine])
    mixing = np.stack([colours[0], colours[1] - colours[0], colours[2] - colours[0], np.ones(3, np.float32)], axis=1)
    mixed: Field = mixing @ fields.reshape(4, -1)
    return mixed.reshape(3, len(y), len(x))


def colour(random: Draws, hues: Hues) -> Field:
    """A colour [3] in [0, 1] whose hue lies in one of the ranges; from pale to strong, from dark to light."""
    low, high = hues[random.below(len(hues))]
    hue, saturation, value = random.uniform(low, high) % 1, random.uniform(0.1, 0.8), random.uniform(0.25, 0.95)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)


def near(random: Draws, like: Field) -> Field:
    """A colour that resembles another."""
    moved: Field = np.clip(like + (random.many(3).astype(np.float32) - np.float32(0.5)) * np.float32(0.3), 0.05, 0.98)
    return moved


def _turned(x: Field, y: Field, angle: float, periods: float) -> Field:
    """A coordinate along a direction, in radians: so many periods a picture."""
    rate = math.pi * periods
    return x[None, :] * np.float32(rate * math.cos(angle)) + y[:, None] * np.float32(rate * math.sin(angle))
