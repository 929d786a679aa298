"""The words of the package: feature specs, generator outputs and layered images.

Value ranges, defined here once:

* **image**: float, [N, 3, H, W], about [-1, 1] (a generator may overshoot); uint8 RGB only at file and web edges.
* **alpha**: float, [N, 1, H, W], in [0, 1]; 1 is foreground.
* **mask**: boolean, [N, 1, H, W]; True is foreground.
* **features**: float maps of a generator, ordered coarse to fine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FeatureSpec:
    """One tapped feature map: its name, channels C and resolution R, for a map of shape [N, C, R, R]."""

    name: str
    channels: int
    resolution: int


class GeneratorOutput(NamedTuple):
    """What a generator synthesizes.

    Attributes:
        image: [N, 3, resolution, resolution], about [-1, 1].
        features: one map per entry of the generator's ``feature_specs``, in that order.
    """

    image: Tensor
    features: tuple[Tensor, ...]


class LayeredImage(NamedTuple):
    """An image taken apart: the composite is ``alpha * foreground + (1 - alpha) * background``.

    Attributes:
        foreground: [N, 3, H, W], the generator's image.
        background: [N, 3, H, W], the image rendered without its object.
        alpha: [N, 1, H, W], in [0, 1]; 1 is foreground.
    """

    foreground: Tensor
    background: Tensor
    alpha: Tensor
