"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958): every size, width and depth, with classes or without.

The network of config-f with its skip architecture (figure 7b), as rosinality/stylegan2-pytorch ``model.py`` and
NVlabs/stylegan2-ada-pytorch ``training/networks.py`` describe it; the two differ in names only. Weights are kept as
those checkpoints have them, so that conversions are renamings. Every styled convolution's output is a feature map.
The computation here is the plain one; ``stylegan2_cpu`` does the same faster where a CPU need not remember it for
gradients.
"""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import nn
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.generators import stylegan2_cpu
from labels4free.generators.base import Generator, Noise, NoiseMode
from labels4free.ops.bias_act import bias_act
from labels4free.ops.modulated_conv2d import modulated_conv2d
from labels4free.ops.upfirdn2d import upsample2d
from labels4free.types import FeatureSpec, GeneratorOutput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor


class StyleGAN2(Generator):
    """A StyleGAN2 generator.

    Args:
        channels: Channels of the maps at each resolution, {4: C, 8: C, ..., R: C}; R is the image's side.
        z_dim: Length of z.
        w_dim: Length of one row of ws.
        c_dim: Number of classes; 0 for a generator without.
        mapping_widths: Outputs of each fully connected layer of the mapping network, the last one w_dim; None for
            eight layers of w_dim.
        mapping_lr_multiplier: The mapping layers' weights and biases are stored divided by this.
        conv_clamp: Limit on the absolute value of every layer's output, as NVIDIA's mixed-precision networks have it;
            None for none.

    Raises:
        ConfigError: If the resolutions are not 4, 8, 16, ..., a width or the limit is not positive, or the mapping
            network does not end in w_dim.
    """

    family = "stylegan2"
    background_modes = MappingProxyType(
        {
            "zero_first_conv": "output of the first styled convolution (4x4) set to zero",
            "zero_constant": "the learned 4x4 constant set to zero; the first convolution still adds noise and bias",
        }
    )
    constant: Tensor

    def __init__(
        self,
        channels: Mapping[int, int],
        *,
        z_dim: int = 512,
        w_dim: int = 512,
        c_dim: int = 0,
        mapping_widths: Sequence[int] | None = None,
        mapping_lr_multiplier: float = 0.01,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        sizes = sorted(channels)
        if sizes != [4 * 2**k for k in range(len(sizes))] or not sizes:
            raise ConfigError(f"StyleGAN2 needs channels for the resolutions 4, 8, 16, ..., got {sizes}.")
        if min(*channels.values(), z_dim, w_dim) < 1 or c_dim < 0:
            raise ConfigError(
                f"StyleGAN2 needs widths of at least 1, got channels {dict(channels)}, z_dim={z_dim}, w_dim={w_dim}, "
                f"c_dim={c_dim}."
            )
        if conv_clamp is not None and not conv_clamp > 0:
            raise ConfigError(f"conv_clamp is a positive limit or None, got {conv_clamp}.")
        widths = [w_dim] * 8 if mapping_widths is None else list(mapping_widths)
        if not widths or widths[-1] != w_dim:
            raise ConfigError(f"The last mapping layer must give w_dim={w_dim} values, got layers of {widths}.")
        self.channels = {size: channels[size] for size in sizes}
        self.z_dim, self.w_dim, self.c_dim = z_dim, w_dim, c_dim
        self.mapping_widths, self.mapping_lr_multiplier = tuple(widths), mapping_lr_multiplier
        self.conv_clamp = conv_clamp
        self.resolution = sizes[-1]
        self.num_ws = 2 * len(sizes)
        # Labels4Free zeroes the constant for its 512² generator, the first convolution for those of 256² and 1024².
        self.default_background = "zero_constant" if self.resolution == 512 else "zero_first_conv"
        specs = [FeatureSpec("b4.conv1", channels[4], 4)]
        specs += [FeatureSpec(f"b{size}.conv{k}", channels[size], size) for size in sizes[1:] for k in (0, 1)]
        self.feature_specs = tuple(specs)

        self.register_buffer("w_avg", torch.zeros(w_dim))
        if c_dim:
            self.embed = _EqualLinear(c_dim, w_dim)
        inputs = [z_dim + (w_dim if c_dim else 0), *widths]
        self.mapping = nn.ModuleList(_MappingLayer(i, o, mapping_lr_multiplier) for i, o in pairwise(inputs))
        self.register_buffer("constant", torch.zeros(1, channels[4], 4, 4))
        blocks = {"b4": _Block(0, channels[4], 4, w_dim, conv_clamp)}
        blocks |= {f"b{s}": _Block(channels[s // 2], channels[s], s, w_dim, conv_clamp) for s in sizes[1:]}
        self.blocks = nn.ModuleDict(blocks)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        options = {key: value for key, value in config.items() if key != "channels"}
        return cls({int(size): int(count) for size, count in config["channels"].items()}, **options)

    def config(self) -> dict[str, Any]:
        return {
            "channels": {str(size): count for size, count in self.channels.items()},
            "z_dim": self.z_dim,
            "w_dim": self.w_dim,
            "c_dim": self.c_dim,
            "mapping_widths": list(self.mapping_widths),
            "mapping_lr_multiplier": self.mapping_lr_multiplier,
            "conv_clamp": self.conv_clamp,
        }

    def _map(self, z: Tensor, labels: Tensor | None) -> Tensor:
        x = _normalize(z)
        if labels is not None:
            x = torch.cat((x, _normalize(self.embed(labels))), dim=1)
        for layer in self.mapping:
            x = layer(x)
        return x

    def synthesize(
        self, ws: Tensor, *, noise: Noise = "fixed", background: str | None = None, rng: torch.Generator | None = None
    ) -> GeneratorOutput:
        self.check_synthesize_arguments(ws, noise, background)
        if ws.device.type == "cpu" and not (torch.is_grad_enabled() and ws.requires_grad):
            return stylegan2_cpu.synthesize(self, ws, noise, background, rng)
        return self.synthesize_plainly(ws, noise, background, rng)

    def synthesize_plainly(
        self,
        ws: Tensor,
        noise: Noise = "fixed",
        background: str | None = None,
        rng: torch.Generator | None = None,
    ) -> GeneratorOutput:
        """Render like :meth:`synthesize`, whose checks it leaves out, on any device and with gradients of any order."""
        rows, noises = ws.unbind(1), self.noise_by_layer(noise)
        x = self.constant.expand(len(ws), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        if background == "zero_constant":
            x = torch.zeros_like(x)
        features: list[Tensor] = []
        image = None
        for index, block in enumerate(self.styled_blocks()):
            # A block's last row serves its to-RGB layer and the next block's first convolution.
            for layer, row in zip(block.convs(), rows[max(2 * index - 1, 0) :], strict=False):
                x = layer(x, row, next(noises), rng)
                if background == "zero_first_conv" and not features:
                    x = torch.zeros_like(x)
                features.append(x)
            image = block.to_rgb(x, rows[2 * index + 1], image)
        assert image is not None
        return GeneratorOutput(image, tuple(features))

    def styled_blocks(self) -> list[_Block]:
        """The blocks, coarse to fine."""
        return [cast("_Block", block) for block in self.blocks.values()]


def _normalize(x: Tensor) -> Tensor:
    """Scale each row to a mean square of 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class _EqualLinear(nn.Module):
    """An affine map with equalised learning rate; weight [out, in] and bias [out] are buffers, scaled when used."""

    weight: Tensor
    bias: Tensor

    def __init__(self, in_features: int, out_features: int, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(out_features, in_features))
        self.register_buffer("bias", torch.zeros(out_features))
        self.lr_multiplier = lr_multiplier
        self.scale = lr_multiplier * in_features**-0.5

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.lr_multiplier)


class _MappingLayer(_EqualLinear):
    """An affine map and its activation."""

    def forward(self, x: Tensor) -> Tensor:
        return bias_act(F.linear(x, self.weight * self.scale), self.bias * self.lr_multiplier)


class StyledConv(nn.Module):
    """Modulated and demodulated 3x3 convolution, noise, bias, leaky ReLU times sqrt(2), clamp."""

    weight: Tensor
    bias: Tensor
    noise: Tensor
    noise_strength: Tensor

    def __init__(
        self, c_in: int, c_out: int, resolution: int, w_dim: int, *, up: bool, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.affine = _EqualLinear(w_dim, c_in)
        self.register_buffer("weight", torch.zeros(c_out, c_in, 3, 3))
        self.register_buffer("bias", torch.zeros(c_out))
        self.register_buffer("noise", torch.zeros(1, 1, resolution, resolution))
        self.register_buffer("noise_strength", torch.zeros(()))
        self.up, self.clamp = up, clamp

    def forward(self, x: Tensor, w: Tensor, noise: NoiseMode | Tensor, rng: torch.Generator | None) -> Tensor:
        """Turn x [N, c_in, H, W] into [N, c_out, R, R]; w is one row of ws."""
        x = modulated_conv2d(x, self.weight, self.affine(w), up=self.up)
        noise_map = self.noise_map(len(x), noise, rng)
        return bias_act(x if noise_map is None else x + noise_map, self.bias, self.clamp)

    def noise_map(self, count: int, noise: NoiseMode | Tensor, rng: torch.Generator | None) -> Tensor | None:
        """What ``noise`` adds to each channel of ``count`` samples: [count or 1, 1, R, R], or nothing."""
        if isinstance(noise, torch.Tensor):
            return self.noise_strength * noise
        if noise == "random":
            size = self.noise.shape[-1]
            normal = torch.randn(count, 1, size, size, generator=rng, device=self.noise.device, dtype=self.noise.dtype)
            return self.noise_strength * normal
        return self.noise_strength * self.noise if noise == "fixed" else None


class ToRgb(nn.Module):
    """Modulated 1x1 convolution to RGB, plus the up-sampled image of the coarser blocks."""

    weight: Tensor
    bias: Tensor

    def __init__(self, c_in: int, w_dim: int, clamp: float | None = None) -> None:
        super().__init__()
        self.affine = _EqualLinear(w_dim, c_in)
        self.register_buffer("weight", torch.zeros(3, c_in, 1, 1))
        self.register_buffer("bias", torch.zeros(3))
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor, image: Tensor | None) -> Tensor:
        """Turn x [N, c_in, R, R] and the image [N, 3, R / 2, R / 2] so far into the image [N, 3, R, R]."""
        rgb = modulated_conv2d(x, self.weight, self.affine(w), demodulate=False) + self.bias[:, None, None]
        if self.clamp is not None:
            rgb = rgb.clamp(-self.clamp, self.clamp)
        return rgb if image is None else rgb + upsample2d(image)


class _Block(nn.Module):
    """The layers of one resolution: the up-sampling convolution (not at 4x4), another one, and to-RGB."""

    def __init__(self, c_in: int, c_out: int, resolution: int, w_dim: int, clamp: float | None) -> None:
        super().__init__()
        if c_in:
            self.conv0 = StyledConv(c_in, c_out, resolution, w_dim, up=True, clamp=clamp)
        self.conv1 = StyledConv(c_out, c_out, resolution, w_dim, up=False, clamp=clamp)
        self.to_rgb = ToRgb(c_out, w_dim, clamp)

    def convs(self) -> list[StyledConv]:
        """The styled convolutions in running order."""
        return [self.conv0, self.conv1] if hasattr(self, "conv0") else [self.conv1]
