"""The drawn classes of objects: vases with or without a handle, and mushrooms; bodies of revolution, lit and shaded.

A body is a profile, radii along its axis, seen slightly from above: its silhouette is that of the profile and of the
ellipses at both ends, a closed form. An object is a few of them, the nearest last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labels4free.data.drawn.fields import Field, Hues, colour, near, smooth_step, waves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from labels4free.data.drawn.draws import Draws

_STEPS = 4096  # of a profile's table
_WARM, _COLD, _ANY = (-0.04, 0.14), (0.48, 0.66), (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Body:
    """A body of revolution around the vertical axis of the object's own coordinates, in which y points down.

    Attributes:
        top: y of its upper end.
        bottom: y of its lower end.
        radii: [4096], from the upper end to the lower one.
        opening: Whether one looks into it from above.
        colours: [2, 3]: the colours that its decoration mixes.
        decoration: What mixes them: of the height in [0, 1] along the body and the angle around it in radians, both
            [H, W], to [H, W] in [0, 1].
    """

    top: float
    bottom: float
    radii: Field
    opening: bool
    colours: Field
    decoration: Callable[[Field, Field], Field]


@dataclass(frozen=True)
class Handle:
    """An upright ring beside a body, which hides a part of it.

    Attributes:
        x: Of its centre.
        y: Of its centre.
        width: Half of it.
        height: Half of it.
        thickness: Of the ring.
    """

    x: float
    y: float
    width: float
    height: float
    thickness: float


@dataclass(frozen=True, eq=False)
class Thing:
    """An object in coordinates of its own.

    Attributes:
        bodies: From the farthest to the nearest.
        handles: Behind all of them, of the first body's colour.
        pitch: Height of the ellipse that a circle is seen as, over its width.
        gloss: Strength of its highlights.
    """

    bodies: Sequence[Body]
    handles: Sequence[Handle]
    pitch: float
    gloss: float

    def extent(self) -> tuple[float, float, float, float]:
        """Least x, largest x, least y and largest y, from its parts."""
        reach = max(float(body.radii.max()) for body in self.bodies)
        left = min([-reach, *(handle.x - handle.width for handle in self.handles)])
        right = max([reach, *(handle.x + handle.width for handle in self.handles)])
        low = min(
            *(body.top - self.pitch * float(body.radii[0]) for body in self.bodies),
            *(handle.y - handle.height for handle in self.handles),
            math.inf,
        )
        high = max(
            *(body.bottom + self.pitch * float(body.radii[-1]) for body in self.bodies),
            *(handle.y + handle.height for handle in self.handles),
            -math.inf,
        )
        return left, right, low, high


@dataclass(frozen=True)
class Light:
    """Where the light comes from, a unit vector (x to the right, y down, z to the viewer), and how it shades."""

    x: float
    y: float
    z: float
    ambient: float


VASE_HUES: Hues = (_WARM, _WARM, _COLD, _ANY)
"""Hues of vases and of what is behind them."""
MUSHROOM_HUES: Hues = ((-0.06, 0.1), (-0.06, 0.1), (0.08, 0.3), _ANY)
"""Hues of mushrooms and of what is behind them."""


def vase(random: Draws) -> Thing:
    """A vase or a jug: foot, belly, neck and lip, and a handle in half of the cases, two in some."""
    belly = random.uniform(0.38, 0.85)
    neck = belly * random.uniform(0.35, 0.75)
    waist = belly * random.uniform(0.4, 0.7)
    heights = [-1.0, random.uniform(-0.8, -0.4), random.uniform(-0.1, 0.45), random.uniform(0.75, 0.92), 1.0]
    radii = [neck * random.uniform(1.0, 1.5), neck, belly, waist, waist * random.uniform(1.0, 1.3)]
    profile = _profile(heights, radii)
    first = colour(random, VASE_HUES)
    second = near(random, first) if random.chance(0.3) else colour(random, VASE_HUES)
    body = Body(-1.0, 1.0, profile, opening=True, colours=np.stack([first, second]), decoration=_glaze(random))
    handles = []
    if random.chance(0.6):
        y = (heights[1] + heights[2]) / 2 + random.uniform(-0.08, 0.05)
        height = (heights[2] - heights[1]) * random.uniform(0.45, 0.55) + 0.06
        x = float(profile[int((y + 1) / 2 * (_STEPS - 1))]) * random.uniform(0.95, 1.05)
        ring = (y, height * random.uniform(0.75, 1.0), height, random.uniform(0.1, 0.15))
        sides = [-1, 1] if random.chance(0.25) else [1 - 2 * random.below(2)]
        handles = [Handle(side * x, *ring) for side in sides]
    return Thing([body], handles, pitch=random.uniform(0.12, 0.35), gloss=random.uniform(0, 0.5))


def mushroom(random: Draws) -> Thing:
    """A mushroom: a stem that may swell at its foot, and a cap that hides its upper end."""
    brim, width = random.uniform(-0.45, 0.2), random.uniform(0.5, 1.1)
    swelling, stem = random.uniform(1.0, 1.7), width * random.uniform(0.25, 0.5)
    height = np.linspace(1, 0, _STEPS)
    roundness = random.uniform(1.6, 2.6)
    dome = (width * (1 - height**roundness) ** (1 / roundness)).astype(np.float32)
    foot = _profile([0, random.uniform(0.5, 0.8), 1], [stem, stem * swelling, stem * random.uniform(0.8, 1) * swelling])
    first, pale = colour(random, MUSHROOM_HUES), np.float32(random.uniform(0.45, 0.8))
    flesh = np.clip(colour(random, MUSHROOM_HUES) * (1 - pale) + pale * np.float32(0.9), 0, 1)
    cap_colours = np.stack([first, flesh if random.chance(0.6) else colour(random, MUSHROOM_HUES)])
    stem_colours = np.stack([flesh, near(random, flesh) * np.float32(0.7)])
    return Thing(
        [
            Body(brim - 0.05, 1.0, foot, opening=False, colours=stem_colours, decoration=_fibres(random)),
            Body(-1.0, brim, dome, opening=False, colours=cap_colours, decoration=_spots(random)),
        ],
        [],
        pitch=random.uniform(0.12, 0.3),
        gloss=random.uniform(0, 0.12),
    )


def silhouette(thing: Thing, x: Field, y: Field) -> NDArray[np.bool_]:
    """Where an object is: the truth of a drawn picture.

    Args:
        thing: The object.
        x: [H, W], coordinates of the object.
        y: [H, W], likewise.
    """
    inside = np.zeros(x.shape, dtype=np.bool_)
    for handle in thing.handles:
        inside |= _on_ring(handle, x, y)
    for body in thing.bodies:
        inside |= _on_body(body, thing.pitch, x, y)
    return inside


def paint(
    random: Draws, thing: Thing, light: Light, fine: tuple[Field, Field], coarse: tuple[Field, Field]
) -> tuple[Field, Field, NDArray[np.bool_]]:
    """Draw an object: its outline finely, its colours, which change slowly, half as finely.

    Args:
        random: Decides on the grain of its surface.
        thing: The object.
        light: On it.
        fine: Coordinates of the object, x and y, [2 H, 2 W].
        coarse: The same between each four of these, [H, W].

    Returns:
        Its colours times its coverage, [3, H, W]; its coverage, [H, W], a multiple of a quarter; and its
        :func:`silhouette` at the fine coordinates.
    """
    x, y = coarse
    grain = waves(random, x[len(x) // 2], y[:, y.shape[1] // 2], 24, 2, 12) * np.float32(random.uniform(0.0, 0.05))
    colours = np.zeros((3, *x.shape), dtype=np.float32)
    coverage = np.zeros(x.shape, dtype=np.float32)
    hidden = np.zeros(fine[0].shape, dtype=np.bool_)
    for body in reversed(thing.bodies):
        seen = _seen(_on_body(body, thing.pitch, *fine), hidden)
        coverage += seen
        colours += (_body_colours(body, thing, light, x, y) + grain) * seen
    for handle in thing.handles:
        seen = _seen(_on_ring(handle, *fine), hidden)
        coverage += seen
        colours += (
            thing.bodies[0].colours[0][:, None, None] * _ring_light(handle, light, thing.gloss, x, y) + grain
        ) * seen
    return colours, coverage, hidden


def _seen(inside: NDArray[np.bool_], hidden: NDArray[np.bool_]) -> Field:
    """The fraction of each four points in which a part is seen; what it hides is added to ``hidden``."""
    points = (inside & ~hidden).view(np.uint8)
    hidden |= inside
    counts = points[::2, ::2] + points[1::2, ::2] + points[::2, 1::2] + points[1::2, 1::2]
    return counts * np.float32(0.25)


def _on_body(body: Body, pitch: float, x: Field, y: Field) -> NDArray[np.bool_]:
    radius = body.radii.take(_table_index(body, y).astype(np.int32))
    inside = (np.abs(x) <= radius) & (y >= np.float32(body.top)) & (y <= np.float32(body.bottom))
    for end, of in ((body.top, body.radii[0]), (body.bottom, body.radii[-1])):
        inside |= _ellipse(x, y - np.float32(end), float(of), pitch) <= 1
    return inside


def _body_colours(body: Body, thing: Thing, light: Light, x: Field, y: Field) -> Field:
    """Its near side, and what is seen in its opening, [3, H, W]."""
    at = _table_index(body, y)
    radius = body.radii.take(at.astype(np.int32))
    around = (x / np.maximum(radius, np.float32(1e-3))).clip(-1, 1)
    facing = np.sqrt(1 - around * around)
    # A point of the near side at this height of the picture lies higher on the body: circles are seen as ellipses.
    scale = np.float32((_STEPS - 1) / (body.bottom - body.top))
    height = (at - radius * facing * np.float32(thing.pitch) * scale).clip(0, _STEPS - 1)
    slopes = (np.gradient(body.radii) * scale).clip(-4, 4).astype(np.float32)
    slope = slopes.take(height.astype(np.int32))
    steepness = 1 / np.sqrt(1 + slope * slope)
    shade, gleam = _lit(light, around * steepness, -slope * steepness, facing * steepness)
    mixed = body.decoration(height * np.float32(1 / (_STEPS - 1)), around)
    first, second = body.colours[:, :, None, None]
    shades: Field = (first + (second - first) * mixed) * shade + gleam * np.float32(thing.gloss)
    if body.opening:
        lid = _ellipse(x, y - np.float32(body.top), float(body.radii[0]), thing.pitch)
        depth = smooth_step(y - np.float32(body.top) + x * np.float32(0.3 * light.x), 0.6)
        np.copyto(shades, first * (np.float32(0.75) + np.float32(0.35) * np.float32(-light.y)), where=lid <= 1)
        np.copyto(shades, first * (np.float32(0.25) + np.float32(0.45) * depth), where=lid <= np.float32(0.7))
    return shades


def _on_ring(handle: Handle, x: Field, y: Field) -> NDArray[np.bool_]:
    outer, inner = _ring_distances(handle, x, y)
    return (outer <= 1) & (inner > 1)


def _ring_light(handle: Handle, light: Light, gloss: float, x: Field, y: Field) -> Field:
    far, close = (np.sqrt(squares) for squares in _ring_distances(handle, x, y))
    # Across the ring from -1 on its inner to 1 on its outer side.
    across = (1 - 2 * (1 - far) / np.maximum(close - far, np.float32(1e-3))).clip(-1, 1)
    right, down = x - np.float32(handle.x), y - np.float32(handle.y)
    length = np.sqrt(right * right + down * down) + np.float32(1e-3)
    shade, gleam = _lit(light, across * right / length, across * down / length, np.sqrt(1 - across * across))
    return shade + gleam * np.float32(gloss)


def _ring_distances(handle: Handle, x: Field, y: Field) -> tuple[Field, Field]:
    """Squares, 1 on the outer and on the inner border of the ring."""
    right, down = (x - np.float32(handle.x)) ** 2, (y - np.float32(handle.y)) ** 2
    outer, inner = (
        right * np.float32((handle.width - less) ** -2) + down * np.float32((handle.height - less) ** -2)
        for less in (0.0, handle.thickness)
    )
    return outer, inner


def _table_index(body: Body, y: Field) -> Field:
    """Where along a body's radii a height is, from 0 to 4095."""
    scale = np.float32((_STEPS - 1) / (body.bottom - body.top))
    index: Field = ((y - np.float32(body.top)) * scale).clip(0, _STEPS - 1)
    return index


def _lit(light: Light, x: Field, y: Field, z: Field) -> tuple[Field, Field]:
    """How light a surface with this normal is, about 0.3 to 1.2, and how much of the light it mirrors, both [H, W]."""
    towards = np.maximum(x * np.float32(light.x) + y * np.float32(light.y) + z * np.float32(light.z), 0)
    half = math.sqrt(2 + 2 * light.z)  # length of the vector between the light and the viewer
    gleam = x * np.float32(light.x / half) + y * np.float32(light.y / half) + z * np.float32((light.z + 1) / half)
    gleam = np.maximum(gleam, 0) ** 2
    gleam *= gleam
    gleam *= gleam
    return np.float32(light.ambient) + np.float32(1.15 - light.ambient) * towards, gleam * gleam


def _ellipse(x: Field, y: Field, radius: float, pitch: float) -> Field:
    """Below 1 inside of a circle of this radius that is seen from above, [H, W]."""
    across = max(radius, 1e-4)
    return (x * np.float32(1 / across)) ** 2 + (y * np.float32(1 / (across * pitch))) ** 2


def _profile(heights: Sequence[float], radii: Sequence[float]) -> Field:
    """Radii at 4096 heights, smooth between those given, each the widest or narrowest of its surroundings."""
    at = np.linspace(heights[0], heights[-1], _STEPS)
    knots = np.asarray(heights)
    piece = np.searchsorted(knots, at, side="right").clip(1, len(knots) - 1)
    t = (at - knots[piece - 1]) / (knots[piece] - knots[piece - 1])
    values = np.asarray(radii)
    profile: Field = (values[piece - 1] + (values[piece] - values[piece - 1]) * t * t * (3 - 2 * t)).astype(np.float32)
    return profile


def _glaze(random: Draws) -> Callable[[Field, Field], Field]:
    """One colour that turns into the other downwards, bands, a border with drops, or rows of dots."""
    kind, at, width = random.below(4), random.uniform(0.25, 0.75), random.uniform(0.06, 0.5)
    rows, turn, columns = random.uniform(2, 5), random.uniform(0, 6), random.uniform(3, 6)

    def mixed(height: Field, around: Field) -> Field:
        if kind == 0:
            return smooth_step(height - np.float32(at), 3 * width)
        if kind == 1:
            return smooth_step(np.sin(height * np.float32(6.3 * rows) + np.float32(turn)) - np.float32(at), 0.5)
        angle = around * (1 + np.float32(0.45) * around * around)  # close to the arc sine
        if kind == 2:
            drops = np.sin(angle * np.float32(columns) + np.float32(turn)) * np.float32(0.06)
            return smooth_step(height - np.float32(at) + drops, 0.08)
        dots = np.sin(height * np.float32(6.3 * rows)) * np.sin(angle * np.float32(columns) + np.float32(turn))
        return smooth_step(dots - np.float32(0.35), 0.5)

    return mixed


def _spots(random: Draws) -> Callable[[Field, Field], Field]:
    """A cap that is lighter towards its brim, or spots on it."""
    spotted, rows, columns = random.chance(0.6), random.uniform(1.6, 3), random.uniform(4, 7)
    turn, size = random.uniform(0, 6), random.uniform(0.1, 0.45)

    def mixed(height: Field, around: Field) -> Field:
        if not spotted:
            return smooth_step(height - np.float32(0.7 + size), 1.0)
        angle = around * (1 + np.float32(0.45) * around * around)
        shifted = angle * np.float32(columns) + np.sin(height * np.float32(3.1 * rows)) + np.float32(turn)
        return smooth_step(np.sin(height * np.float32(6.3 * rows)) * np.sin(shifted) - np.float32(size), 0.3)

    return mixed


def _fibres(random: Draws) -> Callable[[Field, Field], Field]:
    """A stem that is darker under the cap, with streaks along it."""
    columns, turn, depth = random.uniform(5, 10), random.uniform(0, 6), random.uniform(0.15, 0.4)

    def mixed(height: Field, around: Field) -> Field:
        streaks: Field = np.sin(around * np.float32(columns) + np.float32(turn)) * np.float32(0.08) + np.float32(0.1)
        shadow = smooth_step(np.float32(depth) - height, 0.3) * np.float32(0.6)
        return streaks + shadow

    return mixed
