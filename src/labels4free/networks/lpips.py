"""LPIPS: the perceptual distance of two images by VGG16's maps and learned weights, both of which a user brings.

Zhang et al. 2018, arXiv 1801.03924, version 0.1: ``LPIPS(net="vgg")`` of the PyPI package ``lpips``, whose state dict
is the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_SLICES = ((0, 2, 64), (5, 7, 128), (10, 12, 14, 256), (17, 19, 21, 512), (24, 26, 28, 512))
"""For each slice the numbers of its convolutions within VGG16, and their channels."""
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-10


class Lpips(nn.Module):
    """Perceptual distance [N] of pairs of images [N, 3, H, W] in [-1, 1], of at least 16 pixels; differentiable."""

    def __init__(self) -> None:
        super().__init__()
        self.net, width = nn.Module(), 3
        for k, (*numbers, channels) in enumerate(_SLICES):
            part = nn.Module()
            for number in numbers:
                part.add_module(str(number), nn.Conv2d(width, channels, 3, padding=1))
                width = channels
            self.net.add_module(f"slice{k + 1}", part)
            self.add_module(f"lin{k}", nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Distances, [N]."""
        maps = self.unit_maps(torch.cat((one, other)))
        return self.distance([m[: len(one)] for m in maps], [m[len(one) :] for m in maps])

    def unit_maps(self, images: Tensor) -> list[Tensor]:
        """Maps [N, C, H, W] of images [N, 3, H, W], with the channels brought to length 1 at every pixel."""
        shift, scale = (
            torch.tensor(v, device=images.device, dtype=images.dtype)[:, None, None] for v in (_SHIFT, _SCALE)
        )
        x, maps = (images - shift) / scale, []
        for k, part in enumerate(self.net.children()):
            x = F.max_pool2d(x, 2) if k else x
            for conv in part.children():
                x = F.relu(conv(x))
            # The tiny number keeps the gradient finite where a map is zero in all channels.
            length = (x.square().sum(dim=1, keepdim=True) + _EPSILON**2).sqrt()
            maps.append(x / (length + _EPSILON))
        return maps

    def distance(self, one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
        """Distances [N] of :meth:`unit_maps`, of which the other may be of one image."""
        pairs = zip(one, other, strict=True)
        weighted = [self.get_submodule(f"lin{k}")((a - b).square()) for k, (a, b) in enumerate(pairs)]
        return torch.stack([w.mean(dim=(1, 2, 3)) for w in weighted]).sum(dim=0)
