"""The alpha network: a generator's features in, the soft mask of its object out.

The generator's features separate the object from the rest almost linearly, so a narrow network suffices, and all of its
convolutions are 1x1: with no kernel that spans pixels, a network trained on feature maps pooled to 32x32 gives the same
answer, only finer, on the full-size maps. Training at 32x32 is what makes the method run in minutes on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.types import FeatureSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

_LEAKY_SLOPE = 0.2


class AlphaNetwork(nn.Module):
    """Merge feature maps coarse to fine into one alpha map.

    With f_l the maps of level l (all maps of one resolution, concatenated), U bilinear up-sampling to the next level's
    size and 1x1 convolutions S (stem), M (merge) and H (head)::

        t_0 = leaky(M_0 leaky(S_0 f_0))
        t_l = leaky(M_l [S_l f_l ; U t_{l-1}])
        alpha = sigmoid(H t_L)

    Args:
        feature_specs: The generator's maps, coarse to fine; the network sizes itself from them.
        resolution: Side of the generator's image and of alpha.
        width: Channels of every t.
        min_resolution: Coarser maps are not read: they hold no shape, only what the image is about.
        max_resolution: Finer maps are not read; the logits are up-sampled from here to the image's size.

    Raises:
        ConfigError: If no map lies between the two resolutions.
    """

    family = "merge"

    def __init__(
        self,
        feature_specs: Sequence[FeatureSpec],
        resolution: int,
        *,
        width: int = 16,
        min_resolution: int = 8,
        max_resolution: int = 256,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.feature_specs = tuple(feature_specs)
        self.width, self.min_resolution, self.max_resolution = width, min_resolution, max_resolution
        self.levels: list[list[int]] = []
        resolutions = sorted(
            {s.resolution for s in self.feature_specs if min_resolution <= s.resolution <= max_resolution}
        )
        if not resolutions:
            have = ", ".join(str(r) for r in sorted({s.resolution for s in self.feature_specs}))
            raise ConfigError(
                f"No feature map lies between min_resolution={min_resolution} and max_resolution={max_resolution}; "
                f"the generator has maps at {have}."
            )
        self.stems, self.merges = nn.ModuleList(), nn.ModuleList()
        for resolution in resolutions:
            members = [i for i, s in enumerate(self.feature_specs) if s.resolution == resolution]
            channels = sum(self.feature_specs[i].channels for i in members)
            self.merges.append(nn.Conv2d(2 * width if self.levels else width, width, 1))
            self.stems.append(nn.Conv2d(channels, width, 1))
            self.levels.append(members)
        self.head = nn.Conv2d(width, 1, 1)
        with torch.no_grad():
            self.head.weight *= 0.3  # start undecided: alpha near 0.5 everywhere
            _bias(self.head).zero_()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the network, weights untrained, from what :meth:`config` returned."""
        specs = [FeatureSpec(**spec) for spec in config["feature_specs"]]
        sizes = {key: int(config[key]) for key in ("width", "min_resolution", "max_resolution")}
        return cls(specs, int(config["resolution"]), **sizes)

    def config(self) -> dict[str, Any]:
        """Everything but the weights, as JSON values."""
        return {
            "feature_specs": [
                {"name": s.name, "channels": s.channels, "resolution": s.resolution} for s in self.feature_specs
            ],
            "resolution": self.resolution,
            "width": self.width,
            "min_resolution": self.min_resolution,
            "max_resolution": self.max_resolution,
        }

    def check_fits(self, feature_specs: Sequence[FeatureSpec]) -> None:
        """Raise :class:`ConfigError` unless these are the feature maps the network was built for."""
        if tuple(feature_specs) != self.feature_specs:
            got = ", ".join(f"{s.name} {s.channels}x{s.resolution}²" for s in feature_specs)
            want = ", ".join(f"{s.name} {s.channels}x{s.resolution}²" for s in self.feature_specs)
            raise ConfigError(
                f"This alpha network was trained for other feature maps. It reads: {want}. The generator has: {got}."
            )

    def merge(self, levels: Sequence[Tensor]) -> Tensor:
        """Alpha logits from one tensor a level.

        Args:
            levels: Level l is [N, C_l, R_l, R_l], sizes non-decreasing. A size below the level's own (pooled maps) is
                fine: the network has no notion of size.

        Returns:
            [N, 1, R, R] with R the last level's size.
        """
        t: Tensor | None = None
        for level, stem, merge in zip(levels, self.stems, self.merges, strict=True):
            x = stem(level)
            if t is None:
                t = F.leaky_relu(merge(F.leaky_relu(x, _LEAKY_SLOPE)), _LEAKY_SLOPE)
                continue
            if t.shape[-1] != x.shape[-1]:
                t = F.interpolate(t, size=x.shape[-2:], mode="bilinear", align_corners=False)
            t = F.leaky_relu(merge(torch.cat((x, t), dim=1)), _LEAKY_SLOPE)
        assert t is not None
        logits: Tensor = self.head(t)
        return logits

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Alpha at the image's size.

        Args:
            features: All maps of the generator, [N, C, R, R] each, in the order of its feature specs.

        Returns:
            [N, 1, R, R] in [0, 1]; 1 is foreground. R is the generator's resolution.
        """
        logits = self.merge([torch.cat([features[i] for i in members], dim=1) for members in self.levels])
        if logits.shape[-1] != self.resolution:
            size = (self.resolution, self.resolution)
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits.sigmoid()


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


ALPHA_NETWORKS: dict[str, type[AlphaNetwork]] = {AlphaNetwork.family: AlphaNetwork}
"""Every kind of alpha network by the name in its checkpoints."""
