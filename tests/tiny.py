"""Generators small enough for tests, with weights from a seed."""

from __future__ import annotations

import torch

from labels4free.generators.mobile_stylegan import MobileStyleGAN


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
