"""Which pairs a segmenter learns from where none are given: the settings of the data set that is rendered for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labels4free.sampling.config import SampleConfig

if TYPE_CHECKING:
    from labels4free.training.segmenter.config import SegmenterConfig


def pair_settings(config: SegmenterConfig, resolution: int) -> SampleConfig:
    """The settings of the data set of image/mask pairs that a segmenter's training asks for.

    Args:
        config: Settings of the training.
        resolution: Side of the generator's images, in pixels.
    """
    return SampleConfig(
        seed=config.pairs_seed,
        min_truncation_psi=config.pairs.min_truncation_psi,
        max_truncation_psi=config.pairs.max_truncation_psi,
        size=rendered_size(resolution, config.size),
        parts=("image", "alpha"),
        threshold=0.5,  # of the masks that the filters look at
    )


def rendered_size(resolution: int, size: int) -> int:
    """Side at which pairs are rendered: the generator's, halved as often as it stays at least ``size``."""
    while resolution % 2 == 0 and resolution // 2 >= size:
        resolution //= 2
    return resolution
