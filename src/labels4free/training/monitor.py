"""Is this run going well? Coverage, binarity and polarity of the masks, without any label.

An adversarial game can be lost quietly: masks that are empty, full, the same everywhere, or the wrong way round. Each
shows in a few numbers on samples that training does not draw.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from labels4free.layered import composite
from labels4free.losses import binarization, separation

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_EMPTY, _FULL = 0.03, 0.97
_FLAT = 0.05
_BORDER = 1 / 8


@dataclass(frozen=True)
class Health:
    """What a check found.

    Attributes:
        coverage: Mean alpha, in [0, 1].
        coverage_sd: Its standard deviation over the images.
        binarity: 1 where every alpha is 0 or 1, 0 where all are 0.5.
        contrast: Standard deviation of alpha over the pixels of an image, mean over the images, in [0, 0.5].
        polarity: Mean alpha of the middle minus mean alpha of the border, in [-1, 1]; objects sit in the middle.
        swap_gain: How much more real the discriminator finds composites than the same with the layers swapped (logits).
        problem: What is wrong, in a sentence; None if nothing is.
        separation: How badly the hard masks' two sides predict each other (:func:`labels4free.losses.separation`, on
            samples kept apart). Of these numbers the one that ranks networks most as labels would; to be large.
    """

    coverage: float
    coverage_sd: float
    binarity: float
    contrast: float
    polarity: float
    swap_gain: float
    problem: str | None
    separation: float = 0.0

    @property
    def hopeless(self) -> bool:
        """Whether the networks hold numbers that no further step can mend."""
        return not all(math.isfinite(value) for value in self.numbers().values())

    def numbers(self) -> dict[str, float]:
        """All but the problem, for a log."""
        values = asdict(self)
        del values["problem"]
        return values


@torch.no_grad()
def check_health(
    foreground: Tensor, background: Tensor, alpha: Tensor, discriminator: Callable[[Tensor], Tensor]
) -> Health:
    """Examine masks.

    Args:
        foreground: [N, 3, R, R].
        background: [N, 3, R, R], of other samples.
        alpha: [N, 1, R, R], in [0, 1].
        discriminator: Image [N, 3, R, R] -> logits [N, 1].
    """
    coverage = alpha.mean(dim=(1, 2, 3))
    middle, border = _middle_and_border(alpha)
    right = discriminator(composite(foreground, background, alpha)).mean()
    swapped = discriminator(composite(foreground, background, 1 - alpha)).mean()
    numbers = {
        "coverage": float(coverage.mean()),
        "coverage_sd": float(coverage.std(correction=0)),
        "binarity": 1 - 2 * float(binarization(alpha)),
        "contrast": float(alpha.flatten(1).std(dim=1, correction=0).mean()),
        "polarity": float(middle - border),
        "swap_gain": float(right - swapped),
    }
    decisive = {name: numbers[name] for name in ("coverage", "contrast", "polarity", "swap_gain")}
    hard = (alpha > 0.5).to(alpha.dtype)
    return Health(**numbers, problem=find_problem(**decisive), separation=float(separation(foreground, hard)))


def find_problem(*, coverage: float, contrast: float, polarity: float, swap_gain: float) -> str | None:
    """Say what is wrong with such masks, or None; the arguments are attributes of :class:`Health`."""
    if not all(math.isfinite(value) for value in (coverage, contrast, polarity, swap_gain)):
        return "the masks, or what the discriminator makes of them, are not finite numbers"
    if coverage < _EMPTY:
        return f"the masks are empty (mean alpha {coverage:.3f})"
    if coverage > _FULL:
        return f"the masks are full (mean alpha {coverage:.3f})"
    if contrast < _FLAT:
        return f"alpha is nearly the same everywhere (deviation {contrast:.3f} within an image)"
    if polarity < 0 and swap_gain < 0:
        return (
            f"the masks are the wrong way round (alpha is {-polarity:.2f} higher at the border than in the middle, and "
            "swapped layers look more real)"
        )
    if polarity < -0.5:
        return f"the masks are the wrong way round (alpha is {-polarity:.2f} higher at the border than in the middle)"
    return None


def _middle_and_border(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Mean alpha of the disc of half the image's width, and of the frame of an eighth of it."""
    size = alpha.shape[-1]
    at = (torch.arange(size, device=alpha.device) + 0.5) / size - 0.5
    disc = at.square()[:, None] + at.square()[None, :] < 0.25**2
    frame = (at.abs()[:, None] > 0.5 - _BORDER) | (at.abs()[None, :] > 0.5 - _BORDER)
    flat = alpha.flatten(0, 1)
    return flat[:, disc].mean(), flat[:, frame].mean()
