"""Is this run going well? Coverage, binarity, polarity and steadiness of the masks, without any label.

An adversarial game can be lost quietly: masks that are empty, full, the same everywhere, or the wrong way round. Each
shows in a few numbers on samples that training does not draw. From two of the numbers comes a score that ranks networks
much as labels would (``docs/experiments.md`` has the figures); ``best.py`` keeps the best network by it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import torch

from labels4free.layered import composite
from labels4free.losses import binarization, separation
from labels4free.metrics import soft_agreement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

_EMPTY, _FULL = 0.03, 0.97
_FLAT = 0.05
_BORDER = 1 / 8
_WEIGHT_OF_AGREEMENT = 10  # power of it in the score: it varies a tenth as much as separation between good networks


@dataclass(frozen=True)
class Health:
    """What a check found.

    Attributes:
        coverage: Mean alpha, in [0, 1].
        coverage_sd: Its standard deviation over the images.
        coverage_min: Mean alpha of the image that has least.
        coverage_max: Mean alpha of the image that has most.
        binarity: 1 where every alpha is 0 or 1, 0 where all are 0.5.
        contrast: Standard deviation of alpha over the pixels of an image, mean over the images, in [0, 0.5].
        polarity: Mean alpha of the middle minus mean alpha of the border, in [-1, 1]; objects sit in the middle.
        swap_gain: How much more real the discriminator finds composites than the same with the layers swapped (logits).
            None where there is no discriminator, as for a segmenter.
        problem: What is wrong, in a sentence; None if nothing is.
        separation: How badly the hard masks' two sides predict each other (:func:`labels4free.losses.separation`, on
            samples kept apart). Of these numbers the one that ranks networks most as labels would; to be large. None
            for a segmenter.
        agreement_noise: Agreement (:func:`labels4free.metrics.soft_agreement`) of alpha with that of the
            same samples under other noise, in [0, 1]; None where no sample was rendered again.
        agreement_mixing: The same where the fine styles are another sample's.
        score: In [0, 1], to compare networks of one run: :func:`label_free_score`; of a segmenter ``augmented_miou``.
        teacher_miou: Of a segmenter: mean IoU with the masks of pairs kept apart, in [0, 1].
        augmented_miou: The same where those pairs are augmented as in training, by draws that never change.
        teacher_error: Mean absolute difference of alpha from theirs on those augmented pairs, in [0, 1].
        agreement_views: Agreement of alpha with that of the same images mirrored and in another light, in [0, 1].
        agreement_photos: Of unlabelled photos, the agreement of alpha with that of other views of them; None if there
            are none.
    """

    coverage: float
    coverage_sd: float
    binarity: float
    contrast: float
    polarity: float
    swap_gain: float | None
    problem: str | None
    separation: float | None = None
    coverage_min: float = 0.0
    coverage_max: float = 1.0
    agreement_noise: float | None = None
    agreement_mixing: float | None = None
    score: float = 0.0
    teacher_miou: float | None = None
    augmented_miou: float | None = None
    teacher_error: float | None = None
    agreement_views: float | None = None
    agreement_photos: float | None = None

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, float], problem: str | None) -> Self:
        """Undo :meth:`numbers`."""
        known: dict[str, float | None] = {"swap_gain": None, **numbers}
        return cls(**known, problem=problem)  # type: ignore[arg-type]  # what may not be None is among the numbers

    @property
    def hopeless(self) -> bool:
        """Whether the networks hold numbers that no further step can mend."""
        return not all(math.isfinite(value) for value in self.numbers().values())

    def numbers(self) -> dict[str, float]:
        """All that was measured but the problem, for a log."""
        return {name: value for name, value in asdict(self).items() if name != "problem" and value is not None}


def mask_numbers(alpha: Tensor) -> dict[str, float]:
    """What masks [N, 1, R, R], in [0, 1], look like: coverage, binarity, contrast within an image, polarity."""
    coverage = alpha.mean(dim=(1, 2, 3))
    middle, border = middle_and_border(alpha)
    return {
        "coverage": float(coverage.mean()),
        "coverage_sd": float(coverage.std(correction=0)),
        "coverage_min": float(coverage.min()),
        "coverage_max": float(coverage.max()),
        "binarity": 1 - 2 * float(binarization(alpha)),
        "contrast": float(alpha.flatten(1).std(dim=1, correction=0).mean()),
        "polarity": float(middle - border),
    }


@torch.no_grad()
def check_health(
    foreground: Tensor,
    background: Tensor,
    alpha: Tensor,
    discriminator: Callable[[Tensor], Tensor],
    again: Mapping[str, Tensor] | None = None,
) -> Health:
    """Examine masks.

    Args:
        foreground: [N, 3, R, R].
        background: [N, 3, R, R], of other samples.
        alpha: [N, 1, R, R], in [0, 1].
        discriminator: Image [N, 3, R, R] -> logits [N, 1].
        again: Alpha [K, 1, R, R] of the first K samples rendered again, K <= N: ``noise`` with other noise, ``mixing``
            with another sample's fine styles. Either may be missing.
    """
    right = discriminator(composite(foreground, background, alpha)).mean()
    swapped = discriminator(composite(foreground, background, 1 - alpha)).mean()
    numbers = {**mask_numbers(alpha), "swap_gain": float(right - swapped)}
    decisive = {name: numbers[name] for name in ("coverage", "contrast", "polarity", "swap_gain")}
    hard = (alpha > 0.5).to(alpha.dtype)
    apart = float(separation(foreground, hard))
    agreement = {name: soft_agreement(alpha[: len(other)], other) for name, other in (again or {}).items()}
    return Health(
        **numbers,
        problem=find_problem(**decisive),
        separation=apart,
        agreement_noise=agreement.get("noise"),
        agreement_mixing=agreement.get("mixing"),
        score=label_free_score(apart, agreement.get("mixing")),
    )


def label_free_score(separation: float, agreement_mixing: float | None) -> float:
    """``separation * agreement_mixing ** 10``: how good masks are, as far as it shows without labels, in [0, 1].

    Good masks part an image where its two sides differ, and do not move when fine styles change what the image looks
    like but not where its object ends. A hundredth less agreement weighs as a tenth less separation. Agreement under
    other noise is left out: it ranks worse than either, and with it the score does, too.

    The score compares the networks of one run, or runs of one generator that differ in what matters. Runs that differ
    by their seed alone it does not rank; their agreement with each other does (``consensus.py``).

    Args:
        separation: Attribute of :class:`Health`, in [0, 1].
        agreement_mixing: The same; None where it was not measured counts as 1.
    """
    agreement = 1.0 if agreement_mixing is None else agreement_mixing
    return max(0.0, separation) * agreement**_WEIGHT_OF_AGREEMENT


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


def middle_and_border(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Mean alpha of the disc of half the image's width, and of the frame of an eighth of it."""
    size = alpha.shape[-1]
    at = (torch.arange(size, device=alpha.device) + 0.5) / size - 0.5
    disc = at.square()[:, None] + at.square()[None, :] < 0.25**2
    frame = (at.abs()[:, None] > 0.5 - _BORDER) | (at.abs()[None, :] > 0.5 - _BORDER)
    flat = alpha.flatten(0, 1)
    return flat[:, disc].mean(), flat[:, frame].mean()
