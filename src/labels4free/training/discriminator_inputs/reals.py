"""Real images for a discriminator: opened in one place, drawn by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from labels4free.data.images.dataset import open_images
from labels4free.errors import DataError
from labels4free.seeds import generator_for

if TYPE_CHECKING:
    from torch import Tensor

    from labels4free.data.images.dataset import ImageStore


def open_reals(path: str | None, resolution: int) -> ImageStore | None:
    """Open the real images of a run; None where there is no path: the generator's own samples are the real ones.

    Raises:
        DataError: If there are none, or they cannot be read.
    """
    return open_images(path, resolution) if path else None


class ShuffledReals:
    """Real images in a shuffled order, every one once an epoch; draw k depends on the seed and on k alone.

    Args:
        images: The images.
        seed: Decides the order.
        mirror: Mirror every second one, by chance.
        at_least: So many must be there.

    Raises:
        DataError: If there are fewer.
    """

    def __init__(self, images: ImageStore, seed: int, *, mirror: bool, at_least: int = 1) -> None:
        if len(images) < at_least:
            raise DataError(
                f"{images.path} has {len(images)} images, but a step needs {at_least}: give more, or train with a "
                "smaller batch_size or accumulation."
            )
        self.images, self.seed, self.mirror = images, seed, mirror
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def take(self, start: int, count: int) -> Tensor:
        """Draws ``start`` to ``start + count``: [count, 3, R, R], float32 in [-1, 1], on the CPU."""
        batch = self.images.batch(self.indices(start, count))
        if not self.mirror:
            return batch
        flip = [
            bool(torch.rand((), generator=generator_for(self.seed, k, 1)) < 0.5) for k in range(start, start + count)
        ]
        return torch.where(torch.tensor(flip)[:, None, None, None], batch.flip(-1), batch)

    def indices(self, start: int, count: int) -> list[int]:
        """Numbers of the images that :meth:`take` gives."""
        return [self._index(k) for k in range(start, start + count)]

    def _index(self, k: int) -> int:
        epoch, place = divmod(k, len(self.images))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(len(self.images), generator=generator_for(self.seed, epoch, 0))
        return int(self._order[place])
