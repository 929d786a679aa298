"""Images by number, of a store or a generator, and their features batch by batch, in one process or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from labels4free.data.parallel import available_cores, ordered_map
from labels4free.errors import DataError
from labels4free.generators.base import noise_of_sample
from labels4free.generators.views import noise_maps
from labels4free.pictures.pixels import from_uint8, to_uint8
from labels4free.seeds import OTHER_NOISE, derive_seed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from labels4free.data.images.dataset import ImageStore
    from labels4free.evaluation.generators.feature_nets import FeatureNet
    from labels4free.generators.base import Generator, Noise, NoiseMode


class ImageSequence(Protocol):
    """Images by number; can be pickled, since other processes may take them."""

    def __len__(self) -> int:
        """How many there are."""

    def batch(self, start: int, stop: int) -> Tensor:
        """Images ``start`` to ``stop``, or to the last: [N, 3, R, R], float32 in [-1, 1] in steps of 8 bits."""


class StoredImages:
    """So many images of a store, spread evenly over it; all of them where there are no more.

    Args:
        store: The store.
        at_most: How many.
    """

    def __init__(self, store: ImageStore, at_most: int) -> None:
        self.store = store
        self.count = min(len(store), at_most)

    def __len__(self) -> int:
        return self.count

    def batch(self, start: int, stop: int) -> Tensor:
        """As :class:`ImageSequence`."""
        return self.store.batch([k * len(self.store) // self.count for k in range(start, min(stop, self.count))])


@dataclass(frozen=True)
class GeneratedImages:
    """The first images of a generator's series: image i depends on the seed and on i alone.

    Attributes:
        generator: On any device.
        count: How many.
        seed: Of the series.
        truncation_psi: 1 for the generator's full variety.
        noise: random: other noise for each image, drawn from its seed. fixed: the maps that ship with the weights.
    """

    generator: Generator
    count: int
    seed: int
    truncation_psi: float = 1.0
    noise: NoiseMode = "random"

    def __len__(self) -> int:
        return self.count

    def batch(self, start: int, stop: int) -> Tensor:
        """As :class:`ImageSequence`, rounded as files are.

        Raises:
            DataError: If the generator gives numbers that are not finite.
        """
        numbers = range(start, min(stop, self.count))
        ws = torch.cat([self.generator.draw_ws(self.seed, number, self.truncation_psi) for number in numbers])
        noise: Noise = self.noise
        if self.noise == "random":
            noise = noise_of_seeds(self.generator, [derive_seed(self.seed, OTHER_NOISE, number) for number in numbers])
        images = render(self.generator, ws, noise)
        for number, image in zip(numbers, images, strict=True):
            if not bool(image.isfinite().all()):
                raise DataError(
                    f"Image {number} of seed {self.seed} holds numbers that are not finite: this generator's training "
                    "diverged, or its file is damaged."
                )
        return from_uint8(to_uint8(images))


def noise_of_seeds(generator: Generator, seeds: Sequence[int]) -> list[Tensor]:
    """Noise maps of several pictures, as :meth:`Generator.synthesize` takes them, on the generator's device."""
    draws = [noise_maps(generator, seed) for seed in seeds]
    return [torch.cat(maps).to(generator.w_avg.device) for maps in zip(*draws, strict=True)]


def render(generator: Generator, ws: Tensor, noise: Noise) -> Tensor:
    """Images [N, 3, R, R] of ws: on a CPU one by one, which is faster there and the same whatever the batch."""
    if generator.w_avg.device.type != "cpu":
        return generator.synthesize(ws, noise=noise).image
    images = [generator.synthesize(ws[k : k + 1], noise=noise_of_sample(noise, k)).image for k in range(len(ws))]
    return torch.cat(images)


@dataclass(frozen=True)
class _BatchFeatures:
    """Features of a batch by its number: the work of one process."""

    images: ImageSequence
    nets: Sequence[FeatureNet]
    batch_size: int
    threads: int | None

    def __call__(self, number: int) -> list[Tensor]:
        if self.threads:
            torch.set_num_threads(self.threads)
        start = number * self.batch_size
        with torch.inference_mode():
            images = self.images.batch(start, start + self.batch_size)
            found = [net.features(images.to(net.device)).float().cpu() for net in self.nets]
        if not all(bool(features.isfinite().all()) for features in found):
            raise DataError(f"The features of images {start} to {start + len(images) - 1} are not finite.")
        return found


def stream_features(
    images: ImageSequence, nets: Sequence[FeatureNet], *, batch_size: int = 8, workers: int = 1
) -> Iterator[list[Tensor]]:
    """Features of images, batch by batch, in order; they do not depend on the number of workers.

    Args:
        images: The images.
        nets: The networks.
        batch_size: Images at once.
        workers: Processes that decode or generate, and compute; for CPUs, whose cores they share.

    Yields:
        For each net [N, width], float32 on the CPU.

    Raises:
        DataError: If images cannot be read, or features are not finite.
    """
    threads = max(1, available_cores() // workers) if workers > 1 else None
    work = _BatchFeatures(images, tuple(nets), batch_size, threads)
    yield from ordered_map(work, range(-(-len(images) // batch_size)), workers, chunk=1)
