"""The alpha network that this package trains.

With no kernel that spans pixels, a network trained on feature maps pooled to 32x32 gives the same answer, only finer,
on the full-size maps. Training at 32x32 is what makes the method run in minutes on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import nn
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.networks.alpha_network import AlphaNetwork, alpha_from_logits, listed, specs_of
from labels4free.ops.bias_act import LEAKY_SLOPE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from labels4free.types import FeatureSpec


class MergeNetwork(AlphaNetwork):
    """Merge feature maps coarse to fine into one alpha map: the network that this package trains.

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
            cast("Tensor", self.head.bias).zero_()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        sizes = {key: int(config[key]) for key in ("width", "min_resolution", "max_resolution")}
        return cls(specs_of(config), int(config["resolution"]), **sizes)

    def config(self) -> dict[str, Any]:
        return super().config() | {
            "width": self.width,
            "min_resolution": self.min_resolution,
            "max_resolution": self.max_resolution,
        }

    def check_fits(self, feature_specs: Sequence[FeatureSpec]) -> None:
        """Raise :class:`ConfigError` unless these are the feature maps the network was built for."""
        if tuple(feature_specs) != self.feature_specs:
            raise ConfigError(
                f"This alpha network was trained for other feature maps. It reads: {listed(self.feature_specs)}. "
                f"The generator has: {listed(feature_specs)}."
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
                t = F.leaky_relu(merge(F.leaky_relu(x, LEAKY_SLOPE)), LEAKY_SLOPE)
                continue
            if t.shape[-1] != x.shape[-1]:
                t = F.interpolate(t, size=x.shape[-2:], mode="bilinear", align_corners=False)
            t = F.leaky_relu(merge(torch.cat((x, t), dim=1)), LEAKY_SLOPE)
        assert t is not None
        logits: Tensor = self.head(t)
        return logits

    def _merge_products(self, features: Sequence[Tensor]) -> Tensor:
        """Logits like those of :meth:`merge`, from all maps of the generator, on a CPU without gradients.

        The maps of a level are not concatenated, which would copy all of them: each is multiplied with its part of the
        stem's kernel, and the products are added up. On channels-last maps, as generators return them on a CPU, a 1x1
        convolution is one product of matrices: three times faster than the plain way.
        """
        t: Tensor | None = None
        for members, stem, merge in zip(self.levels, self.stems, self.merges, strict=True):
            maps = [features[i] for i in members]
            x = _product([_rows(m) for m in maps], cast("nn.Conv2d", stem))
            count, _, height, width = maps[0].shape
            if t is None:
                inputs = [F.leaky_relu(x, LEAKY_SLOPE)]
            else:
                if t.shape[-1] != width:
                    t = F.interpolate(t, size=(height, width), mode="bilinear", align_corners=False)
                inputs = [x, _rows(t)]
            t = _maps(F.leaky_relu(_product(inputs, cast("nn.Conv2d", merge)), LEAKY_SLOPE), count, height, width)
        assert t is not None
        return _maps(_product([_rows(t)], self.head), len(t), *t.shape[2:])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Alpha at the image's size.

        Args:
            features: All maps of the generator, [N, C, R, R] each, in the order of its feature specs.

        Returns:
            [N, 1, R, R] in [0, 1]; 1 is foreground. R is the generator's resolution.
        """
        if features[0].device.type == "cpu" and features[0].dtype == torch.float32 and not torch.is_grad_enabled():
            logits = self._merge_products(features)
        else:
            logits = self.merge([torch.cat([features[i] for i in members], dim=1) for members in self.levels])
        if logits.shape[-1] != self.resolution:
            size = (self.resolution, self.resolution)
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return alpha_from_logits(logits)


def _product(inputs: list[Tensor], layer: nn.Conv2d) -> Tensor:
    """The 1x1 convolution of inputs [pixels, C_i] side by side, [pixels, D]."""
    assert layer.bias is not None
    kernels = layer.weight.flatten(1).split([x.shape[1] for x in inputs], dim=1)
    out = torch.addmm(layer.bias, inputs[0], kernels[0].t())
    for x, kernel in zip(inputs[1:], kernels[1:], strict=True):
        out.addmm_(x, kernel.t())
    return out


def _rows(maps: Tensor) -> Tensor:
    """Maps [N, C, H, W] as [N H W, C]; a view where they are channels-last."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _maps(rows: Tensor, count: int, height: int, width: int) -> Tensor:
    """Undo :func:`_rows`."""
    return rows.view(count, height, width, -1).permute(0, 3, 1, 2)
