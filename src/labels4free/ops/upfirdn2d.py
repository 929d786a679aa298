"""FIR resampling of maps: up-sample, pad, filter, down-sample, as in StyleGAN2 (Karras et al. 2020, arXiv 1912.04958).

One differentiable function in plain PyTorch. The adjoint of such a resampling is again one, with up and down exchanged
and the kernel flipped; the backward pass uses that, so that gradients of any order run on one fast depthwise
convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def fir_kernel(taps: Sequence[float] = (1.0, 3.0, 3.0, 1.0), gain: float = 1.0) -> Tensor:
    """Make a separable kernel: the outer product of ``taps`` with itself, scaled so that its sum is ``gain``.

    Args:
        taps: One-dimensional filter; (1, 3, 3, 1) is StyleGAN2's.
        gain: Sum of the kernel. Use up**2 where the kernel follows an up-sampling, to keep the mean of the map.

    Returns:
        [len(taps), len(taps)], float32.
    """
    line = torch.tensor(taps, dtype=torch.float64)
    kernel = torch.outer(line, line)
    return (kernel * (gain / kernel.sum())).float()


def upfirdn2d(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Resample maps with a FIR filter; both axes alike, channels apart.

    Puts ``up - 1`` zeros behind every sample (behind the last one too), pads with zeros, convolves with the kernel and
    keeps every ``down``-th sample from index 0::

        y[i] = sum_k  kernel[k] * z[down * i + K - 1 - k - pad0],    z[up * j] = x[j], 0 elsewhere

    (the true convolution: the kernel is flipped). Differentiable in ``x`` any number of times; runs on any device,
    fastest on a CPU for maps in channels_last, which the output then is as well.

    Args:
        x: [N, C, H, W], floating point.
        kernel: [K, K], a constant; cast to the dtype of ``x``.
        up: Factor of zero insertion, at least 1.
        down: Factor of decimation, at least 1.
        pad: Zeros before and behind, in up-sampled samples; negative numbers crop.

    Returns:
        [N, C, H', W'] with ``H' = (H * up + pad0 + pad1 - K) // down + 1``.

    Raises:
        ValueError: If a shape or factor does not fit, or the kernel asks for a gradient.
    """
    if x.ndim != 4 or kernel.ndim != 2:
        raise ValueError(
            f"upfirdn2d needs a map [N, C, H, W] and a kernel [K, K], got {list(x.shape)} and {list(kernel.shape)}."
        )
    if up < 1 or down < 1:
        raise ValueError(f"upfirdn2d needs factors of at least 1, got up={up}, down={down}.")
    if kernel.requires_grad:
        raise ValueError("The kernel of upfirdn2d is a constant: it gets no gradient; pass kernel.detach().")
    for length, taps in zip(x.shape[2:], kernel.shape, strict=True):
        if length * up + sum(pad) < taps:
            raise ValueError(
                f"A side of {length} samples (up {up}, pad {pad}) is shorter than the kernel's {taps} taps."
            )
    out: Tensor = _UpFirDn.apply(x, kernel, up, down, (*pad, *pad))  # type: ignore[no-untyped-call]
    return out


def upsample2d(image: Tensor) -> Tensor:
    """Double the size of maps [N, C, H, W] with StyleGAN2's filter (1, 3, 3, 1)."""
    return upfirdn2d(image, fir_kernel(gain=4.0).to(image.device), up=2, pad=(2, 1))


class _UpFirDn(torch.autograd.Function):
    """The resampling with its adjoint; pads are (top, bottom, left, right), since the adjoint's may differ by axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, up: int, down: int, pads: tuple[int, int, int, int]) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # as backward passes are: what comes in decides
            out = _resample(x, kernel.to(x.dtype), up, down, pads)
        ctx.save_for_backward(kernel)
        ctx.up, ctx.down, ctx.pads = up, down, pads
        ctx.in_size, ctx.out_size = x.shape[2:], out.shape[2:]
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (kernel,) = ctx.saved_tensors
        pads = []
        for axis in (0, 1):
            before = kernel.shape[axis] - 1 - ctx.pads[2 * axis]
            behind = (ctx.in_size[axis] - 1) * ctx.up + ctx.pads[2 * axis] - ctx.out_size[axis] * ctx.down + 1
            pads += [before, behind]
        # Exchanging up and down: y[i] takes kernel tap K - 1 - k where the adjoint's x[j] takes k.
        out = _UpFirDn.apply(grad, kernel.flip(0, 1), ctx.down, ctx.up, tuple(pads))  # type: ignore[no-untyped-call]
        return out, None, None, None, None


def _resample(x: Tensor, kernel: Tensor, up: int, down: int, pads: tuple[int, int, int, int]) -> Tensor:
    """Compute the resampling by one depthwise convolution, plain or transposed."""
    channels = x.shape[1]
    if up == 1:
        top, bottom, left, right = pads
        padding = (top, left)
        if top != bottom or left != right or min(padding) < 0:
            x = F.pad(x, (left, right, top, bottom))
            padding = (0, 0)
        weight = kernel.flip(0, 1).expand(channels, 1, *kernel.shape)
        return F.conv2d(x, weight, stride=down, padding=padding, groups=channels)
    # A transposed convolution adds the unflipped kernel at every sample: the full convolution of the zero-stuffed map.
    weight = kernel.expand(channels, 1, *kernel.shape)
    # A CPU has no fast transposed depthwise convolution of 16 bits: bfloat16 would take ten times as long as float32.
    exact = x.float() if x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16) else x
    full = F.conv_transpose2d(exact, weight.to(exact.dtype), stride=up, groups=channels).to(x.dtype)
    crops = []
    for axis in (1, 0):  # F.pad counts from the last axis
        taps = kernel.shape[axis]
        before = pads[2 * axis] - (taps - 1)
        behind = x.shape[2 + axis] * up + pads[2 * axis] + pads[2 * axis + 1] - taps + 1 - full.shape[2 + axis] - before
        crops += [before, behind]
    return F.pad(full, crops)[:, :, ::down, ::down]
