"""Scores of masks: counts first, every score from the counts.

The four counts of an image say how many of its pixels are foreground or background in the prediction and in the truth.
Scores take counts of shape [N] (one image each) or [] (pooled over a set) and give values of that shape in [0, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


class Counts(NamedTuple):
    """Pixels by what was predicted and what is true; int64, [N] or [].

    Attributes:
        tp: Foreground in both.
        fp: Foreground in the prediction only.
        fn: Foreground in the truth only.
        tn: Background in both.
    """

    tp: Tensor
    fp: Tensor
    fn: Tensor
    tn: Tensor


def count(prediction: Tensor, truth: Tensor) -> Counts:
    """Count the pixels of each image.

    Args:
        prediction: boolean [N, H, W] or [N, 1, H, W], True is foreground.
        truth: boolean, of the same images; the two may differ in whether they have the channel axis.

    Returns:
        Counts of shape [N].

    Raises:
        DataError: If a mask is not boolean, or the shapes do not fit.
    """
    flat = []
    for name, mask in (("predicted", prediction), ("true", truth)):
        if mask.dtype != torch.bool:
            raise DataError(
                f"The {name} mask must be boolean, got {mask.dtype}; threshold it first, as in alpha > 0.5."
            )
        if mask.ndim not in (3, 4) or (mask.ndim == 4 and mask.shape[1] != 1):
            raise DataError(f"The {name} mask must have shape [N, H, W] or [N, 1, H, W], got {list(mask.shape)}.")
        flat.append(mask.squeeze(1) if mask.ndim == 4 else mask)
    p, t = flat
    if p.shape != t.shape:
        raise DataError(
            f"Masks of the same images must have one shape, got {list(p.shape)} predicted and {list(t.shape)} true."
        )
    return Counts(*(both.flatten(1).sum(dim=1) for both in (p & t, p & ~t, ~p & t, ~(p | t))))


def pool(counts: Counts) -> Counts:
    """Add the counts of all images: [N] -> []. Large images then weigh more than small ones."""
    return Counts(*(values.sum() for values in counts))


def iou_foreground(counts: Counts) -> Tensor:
    """Intersection over union of the foreground: tp / (tp + fp + fn)."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn, counts)


def iou_background(counts: Counts) -> Tensor:
    """Intersection over union of the background: tn / (tn + fp + fn)."""
    return _ratio(counts.tn, counts.tn + counts.fp + counts.fn, counts)


def mean_iou(counts: Counts) -> Tensor:
    """mIoU: the mean of :func:`iou_foreground` and :func:`iou_background`."""
    return (iou_foreground(counts) + iou_background(counts)) / 2


def precision(counts: Counts) -> Tensor:
    """Share of the predicted foreground that is right: tp / (tp + fp)."""
    return _ratio(counts.tp, counts.tp + counts.fp, counts)


def recall(counts: Counts) -> Tensor:
    """Share of the true foreground that was found: tp / (tp + fn)."""
    return _ratio(counts.tp, counts.tp + counts.fn, counts)


def f1(counts: Counts) -> Tensor:
    """Harmonic mean of precision and recall (Dice): 2 tp / (2 tp + fp + fn)."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn, counts)


def accuracy(counts: Counts) -> Tensor:
    """Share of the pixels that are right: (tp + tn) / all."""
    return _ratio(counts.tp + counts.tn, counts.tp + counts.fp + counts.fn + counts.tn, counts)


METRICS: Mapping[str, Callable[[Counts], Tensor]] = {
    "miou": mean_iou,
    "iou_foreground": iou_foreground,
    "iou_background": iou_background,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "accuracy": accuracy,
}
"""Every score by name; larger is better, 1 is perfect."""


def score_images(counts: Counts) -> dict[str, float]:
    """Every score of :data:`METRICS`, computed for each image, then averaged: every image weighs the same.

    Args:
        counts: Of shape [N].

    Raises:
        DataError: If there is no image.
    """
    if counts.tp.numel() == 0:
        raise DataError("There is no image to score; give at least one pair of masks.")
    return {name: float(metric(counts).mean()) for name, metric in METRICS.items()}


def score_pooled(counts: Counts) -> dict[str, float]:
    """Every score of :data:`METRICS`, computed once from all images together: every pixel weighs the same.

    Args:
        counts: Of shape [N] or [].

    Raises:
        DataError: If there is no image.
    """
    if counts.tp.numel() == 0:
        raise DataError("There is no image to score; give at least one pair of masks.")
    return {name: float(metric(pool(counts))) for name, metric in METRICS.items()}


def _ratio(numerator: Tensor, denominator: Tensor, counts: Counts) -> Tensor:
    """Divide in float64; 0 / 0, a class that does not occur, scores 1 if the image has no error and else 0."""
    faultless = ((counts.fp + counts.fn) == 0).double()
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1).double(), faultless)
