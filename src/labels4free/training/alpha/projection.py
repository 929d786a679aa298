"""Principal channels: what a training run keeps of each feature map, so that thousands of samples fit into memory.

The alpha network's first operation on a feature map is a 1x1 convolution, so it sees only a few directions of a map's
channels. A run therefore stores each map's strongest principal components, whitened (unit variance: every level speaks
equally loud, whatever the generator's scale), and trains on those. Both are linear: after training the projection is
folded into the first convolutions, and what remains is an ordinary network on the generator's own features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

from labels4free.networks.merge_network import MergeNetwork
from labels4free.types import FeatureSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

MIN_COMPONENTS = 8
"""Components kept of a map, at least (as far as it has so many channels)."""


class Projection(NamedTuple):
    """Whitened principal components of each map of a generator.

    Attributes:
        weights: [K, C] a map.
        biases: [K] a map; the components of a typical map have mean 0 and variance 1.
    """

    weights: list[Tensor]
    biases: list[Tensor]

    def specs(self, feature_specs: Sequence[FeatureSpec]) -> list[FeatureSpec]:
        """The maps after projection: K channels instead of C."""
        return [
            FeatureSpec(spec.name, len(weight), spec.resolution)
            for spec, weight in zip(feature_specs, self.weights, strict=True)
        ]

    def network_like(self, network: MergeNetwork) -> MergeNetwork:
        """Build a network of the same kind for the projected maps, untrained; :meth:`fold` leads back."""
        specs = [vars(spec) for spec in self.specs(network.feature_specs)]
        return MergeNetwork.from_config(network.config() | {"feature_specs": specs})

    def levels(self, features: Sequence[Tensor], members: Sequence[Sequence[int]], cap: int) -> list[Tensor]:
        """Project maps and pool those that are finer than the training resolution.

        Args:
            features: All maps of the generator, [N, C, R, R].
            members: Indices of the maps of each level, as ``MergeNetwork.levels``.
            cap: Side to which finer maps are averaged.

        Returns:
            One [N, K, r, r] tensor a level, r = min(R, cap).
        """
        out = []
        for level in members:
            maps = []
            for i in level:
                x = features[i]
                if x.shape[-1] > cap:
                    x = F.avg_pool2d(x, x.shape[-1] // cap)  # before projecting: both are linear, and this is cheaper
                maps.append(F.conv2d(x, self.weights[i][:, :, None, None], self.biases[i]))
            out.append(torch.cat(maps, dim=1))
        return out

    def fold(self, network: MergeNetwork, feature_specs: Sequence[FeatureSpec]) -> MergeNetwork:
        """Turn a network on projected maps into the same function of the generator's own maps."""
        folded = MergeNetwork(
            feature_specs,
            network.resolution,
            width=network.width,
            min_resolution=network.min_resolution,
            max_resolution=network.max_resolution,
        ).to(network.head.weight.device)
        state = {name: value.clone() for name, value in network.state_dict().items()}
        for index, members in enumerate(network.levels):
            weight, bias = state[f"stems.{index}.weight"][:, :, 0, 0], state[f"stems.{index}.bias"]
            parts = weight.split([len(self.weights[i]) for i in members], dim=1)
            state[f"stems.{index}.weight"] = torch.cat(
                [part @ self.weights[i] for part, i in zip(parts, members, strict=True)], dim=1
            )[:, :, None, None]
            state[f"stems.{index}.bias"] = bias + sum(
                (part @ self.biases[i] for part, i in zip(parts, members, strict=True)), torch.zeros_like(bias)
            )
        folded.load_state_dict(state)
        return folded.eval().requires_grad_(False)


def components(channels: int) -> int:
    """How many components are kept of a map: a sixteenth of its channels, at least :data:`MIN_COMPONENTS`."""
    return max(min(channels, MIN_COMPONENTS), channels // 16)


@torch.no_grad()
def fit_projection(
    feature_specs: Sequence[FeatureSpec],
    samples: Iterable[Sequence[Tensor]],
    progress: Callable[[], None] | None = None,
) -> Projection:
    """Compute each map's strongest whitened components from a few samples.

    Args:
        feature_specs: The generator's maps.
        samples: For each sample all its maps, [N, C, R, R].
        progress: Called after each sample.
    """
    sums = [torch.zeros(s.channels, dtype=torch.float64) for s in feature_specs]
    squares = [torch.zeros(s.channels, s.channels, dtype=torch.float64) for s in feature_specs]
    counts = [0] * len(feature_specs)
    for features in samples:
        for i, x in enumerate(features):
            # float32 sums within one map, float64 across maps: exact enough, and fast
            flat = x.transpose(0, 1).flatten(1)
            sums[i] += flat.sum(dim=1).double().cpu()
            squares[i] += (flat @ flat.T).double().cpu()
            counts[i] += flat.shape[1]
        if progress:
            progress()
    weights, biases = [], []
    for spec, total, square, count in zip(feature_specs, sums, squares, counts, strict=True):
        mean = total / count
        values, vectors = torch.linalg.eigh(square / count - mean.outer(mean))
        k = components(spec.channels)
        scale = values[-k:].clamp_min(1e-8 * float(values[-1].clamp_min(1e-12))).rsqrt()
        weight = (vectors[:, -k:] * scale).T.flip(0)
        weights.append(weight.float().contiguous())
        biases.append(-(weight @ mean).float())
    return Projection(weights, biases)


@torch.no_grad()
def project_network(
    network: MergeNetwork, projection: Projection, samples: Iterable[Sequence[Tensor]], cap: int
) -> MergeNetwork:
    """Transfer a network on a generator's own maps to their projections: :meth:`Projection.fold` undone, nearly.

    A projection leaves channels out, so each stem is fitted: least squares between its outputs and those of the stem
    that is to be, over the pixels of a few samples.

    Args:
        network: On the maps of a generator of this layout, perhaps of another generator: a parent's.
        projection: Of the generator that it is to serve.
        samples: For each sample all maps of that generator, [N, C, R, R].
        cap: Side to which finer maps are averaged.

    Returns:
        A network on the projected maps.
    """
    made = projection.network_like(network)
    sides: list[tuple[Tensor, Tensor]] = []
    for features in samples:
        maps = [F.avg_pool2d(x, x.shape[-1] // cap) if x.shape[-1] > cap else x for x in features]
        found = []
        for index, (members, level) in enumerate(
            zip(network.levels, projection.levels(features, network.levels, cap), strict=True)
        ):
            wanted = network.stems[index](torch.cat([maps[i] for i in members], dim=1))
            seen = torch.cat([level, torch.ones_like(level[:, :1])], dim=1)
            seen, wanted = (x.transpose(0, 1).flatten(1).double().cpu() for x in (seen, wanted))
            found.append((seen @ seen.T, seen @ wanted.T))
        sides = [(a + c, b + d) for (a, b), (c, d) in zip(sides, found, strict=True)] if sides else found
    state = {name: value.clone() for name, value in network.state_dict().items()}
    for index, (squares, products) in enumerate(sides):
        solved = torch.linalg.lstsq(squares, products, driver="gelsd").solution.float()
        state[f"stems.{index}.weight"] = solved[:-1].T[:, :, None, None].contiguous()
        state[f"stems.{index}.bias"] = solved[-1]
    made.load_state_dict(state)
    return made
