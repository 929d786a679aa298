"""Views of a sample: the same object rendered again, with other noise or with another sample's fine styles.

Noise decides where a hair lies, the fine styles decide colours and light; neither moves the object. An alpha network
that has learned the object gives nearly the same alpha for every view, one that has learned a texture does not.
Mirroring is no such test: the alpha networks are built of 1x1 convolutions and resizing, so the alpha of mirrored
features is the mirrored alpha by construction, and their agreement is 1 whatever they have learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from labels4free.generators.base import mix_styles
from labels4free.seeds import OTHER_NOISE, OTHER_STYLES, derive_seed, series

if TYPE_CHECKING:
    from torch import Tensor

    from labels4free.generators.base import Generator
    from labels4free.types import GeneratorOutput

AUGMENTATIONS = ("noise", "mixing")
"""Ways of rendering a sample again: with other noise, and with another sample's fine styles."""

COARSE_SHARE = 0.6
"""Of the rows of ws, which keep their styles under mixing."""


def with_other_noise(generator: Generator, ws: Tensor, seed: int) -> GeneratorOutput:
    """Render ws [N, num_ws, w_dim] with noise that the seed decides."""
    rng = torch.Generator(generator.w_avg.device).manual_seed(seed)
    return generator.synthesize(ws, noise="random", rng=rng)


def noise_maps(generator: Generator, seed: int) -> list[Tensor]:
    """Random noise of one picture, [1, 1, R, R] a layer; drawn on the CPU, so that every device gets the same."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 1, spec.resolution, spec.resolution, generator=rng) for spec in generator.feature_specs]


def with_other_styles(generator: Generator, ws: Tensor, other: Tensor, row: int) -> GeneratorOutput:
    """Render ws [N, num_ws, w_dim] with the rows of another sample's ws from ``row`` on."""
    return generator.synthesize(mix_styles(ws, other, row))


def first_fine_row(num_ws: int) -> int:
    """Row of ws from which on styles are exchanged: the finest two fifths of the rows, at least the last one."""
    return max(0, min(num_ws - 1, round(COARSE_SHARE * num_ws)))


@torch.no_grad()
def render_again(
    generator: Generator, augmentation: str, ws: Tensor, seed: int, index: int, psi: float
) -> GeneratorOutput:
    """Render an augmented sample, as one of :data:`AUGMENTATIONS`; the result depends on the arguments alone.

    Args:
        generator: The generator.
        augmentation: Which.
        ws: The sample's styles, [1, num_ws, w_dim].
        seed: Seed of the series that the sample is from.
        index: Its number there.
        psi: Truncation of the other sample, whose fine styles are taken.
    """
    if augmentation == "noise":
        return with_other_noise(generator, ws, derive_seed(seed, OTHER_NOISE, index))
    other = generator.draw_ws(series(seed, OTHER_STYLES), index, psi)
    return with_other_styles(generator, ws, other, first_fine_row(generator.num_ws))
