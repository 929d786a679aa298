"""Runs of the paper's recipe of a second, for tests."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

from labels4free.networks.discriminator import Discriminator
from labels4free.networks.paper_network import PaperNetwork
from labels4free.training.alpha.config import MonitorConfig
from labels4free.training.alpha.paper_config import PaperConfig, PaperDiscriminatorConfig, SamplesConfig
from labels4free.training.alpha.paper_trainer import PaperTrainer
from labels4free.training_loop.run_dir import state_digest

if TYPE_CHECKING:
    from labels4free.generators.base import Generator

CHANNELS = {4: 8, 8: 8, 16: 6, 32: 6}
"""Of a generator of 32x32 pixels."""
PAPER = PaperConfig(
    steps=4,
    batch_size=2,
    accumulation=2,
    resolution=16,
    checkpoint_interval=3,
    picture_interval=2,
    samples=SamplesConfig(truncation_psi=0.7),
    discriminator=PaperDiscriminatorConfig(channel_multiplier=1, channel_max=8, r1_interval=2),
    monitor=MonitorConfig(interval=2, samples=3, grace_steps=0),
)
"""Four steps of two micro-batches, a penalty in every second."""


def paper_config(**changes: Any) -> PaperConfig:
    """:data:`PAPER` with changes: ``steps=9`` for a field, ``loss={"adversarial": 2}`` for fields of a section."""
    for name, value in changes.items():
        if isinstance(value, dict):
            changes[name] = dataclasses.replace(getattr(PAPER, name), **value)
    return dataclasses.replace(PAPER, **changes)


def small_discriminator(resolution: int = 16, **options: Any) -> Discriminator:
    """A discriminator with four channels at each resolution."""
    return Discriminator(resolution, channel_max=4, **options)


def paper_trainer(generator: Generator, **options: Any) -> PaperTrainer:
    """Start a trainer; keywords that are not its own change settings."""
    own = {name: options.pop(name) for name in ("restart", "reals", "pretrained") if name in options}
    network = options.pop("network", None) or PaperNetwork(generator.feature_specs, generator.resolution)
    return PaperTrainer(generator, network, paper_config(**options), **own)


def advanced(trainer: PaperTrainer, steps: int) -> PaperTrainer:
    """The trainer, so many steps later."""
    for _ in range(steps):
        trainer.step()
    return trainer


def digests(trainer: PaperTrainer) -> dict[str, str]:
    """A digest of each part of its state."""
    return {name: state_digest(value) for name, value in trainer.state_dict().items()}


def changed(trainer: PaperTrainer, before: dict[str, str]) -> set[str]:
    """The parts that are not what they were."""
    now = digests(trainer)
    return {name for name in now if now[name] != before[name]}


class Reals:
    """Real images that are all alike, and what was asked for."""

    def __init__(self, value: float = 0.5, size: int = 16) -> None:
        self.value, self.size = value, size
        self.asked: list[tuple[int, int]] = []

    def take(self, start: int, count: int) -> torch.Tensor:
        self.asked.append((start, count))
        return torch.full((count, 3, self.size, self.size), self.value)
