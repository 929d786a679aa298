"""The alpha network of Labels4Free (Abdal et al. 2021, arXiv 2103.14968), for its checkpoints and its recipe."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

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

_PAIR = 6  # channels that PaperNetwork takes from the two maps of a resolution
_RESOLUTIONS, _COARSEST = 6, 8  # which of them it reads


class _Pointwise(nn.Conv2d):
    """A 1x1 convolution.

    On a plain map (not channels_last) it is a product of matrices: where several threads work, oneDNN's convolution to
    few channels takes up to fifty times as long.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 1)

    def forward(self, x: Tensor, *, biased: bool = True) -> Tensor:
        """Convolve x [N, C, H, W], without the bias if it is not asked for."""
        bias = self.bias if biased else None
        if not x.is_contiguous():
            return F.conv2d(x, self.weight, bias)
        count = x.shape[0]  # not len(x), which would fix the batch's size where the network is exported
        y = torch.bmm(self.weight[:, :, 0, 0].expand(count, -1, -1), x.flatten(2))
        return (y if bias is None else y + bias[:, None]).view(count, self.out_channels, *x.shape[2:])


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
        return cls(specs_of(config), int(config["resolution"]))

    def check_fits(self, feature_specs: Sequence[FeatureSpec]) -> None:
        """Raise :class:`ConfigError` unless the last of these are the maps that the network reads."""
        count = len(self.feature_specs)
        last = tuple(feature_specs)[-count:]
        if last != self.feature_specs:
            finest = max((s.resolution for s in feature_specs), default=0)
            raise ConfigError(
                f"This alpha network fits generators of {self.resolution}x{self.resolution} pixels whose last {count} "
                f"feature maps are: {listed(self.feature_specs)}. The generator has {len(feature_specs)} maps of up "
                f"to {finest}², the last: {listed(last)}."
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
                x = F.leaky_relu(merge(torch.cat((p, _enlarged(x, p.shape[-1])), dim=1)), LEAKY_SLOPE)
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
        return alpha_from_logits(self.logits(features))


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
            f"{resolution}x{resolution} pixels with these maps does not fit it: {listed(feature_specs)}. Use an alpha "
            "network of family merge."
        )
    return read
