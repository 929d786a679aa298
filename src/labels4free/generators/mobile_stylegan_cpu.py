"""MobileStyleGAN on a CPU, without gradients: the same values, several times faster than the plain way.

Each layer goes from its input to its features in strips of rows, one sample after the other, straight into the maps
that are returned; no intermediate result of a wide layer ever exists as a whole. See :mod:`labels4free.ops.strips`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch.nn import functional as F

from labels4free.generators.base import noise_of_sample
from labels4free.ops.strips import large_empty, pointwise, strip_runner, strips_of
from labels4free.ops.wavelets import inverse_haar
from labels4free.types import GeneratorOutput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from labels4free.generators.base import Noise, NoiseMode
    from labels4free.generators.mobile_stylegan import Block, MobileStyleGAN, StyledConv, ToImage
    from labels4free.ops.strips import StripRunner

_HALO = 2  # the 3x3 kernel needs one more row above and below, the inverse Haar transform makes two at once


def synthesize(
    generator: MobileStyleGAN, ws: Tensor, noise: Noise, background: str | None, rng: torch.Generator | None
) -> GeneratorOutput:
    """Render like :meth:`Generator.synthesize`, whose arguments must have been checked."""
    count, size = len(ws), generator.resolution
    image = large_empty(ws, count, 3, size, size)
    maps = [
        large_empty(ws, count, spec.resolution, spec.resolution, spec.channels).permute(0, 3, 1, 2)
        for spec in generator.feature_specs
    ]
    with torch.no_grad(), strip_runner() as run:
        for k in range(count):
            one = slice(k, k + 1)
            layers = _Layers(generator.noise_by_layer(noise_of_sample(noise, k)), rng, run)
            layers.synthesize(generator, ws[one], background, [m[one] for m in maps], image[one])
    return GeneratorOutput(image, tuple(maps))


class _Layers:
    """The layers, each of which computes one sample into ``out``. Inputs and outputs are channels-last."""

    def __init__(self, noises: Iterator[NoiseMode | Tensor], rng: torch.Generator | None, run: StripRunner) -> None:
        self._noises = noises
        self._rng = rng
        self._run = run

    def synthesize(
        self, generator: MobileStyleGAN, ws: Tensor, background: str | None, maps: Sequence[Tensor], image: Tensor
    ) -> None:
        rows = iter(ws.unbind(1))
        constant = generator.constant
        if background == "zero_constant":
            constant = torch.zeros_like(constant)
        x = maps[0].copy_(generator.conv1(constant, next(rows), next(self._noises), self._rng))
        if background == "zero_first_conv":
            x.zero_()
        for index, module in enumerate(generator.blocks):
            block = cast("Block", module)
            first, second = maps[2 * index + 1], maps[2 * index + 2]
            scale = block.up(next(rows))[:, :, None, None]
            self.conv(first, x, block.conv1, next(rows), scale)
            self.conv(second, first, block.conv2, next(rows))
            if index == 0 and background == "zero_first_block":
                second.zero_()
            x = second
        self.to_image(image, x, generator.to_image, next(rows))

    def conv(self, out: Tensor, x: Tensor, layer: StyledConv, w: Tensor, scale: Tensor | None = None) -> None:
        """A separable styled convolution of x or, with a scale, of its inverse Haar transform."""
        height = out.shape[2]
        noise_map = layer.noise_map(out, next(self._noises), self._rng)
        depthwise = layer.depthwise * layer.modulation(w).view(-1, 1, 1, 1)  # carries the style for free

        def work(top: int, bottom: int) -> None:
            start, stop = max(top - _HALO, 0), min(bottom + _HALO, height)
            y = x[:, :, start:stop] if scale is None else inverse_haar(x[:, :, start // 2 : stop // 2], scale)
            y = F.conv2d(y, depthwise, padding=1, groups=len(depthwise))
            y = pointwise(y[:, :, top - start : bottom - start], layer.weight, layer.bias)
            strip = out[:, :, top:bottom]
            if noise_map is None:
                strip.copy_(y)
            else:
                torch.add(y, noise_map[:, :, top:bottom], out=strip)
            layer.activate(strip)

        self._run(work, strips_of(out))

    def to_image(self, out: Tensor, x: Tensor, layer: ToImage, w: Tensor) -> None:
        weight = layer.weight * layer.modulation(w).view(1, -1, 1, 1)

        def work(top: int, bottom: int) -> None:
            bands = pointwise(x[:, :, top:bottom], weight, layer.bias).contiguous()
            out[:, :, 2 * top : 2 * bottom] = inverse_haar(bands)

        self._run(work, strips_of(x))
