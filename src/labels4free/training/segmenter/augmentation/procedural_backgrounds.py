"""Backgrounds out of nothing: plain walls, gradients, clouds, furniture, tiles, lights out of focus, cluttered scenes.

None looks like a photo. They are there so that no texture, edge or colour means background, wherever it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from labels4free.training.segmenter.augmentation.photo_effects import Placement, moved
from labels4free.training.segmenter.augmentation.procedural_scenes import (
    architecture,
    dead_leaves,
    foliage,
    landscape,
    log_uniform,
    smooth_noise,
)

if TYPE_CHECKING:
    from torch import Tensor

    from labels4free.seeds import SeededRandom

_REFERENCE = 256  # lengths below are pixels of an image of this side
_BEYOND = 1.2  # colours go a little beyond the image range, as light does


def procedural_background(random: SeededRandom, size: int) -> Tensor:
    """Draw a background of any of the kinds.

    Args:
        random: Source of the numbers.
        size: Side S in pixels.

    Returns:
        [1, 3, S, S], within [-1.2, 1.2].
    """
    plain = (_gradient, _clouds, _furniture, _tiles, _lights)
    kinds = plain + (_scene,) * 8  # what a segmenter takes for object is sharp clutter: most are of that
    return kinds[random.below(len(kinds))](random, size).clamp(-_BEYOND, _BEYOND)


def fractal_noise(random: SeededRandom, size: int, channels: int = 3) -> Tensor:
    """Noise of all scales, each with a weight that falls with its fineness by a random power.

    Returns:
        [1, channels, size, size], of mean about 0 and standard deviation 1.
    """
    power = random.uniform(0.6, 2.2)
    fall = 2 ** (-0.5 * power if power < 1 else -power)
    total = torch.zeros(1, channels, size, size)
    side, fraction = 2, 1.0
    while side < size:
        noise = random.normal(1, channels, side, side)
        total += fraction * F.interpolate(noise, size=(size, size), mode="bicubic", align_corners=False)
        side, fraction = 2 * side, fraction * fall
    total += fraction * random.normal(1, channels, size, size)
    return total / total.std()


def _gradient(random: SeededRandom, size: int) -> Tensor:
    first, second = random.colour(), random.colour()
    if random.chance(0.4):
        wall = first.expand(1, 3, size, size)
    else:
        across, down = _grid(size)
        angle = random.uniform(0, 2 * math.pi)
        slope = math.cos(angle) * across + math.sin(angle) * down
        slope = (slope - slope.min()) / (slope.max() - slope.min())
        wall = torch.lerp(first, second, slope)
    return wall + random.uniform(0, 0.15) * fractal_noise(random, size, 1) if random.chance(0.5) else wall


def _clouds(random: SeededRandom, size: int) -> Tensor:
    clouds = random.colour() + random.uniform(0.1, 0.7) * fractal_noise(random, size)
    if random.chance(0.5):
        where = torch.sigmoid(4 * fractal_noise(random, size, 1))
        clouds = torch.lerp(random.colour() + random.uniform(0.1, 0.5) * fractal_noise(random, size), clouds, where)
    return clouds


def _furniture(random: SeededRandom, size: int) -> Tensor:
    """Rectangles, a little turned: doors, shelves, pictures on a wall."""
    room = random.colour().expand(1, 3, size, size) + random.uniform(0, 0.2) * fractal_noise(random, size, 1)
    least, more = max(1, 8 * size // _REFERENCE), max(1, 140 * size // _REFERENCE)
    for _ in range(3 + random.below(18)):
        left, top = random.below(size), random.below(size)
        width, height = least + random.below(more), least + random.below(more)
        room[..., top : top + height, left : left + width] = random.colour() * random.uniform(0.3, 1)
    return moved(room, Placement(random.uniform(0.8, 1.6), random.uniform(-0.3, 0.3)), "reflection")


def _tiles(random: SeededRandom, size: int) -> Tensor:
    """Stripes, or two of them crossed."""
    across, down = _grid(size)
    angle = random.uniform(0, 2 * math.pi)
    finest, coarsest = 2 * math.pi * _REFERENCE / 6, 2 * math.pi * _REFERENCE / 60  # radians a side
    wave = torch.sin(
        (across * math.cos(angle) + down * math.sin(angle)) * _rate(random, coarsest, finest) + random.uniform(0, 6)
    )
    if random.chance(0.5):
        crossed = (-across * math.sin(angle) + down * math.cos(angle)) * _rate(random, coarsest, finest)
        wave = torch.maximum(wave, torch.sin(crossed))
    where = torch.sigmoid(random.uniform(1, 12) * (wave - random.uniform(-0.7, 0.7)))
    return torch.lerp(random.colour(), random.colour(), where) + random.uniform(0, 0.25) * fractal_noise(
        random, size, 1
    )


def _lights(random: SeededRandom, size: int) -> Tensor:
    """Discs and ellipses with soft edges."""
    night = random.colour() + random.uniform(0, 0.4) * fractal_noise(random, size)
    across, down = _grid(size)
    pixel = 1 / _REFERENCE
    for _ in range(5 + random.below(25)):
        x, y, stretch = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.5, 2)
        radius, edge = random.uniform(3, 45) * pixel, random.uniform(0.5, 6) * pixel
        distance = torch.sqrt((across - x) ** 2 + ((down - y) * stretch) ** 2)
        night = torch.lerp(night, random.colour(), torch.sigmoid((radius - distance) / edge) * random.uniform(0.3, 1))
    return night


def _scene(random: SeededRandom, size: int) -> Tensor:
    """Dead leaves, foliage, architecture or a landscape, at times two of them side by side, lit unevenly."""
    kinds = (dead_leaves, foliage, architecture, landscape)
    image = kinds[random.below(len(kinds))](random, size)
    if random.chance(0.12):
        where = torch.sigmoid(log_uniform(random, 4, 60) * (smooth_noise(random, size) - random.uniform(-0.5, 0.5)))
        image = torch.lerp(image, kinds[random.below(len(kinds))](random, size), where)
    return _lit(image, random)


def _lit(image: Tensor, random: SeededRandom) -> Tensor:
    """Uneven light: from a side, in patches, with dark corners."""
    size = image.shape[-1]
    at = (torch.arange(size) + 0.5) / size * 2 - 1
    light = torch.full((1, 1, size, size), random.uniform(0.8, 1.35))
    if random.chance(0.5):
        light = light * (1 + random.uniform(-0.5, 0.5) * at[None, :] + random.uniform(-0.4, 0.4) * at[:, None])
    if random.chance(0.3):
        light = light * (1 - random.uniform(0, 0.35) * (at[None, :] ** 2 + at[:, None] ** 2))
    if random.chance(0.3):  # sun through leaves, or the shadow of a house
        shade = torch.sigmoid(log_uniform(random, 2, 40) * smooth_noise(random, size, 3 + random.below(14)))
        light = light * (1 - random.uniform(0.1, 0.6) * shade)
    tint = 1 + 0.12 * random.uniform(0, 1) * random.colour()
    return (image + 1) * light * tint - 1


def _rate(random: SeededRandom, coarsest: float, finest: float) -> float:
    """Radians a side of stripes whose width is evenly spread between two."""
    return 1 / random.uniform(1 / finest, 1 / coarsest)


def _grid(size: int) -> tuple[Tensor, Tensor]:
    """How far each pixel lies to the right and down, [1, S] and [S, 1], in [0, 1]."""
    at = (torch.arange(size) + 0.5) / size
    return at[None, :], at[:, None]
