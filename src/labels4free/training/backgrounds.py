"""What stands behind the foreground while training: generated backgrounds, and fillings of real-looking ones.

A generated background (the image rendered without its object) has textures and colours that no photograph has. Alone it
teaches the discriminator to look for those, and the alpha network to hide them wherever they hurt least. As soon as the
masks are halfway right there is something better: the surroundings of *another sample's* object, with the hole where
the object was filled from around it. Composites over these can only be told from real images by their layout (cut-off
hair, left-over background), which is what the alpha network is to learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from labels4free.ops.push_pull import fill_holes
from labels4free.training.bank import mirrored

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from labels4free.training.bank import ReplayBank
    from labels4free.training.config import BackgroundConfig

_LEAST_WEIGHT = 1e-3  # even a full mask leaves something to fill from
_BATCH = 64


@torch.no_grad()
def filled_surroundings(bank: ReplayBank, alpha_logits: Callable[[list[Tensor]], Tensor]) -> Tensor:
    """Every bank sample with its object filled in from around it.

    Args:
        bank: The samples.
        alpha_logits: Levels -> alpha logits [N, 1, R, R].

    Returns:
        [S, 3, R, R], float16.
    """
    out = []
    for indices in torch.arange(len(bank)).split(_BATCH):
        batch = bank.take(indices)
        # One pixel wider than the mask: its rim holds a mixture of object and background.
        covered = F.max_pool2d(alpha_logits(batch.levels).sigmoid(), 3, stride=1, padding=1)
        out.append(fill_holes(batch.images, (1 - covered).square() + _LEAST_WEIGHT).half())
    return torch.cat(out)


def filled_share(config: BackgroundConfig, step: int) -> float:
    """Share of filled backgrounds at an alpha step; 0 during the warm-up (negative steps)."""
    ramp = (step - config.filled_from_step) / (config.filled_full_step - config.filled_from_step)
    return config.filled_share * min(1.0, max(0.0, ramp))


def draw_backgrounds(
    bank: ReplayBank,
    filled: Tensor | None,
    indices: Tensor,
    flip: Tensor,
    config: BackgroundConfig,
    share: float,
    rng: torch.Generator,
) -> Tensor:
    """Draw a background for each foreground of a batch.

    Args:
        bank: The samples.
        filled: What :func:`filled_surroundings` gave; None while the masks are too young for it.
        indices: [N], the foregrounds' bank indices.
        flip: [N], which foregrounds are mirrored.
        config: Blur, jitter, same latent or not.
        share: Share of filled backgrounds.
        rng: Source of every draw, on the CPU.

    Returns:
        [N, 3, R, R].
    """
    n, device = len(indices), bank.images.device
    other = indices if config.same_latent else torch.randint(len(bank), (n,), generator=rng)
    other_flip = flip if config.same_latent else (torch.rand(n, generator=rng) < 0.5).to(device)
    generated = mirrored(bank.backgrounds[other].float(), other_flip)
    if config.blur > 1:
        size = generated.shape[-1]
        generated = F.interpolate(F.avg_pool2d(generated, config.blur), size=size, mode="bilinear", align_corners=False)
    contrast = 1 + config.jitter * (2 * torch.rand(n, 1, 1, 1, generator=rng) - 1)
    tint = config.jitter * (2 * torch.rand(n, 3, 1, 1, generator=rng) - 1)
    generated = generated * contrast.to(device) + tint.to(device)
    if filled is None or share <= 0:
        return generated
    chosen = (torch.rand(n, generator=rng) < share).to(device)
    donor = torch.randint(len(bank), (n,), generator=rng)
    donor_flip = (torch.rand(n, generator=rng) < 0.5).to(device)
    return torch.where(chosen[:, None, None, None], mirrored(filled[donor].float(), donor_flip), generated)
