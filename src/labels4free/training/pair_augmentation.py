"""Training examples for a segmenter out of pairs: moved, on other backgrounds, in other light, through bad cameras.

A generator's images are all alike in ways that photos are not: the object in the middle at one size, light and
background of one world, no compression. Alpha makes it free to change what must not matter. The object is cut out with
its colours continued beyond its border (push-pull filling), so that half transparent pixels carry none of their old
background along, and laid over another: the segmenter cannot learn backgrounds, nor a halo.

An example depends on (seed, index) and the pairs alone. Each step of it draws from a source of its own, so that
switching one off leaves the others as they were.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.layered import composite
from labels4free.ops.push_pull import fill_holes
from labels4free.training.draws import Draws
from labels4free.training.figures import Window, completed
from labels4free.training.photo_effects import (
    Placement,
    blurred,
    grey,
    lit_from_a_side,
    moved,
    noisy,
    resampled,
    through_jpeg,
    toned,
)
from labels4free.training.procedural_backgrounds import fractal_noise, procedural_background
from labels4free.training.settings import check_types, positive, share

if TYPE_CHECKING:
    from torch import Tensor

_REFERENCE = 256  # lengths in pixels are those of an image of this side
_IN_PLACE = 0.75  # least scale of a picture that keeps its background, whose edges go on around it
_HANGING = 0.6  # least scale of an object that touches the upper edge: less would show too much of its repeated edge
_TOUCHES = 0.03  # mean alpha of the upper row from which on it does
_UNSURE = 2  # pixels at a picture's edge whose alpha refinement may have spoilt
_SOLID = 0.92  # alpha from which on a pixel shows the object alone
_ENOUGH = 0.02  # share of the pixels that must be known for the others to be filled from them
_STREAMS = ("pick", "place", "choice", "background", "object", "occlusion", "tone", "lens", "file", "empty", "figure")


@dataclass(frozen=True)
class PairAugmentationConfig:
    """What is changed, and in which share of the examples, in [0, 1]; 0 switches it off."""

    geometry: bool = True
    """Scale, turn and shift the picture; edges go on beyond the border. Objects that touch the upper edge stay there:
    nobody's head is cut off by nothing."""
    min_scale: float = 0.42
    """Least side of the picture in sides of the canvas, where it gets another background; 0.75 where it keeps it."""
    max_scale: float = 1.35
    """Greatest side of the picture, which is then cropped."""
    rotation: float = 17.0
    """Largest angle, in degrees; less for objects that touch the upper edge."""
    mirror: float = 0.5
    """Exchange left and right."""
    completion: float = 0.85
    """Of the objects that get another background and become smaller: carry on beyond the picture's edges what these cut
    off, with a rounded top, widening shoulders and a body of some stuff."""
    background: float = 0.7
    """Lay the object over another background: ..."""
    surroundings: float = 0.3
    """... of those, the share of other pairs' own surroundings, their objects filled in from around them, ..."""
    textures: float = 0.12
    """... the share of details of other pairs, enlarged; ..."""
    pictures: float = 0.4
    """... and the share of the user's background pictures, if there are any. All others are procedural."""
    empty: float = 0.04
    """Leave the object out: a background alone, whose mask is empty."""
    defocus: float = 0.35
    """Blur such a background by up to 5 pixels (of 256)."""
    object_tone: float = 0.7
    """Change light and colour of an object on another background, apart from it."""
    background_tone: float = 0.5
    """Change light and colour of such a background alone."""
    side_light: float = 0.3
    """Light such an object from one side."""
    occlusion: float = 0.12
    """Put a patch of texture before the middle of the object, of which it then is a part."""
    tone: float = 0.8
    """Change light and colour of the whole picture: gamma, exposure, white balance, saturation, brightness."""
    grey: float = 0.06
    """Take the colour away."""
    blur: float = 0.3
    """Blur the whole picture by up to 1.8 pixels (of 256)."""
    resampling: float = 0.3
    """Shrink the picture to a quarter of its side or more, and enlarge it again."""
    noise: float = 0.4
    """Add noise of up to 0.12, in units of the image range [-1, 1]."""
    jpeg: float = 0.4
    """Write and read the picture as JPEG of a quality from 25 to 94."""

    def __post_init__(self) -> None:
        check_types(self, "augmentation.")
        for name in SHARES:
            share(f"augmentation.{name}", getattr(self, name))
        positive("augmentation.min_scale", self.min_scale)
        if not self.min_scale <= self.max_scale <= 4:
            raise ConfigError(
                "augmentation.min_scale and augmentation.max_scale must satisfy 0 < min <= max <= 4, got "
                f"{self.min_scale} and {self.max_scale}."
            )
        if not 0 <= self.rotation <= 180:
            raise ConfigError(f"augmentation.rotation must lie in [0, 180] degrees, got {self.rotation}.")
        if self.surroundings + self.textures > 1:
            raise ConfigError(
                "augmentation.surroundings and augmentation.textures are shares of the backgrounds and must not exceed "
                f"1 together, got {self.surroundings} and {self.textures}."
            )


SHARES = (
    "mirror",
    "completion",
    "background",
    "empty",
    "surroundings",
    "textures",
    "pictures",
    "defocus",
    "object_tone",
    "background_tone",
    "side_light",
    "occlusion",
    "tone",
    "grey",
    "blur",
    "resampling",
    "noise",
    "jpeg",
)
"""The fields of :class:`PairAugmentationConfig` that are shares of the examples."""


class Example(NamedTuple):
    """An image with what the segmenter shall make of it.

    Attributes:
        image: [1, 3, S, S], in [-1, 1].
        alpha: [1, 1, S, S], in [0, 1].
        weight: [1, 1, S, S], in [0, 1]: how much each pixel counts; 0 where there is no picture.
    """

    image: Tensor
    alpha: Tensor
    weight: Tensor


class Examples(Protocol):
    """Pairs as they are, by index."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int, /) -> Example:
        """One of them."""


class Pictures(Protocol):
    """Background pictures, by index."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int, /) -> Tensor:
        """One of them, [3, S, S] in [-1, 1]."""


def training_example(
    pairs: Examples,
    config: PairAugmentationConfig,
    seed: int,
    index: int,
    *,
    pictures: Pictures | None = None,
    example: Example | None = None,
) -> Example:
    """Make a training example.

    Args:
        pairs: What it is made of.
        config: What is changed.
        seed: Decides it, ...
        index: ... together with its number.
        pictures: The user's backgrounds, if there are any.
        example: What to change; None draws one of the pairs, which provide backgrounds and textures all the same.

    Returns:
        The example; on the CPU, in new memory unless nothing was changed.
    """
    draws = {name: Draws(seed, index, number) for number, name in enumerate(_STREAMS)}
    image, alpha, weight = example or pairs[draws["pick"].below(len(pairs))]
    if example is None and draws["empty"].chance(config.empty):
        return _without_object(image, pairs, config, draws, pictures)
    replace = draws["choice"].chance(config.background)
    cut_out = _object_colours(image, alpha) if replace else image
    whole = replace and config.geometry and config.min_scale < 1 and draws["figure"].chance(config.completion)
    place = (
        _place_figure(draws["place"], config) if whole else _placement(draws["place"], config, alpha, replace=replace)
    )
    if place is not None:
        upright = place._replace(angle=0.0) if whole else place
        channels = moved(torch.cat((cut_out, alpha, weight), dim=1), upright)
        cut_out, alpha, weight = channels[:, :3], channels[:, 3:4], channels[:, 4:]
        if whole:
            window = _window(place, alpha.shape[-1])
            cut_out, alpha = completed(cut_out, alpha, window, _stuff(draws["figure"], pairs), draws["figure"])
            turned = moved(torch.cat((cut_out, alpha), dim=1), Placement(1.0, place.angle))
            cut_out, alpha = turned[:, :3], turned[:, 3:]
    image = _on_another_background(cut_out, alpha, pairs, config, draws, pictures) if replace else cut_out
    if draws["occlusion"].chance(config.occlusion):
        image = _occluded(image, alpha, pairs, draws["occlusion"])
    return Example(_photographed(image, config, draws), alpha, weight)


def _placement(draws: Draws, config: PairAugmentationConfig, alpha: Tensor, *, replace: bool) -> Placement | None:
    """Where the picture comes to lie; None where it stays."""
    mirror = draws.chance(config.mirror)
    if not config.geometry:
        return Placement(1.0, mirror=True) if mirror else None
    least = config.min_scale if replace else min(max(config.min_scale, _IN_PLACE), config.max_scale)
    scale = math.exp(draws.uniform(math.log(least), math.log(config.max_scale)))
    most = math.radians(config.rotation)
    angle = draws.uniform(-most, most) * draws.chance(0.7)
    across, down = draws.uniform(-0.35, 0.35), draws.uniform(-0.3, 0.3)
    hangs = bool(alpha[0, 0, 0].mean() > _TOUCHES)
    if scale < 1:  # most objects stand on something, or go on below the picture
        down = 1 - scale if draws.chance(0.8) else draws.uniform(-0.1, 1 - scale)
    if hangs:
        scale = max(scale, _HANGING)
        angle *= 0.25
        beyond = draws.uniform(0, 0.1) * draws.chance(0.4)
        down = scale - 1 - beyond if scale < 1 else min(down, scale - 1)
    return Placement(scale, angle, (across, down), mirror)


def _place_figure(draws: Draws, config: PairAugmentationConfig) -> Placement:
    """Where the picture of an object comes to lie that is then completed: smaller, and nowhere in particular."""
    mirror = draws.chance(config.mirror)
    scale = math.exp(draws.uniform(math.log(config.min_scale), 0.0))
    angle = math.radians(config.rotation) * draws.uniform(-1, 1) * draws.chance(0.5)
    top = draws.uniform(-0.1, 0.5) * (1 if scale < 0.7 else 0.5)
    return Placement(scale, angle, (draws.uniform(-0.4, 0.4), 2 * top + scale - 1), mirror)


def _window(place: Placement, size: int) -> Window:
    """The whole pixels that a picture covers that is not turned, but for its edge, where alpha is not to be trusted."""
    x, y = ((1 + shift) / 2 for shift in place.shift)
    half = place.scale / 2 - _UNSURE / _REFERENCE
    top, bottom, left, right = (round(size * edge) for edge in (y - half, y + half, x - half, x + half))
    return Window(top, bottom, left, right)


def _stuff(draws: Draws, pairs: Examples) -> Tensor:
    """What a completed object is made of: a detail of any pair, a pattern, or one colour with some noise."""
    size = pairs[0].image.shape[-1]
    kind = draws.uniform(0, 1)
    if kind < 0.3:
        return _texture(draws, pairs)
    if kind < 0.5:
        return procedural_background(draws, size)
    return draws.colour() + draws.uniform(0, 0.3) * fractal_noise(draws, size, 1)


def _object_colours(image: Tensor, alpha: Tensor) -> Tensor:
    """The object's colours everywhere: its own where it is solid, continued beyond."""
    solid = (alpha > _SOLID).to(image.dtype)
    return torch.where(solid > 0, image, _filled(image, solid)) if float(solid.mean()) > _ENOUGH else image


def _filled(image: Tensor, known: Tensor) -> Tensor:
    """:func:`fill_holes` for images of any side."""
    side = image.shape[-1]
    more = (1 << (side - 1).bit_length()) - side
    if not more:
        return fill_holes(image, known)
    return fill_holes(F.pad(image, (0, more, 0, more)), F.pad(known, (0, more, 0, more)))[..., :side, :side]


def _on_another_background(
    cut_out: Tensor,
    alpha: Tensor,
    pairs: Examples,
    config: PairAugmentationConfig,
    draws: dict[str, Draws],
    pictures: Pictures | None,
) -> Tensor:
    behind, own, pixel = draws["background"], draws["object"], cut_out.shape[-1] / _REFERENCE
    background = _background(behind, pairs, config, pictures, cut_out.shape[-1])
    if behind.chance(config.defocus):
        background = blurred(background, behind.uniform(0.5, 5) * pixel)
    if behind.chance(config.background_tone):
        background = toned(background, behind, 0.3)
    if own.chance(config.object_tone):
        cut_out = toned(cut_out, own, 0.25)
    if own.chance(config.side_light):
        cut_out = lit_from_a_side(cut_out, own, 0.35)
    return composite(cut_out, background, alpha)


def _without_object(
    image: Tensor, pairs: Examples, config: PairAugmentationConfig, draws: dict[str, Draws], pictures: Pictures | None
) -> Example:
    """A background alone, as bad cameras see it."""
    size = image.shape[-1]
    background = _background(draws["background"], pairs, config, pictures, size)
    alpha = torch.zeros_like(background[:, :1])
    return Example(_photographed(background, config, draws), alpha, torch.ones_like(alpha))


def _background(
    draws: Draws, pairs: Examples, config: PairAugmentationConfig, pictures: Pictures | None, size: int
) -> Tensor:
    if pictures is not None and draws.chance(config.pictures):
        return _anywhere(pictures[draws.below(len(pictures))][None], draws)
    kind = draws.uniform(0, 1)
    if kind < config.surroundings:
        image, alpha, _ = pairs[draws.below(len(pairs))]
        around = 2 * (4 * size // _REFERENCE) + 1
        known = (F.max_pool2d(alpha, around, 1, around // 2) < 0.1).to(image.dtype)
        if float(known.mean()) > _ENOUGH:
            return _anywhere(_filled(image, known), draws)
    elif kind < config.surroundings + config.textures:
        return _texture(draws, pairs)
    return procedural_background(draws, size)


def _anywhere(background: Tensor, draws: Draws) -> Tensor:
    angle = draws.uniform(-0.4, 0.4) * draws.chance(0.3)
    shift = (draws.uniform(-0.5, 0.5), draws.uniform(-0.5, 0.5))
    return moved(background, Placement(draws.uniform(1, 2.2), angle, shift, draws.chance(0.5)), "reflection")


def _texture(draws: Draws, pairs: Examples) -> Tensor:
    """A detail of any pair, enlarged and turned."""
    image = pairs[draws.below(len(pairs))].image
    shift = (draws.uniform(-2, 2), draws.uniform(-2, 2))
    return moved(image, Placement(draws.uniform(3, 7), draws.uniform(-3.1, 3.1), shift), "reflection")


def _occluded(image: Tensor, alpha: Tensor, pairs: Examples, draws: Draws) -> Tensor:
    patch = torch.sigmoid(6 * (fractal_noise(draws, image.shape[-1], 1) - 1.6)) * (alpha > 0.9)
    return composite(_texture(draws, pairs), image, blurred(patch, image.shape[-1] / _REFERENCE))


def _photographed(image: Tensor, config: PairAugmentationConfig, draws: dict[str, Draws]) -> Tensor:
    """What camera and file do to the whole picture."""
    tone, lens, file, pixel = draws["tone"], draws["lens"], draws["file"], image.shape[-1] / _REFERENCE
    if tone.chance(config.tone):
        image = toned(image, tone, 0.3)
    if tone.chance(config.grey):
        image = grey(image)
    if lens.chance(config.blur):
        image = blurred(image, lens.uniform(0.3, 1.8) * pixel)
    if lens.chance(config.resampling):
        image = resampled(image, lens.uniform(0.25, 0.9))
    if lens.chance(config.noise):
        image = noisy(image, lens, lens.uniform(0.01, 0.12))
    image = image.clamp(-1, 1)
    if file.chance(config.jpeg):
        image = through_jpeg(image, 25 + file.below(70))
    return image
