"""The settings of a chain: those of each of its trainings, with what serves a generator that was trained on photos."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from labels4free.seeds import hashed_seed
from labels4free.settings_fields import change, check_types
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.generator.config import GeneratorConfig, NetworkConfig
from labels4free.training.generator.presets import CONFIGS
from labels4free.training.segmenter.augmentation.config import PairAugmentationConfig
from labels4free.training.segmenter.config import SIZE_MULTIPLE, PairsConfig, SegmenterConfig
from labels4free.training_loop.precision import cpu_has_bfloat16

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALPHA_RESOLUTION = 64  # at 32 the outlines of 64x64 pixels were coarser (docs/experiments.md)
_LARGEST_SIZE = 256  # as the segmenter's own default
_SEEDS = 1 << 31
_NOTHING_OF_PEOPLE = PairAugmentationConfig(body_completion=0.0, garments=0.0, arms=0.0, occluders=0.0)


@dataclass(frozen=True)
class ChainConfig:
    """Settings of a chain's trainings, a section each: ``generator.images``, ``alpha.steps``, ``segmenter.size``."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    alpha: TrainConfig = field(default_factory=TrainConfig)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)

    def __post_init__(self) -> None:
        check_types(self)


def chain_config(
    *,
    resolution: int = 64,
    mirror: bool = False,
    pretrained: str | None = None,
    seed: int = 0,
    narrow: bool = True,
    settings: Sequence[str] = (),
) -> ChainConfig:
    """The settings of a chain, before a budget decides how long each training is.

    The alpha network's recipe has its defaults, which take any generator. Photos are segmented at twice the generator's
    resolution (up to 256 pixels), since the segmenter's finest maps are half as fine as its images. What its
    augmentation knows of people (bodies, clothes, arms, hats) is off.

    Args:
        resolution: Side of the generator's images in pixels, a power of two of at least 8.
        mirror: Mirror every second photo by chance.
        pretrained: Generator to begin with, a file or a zoo name; it also decides the networks' widths.
        seed: The seeds of all stages follow from it.
        narrow: Take networks that a CPU trains, those of the preset ``tiny``, in bfloat16 where the CPU has it.
        settings: ``STAGE.SECTION.FIELD=VALUE`` strings; they count more than all of this.

    Raises:
        ConfigError: If a setting is unknown or out of range, or two do not fit each other.
    """
    of_generator = CONFIGS["tiny"][0] if narrow else GeneratorConfig()
    side = max(SIZE_MULTIPLE, min(2 * resolution, _LARGEST_SIZE) // SIZE_MULTIPLE * SIZE_MULTIPLE)
    config = ChainConfig(
        replace(
            of_generator,
            resolution=resolution,
            precision="bfloat16" if narrow and cpu_has_bfloat16() else "auto",
            mirror=mirror,
            pretrained=pretrained,
            seed=stage_seed(seed, "generator"),
            network=NetworkConfig() if pretrained else of_generator.network,
        ),
        TrainConfig(resolution=min(resolution, _ALPHA_RESOLUTION), seed=stage_seed(seed, "alpha")),
        SegmenterConfig(
            size=side,
            seed=stage_seed(seed, "segmenter"),
            pairs=PairsConfig(seed=stage_seed(seed, "pairs")),
            augmentation=_NOTHING_OF_PEOPLE,
        ),
    )
    return change(config, settings=settings)


def stage_seed(seed: int, stage: str) -> int:
    """The seed of a stage, from 0 to 2^31 - 1: no two stages draw the same."""
    return hashed_seed("from-photos", seed, stage) % _SEEDS


def chosen_names(settings: Sequence[str]) -> frozenset[str]:
    """The settings that were chosen, by their paths: a budget leaves them alone."""
    return frozenset(setting.partition("=")[0].strip() for setting in settings)
