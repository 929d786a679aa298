"""Objects that go on where their picture ends: a rounded top, shoulders that widen, a body below.

A picture that is made smaller ends within the canvas, and cuts off whatever reached its edge. Generators that were
trained on close-ups show hardly an object whole, photos do. So the outline is carried on from where the edge cuts it,
as smooth chance has it, and filled with the edge's colours, which fade into some texture. The outline is the truth,
whatever the body looks like.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

from labels4free.training.segmenter.augmentation.procedural_backgrounds import fractal_noise

if TYPE_CHECKING:
    from torch import Tensor

    from labels4free.seeds import SeededRandom

INSIDE = 0.5
"""Alpha from which on a pixel belongs to the object."""

_LEAST_SPAN = 0.04  # of the picture's side: what touches an edge by less, is not cut off by it
_RISE = 0.62  # of its half width: how high a rounded top is on average


class Window(NamedTuple):
    """Where the picture lies on the canvas, in whole pixels: rows ``top`` to ``bottom``, columns ``left`` to ``right``.

    What lies beyond the canvas counts as well, so that all may be negative or exceed its side; the ends are excluded.
    """

    top: int
    bottom: int
    left: int
    right: int


def completed(
    colours: Tensor, alpha: Tensor, window: Window, texture: Tensor, random: SeededRandom
) -> tuple[Tensor, Tensor]:
    """Body completion: carry an object on beyond the edges of its picture.

    Args:
        colours: [1, 3, S, S]: the object's colours; outside the window those of the edge.
        alpha: [1, 1, S, S]; what it is outside the window does not matter.
        window: Where the picture lies.
        texture: [1, 3, S, S]: what the colours fade into.
        random: Decides the outline, the fading and the light.

    Returns:
        Colours and alpha of the whole body, of the same shapes. Inside the window they are as they were.
    """
    size = alpha.shape[-1]
    inside = _inside(size, window)
    picture = alpha * inside
    beyond = (1 - inside) * torch.maximum(_top(picture, window, random), _body(picture, window, random))
    distance = _distance(size, window) / size
    fade = (distance / random.uniform(0.02, 0.4)).clamp(0, 1) * random.chance(0.8)
    light = 1 + random.uniform(0, 0.35) * fractal_noise(random, size, 1).clamp(-2, 2) * (distance > 0)
    filled = (
        torch.lerp(colours, texture, fade)
        if random.chance(0.6)
        else torch.lerp(colours, _mean_below(colours, window), fade)
    )
    lit = (filled + 1) * light - 1
    return torch.where(inside > 0, colours, lit.clamp(-1, 1)), picture + beyond


def _inside(size: int, window: Window) -> Tensor:
    inside = torch.zeros(1, 1, size, size)
    inside[..., max(0, window.top) : max(0, window.bottom), max(0, window.left) : max(0, window.right)] = 1
    return inside


def _distance(size: int, window: Window) -> Tensor:
    """How far each pixel lies from the window, in pixels, [1, 1, S, S]; 0 inside."""
    at = torch.arange(size, dtype=torch.float32)
    down = torch.maximum(window.top - at, at - window.bottom + 1).clamp_min(0)
    across = torch.maximum(window.left - at, at - window.right + 1).clamp_min(0)
    return torch.hypot(down[:, None], across[None, :])[None, None]


def _mean_below(colours: Tensor, window: Window) -> Tensor:
    """The mean colour of the picture's lower edge, [1, 3, 1, 1]."""
    size = colours.shape[-1]
    row = min(max(window.bottom - 1, 0), size - 1)
    return colours[..., row : row + 1, max(0, window.left) : max(1, min(size, window.right))].mean(dim=3, keepdim=True)


def object_span(line: Tensor) -> tuple[int, int] | None:
    """First and last pixel of the object on an edge, [n]; None where it does not touch it."""
    found = (line > INSIDE).nonzero()
    return (int(found[0]), int(found[-1])) if len(found) else None


def _top(alpha: Tensor, window: Window, random: SeededRandom) -> Tensor:
    """A rounded top over what the upper edge cuts off, [1, 1, S, S]."""
    size = alpha.shape[-1]
    span = object_span(alpha[0, 0, window.top]) if 0 < window.top < size else None
    if span is None:
        return torch.zeros_like(alpha)
    middle, half = (span[0] + span[1]) / 2, (span[1] - span[0] + 1) / 2
    rise = max(1.0, half * _RISE * random.uniform(0.4, 1.6))
    x = torch.arange(size, dtype=torch.float32) - middle
    power = random.uniform(1.6, 3.0)
    height = rise * (1 - (x.abs() / half).clamp(0, 1) ** power) ** (1 / power)
    height = height + _wobble(random, size, 0.06 * rise) * (x.abs() < half)
    above = (window.top - torch.arange(size, dtype=torch.float32))[:, None]
    dome = torch.clamp(height[None, :] - above + 0.5, 0, 1) * (x.abs() <= half)[None, :] * (above > 0)
    return dome[None, None]


def _body(alpha: Tensor, window: Window, random: SeededRandom) -> Tensor:
    """What goes on at the sides and below, [1, 1, S, S]: between an outline at the left and one at the right."""
    size = alpha.shape[-1]
    bottom = min(window.bottom, size) - 1
    below = object_span(alpha[0, 0, bottom]) if bottom >= 0 else None
    if below is None:
        return torch.zeros_like(alpha)
    # Where one side has not begun yet, it bounds nothing but the picture, which is left out anyway.
    left = _outline(alpha, window, (max(window.left, 0), below[0], -1), window.right - 1, random)
    right = _outline(alpha, window, (min(window.right, size) - 1, below[1], 1), window.left, random)
    x = torch.arange(size, dtype=torch.float32)
    after = torch.clamp(x[None, :] - left[:, None] + 0.5, 0, 1)
    before = torch.clamp(right[:, None] - x[None, :] + 0.5, 0, 1)
    return (after * before)[None, None]


def _outline(alpha: Tensor, window: Window, where: tuple[int, int, int], rest: int, random: SeededRandom) -> Tensor:
    """The column at which a body ends on one side, for each row, [S].

    Args:
        alpha: That of the picture.
        window: Where it lies.
        where: Column of the picture's edge on this side, column at which the object ends on this side in the picture's
            last row, and the direction that leads away from the object, 1 or -1.
        rest: What rows have above the first one that the body goes on from.
        random: Decide the shape.
    """
    size, side = alpha.shape[-1], window.bottom - window.top
    edge, end, away = where
    top, bottom = max(0, window.top), min(window.bottom, size)
    cut = object_span(alpha[0, 0, top:bottom, edge])
    if cut is not None and cut[1] - cut[0] >= _LEAST_SPAN * side and abs(end - edge) < _LEAST_SPAN * side:
        start, origin, most = top + cut[0], edge, 0.45
    else:
        start, origin, most = window.bottom, end, 0.75
    rows = torch.arange(size, dtype=torch.float32)
    going = ((rows - start) / (side * random.uniform(0.08, 0.7))).clamp(0, 1)
    reach = side * random.uniform(0.0, most) * torch.sin(going * math.pi / 2) ** random.uniform(0.7, 1.6)
    outline = origin + away * reach + _wobble(random, size, 0.025 * side) * going
    return torch.where(rows >= start, outline, torch.full_like(rows, rest))


def _wobble(random: SeededRandom, size: int, strength: float) -> Tensor:
    """A smooth line of chance, [size], of a standard deviation of about ``strength``."""
    knots = random.normal(1, 1, 4 + random.below(12))
    line: Tensor = F.interpolate(knots, size=size, mode="linear", align_corners=True)
    return strength * line[0, 0]
