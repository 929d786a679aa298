"""Cluttered backgrounds: a textured wall and ground, and things of other kinds before them, sharp or out of focus."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from labels4free.data.drawn.fields import colour, near, smooth_step, surface, texture

if TYPE_CHECKING:
    from labels4free.data.drawn.draws import Draws
    from labels4free.data.drawn.fields import Field, Hues

_LIKE_OBJECT = 0.45
"""Fraction of a background's colours that resemble one of the object's."""


def background(random: Draws, axis: Field, hues: Hues, like: Field, foot: float) -> Field:
    """Draw what is behind the object.

    Args:
        random: Decides on everything.
        axis: The coordinates of the columns, and of the rows, [C].
        hues: Of the colours that do not resemble the object's.
        like: The object's colours, [N, 3].
        foot: Where the object stands, from -1 (top) to 1: the ground begins above.

    Returns:
        [3, C, C], about [0, 1].
    """

    def some_colour() -> Field:
        if random.chance(_LIKE_OBJECT):
            return near(random, like[random.below(len(like))])
        return colour(random, hues)

    picture = surface(random, axis, axis, np.stack([some_colour() for _ in range(3)]))
    horizon = random.uniform(-0.4, foot - 0.1)
    if random.chance(0.85):
        slope = random.uniform(-0.12, 0.12)
        first = int(np.searchsorted(axis, horizon - abs(slope) - 0.1))
        rows = axis[first:]
        # Farther rows are closer together on the ground.
        ground = surface(random, axis, rows * np.float32(1.6), np.stack([some_colour() for _ in range(3)]))
        border = rows[:, None] - np.float32(slope) * axis[None, :] - np.float32(horizon)
        _lay(picture[:, first:], ground, smooth_step(border, random.uniform(0.01, 0.08)))
    for _ in range(2 + random.below(4)):
        _thing(random, picture, axis, some_colour(), some_colour())
    return picture


def cast_shadow(random: Draws, picture: Field, axis: Field, place: tuple[float, float, float], away: float) -> None:
    """Darken the ground around the object's foot, in place.

    Args:
        random: Decides on its strength.
        picture: [3, C, C].
        axis: [C].
        place: Centre of the foot, x and y, and its half width.
        away: Where it falls, from -1 (to the left) to 1.
    """
    x, y, width = place
    length = width * random.uniform(1.3, 2.2)
    beside = (axis - np.float32(x + away * 0.7 * length)) * np.float32(1 / length)
    down = (axis - np.float32(y - 0.1 * length)) * np.float32(1 / max(0.4 * width, 0.07))
    depth = np.maximum(1 - (beside[None, :] ** 2 + down[:, None] ** 2), 0)
    picture *= 1 - np.float32(random.uniform(0.35, 0.7)) * depth * (2 - depth)


def _thing(random: Draws, picture: Field, axis: Field, first: Field, second: Field) -> None:
    """Lay a box, a ball, a bar, a wedge or a ring over the picture, in place."""
    kind = random.below(5)
    x0, y0, angle = random.uniform(-1, 1), random.uniform(-1, 1), random.uniform(0, math.pi)
    width, height = random.uniform(0.12, 0.4), random.uniform(0.12, 0.4)
    if kind == 2:
        width, height = random.uniform(0.6, 1.5), random.uniform(0.03, 0.08)
    blur = random.uniform(0.01, 0.03) if random.chance(0.6) else random.uniform(0.05, 0.2)
    reach = max(width, height) * 1.5 + blur
    columns, rows = (slice(*np.searchsorted(axis, [at - reach, at + reach]).tolist()) for at in (x0, y0))
    x, y = axis[columns], axis[rows]
    if not len(x) or not len(y):
        return
    east, south = x[None, :] - np.float32(x0), y[:, None] - np.float32(y0)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    u, v = east * cos + south * sin, south * cos - east * sin
    if kind in (0, 2):  # a box, a bar
        outside = np.maximum(np.abs(u) - np.float32(width), np.abs(v) - np.float32(height))
    elif kind == 1:  # a ball
        outside = np.sqrt(u * u + v * v) - np.float32(width)
    elif kind == 3:  # a wedge
        outside = np.maximum(np.abs(u) * np.float32(height / width) + v * np.float32(0.7), -v - np.float32(height / 2))
        outside -= np.float32(height / 2)
    else:  # a ring
        outside = np.abs(np.sqrt(u * u + v * v) - np.float32(width)) - np.float32(random.uniform(0.03, 0.07))
    light = (u if kind != 1 else east + south) * np.float32(random.uniform(-0.5, 0.5) / reach * 1.5)
    mixed = texture(random, x * 2, y * 2) if random.chance(0.5) else smooth_step(v, 2 * reach)
    shades = first[:, None, None] + (second - first)[:, None, None] * mixed + light
    _lay(picture[:, rows, columns], shades, smooth_step(-outside, blur))


def _lay(below: Field, above: Field, coverage: Field) -> None:
    """Lay colours over others, in place."""
    below += (above - below) * coverage
