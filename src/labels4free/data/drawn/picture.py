"""A drawn picture with its exact mask: one object of a class in front of a cluttered background of the same colours.

    image, alpha = drawn_picture(seed=0, index=0, size=64, kind="vase")

Made for measuring a whole chain, from images to masks, where the truth must be beyond doubt: vases (and mushrooms, as a
second class) of varying shape, pose, colour, decoration and light, a fifth to a half of the picture, all of them in it.
Only its shape tells an object from the background: colours of the background resemble the object's, both are textured
and shaded, the object has no outline, and its shadow belongs to the background.

The object's outline is drawn without soft edges on a canvas several times the size, its colours and the background on
one half as fine, and all is reduced by the mean over boxes: alpha is the fraction of a pixel's points that lie on the
object, and the image is mixed by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labels4free.data.drawn.backgrounds import background, cast_shadow
from labels4free.data.drawn.draws import Draws
from labels4free.data.drawn.objects import MUSHROOM_HUES, VASE_HUES, Light, mushroom, paint, silhouette, vase
from labels4free.errors import ConfigError
from labels4free.pictures.pixels import unit_to_uint8

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from labels4free.data.drawn.fields import Field
    from labels4free.data.drawn.objects import Thing

KINDS = {"vase": (vase, VASE_HUES), "mushroom": (mushroom, MUSHROOM_HUES)}
"""The classes: name -> what draws an object of it, and the hues of its backgrounds."""

_LARGEST_CANVAS = 8192
_OBJECT, _BACKGROUND = 0x0B, 0xBA
_MARGIN = 0.95  # the object stays within this, of the half side
_LEAST, _MOST = 0.2, 0.48  # of the picture, that the object is to cover
_TURN = 0.35  # radians, to either side
_GUESS = 48  # side of the grid that an object's area is taken on


def drawn_picture(
    seed: int, index: int, size: int = 64, kind: str = "vase", oversampling: int = 4
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Draw image ``index`` of a synthetic data set with its exact mask.

    Args:
        seed: Of the data set.
        index: Of the picture. It depends on seed, index and kind alone: the order of the calls does not matter, and
            other sizes show the same scene.
        size: Side of the picture, in pixels.
        kind: What is to be seen on it, of :data:`KINDS`.
        oversampling: Side of the box of points that a pixel is the mean of; even. Where ``size * oversampling`` is the
            same, alpha of a smaller size is exactly the mean over boxes of that of a larger one.

    Returns:
        The image, uint8 [S, S, 3] RGB, and alpha, float32 [S, S] in [0, 1], a multiple of ``1 / oversampling ** 2``.

    Raises:
        ConfigError: If there is no such kind, a number is out of range, or the canvas would be too large.
    """
    if kind not in KINDS:
        raise ConfigError(f'There is no drawn class "{kind}": choose one of {", ".join(KINDS)}.')
    if size < 8 or oversampling < 2 or oversampling % 2 or size * oversampling > _LARGEST_CANVAS:
        raise ConfigError(
            f"A drawn picture has a size of at least 8 and an even oversampling, whose product is at most "
            f"{_LARGEST_CANVAS}; got {size} and {oversampling}."
        )
    if seed < 0 or index < 0:
        raise ConfigError(f"Seed and index of a drawn picture are not negative, got {seed} and {index}.")
    colours, inside = _draw(seed, index, kind, size * oversampling)
    image = unit_to_uint8(_box_mean(colours, oversampling // 2))
    alpha = _box_mean(inside[None], oversampling)[0]
    return np.ascontiguousarray(image.transpose(1, 2, 0)), alpha


def _draw(seed: int, index: int, kind: str, side: int) -> tuple[Field, NDArray[np.bool_]]:
    """The scene: colours [3, side / 2, side / 2] in [0, 1], and where the object is, [side, side]."""
    make, hues = KINDS[kind]
    number = list(KINDS).index(kind)
    random, behind = Draws(seed, index, number, _OBJECT), Draws(seed, index, number, _BACKGROUND)
    thing = make(random)
    pose = _pose(random, thing)
    light = _light(random)
    axis, fine_axis = _axis(side // 2), _axis(side)
    foot_x, foot_y = pose.to_picture(0, thing.bodies[0].bottom)
    like = np.concatenate([body.colours for body in thing.bodies])
    colours = background(behind, axis, hues, like, foot_y)
    cast_shadow(behind, colours, axis, (foot_x, foot_y, pose.scale * float(thing.bodies[0].radii[-1])), -light.x)
    (left, right), (top, bottom) = (np.searchsorted(axis, ends).tolist() for ends in pose.spans)
    fine = pose.to_object(fine_axis[2 * left : 2 * right], fine_axis[2 * top : 2 * bottom])
    coarse = pose.to_object(axis[left:right], axis[top:bottom])
    shades, coverage, covered = paint(random, thing, light, fine, coarse)
    part = colours[:, top:bottom, left:right]
    part += shades - part * coverage
    inside = np.zeros((side, side), dtype=np.bool_)
    inside[2 * top : 2 * bottom, 2 * left : 2 * right] = covered
    return np.clip(colours * np.float32(random.uniform(0.85, 1.1)), 0, 1), inside


@dataclass(frozen=True)
class _Pose:
    """Where an object is in the picture, in units of half its side.

    Attributes:
        scale: Of its own coordinates.
        turn: In radians.
        x: Of its origin.
        y: Of its origin.
        spans: From where to where it reaches at most, in x and in y, a little more.
    """

    scale: float
    turn: float
    x: float
    y: float
    spans: tuple[tuple[float, float], tuple[float, float]]

    def to_picture(self, u: float, v: float) -> tuple[float, float]:
        """Coordinates in the picture, of one point."""
        cos, sin = self.scale * math.cos(self.turn), self.scale * math.sin(self.turn)
        return self.x + u * cos - v * sin, self.y + u * sin + v * cos

    def to_object(self, x: Field, y: Field) -> tuple[Field, Field]:
        """Coordinates of the object, [H, W] each, of columns [W] and rows [H] of the picture."""
        east, south = x[None, :] - np.float32(self.x), y[:, None] - np.float32(self.y)
        cos, sin = np.float32(math.cos(self.turn) / self.scale), np.float32(math.sin(self.turn) / self.scale)
        return east * cos + south * sin, south * cos - east * sin


def _pose(random: Draws, thing: Thing) -> _Pose:
    """Large enough to cover what it is to cover, and anywhere in the picture as a whole."""
    turn = random.uniform(-_TURN, _TURN)
    left, right, low, high = thing.extent()
    cos, sin = math.cos(turn), math.sin(turn)
    corners = [(u * cos - v * sin, u * sin + v * cos) for u in (left, right) for v in (low, high)]
    spans = [(min(values), max(values)) for values in zip(*corners, strict=True)]
    grid = np.linspace(0, 1, _GUESS, dtype=np.float32)
    u, v = np.broadcast_arrays(left + (right - left) * grid[None, :], low + (high - low) * grid[:, None])
    area = float(silhouette(thing, u, v).mean()) * (right - left) * (high - low)
    scale = math.sqrt(4 * random.uniform(_LEAST, _MOST) / area)
    scale = min(scale, *(2 * _MARGIN / (last - first) for first, last in spans))
    x, y = (random.uniform(-_MARGIN - scale * first, _MARGIN - scale * last) for first, last in spans)
    (west, east), (north, south) = (
        (at + scale * first - 0.02, at + scale * last + 0.02) for at, (first, last) in zip((x, y), spans, strict=True)
    )
    return _Pose(scale, turn, x, y, ((west, east), (north, south)))


def _light(random: Draws) -> Light:
    """From above, from the left or the right, and from the front."""
    x, y, z = random.uniform(-0.9, 0.9), random.uniform(-0.8, -0.2), random.uniform(0.3, 0.9)
    length = math.sqrt(x * x + y * y + z * z)
    return Light(x / length, y / length, z / length, random.uniform(0.3, 0.5))


def _axis(side: int) -> Field:
    """Coordinates of the middles of ``side`` pixels, from -1 to 1."""
    return ((np.arange(side, dtype=np.float64) + 0.5) * (2 / side) - 1).astype(np.float32)


def _box_mean(values: Field | NDArray[np.bool_], box: int) -> Field:
    """Means over boxes of ``box`` x ``box`` points, [C, H, W] to [C, H / box, W / box]."""
    rows = values[:, ::box].astype(np.float32)  # sums of strides: a mean over two short axes takes ten times as long
    for step in range(1, box):
        rows += values[:, step::box]
    means = rows[:, :, ::box].copy()
    for step in range(1, box):
        means += rows[:, :, step::box]
    return means * np.float32(1 / box**2)
