"""StyleGAN2 on a CPU, without gradients: the same values as the plain way, several times faster.

Styles scale the maps rather than the kernels, so that all samples share each layer's kernel. Each layer goes from its
input to its features in strips of rows that stay in a core's cache, where the scaling, the FIR filter, the noise and
the activation cost next to nothing. See :mod:`labels4free.ops.strips`.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from labels4free.ops.bias_act import GAIN, LEAKY_SLOPE
from labels4free.ops.modulated_conv2d import demodulation, fan_in_scale
from labels4free.ops.strips import large_empty, pointwise, strip_runner
from labels4free.ops.upfirdn2d import fir_kernel, upsample2d

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from labels4free.generators.base import NoiseMode
    from labels4free.generators.stylegan2_layers import StyledConv, ToRgb
    from labels4free.ops.strips import StripRunner

_PIXELS_A_PART = 256  # with fewer, reading the kernel takes longer than using it: small maps go several samples a part
_ROWS = (16, 64)  # of a part: neighbours compute up to 4 rows both, and each part brings the kernel into order anew


@contextlib.contextmanager
def strip_layers() -> Iterator[tuple[Callable[..., Tensor], Callable[..., Tensor]]]:
    """Stand-ins for :class:`StyledConv` and :class:`ToRgb`, each a function of a layer and its arguments."""
    parts = 2 * torch.get_num_threads()
    with torch.no_grad(), strip_runner() as run:
        yield partial(_styled_conv, run, parts), partial(_to_rgb, run, parts)


def _parts(x: Tensor, at_least: int) -> list[tuple[slice, int, int]]:
    """Split maps [N, C, H, W] into (samples, top, bottom), if possible into ``at_least`` so many parts."""
    count, height = len(x), x.shape[2]
    samples = max(1, _PIXELS_A_PART // (height * x.shape[3]))
    least, most = _ROWS
    rows = max(least, min(most, count * height // at_least // 2 * 2))
    tops = range(0, height, rows)
    return [(slice(k, k + samples), top, min(top + rows, height)) for k in range(0, count, samples) for top in tops]


def _styled_conv(
    run: StripRunner,
    parts: int,
    layer: StyledConv,
    x: Tensor,
    w: Tensor,
    noise: NoiseMode | Tensor,
    rng: torch.Generator | None,
) -> Tensor:
    """The layer's output, channels-last, computed in ``parts`` parts."""
    channels, size = len(layer.weight), layer.noise.shape[-1]
    out = large_empty(x, len(x), size, size, channels).permute(0, 3, 1, 2)
    style = layer.affine(w) * fan_in_scale(layer.weight)
    # The activation's gain moves before it, into demodulation, bias and noise: gain * lrelu(x) = lrelu(gain * x).
    scale = (demodulation(layer.weight, style) * GAIN)[:, :, None, None]
    style, bias = style[:, :, None, None], layer.bias.view(1, -1, 1, 1) * GAIN
    noise_map = layer.noise_map(len(x), noise, rng)
    if noise_map is not None:
        noise_map = noise_map.expand(len(x), -1, -1, -1) * GAIN
    weight = layer.weight.transpose(0, 1) if layer.up else layer.weight
    weight = weight.contiguous(memory_format=torch.channels_last)
    convolved_rows = _rows_of_up_convolution if layer.up else _rows_of_convolution

    def work(samples: slice, top: int, bottom: int) -> None:
        strip = out[samples, :, top:bottom]
        y = convolved_rows(x[samples], style[samples], weight, top, bottom)
        torch.addcmul(bias, y, scale[samples], out=strip)
        if noise_map is not None:
            strip += noise_map[samples, :, top:bottom]
        F.leaky_relu_(strip, LEAKY_SLOPE)
        if layer.clamp is not None:
            strip.clamp_(-layer.clamp, layer.clamp)

    run(work, _parts(out, parts))
    return out


def _rows_of_convolution(x: Tensor, style: Tensor, weight: Tensor, top: int, bottom: int) -> Tensor:
    """Rows ``top`` to ``bottom`` of the 3x3 convolution of ``x * style``."""
    start, stop = max(top - 1, 0), min(bottom + 1, x.shape[2])
    y = F.conv2d(x[:, :, start:stop] * style, weight, padding=1)
    return y[:, :, top - start : bottom - start]


def _rows_of_up_convolution(x: Tensor, style: Tensor, weight: Tensor, top: int, bottom: int) -> Tensor:
    """Rows ``top`` to ``bottom`` of the transposed convolution of ``x * style`` (2H + 1 high) and the FIR filter.

    The filter reads one row above and two below; those outside are zeros. ``top`` is even.
    """
    height = x.shape[2]
    start, stop = max(top // 2 - 1, 0), min(bottom // 2 + 1, height)
    y = F.conv_transpose2d(x[:, :, start:stop] * style, weight, stride=2)
    y = y[:, :, max(top - 1 - 2 * start, 0) : bottom + 2 - 2 * start]
    if top == 0 or bottom == 2 * height:
        y = F.pad(y, (0, 0, int(top == 0), int(bottom == 2 * height)))
    channels = y.shape[1]
    kernel = fir_kernel(gain=4.0).to(y.dtype).expand(channels, 1, 4, 4)
    return F.conv2d(y, kernel, padding=(0, 1), groups=channels)


def _to_rgb(run: StripRunner, parts: int, layer: ToRgb, x: Tensor, w: Tensor, image: Tensor | None) -> Tensor:
    """The image so far, up-sampled, plus this resolution's, computed in ``parts`` parts."""
    count, size = len(x), x.shape[2]
    out = large_empty(x, count, 3, size, size)
    style = layer.affine(w) * fan_in_scale(layer.weight)
    weights = layer.weight * style[:, None, :, None, None]

    def work(samples: slice, top: int, bottom: int) -> None:
        for k in range(*samples.indices(count)):
            strip = out[k : k + 1, :, top:bottom]
            strip.copy_(pointwise(x[k : k + 1, :, top:bottom], weights[k], layer.bias))
            if layer.clamp is not None:
                strip.clamp_(-layer.clamp, layer.clamp)
            if image is not None:
                start, stop = max(top // 2 - 1, 0), min(bottom // 2 + 1, image.shape[2])
                strip += upsample2d(image[k : k + 1, :, start:stop])[:, :, top - 2 * start : bottom - 2 * start]

    run(work, _parts(x, parts))
    return out
