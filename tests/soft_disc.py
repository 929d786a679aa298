"""An alpha network of eight weights, for tests that need masks but no training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from labels4free.types import FeatureSpec


class SoftDisc(nn.Module):
    """A soft disc on 64x64 pixels whose edge the features of the tiny generator move; sign=-1 inverts it."""

    def __init__(self, radius: float = 0.6, sign: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-0.2, 0.2, 8).view(1, 8, 1, 1))
        self.radius, self.sign = radius, sign

    def check_fits(self, feature_specs: Sequence[FeatureSpec]) -> None:
        pass

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        moved = nn.functional.interpolate(nn.functional.conv2d(features[-1], self.weight), scale_factor=2)
        axis = torch.linspace(-1, 1, 64)
        distance = (axis[:, None].square() + axis.square()).sqrt()
        return torch.sigmoid(self.sign * (8 * (self.radius - distance) + moved.clamp(-1, 1)))
