"""The orthonormal 2-D Haar transform, as MobileStyleGAN uses it for resampling and for its output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def inverse_haar(bands: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Put four sub-bands together into a map of twice the size.

    With LL, LH, HL, HH the bands of one channel, the 2x2 block at (y, x) is::

        0.5 * [[LL + LH + HL + HH, LL + LH - HL - HH],
               [LL - LH + HL - HH, LL - LH - HL + HH]]

    so LH varies along the rows (y) and HL along the columns (x).

    Args:
        bands: [N, 4C, H, W]: the LL bands of all C channels, then their LH, HL and HH bands. (MobileStyleGAN, Belousov
            2021, arXiv 2104.04767, keeps LH, HL, HH of one channel together; the converter puts them in this order.)
        scale: A number, or a tensor that broadcasts to ``bands``, which the bands are multiplied by on the way.

    Returns:
        [N, C, 2H, 2W], in the memory format of ``bands``.

    Raises:
        ValueError: If the channels are not a multiple of four.
    """
    n, channels, height, width = bands.shape
    if channels % 4:
        raise ValueError(f"inverse_haar needs 4 bands a channel, got {channels} channels, which 4 does not divide.")
    channels_last = bands.is_contiguous(memory_format=torch.channels_last) and not bands.is_contiguous()
    out = torch.empty(
        (n, channels // 4, 2 * height, 2 * width),
        dtype=bands.dtype,
        device=bands.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )
    low, high = (bands * (0.5 * scale)).chunk(2, dim=1)  # LL and LH, HL and HH
    in_place = not (torch.is_grad_enabled() and low.requires_grad)  # autograd knows no out=
    for column, pair in enumerate((low + high, low - high)):
        for row, combine in enumerate((torch.add, torch.sub)):
            target = out[:, :, row::2, column::2]
            if in_place:
                combine(*pair.chunk(2, dim=1), out=target)
            else:
                target.copy_(combine(*pair.chunk(2, dim=1)))
    return out


def haar(image: Tensor) -> Tensor:
    """Split a map into its four sub-bands; the exact inverse of :func:`inverse_haar`.

    Args:
        image: [N, C, 2H, 2W].

    Returns:
        [N, 4C, H, W]: LL bands of all channels, then LH, HL, HH.

    Raises:
        ValueError: If a side is odd.
    """
    height, width = image.shape[2:]
    if height % 2 or width % 2:
        raise ValueError(f"haar needs even sides, got {height}x{width}.")
    top, bottom = image[:, :, 0::2], image[:, :, 1::2]
    sums, differences = (top + bottom) * 0.5, (top - bottom) * 0.5
    bands = [pair(x[..., 0::2], x[..., 1::2]) for pair in (torch.add, torch.sub) for x in (sums, differences)]
    return torch.cat(bands, dim=1)
