"""Training examples for a segmenter out of pairs: moved, on other backgrounds, in other light, through bad cameras.

A generator's images are all alike in ways that photos are not: the object in the middle at one size, light and
background of one world, no compression. Alpha makes it free to change what must not matter. The object is cut out with
its colours continued beyond its border (push-pull filling), so that half transparent pixels carry none of their old
background along, and laid over another: the segmenter cannot learn backgrounds, nor a halo.

An example depends on (seed, index) and the pairs alone. Each step of it draws from a source of its own, so that
switching one off leaves the others as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch.nn import functional as F

from labels4free.layered import composite
from labels4free.ops.push_pull import fill_holes
from labels4free.seeds import SeededRandom
from labels4free.training.segmenter.augmentation.bodies import completed
from labels4free.training.segmenter.augmentation.clothes_and_limbs import dressed, frame_of, with_arms, with_occluder
from labels4free.training.segmenter.augmentation.photo_effects import (
    Placement,
    blurred,
    grey,
    lit_by_a_spot,
    lit_from_a_side,
    moved,
    noisy,
    recoloured,
    resampled,
    through_jpeg,
    toned,
)
from labels4free.training.segmenter.augmentation.placements import place_body, placement, window_of
from labels4free.training.segmenter.augmentation.procedural_backgrounds import fractal_noise, procedural_background

if TYPE_CHECKING:
    from torch import Tensor

    from labels4free.training.segmenter.augmentation.clothes_and_limbs import Frame
    from labels4free.training.segmenter.augmentation.config import PairAugmentationConfig

_REFERENCE = 256  # lengths in pixels are those of an image of this side
_SOLID = 0.92  # alpha from which on a pixel shows the object alone
_ENOUGH = 0.02  # fraction of the pixels that must be known for the others to be filled from them
_STREAMS = (
    *("pick", "place", "choice", "background", "object", "occlusion", "tone", "lens", "file", "empty", "body"),
    *("parts", "copy_paste", "light", "occluders", "camouflage"),
)


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
    """Augment a pair into a training example.

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
    random = {name: SeededRandom(seed, index, number) for number, name in enumerate(_STREAMS)}
    image, alpha, weight = example or pairs[random["pick"].below(len(pairs))]
    if example is None and random["empty"].chance(config.empty):
        return _without_object(image, pairs, config, random, pictures)
    replace = random["choice"].chance(config.background)
    cut_out = _object_colours(image, alpha) if replace else image
    cut_out, alpha, weight = _placed(Example(cut_out, alpha, weight), pairs, config, random, replace=replace)
    if replace and random["occluders"].chance(config.occluders):
        cut_out, alpha = with_occluder(cut_out, alpha, _any_texture(random["occluders"], pairs), random["occluders"])
    if replace and random["copy_paste"].chance(config.copy_paste):
        cut_out, alpha = _copy_pasted(cut_out, alpha, pairs, config, (seed, index))
    image = _on_another_background(cut_out, alpha, pairs, config, random, pictures) if replace else cut_out
    if random["occlusion"].chance(config.occlusion):
        image = _occluded(image, alpha, pairs, random["occlusion"])
    return Example(_photographed(image, config, random), alpha, weight)


def _placed(
    example: Example, pairs: Examples, config: PairAugmentationConfig, random: dict[str, SeededRandom], *, replace: bool
) -> Example:
    """The picture where it comes to lie; its object completed, if it is to be."""
    whole = replace and config.geometry and config.min_scale < 1 and random["body"].chance(config.body_completion)
    place = (
        place_body(random["place"], config)
        if whole
        else placement(random["place"], config, example.alpha, replace=replace)
    )
    if place is None:
        return example
    channels = moved(torch.cat(example, dim=1), place._replace(angle=0.0) if whole else place)
    image, alpha, weight = channels[:, :3], channels[:, 3:4], channels[:, 4:]
    if whole:
        window = window_of(place, alpha.shape[-1])
        image, alpha = completed(image, alpha, window, _any_texture(random["body"], pairs), random["body"])
        image, alpha = _with_parts(image, alpha, frame_of(alpha, window), pairs, config, random["parts"])
        turned = moved(torch.cat((image, alpha), dim=1), Placement(1.0, place.angle))
        image, alpha = turned[:, :3], turned[:, 3:]
    return Example(image, alpha, weight)


def _with_parts(
    image: Tensor,
    alpha: Tensor,
    frame: Frame | None,
    pairs: Examples,
    config: PairAugmentationConfig,
    random: SeededRandom,
) -> tuple[Tensor, Tensor]:
    """Clothes and arms for a completed object; ``frame`` is None for one that ends within its picture."""
    if frame is None:
        return image, alpha
    garment = _any_texture(random, pairs)
    if random.chance(config.garments):
        image = dressed(image, frame, (garment, _any_texture(random, pairs)), random)
    if random.chance(config.arms):
        image, alpha = with_arms(image, alpha, frame, garment, random)
    return image, alpha


def _copy_pasted(
    cut_out: Tensor, alpha: Tensor, pairs: Examples, config: PairAugmentationConfig, number: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Another object before or behind this one."""
    random = {name: SeededRandom(*number, stream, 1) for stream, name in enumerate(_STREAMS)}
    image, other, weight = pairs[random["pick"].below(len(pairs))]
    example = Example(_object_colours(image, other), other, weight)
    image, other, _ = _placed(example, pairs, config, random, replace=True)
    if random["object"].chance(config.object_tone):
        image = toned(image, random["object"], 0.25)
    if random["copy_paste"].chance(0.5):
        return composite(image, cut_out, other), torch.maximum(alpha, other)
    return composite(cut_out, image, alpha), torch.maximum(alpha, other)


def _any_texture(random: SeededRandom, pairs: Examples) -> Tensor:
    """What a completed object is made of: a detail of any pair, a pattern, or one colour with some noise."""
    size = pairs[0].image.shape[-1]
    kind = random.uniform(0, 1)
    if kind < 0.3:
        return _texture(random, pairs)
    if kind < 0.5:
        return procedural_background(random, size)
    return random.colour() + random.uniform(0, 0.3) * fractal_noise(random, size, 1)


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
    random: dict[str, SeededRandom],
    pictures: Pictures | None,
) -> Tensor:
    behind, own, pixel = random["background"], random["object"], cut_out.shape[-1] / _REFERENCE
    background = _background(behind, pairs, config, pictures, cut_out.shape[-1])
    if behind.chance(config.defocus):
        background = blurred(background, behind.uniform(0.5, 5) * pixel)
    if behind.chance(config.background_tone):
        background = toned(background, behind, 0.3)
    if own.chance(config.object_tone):
        cut_out = toned(cut_out, own, 0.25)
    if own.chance(config.side_light):
        cut_out = lit_from_a_side(cut_out, own, 0.35)
    if random["camouflage"].chance(config.camouflage):
        background = recoloured(background, _lower_colour(cut_out, alpha), random["camouflage"].uniform(0.4, 1))
    return composite(cut_out, background, alpha)


def _lower_colour(colours: Tensor, alpha: Tensor) -> Tensor:
    """The mean colour of the object, [1, 3, 1, 1], whose lower rows count most: clothes, not the face."""
    weight = alpha * torch.linspace(0, 1, alpha.shape[-1])[:, None] ** 2
    return (colours * weight).sum(dim=(2, 3), keepdim=True) / weight.sum().clamp_min(1e-6)


def _without_object(
    image: Tensor,
    pairs: Examples,
    config: PairAugmentationConfig,
    random: dict[str, SeededRandom],
    pictures: Pictures | None,
) -> Example:
    """A background alone, as bad cameras see it."""
    size = image.shape[-1]
    background = _background(random["background"], pairs, config, pictures, size)
    alpha = torch.zeros_like(background[:, :1])
    return Example(_photographed(background, config, random), alpha, torch.ones_like(alpha))


def _background(
    random: SeededRandom, pairs: Examples, config: PairAugmentationConfig, pictures: Pictures | None, size: int
) -> Tensor:
    if pictures is not None and random.chance(config.pictures):
        return _anywhere(pictures[random.below(len(pictures))][None], random)
    kind = random.uniform(0, 1)
    if kind < config.surroundings:
        image, alpha, _ = pairs[random.below(len(pairs))]
        around = 2 * (4 * size // _REFERENCE) + 1
        known = (F.max_pool2d(alpha, around, 1, around // 2) < 0.1).to(image.dtype)
        if float(known.mean()) > _ENOUGH:
            return _anywhere(_filled(image, known), random)
    elif kind < config.surroundings + config.textures:
        return _texture(random, pairs)
    return procedural_background(random, size)


def _anywhere(background: Tensor, random: SeededRandom) -> Tensor:
    angle = random.uniform(-0.4, 0.4) * random.chance(0.3)
    shift = (random.uniform(-0.5, 0.5), random.uniform(-0.5, 0.5))
    return moved(background, Placement(random.uniform(1, 2.2), angle, shift, random.chance(0.5)), "reflection")


def _texture(random: SeededRandom, pairs: Examples) -> Tensor:
    """A detail of any pair, enlarged and turned."""
    image = pairs[random.below(len(pairs))].image
    shift = (random.uniform(-2, 2), random.uniform(-2, 2))
    return moved(image, Placement(random.uniform(3, 7), random.uniform(-3.1, 3.1), shift), "reflection")


def _occluded(image: Tensor, alpha: Tensor, pairs: Examples, random: SeededRandom) -> Tensor:
    patch = torch.sigmoid(6 * (fractal_noise(random, image.shape[-1], 1) - 1.6)) * (alpha > 0.9)
    return composite(_texture(random, pairs), image, blurred(patch, image.shape[-1] / _REFERENCE))


def _photographed(image: Tensor, config: PairAugmentationConfig, random: dict[str, SeededRandom]) -> Tensor:
    """What camera and file do to the whole picture."""
    tone, lens, file, pixel = random["tone"], random["lens"], random["file"], image.shape[-1] / _REFERENCE
    if tone.chance(config.tone):
        image = toned(image, tone, 0.3)
    if random["light"].chance(config.uneven_light):
        image = lit_by_a_spot(image, random["light"], 0.9)
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
