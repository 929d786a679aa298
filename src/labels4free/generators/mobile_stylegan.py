"""MobileStyleGAN (Belousov 2021, arXiv 2104.04767): wavelet output, depthwise-separable modulated convolutions.

The mapping network is StyleGAN2's. Synthesis starts from a 4x4 constant and a styled 3x3 convolution; each block then
modulates, doubles the resolution by an inverse Haar transform (which quarters the channels) and applies two styled
depthwise-separable convolutions; the last block emits the four Haar bands of the RGB image. Layer layout and constants
are those of the OpenVINO graph in the PyPI wheel ``random-face`` (see ``checkpoints/openvino_ir.py``), in which
demodulation is folded into the pointwise weights and the noise is one fixed map a convolution.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from torch.nn import functional as F

from labels4free.generators.base import Generator, Noise
from labels4free.ops.wavelets import inverse_haar
from labels4free.types import FeatureSpec, GeneratorOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

_LEAKY_SLOPE = 0.2


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
        self.conv1 = _StyledConv(channels[0], channels[0], 4, z_dim, separable=False)
        self.blocks = nn.ModuleList(
            _Block(c_in, c_out, 8 * 2**block, z_dim)
            for block, (c_in, c_out) in enumerate(zip(channels, channels[1:], strict=False))
        )
        self.to_image = _ToImage(channels[-1], z_dim)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(tuple(config["channels"]), z_dim=config["z_dim"], mapping_layers=config["mapping_layers"])

    def config(self) -> dict[str, Any]:
        return {"channels": list(self.channels), "z_dim": self.z_dim, "mapping_layers": self.mapping_layers}

    def _map(self, z: Tensor) -> Tensor:
        x = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        for layer in self.mapping:
            x = F.leaky_relu(layer(x), _LEAKY_SLOPE) * 2**0.5
        return x

    def synthesize(
        self, ws: Tensor, *, noise: Noise = "fixed", background: str | None = None, rng: torch.Generator | None = None
    ) -> GeneratorOutput:
        self.check_synthesize_arguments(ws, noise, background)
        if ws.device.type != "cpu":
            return self._synthesize(ws, noise, background, rng)
        # The wide maps outgrow the cache: on a CPU one sample at a time is 2-3 times faster.
        if torch.is_grad_enabled() and ws.requires_grad:
            parts = [self._synthesize(row, noise, background, rng) for row in ws.split(1)]
            features = tuple(torch.cat(maps) for maps in zip(*(p.features for p in parts), strict=True))
            return GeneratorOutput(torch.cat([p.image for p in parts]), features)
        image = empty_map(ws, 3, self.resolution)
        maps = tuple(empty_map(ws, spec.channels, spec.resolution) for spec in self.feature_specs)
        with strip_runner() as run:
            for k in range(len(ws)):
                out = GeneratorOutput(image[k : k + 1], tuple(m[k : k + 1] for m in maps))
                self._synthesize(ws[k : k + 1], noise, background, rng, out, run)
        return GeneratorOutput(image, maps)

    def _synthesize(
        self,
        ws: Tensor,
        noise: Noise,
        background: str | None,
        rng: torch.Generator | None,
        out: GeneratorOutput | None = None,
    ) -> GeneratorOutput:
        """Render a batch plainly; or, if ``out`` is given, one sample into ``out`` by the CPU's fast path."""
        rows = iter(ws.unbind(1))
        x = self.constant.expand(len(ws), -1, -1, -1)
        if background == "zero_constant":
            x = torch.zeros_like(x)
        x = self.conv1(x, next(rows), noise, rng).contiguous(memory_format=torch.channels_last)
        if background == "zero_first_conv":
            x = torch.zeros_like(x)
        features = [x if out is None else out.features[0].copy_(x)]
        for index, block in enumerate(self.blocks):
            targets = None if out is None else out.features[len(features) : len(features) + 2]
            features += block(features[-1], (next(rows), next(rows), next(rows)), noise, rng, targets)
            if index == 0 and background == "zero_first_block":
                features[-1] = torch.zeros_like(features[-1]) if out is None else features[-1].zero_()
        image = self.to_image(features[-1], next(rows), None if out is None else out.image)
        return GeneratorOutput(image, tuple(features))


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


class _StyledConv(nn.Module):
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

    def forward(self, x: Tensor, w: Tensor, noise: Noise, rng: torch.Generator | None) -> Tensor:
        style = self.modulation(w)[:, :, None, None]
        x = x * style
        if self.separable:
            x = F.conv2d(x, self.depthwise, padding=1, groups=x.shape[1])
        x = F.conv2d(x, self.weight, self.bias, padding=0 if self.separable else 1)
        noise_map = self._noise_map(x, noise, rng)
        if noise_map is not None:
            x += noise_map
        return F.leaky_relu_(x, _LEAKY_SLOPE)

    def fill(
        self,
        out: Tensor,
        source: Callable[[int, int], Tensor],
        w: Tensor,
        noise: Noise,
        rng: torch.Generator | None,
    ) -> Tensor:
        """Compute :meth:`forward` of one sample, if separable, into ``out`` [1, C, H, W]: no autograd, fast on a CPU.

        Args:
            out: Channels-last; also returned.
            source: Gives the rows from one even number up to another of the input.
        """
        height = out.shape[2]
        noise_map = self._noise_map(out, noise, rng)
        depthwise = self.depthwise * self.modulation(w).view(-1, 1, 1, 1)  # carries the style for free
        for top, bottom in _strips(height, out[0, :, 0].numel()):
            start, stop = max(top - 2, 0), min(bottom + 2, height)
            x = F.conv2d(source(start, stop), depthwise, padding=1, groups=len(depthwise))
            x = _pointwise(x[:, :, top - start : bottom - start], self.weight, self.bias)
            strip = out[:, :, top:bottom]
            if noise_map is None:
                strip.copy_(x)
            else:
                torch.add(x, noise_map[:, :, top:bottom], out=strip)
            F.leaky_relu_(strip, _LEAKY_SLOPE)
        return out

    def _noise_map(self, x: Tensor, noise: Noise, rng: torch.Generator | None) -> Tensor | None:
        if noise == "random":
            normal = torch.randn(len(x), 1, *x.shape[2:], generator=rng, device=x.device, dtype=x.dtype)
            return self.noise_strength * normal
        return self.noise if noise == "fixed" else None


class _Block(nn.Module):
    """Modulate, inverse Haar to twice the resolution, two styled depthwise-separable convolutions."""

    def __init__(self, c_in: int, c_out: int, resolution: int, w_dim: int) -> None:
        super().__init__()
        self.up = _Linear(w_dim, c_in)
        self.conv1 = _StyledConv(c_in // 4, c_out, resolution, w_dim, separable=True)
        self.conv2 = _StyledConv(c_out, c_out, resolution, w_dim, separable=True)

    def forward(
        self,
        x: Tensor,
        rows: tuple[Tensor, Tensor, Tensor],
        noise: Noise,
        rng: torch.Generator | None,
        out: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        scale = self.up(rows[0])[:, :, None, None]
        if out is None:
            first = self.conv1(inverse_haar(x, scale), rows[1], noise, rng)
            return first, self.conv2(first, rows[2], noise, rng)
        first, second = out
        self.conv1.fill(first, lambda a, b: inverse_haar(x[:, :, a // 2 : b // 2], scale), rows[1], noise, rng)
        self.conv2.fill(second, lambda a, b: first[:, :, a:b], rows[2], noise, rng)
        return first, second


class _ToImage(nn.Module):
    """Modulated 1x1 convolution to the Haar bands of the RGB image, then their inverse transform."""

    weight: Tensor
    bias: Tensor

    def __init__(self, c_in: int, w_dim: int) -> None:
        super().__init__()
        self.modulation = _Linear(w_dim, c_in)
        self.register_buffer("weight", torch.zeros(12, c_in, 1, 1))
        self.register_buffer("bias", torch.zeros(12))

    def forward(self, x: Tensor, w: Tensor, out: Tensor | None = None) -> Tensor:
        style = self.modulation(w)[:, :, None, None]
        if out is None:
            return inverse_haar(F.conv2d(x * style, self.weight, self.bias).contiguous())
        weight = self.weight * style.view(1, -1, 1, 1)
        for top, bottom in _strips(x.shape[2], x[0, :, 0].numel()):
            bands = _pointwise(x[:, :, top:bottom], weight, self.bias)
            out[:, :, 2 * top : 2 * bottom] = inverse_haar(bands.contiguous())
        return out
