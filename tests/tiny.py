"""Generators small enough for tests, with weights from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from labels4free.generators.mobile_stylegan import MobileStyleGAN
from labels4free.generators.stylegan2 import StyleGAN2

if TYPE_CHECKING:
    from collections.abc import Mapping

KEEP_ALL = ["--min-foreground-ratio", "0", "--max-foreground-ratio", "1", "--min-largest-component-fraction", "0"]
"""Flags of ``sample`` for alpha networks that have learned nothing: their masks are empty, full or in pieces."""

TINY_CHANNELS = {4: 12, 8: 12, 16: 12, 32: 8, 64: 6}


def tiny_generator(seed: int = 0) -> MobileStyleGAN:
    """Build a 64x64 MobileStyleGAN (11 rows of ws, 8 wide) whose images vary and have a standard deviation of 0.5."""
    generator = MobileStyleGAN((16, 16, 16, 8), z_dim=8, mapping_layers=2)
    rng = torch.Generator().manual_seed(seed)
    for name, value in generator.state_dict().items():
        normal = torch.randn(value.shape, generator=rng)
        fan_in = value[0].numel() if value.ndim > 1 else 1
        if name.endswith((".modulation.weight", ".up.weight")):  # styles multiply through all layers: keep them near 1
            value.copy_(0.2 * normal / fan_in**0.5)
        elif name.endswith((".weight", ".depthwise")):
            gain = 2 if name.startswith("blocks") and name.endswith(".weight") else 1
            value.copy_(normal * (gain / fan_in) ** 0.5)
        elif name.endswith((".modulation.bias", ".up.bias")):
            value.copy_(1 + 0.1 * normal)
        elif name.endswith(".noise_strength"):
            value.fill_(0.1)
        elif name == "constant":
            value.copy_(normal)
        else:  # biases and fixed noise maps
            value.copy_(0.1 * normal)
    generator.w_avg.copy_(generator.map(torch.randn(1000, 8, generator=rng))[:, 0].mean(0))
    generator.to_image.bias.zero_()
    images = generator.synthesize(generator.map(torch.randn(8, 8, generator=rng))).image
    generator.to_image.weight.mul_(0.5 / images.std(dim=(1, 2, 3)).median())
    return generator


def tiny_stylegan2(seed: int = 0, channels: Mapping[int, int] | None = None, **options: Any) -> StyleGAN2:
    """Build a 64x64 StyleGAN2 (10 rows of ws, 8 wide) whose images vary and have a standard deviation of 0.5.

    ``channels`` and ``options`` are those of :class:`StyleGAN2`.
    """
    options = {"z_dim": 8, "w_dim": 8, "mapping_widths": [8, options.get("w_dim", 8)]} | options
    generator = StyleGAN2(channels or TINY_CHANNELS, **options)
    rng = torch.Generator().manual_seed(seed)
    for name, value in generator.state_dict().items():
        normal = torch.randn(value.shape, generator=rng)
        if name.startswith("mapping."):  # stored divided by the multiplier
            value.copy_((0.1 if name.endswith(".bias") else 1.0) * normal / generator.mapping_lr_multiplier)
        elif name.endswith("affine.weight"):  # the styles of to-RGB act on the image undamped: keep them near 1
            value.copy_(0.4 * normal)
        elif name.endswith("affine.bias"):
            value.copy_(1 + 0.1 * normal)
        elif name.endswith("noise_strength"):
            value.fill_(0.2)
        elif name.endswith("bias"):
            value.copy_(0.1 * normal)
        else:  # weights, noise maps, the constant
            value.copy_(normal)
    labels = None
    if generator.c_dim:
        labels = torch.eye(generator.c_dim)[torch.randint(generator.c_dim, (1000,), generator=rng)]
    w = generator.map(torch.randn(1000, generator.z_dim, generator=rng), labels=labels)[:, 0]
    generator.w_avg.copy_(w.mean(0))
    rows = w[:8, None].expand(-1, generator.num_ws, -1).clone().requires_grad_()
    std = generator.synthesize(rows).image.detach().std(dim=(1, 2, 3)).median()
    for block in generator.styled_blocks():
        block.to_rgb.weight.mul_(0.5 / std)
        block.to_rgb.bias.mul_(0.5 / std)
    return generator
