"""Settings of a generator's training by name: those of other trainers, and small networks for CPUs."""

from __future__ import annotations

import dataclasses

from labels4free.training.discriminator_inputs.augmentation import AugmentationConfig
from labels4free.training.generator.config import (
    DiscriminatorSection,
    GeneratorConfig,
    GeneratorSection,
    NetworkConfig,
)

_ADA = "NVlabs/stylegan2-ada-pytorch train.py, its configuration of this name."


def _paper(resolution: int, gamma: float, *, batch: int = 64, group: int = 8, rate: float = 0.0025) -> GeneratorConfig:
    """A configuration that StyleGAN2's authors trained their models with; half of config-f's width at 256."""
    return GeneratorConfig(
        images=25_000_000,
        resolution=resolution,
        batch_size=batch,
        network=NetworkConfig(channel_base=16384 if resolution == 256 else 32768, mapping_layers=8, stddev_group=group),
        generator=GeneratorSection(learning_rate=rate, ema_half_life=312.5 * batch, ema_ramp=0.0),
        discriminator=DiscriminatorSection(r1_gamma=gamma),
    )


_ROSINALITY = GeneratorConfig(
    images=12_800_000,
    resolution=256,
    batch_size=16,
    mirror=True,
    network=NetworkConfig(channel_base=32768, mapping_layers=8),
    generator=GeneratorSection(learning_rate=0.002, ema_half_life=5000.0, ema_ramp=0.0),
    discriminator=DiscriminatorSection(r1_gamma=10.0),
    augmentation=AugmentationConfig(mode="off"),
)

_TINY = GeneratorConfig(
    images=300_000,
    resolution=64,
    batch_size=16,
    network=NetworkConfig(channel_base=2048, channel_max=64, z_dim=128, w_dim=128),
    generator=GeneratorSection(path_length=0.0),
    augmentation=dataclasses.replace(GeneratorConfig().augmentation, length=100_000),
)

CONFIGS: dict[str, tuple[GeneratorConfig, str]] = {
    "tiny": (_TINY, "Narrow networks for 64x64 pixels and below on CPUs; the rest is the default."),
    "rosinality": (_ROSINALITY, "rosinality/stylegan2-pytorch train.py, the defaults of its flags."),
    "paper256": (_paper(256, 1.0), _ADA),
    "paper512": (_paper(512, 0.5), _ADA),
    "paper1024": (_paper(1024, 2.0, batch=32, group=4, rate=0.002), _ADA),
}
"""Name -> settings, and where they come from in a sentence."""
