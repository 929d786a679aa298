"""Images and settings for generators that train in a second, for tests."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from labels4free.training.discriminator_inputs.augmentation import AugmentationConfig
from labels4free.training.generator.config import (
    ChecksConfig,
    DiscriminatorSection,
    GeneratorConfig,
    GeneratorSection,
    NetworkConfig,
)
from labels4free.training.generator.first_networks import first_networks
from labels4free.training.generator.trainer import GeneratorTrainer
from labels4free.training_loop.run_dir import RunDir, state_digest
from tests.folders import content

if TYPE_CHECKING:
    from pathlib import Path

SIDE, COUNT = 16, 24

SETTINGS = GeneratorConfig(
    images=24,
    resolution=SIDE,
    batch_size=4,
    checkpoint_images=8,
    picture_images=12,
    network=NetworkConfig(channel_base=64, channel_max=8, z_dim=8, w_dim=8),
    generator=GeneratorSection(path_length_interval=2),
    discriminator=DiscriminatorSection(r1_interval=3),
    augmentation=AugmentationConfig(mode="adaptive", target=-0.9, length=100, interval=1),
    checks=ChecksConfig(interval=12, samples=20, grace=1_000_000),
)
"""Six steps: a checkpoint in every second, a check and a picture in every third; augmentation rises at once."""

STEPS = SETTINGS.steps


def changed(config: GeneratorConfig = SETTINGS, **changes: Any) -> GeneratorConfig:
    """Settings with changes: ``images=9`` for a field, ``checks={"interval": 2}`` for fields of a section."""
    for name, value in changes.items():
        if isinstance(value, dict):
            changes[name] = dataclasses.replace(getattr(config, name), **value)
    return dataclasses.replace(config, **changes)


def drawn(index: int, side: int = SIDE) -> torch.Tensor:
    """A bright square somewhere on a dark ground, [3, side, side] in [-1, 1]."""
    rng = torch.Generator().manual_seed(index)
    image = torch.rand(3, 1, 1, generator=rng).sub(1).expand(3, side, side).clone()
    row, column = torch.randint(side // 2, (2,), generator=rng).tolist()
    image[:, row : row + side // 2, column : column + side // 2] = torch.rand(3, 1, 1, generator=rng)
    return image


class Reals:
    """Drawn images in their own order, and which of them were asked for."""

    def __init__(self, side: int = SIDE) -> None:
        self.side, self.asked = side, list[tuple[int, int]]()

    def take(self, start: int, count: int) -> torch.Tensor:
        self.asked.append((start, count))
        return torch.stack([drawn(k, self.side) for k in range(start, start + count)])


def generator_trainer(*, restart: int = 0, reals: Any = None, **changes: Any) -> GeneratorTrainer:
    """Start a trainer; keywords that are not its own change settings."""
    config = changed(**changes)
    side = config.resolution
    compared = torch.stack([drawn(k, side) for k in range(config.checks.samples)])
    return GeneratorTrainer(first_networks(config, restart), config, reals or Reals(side), compared, restart=restart)


def write_images(folder: Path, count: int = COUNT, side: int = SIDE) -> Path:
    """Write drawn images as PNG files."""
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = ((drawn(index, side) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{index:03d}.png")
    return folder


def outcome(run: Path) -> dict[str, Any]:
    """All that a finished run leaves and that must not depend on how often it was stopped."""
    checkpoint = RunDir(run).latest_checkpoint()
    assert checkpoint is not None
    return {
        "generator": (run / "generator.safetensors").read_bytes(),
        "discriminator": (run / "generator.discriminator.safetensors").read_bytes(),
        "neighbours": (run / "neighbours.png").read_bytes(),
        "checkpoint": (checkpoint.step, state_digest(checkpoint.state)),
        "log": (run / "log.jsonl").read_text(),
        "pictures": content(run / "pictures"),
        "files": sorted(p.name for p in run.iterdir()),
    }
