"""What stands behind the foreground while training: generated backgrounds, and fillings of real-looking ones.

A generated background (the image rendered without its object) has textures and colours that no photograph has. Alone it
teaches the discriminator to look for those, and the alpha network to hide them wherever they hurt least. As soon as the
masks are halfway right there is something better: the surroundings of *another sample's* object, with the hole where
the object was filled from around it. Composites over these can only be told from real images by their layout. Both
samples' masks are then on trial, by gradients: what a mask takes too much of is seen around its own object, what it
leaves behind (the tips of cut-off hair) is seen behind the other's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from labels4free.ops.push_pull import fill_holes
from labels4free.training.alpha.feature_cache import mirrored
from labels4free.training_loop.distributed import process_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from labels4free.training.alpha.config import BackgroundConfig
    from labels4free.training.alpha.feature_cache import CachedBatch, FeatureCache

_LEAST_WEIGHT = 1e-3  # even a full mask leaves something to fill from


def filled_surroundings(batch: CachedBatch, alpha: Tensor) -> Tensor:
    """Take the object out of each image and fill the hole from around it.

    Args:
        batch: The samples.
        alpha: Their masks, [N, 1, R, R].

    Returns:
        [N, 3, R, R], differentiable in alpha.
    """
    # Squared: what is half object says little about the background.
    return fill_holes(batch.images, (1 - alpha).square() + _LEAST_WEIGHT)


def filled_fraction(config: BackgroundConfig, step: int) -> float:
    """Fraction of filled backgrounds at an alpha step; 0 during the warm-up (negative steps)."""
    ramp = (step - config.filled_from_step) / (config.filled_full_step - config.filled_from_step)
    return config.filled_fraction * min(1.0, max(0.0, ramp))


def draw_backgrounds(
    cache: FeatureCache,
    alpha_logits: Callable[[list[Tensor]], Tensor],
    foregrounds: tuple[Tensor, Tensor],
    config: BackgroundConfig,
    *,
    samples: int,
    fraction: float,
    rng: torch.Generator,
) -> Tensor:
    """Draw a background for each foreground of a batch.

    Args:
        cache: The samples.
        alpha_logits: Levels of a batch -> its alpha logits [N, 1, R, R].
        foregrounds: Cache indices [N] of the foregrounds, and which of them are mirrored [N]: this process's shard.
        config: Blur, jitter, same latent or not.
        samples: How many of the cache may be drawn, from its beginning.
        fraction: Fraction of filled backgrounds, in [0, 1].
        rng: Source of every draw, on the CPU; the same in every process.

    Returns:
        [N, 3, R, R], differentiable in what ``alpha_logits`` depends on.
    """
    indices, flip = foregrounds
    group, device = process_group(), cache.images.device
    n = len(indices) * group.size

    def drawn(*shape: int) -> Tensor:
        """This process's shard of uniform draws [n, *shape]."""
        return group.shard_batch(torch.rand(n, *shape, generator=rng))

    other = indices if config.same_latent else group.shard_batch(torch.randint(samples, (n,), generator=rng))
    other_flip = flip if config.same_latent else (drawn() < 0.5).to(device)
    generated = mirrored(cache.backgrounds[other].float(), other_flip)
    if config.blur > 1:
        size = generated.shape[-1]
        generated = F.interpolate(F.avg_pool2d(generated, config.blur), size=size, mode="bilinear", align_corners=False)
    contrast = 1 + config.jitter * (2 * drawn(1, 1, 1) - 1)
    tint = config.jitter * (2 * drawn(3, 1, 1) - 1)
    generated = generated * contrast.to(device) + tint.to(device)
    if fraction <= 0:
        return generated
    chosen = (drawn() < fraction).to(device)
    donor = group.shard_batch(torch.randint(samples, (n,), generator=rng))
    batch = cache.take(donor, (drawn() < 0.5).to(device))
    filled = filled_surroundings(batch, alpha_logits(batch.levels).sigmoid())
    return torch.where(chosen[:, None, None, None], filled, generated)
