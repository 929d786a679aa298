"""MobileStyleGAN (Belousov 2021, arXiv 2104.04767): wavelet output, depthwise-separable modulated convolutions.

The mapping network is StyleGAN2's. Synthesis starts from a 4x4 constant and a styled 3x3 convolution; each block then
modulates, doubles the resolution by an inverse Haar transform (which quarters the channels) and applies two styled
depthwise-separable convolutions; the last block emits the four Haar bands of the RGB image. Layer layout and constants
are those of the OpenVINO graph in the PyPI wheel ``random-face`` (see ``checkpoints/foreign/openvino_ir.py``), in which
demodulation is folded into the pointwise weights and the noise is one fixed map a convolution.

Where a CPU need not remember the computation for gradients, each layer goes from its input to its features in strips of
rows, one sample after the other, straight into the maps that are returned: the same values several times faster, and
no intermediate result of a wide layer ever exists as a whole. See :mod:`labels4free.ops.strips`.
"""

from __future__ import annotations

from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import nn
from torch.nn import functional as F

from labels4free.generators.base import Generator, Noise, NoiseMode, StyleWeight, noise_of_sample
from labels4free.ops.bias_act import LEAKY_SLOPE
from labels4free.ops.strips import large_empty, pointwise, strip_runner, strips_of
from labels4free.ops.wavelets import inverse_haar
from labels4free.types import FeatureSpec, GeneratorOutput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from labels4free.ops.strips import StripRunner

_HALO = 2  # the 3x3 kernel needs one more row above and below, the inverse Haar transform makes two at once


class MobileStyleGAN(Generator):
    """A MobileStyleGAN generator.

    Args:
        channels: Channels out of the first convolution (at 4x4) and out of each block (8x8, 16x16, ...). The image is
            twice as large as the last block's maps.
        z_dim: Length of z and of w.
        mapping_layers: Fully connected layers of the mapping network.
    """

    family = "mobile_stylegan"
    background_modes = MappingProxyType(
        {
            "zero_first_conv": "output of the first styled convolution (4x4) set to zero",
            "zero_constant": "the learned 4x4 constant set to zero; the first convolution still adds noise and bias",
            "zero_first_block": "output of the first block (8x8) set to zero: flatter, with less of the scene",
        }
    )
    default_background = "zero_first_conv"
    constant: Tensor

    def __init__(self, channels: tuple[int, ...], z_dim: int = 512, mapping_layers: int = 8) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.z_dim = self.w_dim = z_dim
        self.mapping_layers = mapping_layers
        self.num_ws = 3 * (len(channels) - 1) + 2
        self.resolution = 4 * 2 ** len(channels)
        specs = [FeatureSpec("b4.conv1", channels[0], 4)]
        for block, c in enumerate(channels[1:]):
            size = 8 * 2**block
            specs += [FeatureSpec(f"b{size}.conv{k}", c, size) for k in (1, 2)]
        self.feature_specs = tuple(specs)

        self.register_buffer("w_avg", torch.zeros(z_dim))
        self.mapping = nn.ModuleList(_Linear(z_dim, z_dim) for _ in range(mapping_layers))
        self.register_buffer("constant", torch.zeros(1, channels[0], 4, 4))
        self.conv1 = StyledConv(channels[0], channels[0], 4, z_dim, separable=False)
        self.blocks = nn.ModuleList(
            Block(c_in, c_out, 8 * 2**block, z_dim) for block, (c_in, c_out) in enumerate(pairwise(channels))
        )
        self.to_image = ToImage(channels[-1], z_dim)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(tuple(config["channels"]), z_dim=config["z_dim"], mapping_layers=config["mapping_layers"])

    def config(self) -> dict[str, Any]:
        return {"channels": list(self.channels), "z_dim": self.z_dim, "mapping_layers": self.mapping_layers}

    def _map(self, z: Tensor, labels: Tensor | None) -> Tensor:  # noqa: ARG002  this family has no classes
        x = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        for layer in self.mapping:
            x = F.leaky_relu(layer(x), LEAKY_SLOPE) * 2**0.5
        return x

    def style_weights(self) -> list[StyleWeight]:
        layers = [self.conv1.modulation]
        for block in (cast("Block", module) for module in self.blocks):
            layers += [block.up, block.conv1.modulation, block.conv2.modulation]
        weights = [StyleWeight(row, layer.weight) for row, layer in enumerate(layers)]
        return [*weights, StyleWeight(self.num_ws - 1, self.to_image.modulation.weight, self.resolution)]

    def synthesize(
        self, ws: Tensor, *, noise: Noise = "fixed", background: str | None = None, rng: torch.Generator | None = None
    ) -> GeneratorOutput:
        self.check_synthesize_arguments(ws, noise, background)
        if ws.device.type != "cpu":
            return self.synthesize_plainly(ws, noise, background, rng)
        if not (torch.is_grad_enabled() and ws.requires_grad):
            return self._synthesize_in_strips(ws, noise, background, rng)
        if len(ws) > 1:  # the wide maps outgrow a CPU's cache: one sample at a time is 2-3 times faster
            parts = [
                self.synthesize_plainly(row, noise_of_sample(noise, k), background, rng)
                for k, row in enumerate(ws.split(1))
            ]
            features = tuple(torch.cat(maps) for maps in zip(*(p.features for p in parts), strict=True))
            return GeneratorOutput(torch.cat([p.image for p in parts]), features)
        return self.synthesize_plainly(ws, noise, background, rng)

    def synthesize_plainly(
        self,
        ws: Tensor,
        noise: Noise = "fixed",
        background: str | None = None,
        rng: torch.Generator | None = None,
    ) -> GeneratorOutput:
        """Render like :meth:`synthesize`, whose checks it leaves out, on any device and with gradients."""
        rows, noises = iter(ws.unbind(1)), self.noise_by_layer(noise)
        x = self.constant.expand(len(ws), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        if background == "zero_constant":
            x = torch.zeros_like(x)
        x = self.conv1(x, next(rows), next(noises), rng)
        if background == "zero_first_conv":
            x = torch.zeros_like(x)
        features = [x]
        for index, block in enumerate(self.blocks):
            features += block(features[-1], (next(rows), next(rows), next(rows)), (next(noises), next(noises)), rng)
            if index == 0 and background == "zero_first_block":
                features[-1] = torch.zeros_like(features[-1])
        return GeneratorOutput(self.to_image(features[-1], next(rows)), tuple(features))

    def _synthesize_in_strips(
        self, ws: Tensor, noise: Noise, background: str | None, rng: torch.Generator | None
    ) -> GeneratorOutput:
        count, size = len(ws), self.resolution
        image = large_empty(ws, count, 3, size, size)
        features = tuple(
            large_empty(ws, count, spec.resolution, spec.resolution, spec.channels).permute(0, 3, 1, 2)
            for spec in self.feature_specs
        )
        with torch.no_grad(), strip_runner() as run:
            for k in range(count):
                rows, noises = iter(ws[k : k + 1].unbind(1)), self.noise_by_layer(noise_of_sample(noise, k))
                maps = [f[k : k + 1] for f in features]
                constant = torch.zeros_like(self.constant) if background == "zero_constant" else self.constant
                x = maps[0].copy_(self.conv1(constant, next(rows), next(noises), rng))
                if background == "zero_first_conv":
                    x.zero_()
                for index, module in enumerate(self.blocks):
                    block, first, second = cast("Block", module), maps[2 * index + 1], maps[2 * index + 2]
                    scale = block.up(next(rows))[:, :, None, None]
                    noise_map = block.conv1.noise_map(first, next(noises), rng)
                    block.conv1.in_strips(run, first, x, next(rows), noise_map, scale)
                    noise_map = block.conv2.noise_map(second, next(noises), rng)
                    block.conv2.in_strips(run, second, first, next(rows), noise_map)
                    if index == 0 and background == "zero_first_block":
                        second.zero_()
                    x = second
                self.to_image.in_strips(run, image[k : k + 1], x, next(rows))
        return GeneratorOutput(image, features)


class _Linear(nn.Module):
    """An affine map whose weight [out, in] and bias [out] are buffers."""

    weight: Tensor
    bias: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(out_features, in_features))
        self.register_buffer("bias", torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class StyledConv(nn.Module):
    """Modulate, convolve (3x3, or depthwise 3x3 then pointwise), add noise and bias, leaky ReLU without gain."""

    weight: Tensor
    depthwise: Tensor
    bias: Tensor
    noise: Tensor
    noise_strength: Tensor

    def __init__(self, c_in: int, c_out: int, resolution: int, w_dim: int, *, separable: bool) -> None:
        super().__init__()
        self.separable = separable
        self.modulation = _Linear(w_dim, c_in)
        if separable:
            self.register_buffer("depthwise", torch.zeros(c_in, 1, 3, 3))
        kernel = 1 if separable else 3
        self.register_buffer("weight", torch.zeros(c_out, c_in, kernel, kernel))
        self.register_buffer("bias", torch.zeros(c_out))
        self.register_buffer("noise", torch.zeros(1, 1, resolution, resolution))
        self.register_buffer("noise_strength", torch.zeros(()))

    def forward(self, x: Tensor, w: Tensor, noise: NoiseMode | Tensor, rng: torch.Generator | None) -> Tensor:
        """Turn x [N, c_in, H, W] into [N, c_out, H, W]; w is one row of ws."""
        style = self.modulation(w)[:, :, None, None]
        if not self.separable:
            x = F.conv2d(x * style, self.weight, self.bias, padding=1)
        else:
            depthwise = self.depthwise
            if len(x) == 1:  # style and kernel both act on single channels: the kernel carries the style for free
                depthwise = depthwise * style.transpose(0, 1)
            else:
                x = x * style
            x = F.conv2d(x, depthwise, padding=1, groups=x.shape[1])
            x = F.conv2d(x, self.weight, self.bias)
        noise_map = self.noise_map(x, noise, rng)
        if noise_map is not None:
            x += noise_map
        return F.leaky_relu_(x, LEAKY_SLOPE)

    def in_strips(
        self, run: StripRunner, out: Tensor, x: Tensor, w: Tensor, noise_map: Tensor | None, scale: Tensor | None = None
    ) -> None:
        """Compute one sample of a separable convolution of x or, with a scale, of its inverse Haar transform, into out.

        Inputs and output are channels-last.
        """
        height = out.shape[2]
        depthwise = self.depthwise * self.modulation(w).view(-1, 1, 1, 1)  # carries the style for free

        def work(top: int, bottom: int) -> None:
            start, stop = max(top - _HALO, 0), min(bottom + _HALO, height)
            y = x[:, :, start:stop] if scale is None else inverse_haar(x[:, :, start // 2 : stop // 2], scale)
            y = F.conv2d(y, depthwise, padding=1, groups=len(depthwise))
            y = pointwise(y[:, :, top - start : bottom - start], self.weight, self.bias)
            strip = out[:, :, top:bottom]
            if noise_map is None:
                strip.copy_(y)
            else:
                torch.add(y, noise_map[:, :, top:bottom], out=strip)
            F.leaky_relu_(strip, LEAKY_SLOPE)

        run(work, strips_of(out))

    def noise_map(self, x: Tensor, noise: NoiseMode | Tensor, rng: torch.Generator | None) -> Tensor | None:
        """What ``noise`` adds to each channel of ``x`` [N, C, H, W]: [N or 1, 1, H, W] or nothing."""
        if noise == "random":
            normal = torch.randn(len(x), 1, *x.shape[2:], generator=rng, device=x.device, dtype=x.dtype)
            return self.noise_strength * normal
        if isinstance(noise, torch.Tensor):
            return self.noise_strength * noise
        return self.noise if noise == "fixed" else None


class Block(nn.Module):
    """Modulate, inverse Haar to twice the resolution, two styled depthwise-separable convolutions."""

    def __init__(self, c_in: int, c_out: int, resolution: int, w_dim: int) -> None:
        super().__init__()
        self.up = _Linear(w_dim, c_in)
        self.conv1 = StyledConv(c_in // 4, c_out, resolution, w_dim, separable=True)
        self.conv2 = StyledConv(c_out, c_out, resolution, w_dim, separable=True)

    def forward(
        self,
        x: Tensor,
        rows: tuple[Tensor, Tensor, Tensor],
        noises: tuple[NoiseMode | Tensor, NoiseMode | Tensor],
        rng: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """Turn x [N, c_in, H, W] into the maps of both convolutions, each [N, c_out, 2H, 2W]."""
        x = inverse_haar(x, self.up(rows[0])[:, :, None, None])
        first = self.conv1(x, rows[1], noises[0], rng)
        return first, self.conv2(first, rows[2], noises[1], rng)


class ToImage(nn.Module):
    """Modulated 1x1 convolution to the Haar bands of the RGB image, then their inverse transform."""

    weight: Tensor
    bias: Tensor

    def __init__(self, c_in: int, w_dim: int) -> None:
        super().__init__()
        self.modulation = _Linear(w_dim, c_in)
        self.register_buffer("weight", torch.zeros(12, c_in, 1, 1))
        self.register_buffer("bias", torch.zeros(12))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Turn x [N, c_in, H, W] into an image [N, 3, 2H, 2W]; w is one row of ws."""
        style = self.modulation(w)[:, :, None, None]
        if len(x) == 1:
            return inverse_haar(F.conv2d(x, self.weight * style.view(1, -1, 1, 1), self.bias).contiguous())
        return inverse_haar(F.conv2d(x * style, self.weight, self.bias).contiguous())

    def in_strips(self, run: StripRunner, out: Tensor, x: Tensor, w: Tensor) -> None:
        """Compute one sample into out."""
        weight = self.weight * self.modulation(w).view(1, -1, 1, 1)

        def work(top: int, bottom: int) -> None:
            bands = pointwise(x[:, :, top:bottom], weight, self.bias).contiguous()
            out[:, :, 2 * top : 2 * bottom] = inverse_haar(bands)

        run(work, strips_of(x))
