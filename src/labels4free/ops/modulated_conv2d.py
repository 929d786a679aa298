"""StyleGAN2's modulated convolution (Karras et al. 2020, arXiv 1912.04958, section 2.2 and equations 1 and 3).

A style scales the input channels of a kernel, demodulation then scales each output channel to unit norm. Both can be
done to the kernel, which then differs from sample to sample, or, as here, to the maps before and after one shared
convolution: the same numbers, but shared kernels run at full speed on every device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from labels4free.ops.upfirdn2d import fir_kernel, upfirdn2d

if TYPE_CHECKING:
    from torch import Tensor


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor | None = None,
    *,
    gain: float = 1.0,
    demodulate: bool = True,
    up: bool = False,
) -> Tensor:
    """Convolve each sample with the kernel that its style makes of a shared one.

    The kernel of sample n is ``gain * W[o, i] * style[n, i] / sqrt(I * k * k)``, with ``demodulate`` divided by the
    root of its sum of squares over (i, ky, kx), without the gain, plus 1e-8. Differentiable any number of times. Under
    autocast demodulation is computed in full precision.

    Args:
        x: [N, I, H, W].
        weight: [O, I, k, k], of about unit variance; k is odd, and 3 with ``up``.
        style: [N, I]; cast to the dtype of ``x``.
        bias: [O], added to the maps that come out.
        gain: Factor on the kernel.
        demodulate: Scale the output channels to unit norm.
        up: Double the size: transposed convolution of stride 2, then the FIR filter (1, 3, 3, 1).

    Returns:
        [N, O, H, W], or [N, O, 2H, 2W] with ``up``.
    """
    style = style * (fan_in_scale(weight) if demodulate else fan_in_scale(weight) * gain)
    out = convolve(x * style[:, :, None, None].to(x.dtype), weight, up=up)
    shift = None if bias is None else bias[:, None, None].to(out.dtype)
    if not demodulate:
        return out if shift is None else out + shift
    with torch.autocast(x.device.type, enabled=False):
        scale = (demodulation(weight, style) * gain)[:, :, None, None].to(out.dtype)
    return out * scale if shift is None else torch.addcmul(shift, out, scale)


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """One over the norm of each modulated kernel: [N, O] for a weight [O, I, k, k] and styles [N, I]."""
    squares: Tensor = style.square() @ weight.square().sum(dim=(2, 3)).T
    return (squares + 1e-8).rsqrt()


def fan_in_scale(weight: Tensor) -> float:
    """One over the root of the number of inputs of each output of a kernel [O, I, k, k] (equalised learning rate)."""
    return float(weight[0].numel() ** -0.5)


def convolve(x: Tensor, weight: Tensor, *, up: bool) -> Tensor:
    """Convolve maps [N, I, H, W] with a kernel [O, I, k, k], keeping the size, or doubling it as StyleGAN2 does."""
    if not up:
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    full = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return upfirdn2d(full, fir_kernel(gain=4.0).to(x.device), pad=(1, 1))
