"""Where pictures come to lie on the canvas of a training example."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from labels4free.training.segmenter.augmentation.bodies import Window
from labels4free.training.segmenter.augmentation.photo_effects import Placement

if TYPE_CHECKING:
    from torch import Tensor

    from labels4free.seeds import SeededRandom
    from labels4free.training.segmenter.augmentation.config import PairAugmentationConfig

_REFERENCE = 256  # lengths in pixels are those of an image of this side
_IN_PLACE = 0.75  # least scale of a picture that keeps its background, whose edges go on around it
_HANGING = 0.6  # least scale of an object that touches the upper edge: less would show too much of its repeated edge
_TOUCHES = 0.03  # mean alpha of the upper row from which on it does
_UNSURE = 2  # pixels at a picture's edge whose alpha refinement may have spoilt


def placement(
    random: SeededRandom, config: PairAugmentationConfig, alpha: Tensor, *, replace: bool
) -> Placement | None:
    """Random affine placement of a picture (scale, rotation, shift, flip); None where it stays."""
    mirror = random.chance(config.mirror)
    if not config.geometry:
        return Placement(1.0, mirror=True) if mirror else None
    least = config.min_scale if replace else min(max(config.min_scale, _IN_PLACE), config.max_scale)
    scale = math.exp(random.uniform(math.log(least), math.log(config.max_scale)))
    most = math.radians(config.rotation)
    angle = random.uniform(-most, most) * random.chance(0.7)
    across, down = random.uniform(-0.35, 0.35), random.uniform(-0.3, 0.3)
    hangs = bool(alpha[0, 0, 0].mean() > _TOUCHES)
    if scale < 1:  # most objects stand on something, or go on below the picture
        down = 1 - scale if random.chance(0.8) else random.uniform(-0.1, 1 - scale)
    if hangs:
        scale = max(scale, _HANGING)
        angle *= 0.25
        beyond = random.uniform(0, 0.1) * random.chance(0.4)
        down = scale - 1 - beyond if scale < 1 else min(down, scale - 1)
    return Placement(scale, angle, (across, down), mirror)


def place_body(random: SeededRandom, config: PairAugmentationConfig) -> Placement:
    """Where the picture of an object comes to lie that is then completed: smaller, and nowhere in particular."""
    mirror = random.chance(config.mirror)
    scale = math.exp(random.uniform(math.log(config.min_scale), 0.0))
    angle = math.radians(config.rotation) * random.uniform(-1, 1) * random.chance(0.5)
    top = random.uniform(-0.1, 0.5) * (1 if scale < 0.7 else 0.5)
    return Placement(scale, angle, (random.uniform(-0.4, 0.4), 2 * top + scale - 1), mirror)


def window_of(place: Placement, size: int) -> Window:
    """The whole pixels that a picture covers that is not turned, but for its edge, where alpha is not to be trusted."""
    x, y = ((1 + shift) / 2 for shift in place.shift)
    half = place.scale / 2 - _UNSURE / _REFERENCE
    top, bottom, left, right = (round(size * edge) for edge in (y - half, y + half, x - half, x + half))
    return Window(top, bottom, left, right)
