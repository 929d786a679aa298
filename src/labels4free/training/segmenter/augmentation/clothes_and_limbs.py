"""What bodies have that close-ups do not show: clothes from a neckline down, arms, hands, hats, what they hold.

Of crude shapes, but of any texture: a segmenter shall learn that what hangs on an object belongs to it, whatever it
looks like. Lengths are in sides of the picture that the body was made from; a face fills most of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

from labels4free.training.segmenter.augmentation.bodies import INSIDE, object_span
from labels4free.training.segmenter.augmentation.procedural_backgrounds import fractal_noise

if TYPE_CHECKING:
    from torch import Tensor

    from labels4free.seeds import SeededRandom
    from labels4free.training.segmenter.augmentation.bodies import Window


class Frame(NamedTuple):
    """Where a body's picture lies on its canvas, in pixels.

    Attributes:
        top: Row of its upper edge.
        side: Its side.
        middle: Column of the body's axis.
        half: Half the body's width where the picture ends.
    """

    top: float
    side: float
    middle: float
    half: float


def frame_of(alpha: Tensor, window: Window) -> Frame | None:
    """Where a body is; None if it does not reach its picture's lower edge, or this lies outside the canvas.

    Args:
        alpha: [1, 1, S, S]: that of the body.
        window: Where its picture lies.
    """
    row = window.bottom - 1
    span = object_span(alpha[0, 0, row]) if 0 <= row < alpha.shape[-1] else None
    if span is None:
        return None
    return Frame(window.top, window.bottom - window.top, (span[0] + span[1] + 1) / 2, (span[1] - span[0] + 1) / 2)


def dressed(colours: Tensor, frame: Frame, textures: tuple[Tensor, Tensor], random: SeededRandom) -> Tensor:
    """Paint clothes over a body, from a neckline down.

    Args:
        colours: [1, 3, S, S]: those of the object.
        frame: Where it is.
        textures: Twice [1, 3, S, S]: what the garment is made of, and what shows where it is open.
        random: Decides the cut.

    Returns:
        Colours [1, 3, S, S], within [-1, 1].
    """
    across, down = _coordinates(colours.shape[-1], frame)
    garment, below = textures
    collar = random.uniform(0.78, 1.05)
    dip = random.uniform(0.0, 0.4) * random.chance(0.8)
    opening = (1 - across.abs() / random.uniform(0.06, 0.3)).clamp(0, 1) ** random.uniform(0.5, 1.5)
    from_neck = down - collar - dip * opening
    cloth = _soft(from_neck, random, frame)
    if random.chance(0.4):  # a jacket that is open, or a coat over something
        gap = random.uniform(0.02, 0.15) + random.uniform(-0.1, 0.35) * (down - collar).clamp_min(0)
        garment = torch.lerp(garment, below, _soft(gap - across.abs(), random, frame))
    folds = 1 + random.uniform(0, 0.4) * fractal_noise(random, colours.shape[-1], 1).clamp(-2, 2)
    return torch.lerp(colours, (garment + 1) * folds - 1, cloth).clamp(-1, 1)


def with_arms(
    colours: Tensor, alpha: Tensor, frame: Frame, sleeve: Tensor, random: SeededRandom
) -> tuple[Tensor, Tensor]:
    """Give a body an arm or two, before its body: hanging, folded, bent, raised, whichever.

    Args:
        colours: [1, 3, S, S]: those of the object.
        alpha: [1, 1, S, S].
        frame: Where it is.
        sleeve: [1, 3, S, S]: what its sleeves are made of.
        random: Decides how they are held.

    Returns:
        Colours and alpha, of the same shapes.
    """
    skin = _skin(colours, frame, random)
    for direction in (-1.0, 1.0) if random.chance(0.6) else (random.below(2) * 2.0 - 1,):
        colours, alpha = _arm(colours, alpha, frame, (sleeve, skin), direction, random)
    return colours, alpha


def _arm(
    colours: Tensor,
    alpha: Tensor,
    frame: Frame,
    textures: tuple[Tensor, Tensor],
    direction: float,
    random: SeededRandom,
) -> tuple[Tensor, Tensor]:
    """One arm: the upper part and the lower one, a palm and fingers."""
    sleeve, skin = textures
    half = min(max(frame.half / frame.side, 0.3), 0.7)
    at_rest = random.chance(0.5)  # hands in the lap, in pockets, folded, on the hips
    reach = random.uniform(0.8, 1.3) if at_rest else random.uniform(0.6, 1.0)
    shoulder = complex(direction * half * reach, random.uniform(0.95, 1.3))
    if at_rest:
        raised = random.uniform(-0.1, 0.8)  # radians from hanging, outward
        bent, thick = raised - random.uniform(0.0, 2.3), random.uniform(0.11, 0.22)
    else:
        raised = random.uniform(-0.4, 2.9)
        bent = raised + random.uniform(-0.4, 2.6) * (1 if raised < 1.2 or random.chance(0.5) else -1)
        thick = random.uniform(0.09, 0.17)
    elbow = shoulder + random.uniform(0.5, 0.9) * _heading(raised, direction)
    wrist = elbow + random.uniform(0.4, 0.75) * _heading(bent, direction)
    upper = _Limb(shoulder, elbow, thick, thick * 0.8)
    lower = _Limb(elbow, wrist, thick * 0.8, random.uniform(0.05, 0.08))
    bare = random.chance(0.4)
    colours, alpha = _painted(colours, alpha, frame, [upper], skin if bare and random.chance(0.5) else sleeve, random)
    colours, alpha = _painted(colours, alpha, frame, [lower], skin if bare else sleeve, random)
    palm = wrist + 0.1 * _heading(bent, direction)
    hand = [_Limb(wrist, palm, 0.06, random.uniform(0.07, 0.1))]
    spread = random.uniform(0.1, 0.35)
    for finger in range(4):
        towards = bent + spread * (finger - 1.5)
        hand.append(_Limb(palm, palm + random.uniform(0.1, 0.22) * _heading(towards, direction), 0.028, 0.022))
    return _painted(colours, alpha, frame, hand, skin, random)


def with_occluder(colours: Tensor, alpha: Tensor, texture: Tensor, random: SeededRandom) -> tuple[Tensor, Tensor]:
    """Add an occluder at an object's border, round or angular, as a part of it: a hat, a bag, a hood.

    Args:
        colours: [1, 3, S, S].
        alpha: [1, 1, S, S].
        texture: [1, 3, S, S]: what it is made of.
        random: Decides where it is, and its shape.

    Returns:
        Colours and alpha, of the same shapes; those given where there is no object.
    """
    size = alpha.shape[-1]
    inside = (alpha[0, 0] > INSIDE).to(alpha.dtype)[None, None]
    border = (F.max_pool2d(inside, 3, 1, 1) > inside)[0, 0].nonzero()
    if not len(border):
        return colours, alpha
    row, column = border[random.below(len(border))].tolist()
    short = size * random.uniform(0.04, 0.16)
    long, angle, power = short * random.uniform(1, 2.2), random.uniform(0, math.pi), random.uniform(1.6, 5)
    at = torch.arange(size, dtype=torch.float32)
    x, y = (at - column)[None, :], (at - row)[:, None]
    first = (x * math.cos(angle) + y * math.sin(angle)).abs() / long
    second = (y * math.cos(angle) - x * math.sin(angle)).abs() / short
    depth = (1 - (first**power + second**power) ** (1 / power))[None, None]
    return _laid_over(colours, alpha, texture, (depth, 1.0, short), random)


class _Limb(NamedTuple):
    """A round stroke from one point to another (x + iy, from the axis and the picture's top) whose radius changes."""

    start: complex
    end: complex
    start_radius: float
    end_radius: float


def _painted(
    colours: Tensor, alpha: Tensor, frame: Frame, limbs: list[_Limb], texture: Tensor, random: SeededRandom
) -> tuple[Tensor, Tensor]:
    """Lay strokes of some texture over a body."""
    across, down = _coordinates(colours.shape[-1], frame)
    depth = torch.stack([_depth(limb, across, down) for limb in limbs]).amax(dim=0)
    thickest = max(max(limb.start_radius, limb.end_radius) for limb in limbs)
    return _laid_over(colours, alpha, texture, (depth, thickest, frame.side), random)


def _laid_over(
    colours: Tensor, alpha: Tensor, texture: Tensor, shape: tuple[Tensor, float, float], random: SeededRandom
) -> tuple[Tensor, Tensor]:
    """Lay a shape of some texture over a body, darker toward its border, as round things are.

    Args:
        colours: [1, 3, S, S].
        alpha: [1, 1, S, S].
        texture: [1, 3, S, S].
        shape: How far inside it each pixel lies, [1, 1, S, S], negative outside; how far its deepest one may lie; and
            the unit of both, in pixels.
        random: Decides how dark its border is.
    """
    depth, thickest, unit = shape
    cover = (depth * unit + 0.5).clamp(0, 1)
    shade = 1 - random.uniform(0, 0.5) * (1 - depth / thickest).clamp(0, 1) ** 2
    return torch.lerp(colours, ((texture + 1) * shade - 1).clamp(-1, 1), cover), torch.maximum(alpha, cover)


def _depth(limb: _Limb, across: Tensor, down: Tensor) -> Tensor:
    """How far inside a stroke each pixel lies, [1, 1, S, S]; negative outside."""
    x, y = across - limb.start.real, down - limb.start.imag
    along = limb.end - limb.start
    at = ((x * along.real + y * along.imag) / max(abs(along) ** 2, 1e-8)).clamp(0, 1)
    radius = limb.start_radius + (limb.end_radius - limb.start_radius) * at
    return radius - torch.hypot(x - at * along.real, y - at * along.imag)


def _skin(colours: Tensor, frame: Frame, random: SeededRandom) -> Tensor:
    """The mean colour of the picture's middle with some noise, [1, 3, S, S]."""
    across, down = _coordinates(colours.shape[-1], frame)
    face = ((across.abs() < 0.15) & (down > 0.4) & (down < 0.75)).to(colours.dtype)
    mean = (colours * face).sum(dim=(2, 3), keepdim=True) / face.sum().clamp_min(1)
    return mean + random.uniform(0, 0.12) * fractal_noise(random, colours.shape[-1], 1)


def _coordinates(size: int, frame: Frame) -> tuple[Tensor, Tensor]:
    """How far each pixel lies right of the axis and below the picture's top, [1, 1, S, S], in the picture's sides."""
    at = torch.arange(size, dtype=torch.float32) + 0.5
    across, down = (at - frame.middle) / frame.side, (at - frame.top) / frame.side
    return across.expand(1, 1, size, size), down[:, None].expand(1, 1, size, size)


def _soft(inside: Tensor, random: SeededRandom, frame: Frame) -> Tensor:
    """1 where a distance (in sides) is positive, 0 where it is negative, with an edge of a pixel or a few."""
    return torch.sigmoid(inside * frame.side * random.uniform(0.5, 3))


def _heading(angle: float, direction: float) -> complex:
    """The unit vector so many radians from straight down, toward ``direction``."""
    return complex(direction * math.sin(angle), math.cos(angle))
