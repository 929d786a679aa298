"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958): every size, width and depth, with classes or without.

The network of config-f with its skip architecture (figure 7b), as rosinality/stylegan2-pytorch ``model.py`` and
NVlabs/stylegan2-ada-pytorch ``training/networks.py`` describe it; the two differ in names only. Weights are kept as
those checkpoints have them, so that conversions are renamings. Every styled convolution's output is a feature map.
The computation here is the plain one, on the layers of ``stylegan2_layers``; ``stylegan2_cpu`` does the same faster
where a CPU need not remember it for gradients.

A generator is built frozen; :meth:`StyleGAN2.unfreeze` makes the trainable form of it.
"""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import torch
from torch import nn

from labels4free.errors import ConfigError
from labels4free.generators import stylegan2_cpu
from labels4free.generators.base import Generator, Noise, StyleWeight
from labels4free.generators.stylegan2_layers import (
    Block,
    EqualLinear,
    MappingLayer,
    StyledConv,
    ToRgb,
    fill_normal,
    set_trainable,
)
from labels4free.seeds import generator_for
from labels4free.types import FeatureSpec, GeneratorOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor


class StyleGAN2(Generator):
    """A StyleGAN2 generator, frozen or trainable: the same names in its state dict, the same output.

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
    learned: ClassVar[tuple[str, ...]] = ("constant",)
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
            self.embed = EqualLinear(c_dim, w_dim)
        inputs = [z_dim + (w_dim if c_dim else 0), *widths]
        self.mapping = nn.ModuleList(MappingLayer(i, o, mapping_lr_multiplier) for i, o in pairwise(inputs))
        self.register_buffer("constant", torch.zeros(1, channels[4], 4, 4))
        blocks = {"b4": Block(0, channels[4], 4, w_dim, conv_clamp)}
        blocks |= {f"b{s}": Block(channels[s // 2], channels[s], s, w_dim, conv_clamp) for s in sizes[1:]}
        self.blocks = nn.ModuleDict(blocks)

    def unfreeze(self) -> Self:
        """Become trainable, in place: every weight, bias and noise strength and the constant is a parameter.

        ``w_avg`` and the fixed noise stay buffers. What an optimiser is to move is in ``parameters()`` from here on.
        """
        set_trainable(self, True)
        return self

    def freeze(self) -> Self:
        """Become frozen again, in place: every tensor is a buffer, which no optimiser and no gradient can reach."""
        set_trainable(self, False)
        return self

    @torch.no_grad()
    def reset_parameters(self, seed: int) -> Self:
        """Draw the weights that training starts from; they depend on the seed alone, not on form or device.

        Weights, the constant and the fixed noise are standard normal, those of the mapping network divided by their
        multiplier; biases are 0, of the styles 1; noise strengths and ``w_avg`` are 0.
        """
        rng = generator_for(seed)
        self.w_avg.zero_()
        fill_normal(self.constant, rng)
        for layer in self.modules():
            if isinstance(layer, EqualLinear | StyledConv | ToRgb):
                layer.reset_parameters(rng)
        return self

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

    def style_weights(self) -> list[StyleWeight]:
        weights = []
        for index, (size, block) in enumerate(zip(self.channels, self.styled_blocks(), strict=True)):
            rows = range(max(2 * index - 1, 0), 2 * index + 2)
            weights += [StyleWeight(row, conv.affine.weight) for row, conv in zip(rows, block.convs(), strict=False)]
            weights.append(StyleWeight(rows[-1], block.to_rgb.affine.weight, size))
        return weights

    def synthesize(
        self, ws: Tensor, *, noise: Noise = "fixed", background: str | None = None, rng: torch.Generator | None = None
    ) -> GeneratorOutput:
        self.check_synthesize_arguments(ws, noise, background)
        if ws.device.type != "cpu" or self._wants_gradients(ws) or torch.is_autocast_enabled("cpu"):
            return self.synthesize_plainly(ws, noise, background, rng)
        with stylegan2_cpu.strip_layers() as (conv, to_rgb):
            return self._render(ws, noise, background, rng, conv, to_rgb)

    def synthesize_plainly(
        self,
        ws: Tensor,
        noise: Noise = "fixed",
        background: str | None = None,
        rng: torch.Generator | None = None,
    ) -> GeneratorOutput:
        """Render like :meth:`synthesize`, whose checks it leaves out, on any device and with gradients of any order."""
        return self._render(ws, noise, background, rng, StyledConv.__call__, ToRgb.__call__)

    def _render(
        self,
        ws: Tensor,
        noise: Noise,
        background: str | None,
        rng: torch.Generator | None,
        conv: Callable[..., Tensor],
        to_rgb: Callable[..., Tensor],
    ) -> GeneratorOutput:
        """Go through the layers, each computed by one of two functions of a layer and its arguments."""
        rows, noises = ws.unbind(1), self.noise_by_layer(noise)
        x = self.constant.expand(len(ws), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        if background == "zero_constant":
            x = torch.zeros_like(x)
        features: list[Tensor] = []
        image = None
        for index, block in enumerate(self.styled_blocks()):
            # A block's last row serves its to-RGB layer and the next block's first convolution.
            for layer, row in zip(block.convs(), rows[max(2 * index - 1, 0) :], strict=False):
                x = conv(layer, x, row, next(noises), rng)
                if background == "zero_first_conv" and not features:
                    x = torch.zeros_like(x)
                features.append(x)
            image = to_rgb(block.to_rgb, x, rows[2 * index + 1], image)
        assert image is not None
        return GeneratorOutput(image, tuple(features))

    def _wants_gradients(self, ws: Tensor) -> bool:
        return torch.is_grad_enabled() and (ws.requires_grad or any(p.requires_grad for p in self.parameters()))

    def styled_blocks(self) -> list[Block]:
        """The blocks, coarse to fine."""
        return [cast("Block", block) for block in self.blocks.values()]


def _normalize(x: Tensor) -> Tensor:
    """Scale each row to a mean square of 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)
