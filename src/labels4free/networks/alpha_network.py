"""The alpha networks: a generator's features in, the soft mask of its object out.

The generator's features separate the object from the rest almost linearly, so a narrow network suffices, and all of its
convolutions are 1x1. :class:`MergeNetwork` is what this package trains: with no kernel that spans pixels, a network
trained on feature maps pooled to 32x32 gives the same answer, only finer, on the full-size maps. Training at 32x32 is
what makes the method run in minutes on a CPU. :class:`PaperNetwork` is the network of Labels4Free, for its checkpoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.networks.merge_cpu import merge_logits
from labels4free.types import FeatureSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

_LEAKY_SLOPE = 0.2
_PAIR = 6  # channels that PaperNetwork takes from the two maps of a resolution
_RESOLUTIONS, _COARSEST = 6, 8  # which of them it reads


class AlphaNetwork(nn.Module, ABC):
    """A network that reads a generator's feature maps and tells its object from the rest.

    Attributes:
        family: Name of the family in :data:`ALPHA_NETWORKS`.
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

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything but the weights, as JSON values."""

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
            _bias(self.head).zero_()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        sizes = {key: int(config[key]) for key in ("width", "min_resolution", "max_resolution")}
        return cls(_specs_from_json(config), int(config["resolution"]), **sizes)

    def config(self) -> dict[str, Any]:
        return {
            "feature_specs": _specs_to_json(self.feature_specs),
            "resolution": self.resolution,
            "width": self.width,
            "min_resolution": self.min_resolution,
            "max_resolution": self.max_resolution,
        }

    def check_fits(self, feature_specs: Sequence[FeatureSpec]) -> None:
        """Raise :class:`ConfigError` unless these are the feature maps the network was built for."""
        if tuple(feature_specs) != self.feature_specs:
            raise ConfigError(
                f"This alpha network was trained for other feature maps. It reads: {_listed(self.feature_specs)}. "
                f"The generator has: {_listed(feature_specs)}."
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
        if features[0].device.type == "cpu" and features[0].dtype == torch.float32 and not torch.is_grad_enabled():
            logits = merge_logits(self, features, _LEAKY_SLOPE)
        else:
            logits = self.merge([torch.cat([features[i] for i in members], dim=1) for members in self.levels])
        if logits.shape[-1] != self.resolution:
            size = (self.resolution, self.resolution)
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return _single(logits).sigmoid()


class _Pointwise(nn.Conv2d):
    """A 1x1 convolution.

    On a plain map (not channels_last) it is a product of matrices: where several threads work, oneDNN's convolution to
    few channels takes up to fifty times as long.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 1)

    def forward(self, x: Tensor, *, biased: bool = True) -> Tensor:
        """Convolve x [N, C, H, W], without the bias if it is not asked for."""
        if not x.is_contiguous():
            return F.conv2d(x, self.weight, self.bias if biased else None)
        count = x.shape[0]  # not len(x), which would fix the batch's size where the network is exported
        y = torch.bmm(self.weight[:, :, 0, 0].expand(count, -1, -1), x.flatten(2))
        return (y + _bias(self)[:, None] if biased else y).view(count, self.out_channels, *x.shape[2:])


class PaperNetwork(AlphaNetwork):
    """The network of Labels4Free (Abdal et al. 2021, arXiv 2103.14968), which reads maps of the six finest resolutions.

    The original (``RameenAbdal/Labels4Free``, ``bg_extractor`` and ``bg_extractor_repro``: two layouts, one function)
    reads the last twelve maps of a StyleGAN2 at 256, 512 or 1024 pixels, two a resolution. With f_k, g_k the maps of
    resolution k, 1x1 convolutions A, B (to 3 channels each), M (12 to 6) and F (6 to 1), leaky ReLUs of slope 0.2 and U
    bicubic up-sampling to the next resolution with aligned corners::

        p_k = [A_k f_k ; B_k g_k]                                    k = 0 .. K-1
        t_0 = U p_0
        t_k = U leaky(M_k [p_k ; t_{k-1}])                           k = 1 .. K-2
        alpha = sigmoid(F(p_{K-1} + t_{K-2}))

    Generalised by the same rule: any number of channels; K = 6 or, where there are fewer, all resolutions from 8x8 up;
    and where the finest maps are smaller than the image, its size is reached by U of the logits.

    Args:
        feature_specs: The generator's maps, coarse to fine. Only those that the network reads are kept.
        resolution: Side of the generator's image and of alpha.

    Raises:
        ConfigError: If the maps do not come in pairs of one resolution, each twice as fine as the pair before, or end
            beyond the image's size.
    """

    family = "paper"

    def __init__(self, feature_specs: Sequence[FeatureSpec], resolution: int) -> None:
        super().__init__()
        self.resolution = resolution
        self.feature_specs = _finest_pairs(feature_specs, resolution)
        first, second = self.feature_specs[0::2], self.feature_specs[1::2]
        self.first = nn.ModuleList(_Pointwise(s.channels, _PAIR // 2) for s in first)
        self.second = nn.ModuleList(_Pointwise(s.channels, _PAIR // 2) for s in second)
        self.merges = nn.ModuleList(_Pointwise(2 * _PAIR, _PAIR) for _ in first[1:-1])
        self.head = _Pointwise(_PAIR, 1)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(_specs_from_json(config), int(config["resolution"]))

    def config(self) -> dict[str, Any]:
        return {"feature_specs": _specs_to_json(self.feature_specs), "resolution": self.resolution}

    def check_fits(self, feature_specs: Sequence[FeatureSpec]) -> None:
        """Raise :class:`ConfigError` unless the last of these are the maps that the network reads."""
        count = len(self.feature_specs)
        last = tuple(feature_specs)[-count:]
        if last != self.feature_specs:
            finest = max((s.resolution for s in feature_specs), default=0)
            raise ConfigError(
                f"This alpha network fits generators of {self.resolution}x{self.resolution} pixels whose last {count} "
                f"feature maps are: {_listed(self.feature_specs)}. The generator has {len(feature_specs)} maps of up "
                f"to {finest}², the last: {_listed(last)}."
            )

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """Alpha before the sigmoid; arguments and shape as :meth:`forward`."""
        read = features[-len(self.feature_specs) :]
        pairs = [
            torch.cat((a(f), b(g)), dim=1)
            for a, b, f, g in zip(self.first, self.second, read[0::2], read[1::2], strict=True)
        ]
        logits: Tensor = self.head(pairs[-1])
        if len(pairs) > 1:
            x = pairs[0]  # each t before its U
            for p, merge in zip(pairs[1:-1], self.merges, strict=True):
                x = F.leaky_relu(merge(torch.cat((p, _enlarged(x, p.shape[-1])), dim=1)), _LEAKY_SLOPE)
            # F(p + U x) = F p + U F x, both being linear: one channel to resize instead of six
            logits = logits + _enlarged(self.head(x, biased=False), logits.shape[-1])
        return _enlarged(logits, self.resolution)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Alpha at the image's size.

        Args:
            features: All maps of the generator, [N, C, R, R] each, in the order of its feature specs; the coarser ones
                may be left out, since the network reads the last ones.

        Returns:
            [N, 1, R, R] in [0, 1]; 1 is foreground. R is the generator's resolution.
        """
        return _single(self.logits(features)).sigmoid()


def _single(logits: Tensor) -> Tensor:
    """In at least 32 bits: in fewer, alpha would be exactly 1 long before its gradient is 0."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _enlarged(x: Tensor, size: int) -> Tensor:
    if x.shape[-1] == size:
        return x
    return F.interpolate(x, size=(size, size), mode="bicubic", align_corners=True)


def _finest_pairs(feature_specs: Sequence[FeatureSpec], resolution: int) -> tuple[FeatureSpec, ...]:
    """The maps that a :class:`PaperNetwork` reads."""
    sizes = sorted({s.resolution for s in feature_specs if s.resolution >= _COARSEST})[-_RESOLUTIONS:]
    read = tuple(feature_specs)[-2 * len(sizes) :]
    if (
        not sizes
        or [s.resolution for s in read] != [size for size in sizes for _ in range(2)]
        or any(fine != 2 * coarse for coarse, fine in pairwise(sizes))
        or sizes[-1] > resolution
    ):
        raise ConfigError(
            f"The paper's alpha network reads two feature maps of each resolution, from {_COARSEST}² or the last "
            f"{_RESOLUTIONS} resolutions up to at most the image's size, each twice the one before; a generator of "
            f"{resolution}x{resolution} pixels with these maps does not fit it: {_listed(feature_specs)}. Use an alpha "
            f"network of family {MergeNetwork.family}."
        )
    return read


def _listed(feature_specs: Sequence[FeatureSpec]) -> str:
    return ", ".join(f"{s.name} {s.channels}x{s.resolution}²" for s in feature_specs) or "none"


def _specs_to_json(feature_specs: Sequence[FeatureSpec]) -> list[dict[str, Any]]:
    return [{"name": s.name, "channels": s.channels, "resolution": s.resolution} for s in feature_specs]


def _specs_from_json(config: Mapping[str, Any]) -> list[FeatureSpec]:
    return [FeatureSpec(**spec) for spec in config["feature_specs"]]


ALPHA_NETWORKS: dict[str, type[AlphaNetwork]] = {kind.family: kind for kind in (MergeNetwork, PaperNetwork)}
"""Every kind of alpha network by the name in its checkpoints."""
