"""Is this run going well? Foreground ratio, sharpness, center bias and steadiness of the masks, without any label.

An adversarial game can be lost quietly: masks that are empty, full, the same everywhere, or the wrong way round. Each
shows in a few numbers on samples that training does not draw. From two of the numbers comes a score that ranks networks
much as labels would (``docs/experiments.md`` has the figures); ``training_loop/best.py`` keeps the best network by it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from labels4free.layered import composite
from labels4free.losses import inpainting_error
from labels4free.metrics.label_free import mask_numbers
from labels4free.metrics.masks import soft_agreement
from labels4free.training_loop.contracts import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

_EMPTY, _FULL = 0.03, 0.97
_FLAT = 0.05
# power of it in the score: it varies a tenth as much as inpainting error between good networks
_WEIGHT_OF_AGREEMENT = 10


@torch.no_grad()
def check_masks(
    foreground: Tensor,
    background: Tensor,
    alpha: Tensor,
    discriminator: Callable[[Tensor], Tensor],
    again: Mapping[str, Tensor] | None = None,
) -> Check:
    """Check masks without labels.

    Args:
        foreground: [N, 3, R, R].
        background: [N, 3, R, R], of other samples.
        alpha: [N, 1, R, R], in [0, 1].
        discriminator: Image [N, 3, R, R] -> logits [N, 1].
        again: Alpha [K, 1, R, R] of the first K samples rendered again, K <= N: ``noise`` with other noise, ``mixing``
            with another sample's fine styles. Either may be missing.

    Returns:
        The numbers of :func:`mask_numbers`, and ``swap_gain``, how much more real the discriminator finds composites
        than the same with the layers swapped (logits); ``inpainting_error``, how badly the hard masks' two sides
        predict each other (:func:`labels4free.losses.inpainting_error`): of these numbers the one that ranks networks
        most as labels would, to be large; ``agreement_noise`` and ``agreement_mixing``, agreement
        (:func:`labels4free.metrics.masks.soft_agreement`) with alpha of the samples rendered again, in [0, 1], where
        there are such; ``score``: :func:`label_free_score`.
    """
    right = discriminator(composite(foreground, background, alpha)).mean()
    swapped = discriminator(composite(foreground, background, 1 - alpha)).mean()
    of_masks = mask_numbers(alpha)
    smallest, largest = of_masks.pop("foreground_ratio_min"), of_masks.pop("foreground_ratio_max")
    hard = (alpha > 0.5).to(alpha.dtype)
    apart = float(inpainting_error(foreground, hard))
    agreement = {name: soft_agreement(alpha[: len(other)], other) for name, other in (again or {}).items()}
    numbers = {
        **of_masks,
        "swap_gain": float(right - swapped),
        "inpainting_error": apart,
        "foreground_ratio_min": smallest,
        "foreground_ratio_max": largest,
        **{f"agreement_{name}": agreement[name] for name in ("noise", "mixing") if name in agreement},
        "score": label_free_score(apart, agreement.get("mixing")),
    }
    return Check(numbers, find_problem(**{name: numbers[name] for name in _DECISIVE}))


_DECISIVE = ("foreground_ratio", "contrast", "center_bias", "swap_gain")


def label_free_score(inpainting_error: float, agreement_mixing: float | None) -> float:
    """``inpainting_error * agreement_mixing ** 10``: how good masks are, as far as it shows without labels, in [0, 1].

    Good masks part an image where its two sides differ, and do not move when fine styles change what the image looks
    like but not where its object ends. A hundredth less agreement weighs as a tenth less inpainting error. Agreement
    under other noise is left out: it ranks worse than either, and with it the score does, too.

    The score compares the networks of one run, or runs of one generator that differ in what matters. Runs that differ
    by their seed alone it does not rank; their agreement with each other does (``consensus.py``).

    Args:
        inpainting_error: As :func:`check_masks` has it, in [0, 1].
        agreement_mixing: The same; None where it was not measured counts as 1.
    """
    agreement = 1.0 if agreement_mixing is None else agreement_mixing
    return max(0.0, inpainting_error) * agreement**_WEIGHT_OF_AGREEMENT


def find_problem(*, foreground_ratio: float, contrast: float, center_bias: float, swap_gain: float) -> str | None:
    """Detect collapsed, empty, full or inverted masks: what is wrong with them, or None."""
    if not all(math.isfinite(value) for value in (foreground_ratio, contrast, center_bias, swap_gain)):
        return "the masks, or what the discriminator makes of them, are not finite numbers"
    if foreground_ratio < _EMPTY:
        return f"the masks are empty (mean alpha {foreground_ratio:.3f})"
    if foreground_ratio > _FULL:
        return f"the masks are full (mean alpha {foreground_ratio:.3f})"
    if contrast < _FLAT:
        return f"alpha is nearly the same everywhere (deviation {contrast:.3f} within an image)"
    if center_bias < 0 and swap_gain < 0:
        return (
            f"the masks are the wrong way round (alpha is {-center_bias:.2f} higher at the border than in the middle, "
            "and swapped layers look more real)"
        )
    if center_bias < -0.5:
        return (
            f"the masks are the wrong way round (alpha is {-center_bias:.2f} higher at the border than in the middle)"
        )
    return None
