"""Photos and settings for chains that end in seconds, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

RESOLUTION = 16

SETTINGS = [
    "generator.images=32",
    "generator.batch_size=4",
    "generator.checkpoint_images=8",
    "generator.picture_images=16",
    "generator.checks.interval=16",
    "generator.checks.samples=8",
    "generator.checks.min_diversity=0",
    "generator.network.channel_base=64",
    "generator.network.channel_max=8",
    "generator.network.z_dim=8",
    "generator.network.w_dim=8",
    "alpha.steps=4",
    "alpha.members=1",
    "alpha.batch_size=2",
    "alpha.resolution=16",
    "alpha.checkpoint_interval=2",
    "alpha.picture_interval=2",
    "alpha.cache.size=12",
    "alpha.cache.calibration_samples=4",
    "alpha.alpha.width=4",
    "alpha.discriminator.channel_base=64",
    "alpha.discriminator.channel_max=8",
    "alpha.discriminator.warmup_steps=2",
    "alpha.monitor.samples=4",
    "segmenter.steps=4",
    "segmenter.batch_size=2",
    "segmenter.checkpoint_interval=2",
    "segmenter.picture_interval=2",
    "segmenter.pairs.num=8",
    "segmenter.network.width=2",
    "segmenter.network.detail_width=2",
    "segmenter.network.head_width=2",
    "segmenter.monitor.samples=2",
    "segmenter.monitor.interval=2",
]
"""Everything that happens in a long chain happens in these."""


def write_photos(folder: Path, count: int = 24, size: tuple[int, int] = (40, 32)) -> Path:
    """Draw a bright disc of some colour and place on noise, as often as that."""
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(disc_photo(index, size)).save(folder / f"{index:03d}.png")
    return folder


def disc_photo(seed: int, size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3], uint8."""
    rng = np.random.default_rng(seed)
    width, height = size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    centre = np.array([width, height]) * rng.uniform(0.4, 0.6, 2)
    inside = np.hypot(x - centre[0], y - centre[1]) < min(size) * rng.uniform(0.2, 0.35)
    behind = rng.integers(0, 120, (height, width, 3))
    colour = rng.integers(150, 256, 3)
    return np.where(inside[..., None], colour, behind).astype(np.uint8)
