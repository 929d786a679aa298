"""A time budget divided over the stages of a chain: what it buys on this machine, by what a few steps took there.

Everything here is arithmetic: ``measure.py`` has the clock.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from labels4free.errors import ConfigError
from labels4free.training.alpha.feature_cache import PREVIEWS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from labels4free.chain.config import ChainConfig
    from labels4free.training.alpha.config import TrainConfig

RESERVE = 0.05
"""Part of the budget that is kept back: for checks, pictures and checkpoints, which no step's time contains."""
OVERHEAD = 10.0
"""Seconds for what does not depend on the settings: loading, sheets, the page."""

FEWEST_IMAGES, FEWEST_IMAGES_PRETRAINED, MOST_IMAGES = 10_000, 5_000, 25_000_000
ENOUGH_IMAGES = 60_000
"""Images from which on generators of 64x64 pixels that began from nothing had outlines to cut along; with 27,000 they
had none (docs/experiments.md, "Forty minutes are too few")."""
FEWEST_PAIRS, FEWEST_SEGMENTER_STEPS = 500, 1000
_ALPHA = ((3, 1000, 1024), (1, 1000, 1024), (1, 800, 512), (1, 600, 128))  # members, steps, cached samples
_CHECKS, _PICTURES = 5, 8  # of a generator's training, at least

_UNITS = {"h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


@dataclass(frozen=True)
class Costs:
    """What things take on this machine, in seconds.

    Attributes:
        measuring: Finding this out.
        photo: Preparing a photo.
        generator_step: A step of the generator's training, lazy regularisation included.
        rendering: Rendering a sample of the generator.
        warmup_step: A step of the alpha network's training before the network moves.
        alpha_step: A step after that.
        consensus_step: A step of learning the consensus of several alpha networks.
        pair: Rendering an image with its mask, and encoding it.
        segmenter_step: A step of the segmenter's training.
    """

    measuring: float
    photo: float
    generator_step: float
    rendering: float
    warmup_step: float
    alpha_step: float
    consensus_step: float
    pair: float
    segmenter_step: float


class Planned(NamedTuple):
    """What a stage will do.

    Attributes:
        words: What, in words.
        seconds: How long it will take.
    """

    words: str
    seconds: float


class Plan(NamedTuple):
    """What a budget buys.

    Attributes:
        config: The settings, with the lengths of the trainings.
        stages: By the names of the stages that take long: prepare, generator, alpha, pairs, segmenter.
    """

    config: ChainConfig
    stages: dict[str, Planned]


def parse_duration(text: str) -> float:
    """Read a duration such as ``3h``, ``40m``, ``90s`` or ``1h30m``; returns seconds.

    Raises:
        ConfigError: If it is none, or nothing.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    parts = [float(number or 0) for number in match.groups()] if match else []
    seconds = sum(number * unit for number, unit in zip(parts, _UNITS.values(), strict=False))
    if not seconds > 0:
        raise ConfigError(f"budget must be a time above 0 such as 3h, 40m, 90s or 1h30m, got {text!r}.")
    return seconds


def as_duration(seconds: float) -> str:
    """The shortest time of whole minutes (below ten minutes: of 10 seconds) that is as long, for --budget."""
    if seconds <= 600:
        whole = 10 * max(1, math.ceil(seconds / 10))
        return f"{whole // 60}m" if whole % 60 == 0 else f"{whole}s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60}h{minutes % 60}m" if minutes >= 60 and minutes % 60 else _whole(minutes)


def _whole(minutes: int) -> str:
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def divide(
    budget: float,
    costs: Costs,
    config: ChainConfig,
    photos: int,
    shares: Mapping[str, float],
    chosen: Collection[str] = (),
) -> Plan:
    """Divide a time budget over the stages.

    Alpha network, pairs and segmenter get their shares of it, but never less than they need to work at all, nor more
    than their defaults take; all that is left is the generator's, where time is worth most.

    Args:
        budget: Seconds for everything, measuring included.
        costs: What was measured.
        config: Settings; their lengths count where they were chosen.
        photos: How many there are.
        shares: Of the stages but the generator, in [0, 1], by name: alpha, pairs, segmenter.
        chosen: Paths of the settings that were chosen (``generator.images``) and stay as they are.

    Returns:
        The settings with their lengths, and what each stage takes.

    Raises:
        ConfigError: If the budget is too small, with the smallest that would do.
    """
    before = OVERHEAD + photos * costs.photo
    free = (budget - costs.measuring) * (1 - RESERVE) - before
    fewest = FEWEST_IMAGES if config.generator.pretrained is None else FEWEST_IMAGES_PRETRAINED
    least = _others(config, costs, dict.fromkeys(shares, 0.0), chosen)
    least |= {"generator": _generator(config, costs, fewest, chosen)}
    needed = sum(stage.seconds for stage in least.values())
    if needed > free:
        smallest = 1.05 * ((needed + before) / (1 - RESERVE) + costs.measuring)  # measured again, it may take longer
        parts = ", ".join(f"{name} {as_duration(part.seconds)} ({part.words})" for name, part in sorted(least.items()))
        raise ConfigError(
            f"A budget of {as_duration(budget)} is too small on this machine; at the least, the stages take: {parts}. "
            f"Give --budget {as_duration(smallest)} or more."
        )
    others = _others(config, costs, {name: share * free for name, share in shares.items()}, chosen)
    rest = free - sum(stage.seconds for stage in others.values())
    if rest < least["generator"].seconds:
        others = {name: stage for name, stage in least.items() if name != "generator"}
        rest = free - sum(stage.seconds for stage in others.values())
    images = rest / costs.generator_step * config.generator.resolved.batch_size
    generator = _generator(config, costs, max(fewest, min(MOST_IMAGES, _rounded(images))), chosen)
    side = config.generator.resolution
    planned = {"prepare": Planned(f"{photos:,} photos, cropped to {side}x{side} pixels", photos * costs.photo)}
    parts_of = {"generator": generator, **others}
    planned |= {name: Planned(stage.words, stage.seconds) for name, stage in parts_of.items()}
    own = replace(
        config,
        generator=generator.config.generator,
        alpha=others["alpha"].config.alpha,
        segmenter=replace(others["segmenter"].config.segmenter, pairs=others["pairs"].config.segmenter.pairs),
    )
    return Plan(own, planned)


class _Part(NamedTuple):
    """A stage with lengths: settings in which its own count, what it does, and seconds."""

    config: ChainConfig
    words: str
    seconds: float


def _generator(config: ChainConfig, costs: Costs, images: int, chosen: Collection[str]) -> _Part:
    own = config.generator
    if "generator.images" not in chosen:
        own = replace(own, images=images)
    if "generator.checks.interval" not in chosen:
        own = replace(own, checks=replace(own.checks, interval=min(own.checks.interval, max(1, own.images // _CHECKS))))
    if "generator.picture_images" not in chosen:
        own = replace(own, picture_images=min(own.picture_images, max(1, own.images // _PICTURES)))
    batch = own.resolved.batch_size
    words = f"{own.images:,} images in batches of {batch}, {batch / costs.generator_step:.3g} images/s"
    return _Part(replace(config, generator=own), words, own.steps * costs.generator_step)


def _others(
    config: ChainConfig, costs: Costs, seconds: Mapping[str, float], chosen: Collection[str]
) -> dict[str, _Part]:
    """Alpha network, pairs and segmenter: as much of each as these seconds buy, but never less than works at all."""
    return {
        "alpha": _alpha(config, costs, seconds["alpha"], chosen),
        "pairs": _pairs(config, costs, seconds["pairs"], chosen),
        "segmenter": _segmenter(config, costs, seconds["segmenter"], chosen),
    }


def _alpha(config: ChainConfig, costs: Costs, seconds: float, chosen: Collection[str]) -> _Part:
    for members, steps, size in _ALPHA:
        own = config.alpha
        own = own if "alpha.members" in chosen else replace(own, members=members)
        own = own if "alpha.steps" in chosen else replace(own, steps=steps)
        own = own if "alpha.cache.size" in chosen else replace(own, cache=replace(own.cache, size=size))
        if (takes := _alpha_seconds(own, costs)) <= seconds:
            break
    words = f"{own.trainings} x {own.steps:,} steps" if own.trainings > 1 else f"{own.steps:,} steps"
    return _Part(replace(config, alpha=own), f"{words} on {own.cache.size:,} samples", takes)


def _alpha_seconds(own: TrainConfig, costs: Costs) -> float:
    """What a training of alpha networks takes that is not started over."""
    rendered = own.cache.calibration_samples + 2 * (own.cache.size + PREVIEWS)  # each cached sample twice
    rendered += sum(own.monitor.augmented_samples.values())
    member = own.discriminator.warmup_steps * costs.warmup_step + own.steps * costs.alpha_step
    consensus = own.consensus_steps * costs.consensus_step if own.members > 1 else 0.0
    return rendered * costs.rendering + own.trainings * member + consensus


def _pairs(config: ChainConfig, costs: Costs, seconds: float, chosen: Collection[str]) -> _Part:
    own = config.segmenter.pairs
    if "segmenter.pairs.num" not in chosen:
        own = replace(own, num=_between(FEWEST_PAIRS, seconds / costs.pair, own.num))
    segmenter = replace(config.segmenter, pairs=own)
    return _Part(replace(config, segmenter=segmenter), f"{own.num:,} images with masks", own.num * costs.pair)


def _segmenter(config: ChainConfig, costs: Costs, seconds: float, chosen: Collection[str]) -> _Part:
    own = config.segmenter
    if "segmenter.steps" not in chosen:
        own = replace(own, steps=_between(FEWEST_SEGMENTER_STEPS, seconds / costs.segmenter_step, own.steps))
    words = f"{own.steps:,} steps of {own.batch_size} images of {own.size}x{own.size}"
    return _Part(replace(config, segmenter=own), words, own.steps * costs.segmenter_step)


def _between(least: int, wanted: float, most: int) -> int:
    """A whole number of hundreds."""
    return max(least, min(most, int(wanted // 100 * 100)))


def _rounded(images: float) -> int:
    """Down to two digits: nobody can promise more."""
    digits = max(0, int(math.log10(max(images, 1))) - 1)
    return int(images // 10**digits * 10**digits)
