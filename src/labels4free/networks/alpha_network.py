"""What every alpha network is: a generator's features in, the soft mask of its object out.

The generator's features separate the object from the rest almost linearly, so a narrow network suffices, and all of its
convolutions are 1x1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from labels4free.types import FeatureSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor


class AlphaNetwork(nn.Module, ABC):
    """A network that reads a generator's feature maps and tells its object from the rest.

    Attributes:
        family: Name of the family in :data:`labels4free.networks.ALPHA_NETWORKS`.
        resolution: Side of the generator's image and of alpha.
        feature_specs: The maps that the network was built for, coarse to fine.
    """

    family: str
    resolution: int
    feature_specs: tuple[FeatureSpec, ...]

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the network, weights untrained, from what :meth:`config` returned."""

    def config(self) -> dict[str, Any]:
        """Everything but the weights, as JSON values."""
        specs = [{"name": s.name, "channels": s.channels, "resolution": s.resolution} for s in self.feature_specs]
        return {"feature_specs": specs, "resolution": self.resolution}

    @abstractmethod
    def check_fits(self, feature_specs: Sequence[FeatureSpec]) -> None:
        """Raise :class:`ConfigError` unless the network can read the maps of a generator with these."""

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Alpha at the image's size.

        Args:
            features: All maps of the generator, [N, C, R, R] each, in the order of its feature specs.

        Returns:
            [N, 1, R, R] in [0, 1]; 1 is foreground. R is the generator's resolution.
        """


def alpha_from_logits(logits: Tensor) -> Tensor:
    """The sigmoid in at least 32 bits: in fewer, alpha would be exactly 1 long before its gradient is 0."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()


def listed(feature_specs: Sequence[FeatureSpec]) -> str:
    """Feature specs for a message."""
    return ", ".join(f"{s.name} {s.channels}x{s.resolution}²" for s in feature_specs) or "none"


def specs_of(config: Mapping[str, Any]) -> list[FeatureSpec]:
    """The feature specs of a :meth:`AlphaNetwork.config`."""
    return [FeatureSpec(**spec) for spec in config["feature_specs"]]
