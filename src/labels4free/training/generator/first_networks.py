"""The networks that a generator's training starts from: random weights, or transfer learning from a checkpoint.

A checkpoint may be of another resolution: blocks of the same resolution are kept, finer ones are new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from labels4free.checkpoints.loading import read_checkpoint
from labels4free.errors import CheckpointError, ConfigError
from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.networks.discriminator import Discriminator, channels_by_resolution
from labels4free.seeds import derive_seed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from labels4free.training.generator.config import GeneratorConfig

_WIDTHS, _LATENTS, _LAYERS, _LR_MULTIPLIER = 512, 512, 2, 0.01
_LARGE = 512  # from so many pixels on networks are as wide as config-f
_CLAMP = 256.0  # of the mixed-precision networks of StyleGAN2-ADA


class FirstNetworks(NamedTuple):
    """A generator and a discriminator that training starts from, and what was said of it.

    Attributes:
        generator: Trainable.
        discriminator: Trainable.
        notes: Sentences for the log.
    """

    generator: StyleGAN2
    discriminator: Discriminator
    notes: tuple[str, ...] = ()


def first_networks(config: GeneratorConfig, restart: int = 0, *, half: bool = False, c_dim: int = 0) -> FirstNetworks:
    """Build the networks of a training: with random weights, or with those of a checkpoint (transfer learning).

    Args:
        config: Settings.
        restart: How often the training was started over: decides random weights.
        half: Whether float16 is computed in, whose range is small: activations are then limited.
        c_dim: Classes of the images, 0 for none.

    Returns:
        Networks that depend on the settings alone.

    Raises:
        CheckpointError: If the checkpoint cannot be read or holds no StyleGAN2.
        ConfigError: If its widths are not those that the settings ask for.
    """
    if config.pretrained is None:
        return _random(config, restart, half=half, c_dim=c_dim)
    checkpoint = read_checkpoint(config.pretrained)
    parent = checkpoint.generator
    if not isinstance(parent, StyleGAN2):
        has = "no generator" if parent is None else f"a generator of the family {parent.family}"
        raise CheckpointError(f"{config.pretrained} holds {has}; training begins with a StyleGAN2.")
    _check_widths(config, parent)
    judge = checkpoint.discriminator
    channels = _extended(parent.channels, config.resolution, _base(config), _max(config))
    settings = parent.config() | {"channels": {str(s): c for s, c in channels.items()}, "c_dim": c_dim}
    generator = StyleGAN2.from_config(settings).reset_parameters(derive_seed(config.seed, restart))
    notes = [_take(generator, parent.state_dict(), config.pretrained, "generator")]
    widths = _extended(judge.channels if judge else parent.channels, config.resolution, _base(config), _max(config))
    discriminator = _discriminator(config, restart, widths, parent.conv_clamp, c_dim)
    if judge is None:
        notes.append(f"{config.pretrained} has no discriminator: it begins with random weights.")
    else:
        state = _by_resolution(judge.state_dict(), judge.resolution, config.resolution)
        notes.append(_take(discriminator, state, config.pretrained, "discriminator"))
    return FirstNetworks(generator.unfreeze(), discriminator, tuple(notes))


def freeze_blocks(discriminator: Discriminator, count: int) -> None:
    """FreezeD: take the finest ``count`` blocks, the first of them from-RGB, out of training.

    Raises:
        ConfigError: If there are no more blocks than that.
    """
    blocks = len(discriminator.convs)
    if count >= blocks:
        raise ConfigError(
            f"discriminator.frozen_blocks must be below {blocks}, the blocks of a discriminator of "
            f"{discriminator.resolution} pixels, got {count}."
        )
    for block in list(discriminator.convs)[:count]:
        block.requires_grad_(False)


def _random(config: GeneratorConfig, restart: int, *, half: bool, c_dim: int) -> FirstNetworks:
    own = config.network
    channels = channels_by_resolution(config.resolution, _base(config), _max(config))
    clamp = own.conv_clamp or (_CLAMP if half else None)
    w_dim = own.w_dim or _LATENTS
    generator = StyleGAN2(
        channels,
        z_dim=own.z_dim or _LATENTS,
        w_dim=w_dim,
        c_dim=c_dim,
        mapping_widths=[w_dim] * (own.mapping_layers or _LAYERS),
        mapping_lr_multiplier=_LR_MULTIPLIER,
        conv_clamp=clamp,
    )
    generator.reset_parameters(derive_seed(config.seed, restart)).unfreeze()
    return FirstNetworks(generator, _discriminator(config, restart, channels, clamp, c_dim))


def _discriminator(
    config: GeneratorConfig, restart: int, channels: Mapping[int, int], clamp: float | None, c_dim: int
) -> Discriminator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, restart, -1))
        return Discriminator(
            config.resolution, channels, stddev_group=config.network.stddev_group, conv_clamp=clamp, c_dim=c_dim
        )


def _base(config: GeneratorConfig) -> int:
    return config.network.channel_base or (32768 if config.resolution >= _LARGE else 16384)


def _max(config: GeneratorConfig) -> int:
    return config.network.channel_max or _WIDTHS


def _check_widths(config: GeneratorConfig, parent: StyleGAN2) -> None:
    """Refuse widths that are asked for by name and are not the checkpoint's."""
    own = config.network
    rule = {size: min(_base(config) // size, _max(config)) for size in parent.channels}
    wanted: list[tuple[str, object, object]] = [
        ("z_dim", own.z_dim, parent.z_dim),
        ("w_dim", own.w_dim, parent.w_dim),
        ("mapping_layers", own.mapping_layers, len(parent.mapping_widths)),
    ]
    if own.channel_base is not None or own.channel_max is not None:
        wanted.append(("channel_base and network.channel_max, that is channels", rule, parent.channels))
    for name, asked, there in wanted:
        if asked is not None and asked != there:
            raise ConfigError(
                f"{config.pretrained} has {there} where the settings ask for network.{name} = {asked}: leave that out, "
                "and the file's is taken."
            )


def _extended(channels: Mapping[int, int], resolution: int, base: int, most: int) -> dict[int, int]:
    """Channels at 4, 8, ..., ``resolution``: those that are there, and by the rule where there are none."""
    finest = max(channels)
    wanted = channels_by_resolution(resolution, base, most)
    return {s: channels[s] if s in channels else min(wanted[s], channels[finest]) for s in sorted(wanted)}


def _by_resolution(state: Mapping[str, Tensor], its: int, ours: int) -> dict[str, Tensor]:
    """A discriminator's tensors under the numbers that its blocks have where the image is of another resolution."""
    shift = (ours.bit_length() - 1) - (its.bit_length() - 1)
    renamed = {}
    for name, value in state.items():
        first, _, rest = name.partition(".")
        if first != "convs":
            renamed[name] = value
            continue
        number, _, rest = rest.partition(".")
        if number == "0":  # from-RGB belongs to the finest resolution
            if shift == 0:
                renamed[name] = value
        elif int(number) + shift > 0:
            renamed[f"convs.{int(number) + shift}.{rest}"] = value
    return renamed


def _take(network: nn.Module, state: Mapping[str, Tensor], source: str, what: str) -> str:
    """Give a network the tensors that fit it by name and shape; returns what happened, in a sentence."""
    own = network.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    network.load_state_dict(own | fitting)
    new = sum(own[name].numel() for name in own.keys() - fitting.keys())
    if not new:
        return f"The {what} begins as that of {source}."
    return f"The {what} begins as that of {source}, as far as the two are alike; {new:,} of its numbers are new."
