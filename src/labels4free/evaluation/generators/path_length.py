"""Perceptual path length of a generator: pairs of images whose latents are a small step apart.

As NVlabs/stylegan2-ada-pytorch metrics/perceptual_path_length.py has it, but that pair i depends on the seed and on i.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from labels4free.data.parallel import available_cores, ordered_map
from labels4free.evaluation.generators.streams import noise_of_seeds, render
from labels4free.generators.base import sample_label, sample_z
from labels4free.metrics.perceptual import great_circle, path_image, path_length
from labels4free.seeds import OTHER_NOISE, OTHER_STYLES, derive_seed, draw, series

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from labels4free.evaluation.generators.feature_nets import FeatureNet
    from labels4free.evaluation.generators.recipes import PathRecipe
    from labels4free.generators.base import Generator

EPSILON = 1e-4
"""The step, as published."""


@dataclass(frozen=True)
class PathPairs:
    """Distances of the pairs of a generator's series; can be pickled.

    Attributes:
        generator: On any device.
        net: Gives the distances.
        path: Where the pairs lie.
        count: How many there are.
        seed: Of the series.
        truncation_psi: As published 1; w is truncated before the way through it.
        epsilon: The step from one image of a pair to the other, as a part of the way.
        batch_size: Pairs at once.
        threads: Of this process; None leaves them.
    """

    generator: Generator
    net: FeatureNet
    path: PathRecipe
    count: int
    seed: int
    truncation_psi: float = 1.0
    epsilon: float = EPSILON
    batch_size: int = 2
    threads: int | None = None

    def __call__(self, number: int) -> Tensor:
        """Distances of a batch of pairs by its number, [N], on the CPU."""
        if self.threads:
            torch.set_num_threads(self.threads)
        start = number * self.batch_size
        numbers = range(start, min(start + self.batch_size, self.count))
        with torch.inference_mode():
            seeds = [derive_seed(self.seed, OTHER_NOISE, k) for k in numbers]
            noise = [torch.cat((maps, maps)) for maps in noise_of_seeds(self.generator, seeds)]
            images = render(self.generator, self.ends(numbers), noise)
            images = path_image(images, crop=self.path.crop).to(self.net.device)
            one, other = images.chunk(2)
            return self.net.distance(one, other).cpu()

    def ends(self, numbers: range) -> Tensor:
        """Styles of pairs: of all first images, then of all second ones, [2N, num_ws, w_dim].

        Mapped pair by pair: after so small a step, the rounding that a batch decides shows in the third digit.
        """
        first, second = zip(*[self._ends_of(number).split(1) for number in numbers], strict=True)
        return torch.cat((*first, *second))

    def _ends_of(self, number: int) -> Tensor:
        """Styles of one pair, [2, num_ws, w_dim]."""
        generator, device = self.generator, self.generator.w_avg.device
        z0, z1 = (
            sample_z(generator.z_dim, seed, number).to(device)[None]
            for seed in (self.seed, series(self.seed, OTHER_STYLES))
        )
        start = draw(self.seed, number, "path") if self.path.sampling == "full" else 0.0
        t = torch.tensor([start, start + self.epsilon], device=device)
        labels = None
        if generator.c_dim:
            label = sample_label(generator.c_dim, self.seed, number)
            labels = torch.eye(generator.c_dim, device=device)[[label, label]]
        if self.path.space == "z":
            z = great_circle(z0.expand(2, -1), z1.expand(2, -1), t)
            return generator.map(z, self.truncation_psi, labels=labels)
        w0, w1 = generator.map(torch.cat((z0, z1)), self.truncation_psi, labels=labels).split(1)
        return torch.lerp(w0, w1, t[:, None, None])


def measure_path_length(
    pairs: PathPairs, *, workers: int = 1, progress: Callable[[int], object] | None = None
) -> float:
    """Perceptual path length: the mean of distance / epsilon^2 over pairs, without the lowest and highest hundredth.

    Args:
        pairs: The pairs.
        workers: Processes, for CPUs.
        progress: Called with the number of pairs that were done, batch by batch.

    Raises:
        ConfigError: If the network gives no perceptual distance.
    """
    if workers > 1:
        pairs = replace(pairs, threads=max(1, available_cores() // workers))
    found = []
    for distances in ordered_map(pairs, range(-(-pairs.count // pairs.batch_size)), workers, chunk=1):
        found.append(distances)
        if progress is not None:
            progress(len(distances))
    return path_length(torch.cat(found), pairs.epsilon)
