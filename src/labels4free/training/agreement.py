"""Does alpha stay where it is when what it must not depend on changes? The samples kept apart, rendered once more.

Noise decides where a hair lies, the fine styles decide colours and light; neither moves the object. A network that has
learned the object gives nearly the same alpha for both renderings, one that has learned a texture does not. Mirroring
is no such test here: the alpha networks are built of 1x1 convolutions, so the alpha of mirrored features is the
mirrored alpha by construction, and their agreement is 1 whatever they have learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from labels4free.generators.base import mix_styles
from labels4free.training.chunks import read_chunk, write_chunk
from labels4free.training.draws import generator_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from torch import Tensor

    from labels4free.generators.base import Generator
    from labels4free.training.projection import Projection
    from labels4free.types import GeneratorOutput

VIEWS = ("noise", "mixing")
"""Ways of rendering a sample again: with other noise, and with another sample's fine styles."""

_COARSE_SHARE = 0.6  # of the rows of ws, which keep their styles under mixing
_NOISE_SEED, _MIXING_SEED = 0x015E, 0x313C5  # draws that are none of the training's
_STORED = torch.float16


def first_fine_row(num_ws: int) -> int:
    """Row of ws from which on styles are exchanged: the finest two fifths of the rows, at least the last one."""
    return max(0, min(num_ws - 1, round(_COARSE_SHARE * num_ws)))


@torch.no_grad()
def render_again(generator: Generator, view: str, ws: Tensor, seed: int, index: int, psi: float) -> GeneratorOutput:
    """Render a sample as one of :data:`VIEWS`; the result depends on the arguments alone.

    Args:
        generator: The generator.
        view: Which.
        ws: The sample's styles, [1, num_ws, w_dim].
        seed: Seed of the series that the sample is from.
        index: Its number there.
        psi: Truncation of the other sample, whose fine styles are taken.
    """
    if view == "noise":
        rng = generator_for(seed, _NOISE_SEED, index, device=generator.w_avg.device)
        return generator.synthesize(ws, noise="random", rng=rng)
    other = generator.draw_ws(seed ^ _MIXING_SEED, index, psi)
    return generator.synthesize(mix_styles(ws, other, first_fine_row(generator.num_ws)))


def build_view(
    generator: Generator,
    view: str,
    samples: Iterable[tuple[int, Tensor, float]],
    project: tuple[Projection, Sequence[Sequence[int]], int],
    seed: int,
    folder: Path,
    progress: Callable[[], None] | None = None,
) -> list[Tensor]:
    """Render samples of the bank again, or read what an earlier call rendered.

    Args:
        generator: The frozen generator.
        view: One of :data:`VIEWS`.
        samples: (number in the bank, ws [1, num_ws, w_dim], truncation) of each.
        project: Projection, indices of the feature maps of each level, and training resolution, as the bank has them.
        seed: Seed of the bank's latents.
        folder: The bank's folder; the view is kept there in a file that is named by the samples in it.
        progress: Called after each sample.

    Returns:
        Projected maps of the samples, float16, one [N, K, r, r] a level, on the generator's device.

    Raises:
        RunError: If the file cannot be written.
    """
    projection, levels, resolution = project
    todo = list(samples)
    path = folder / f"{view}_{todo[0][0]:06d}_{todo[-1][0]:06d}.safetensors"
    chunk = read_chunk(path)
    if chunk is None:
        parts: list[list[Tensor]] = []
        for index, ws, psi in todo:
            features = render_again(generator, view, ws, seed, index, psi).features
            parts.append([x.to("cpu", _STORED) for x in projection.levels(features, levels, resolution)])
            if progress:
                progress()
        chunk = {f"level.{i:03d}": torch.cat(maps).contiguous() for i, maps in enumerate(zip(*parts, strict=True))}
        write_chunk(path, chunk)
    elif progress:
        for _ in todo:
            progress()
    return [chunk[f"level.{i:03d}"].to(generator.w_avg.device) for i in range(len(levels))]
