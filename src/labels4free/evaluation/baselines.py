"""What masks score that never look at the image: without them a figure means little.

All are fixed masks for the whole set, and the last two are fitted to its ground truth: they are what can be had without
looking, not rivals. A fixed mask's pooled counts follow from the mean truth alone, so that a set is read once. The
mean is kept on a grid of 128 x 128 cells, laid over images of any size.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch.nn import functional as F

from labels4free.metrics.masks import Counts, f1, iou_background, iou_foreground, mean_iou

if TYPE_CHECKING:
    from torch import Tensor

_GRID = 128
_RADII = tuple(step / 20 for step in range(2, 30))  # of an ellipse, as fractions of half the height and half the width


class TruthMap:
    """Foreground and background of a set's truth in each cell of a grid, in pixels.

    Attributes:
        foreground: [128, 128] float64.
        background: [128, 128] float64; pixels that do not count are in neither.
    """

    def __init__(self) -> None:
        self.foreground = torch.zeros(_GRID, _GRID, dtype=torch.float64)
        self.background = torch.zeros(_GRID, _GRID, dtype=torch.float64)

    def add(self, truth: Tensor, valid: Tensor | None = None) -> None:
        """Add one image.

        Args:
            truth: boolean [H, W].
            valid: boolean [H, W]: which pixels count; None means all.
        """
        for cells, pixels in ((self.foreground, truth), (self.background, ~truth)):
            counted = pixels if valid is None else pixels & valid
            fractions = F.interpolate(counted[None, None].float(), size=(_GRID, _GRID), mode="area")[0, 0].double()
            # The cells overlap where the sides are no multiples of the grid: the sum is what it must be.
            total = fractions.sum()
            cells += fractions * (counted.sum() / total if total > 0 else 0.0)

    def __iadd__(self, other: TruthMap) -> Self:
        self.foreground += other.foreground
        self.background += other.background
        return self

    def counts(self, mask: Tensor) -> Counts:
        """What one mask for all images, boolean [..., 128, 128], scores: counts [...] in pixels, pooled."""
        inside = mask.double()
        tp, fp = ((cells * inside).sum(dim=(-2, -1)) for cells in (self.foreground, self.background))
        return Counts(tp=tp, fp=fp, fn=self.foreground.sum() - tp, tn=self.background.sum() - fp)


@dataclass(frozen=True)
class Baseline:
    """A mask that never looks at the image.

    Attributes:
        description: What it is.
        miou: Mean of the two classes' IoU, pooled over all pixels; the others likewise.
        iou_foreground: Of the object.
        iou_background: Of the background.
        f1: Of the object.
    """

    description: str
    miou: float
    iou_foreground: float
    iou_background: float
    f1: float


def score_baselines(truth: TruthMap) -> dict[str, Baseline]:
    """Score every baseline on a set: everything foreground, everything background, best ellipse, mean mask."""
    whole = torch.ones(_GRID, _GRID, dtype=torch.bool)
    ellipse, height, width = _best_ellipse(truth)
    return {
        "all_foreground": _score(truth, whole, "everything is foreground"),
        "all_background": _score(truth, ~whole, "everything is background"),
        "ellipse": _score(
            truth, ellipse, f"best centred ellipse, {height:.0%} of the height by {width:.0%} of the width"
        ),
        "mean_mask": _score(truth, truth.foreground > truth.background, "where most of the true masks are foreground"),
    }


def _best_ellipse(truth: TruthMap) -> tuple[Tensor, float, float]:
    """The mask with the highest mIoU, its height and width as fractions of the image's."""
    centres = (torch.arange(_GRID, dtype=torch.float64) + 0.5) * (2 / _GRID) - 1

    def ellipse(height: float, width: float) -> Tensor:
        return (centres / height).square()[:, None] + (centres / width).square()[None] < 1

    radii = itertools.product(_RADII, repeat=2)
    height, width = max(radii, key=lambda pair: float(mean_iou(truth.counts(ellipse(*pair)))))
    return ellipse(height, width), height, width


def _score(truth: TruthMap, mask: Tensor, description: str) -> Baseline:
    counts = truth.counts(mask)
    return Baseline(description, *(float(metric(counts)) for metric in (mean_iou, iou_foreground, iou_background, f1)))
