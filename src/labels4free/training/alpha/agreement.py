"""Does alpha stay where it is when what it must not depend on changes? The samples kept apart, rendered once more.

How they are rendered again, and why that tells: :mod:`labels4free.generators.views`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from labels4free.generators.views import render_again
from labels4free.training_loop.chunks import read_chunk, write_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from torch import Tensor

    from labels4free.generators.base import Generator
    from labels4free.training.alpha.projection import Projection

_STORED = torch.float16


def build_augmented(
    generator: Generator,
    augmentation: str,
    samples: Iterable[tuple[int, Tensor, float]],
    project: tuple[Projection, Sequence[Sequence[int]], int],
    seed: int,
    folder: Path,
    progress: Callable[[], None] | None = None,
) -> list[Tensor]:
    """Render augmented samples of the cache, or read what an earlier call rendered.

    Args:
        generator: The frozen generator.
        augmentation: One of :data:`labels4free.generators.views.AUGMENTATIONS`.
        samples: (number in the cache, ws [1, num_ws, w_dim], truncation) of each.
        project: Projection, indices of the feature maps of each level, and training resolution, as the cache has them.
        seed: Seed of the cache's latents.
        folder: The cache's folder; they are kept there in a file that is named by the samples in it.
        progress: Called after each sample.

    Returns:
        Projected maps of the samples, float16, one [N, K, r, r] a level, on the generator's device.

    Raises:
        RunError: If the file cannot be written.
    """
    projection, levels, resolution = project
    todo = list(samples)
    path = folder / f"{augmentation}_{todo[0][0]:06d}_{todo[-1][0]:06d}.safetensors"
    chunk = read_chunk(path)
    if chunk is None:
        parts: list[list[Tensor]] = []
        for index, ws, psi in todo:
            features = render_again(generator, augmentation, ws, seed, index, psi).features
            parts.append([x.to("cpu", _STORED) for x in projection.levels(features, levels, resolution)])
            if progress:
                progress()
        chunk = {f"level.{i:03d}": torch.cat(maps).contiguous() for i, maps in enumerate(zip(*parts, strict=True))}
        write_chunk(path, chunk)
    elif progress:
        for _ in todo:
            progress()
    return [chunk[f"level.{i:03d}"].to(generator.w_avg.device) for i in range(len(levels))]
