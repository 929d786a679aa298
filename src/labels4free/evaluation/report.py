"""What an evaluation found: pooled scores of the classes, means over the images with intervals, baselines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from labels4free.evaluation.baselines import Baseline, score_baselines
from labels4free.metrics.intervals import Interval, bootstrap_intervals
from labels4free.metrics.masks import (
    Counts,
    accuracy,
    f1,
    iou_foreground,
    mean_iou,
    precision,
    recall,
    swap_classes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.evaluation.baselines import TruthMap
    from labels4free.evaluation.config import EvaluationConfig

CLASS_SCORES: Mapping[str, Callable[[Counts], Tensor]] = {
    "iou": iou_foreground,
    "f1": f1,
    "precision": precision,
    "recall": recall,
    "accuracy": accuracy,
}
"""The columns of the table of classes; accuracy is that of the set, the same for both."""


@dataclass(frozen=True, eq=False)
class ImageScores:
    """The scores of each image.

    Attributes:
        names: Of the images, in the order they were scored.
        groups: Of each image, empty where there are none.
        scores: Score -> its value for each image, float64 [N]. A smaller ``mae`` is better; of all others a larger one.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    scores: Mapping[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(next(iter(self.scores.values())))

    def of(self, index: int) -> dict[str, float]:
        """One image's scores."""
        return {name: float(values[index]) for name, values in self.scores.items()}

    def worst(self, number: int, score: str = "miou") -> list[int]:
        """Indices of the images that score lowest, the worst first."""
        return [int(index) for index in np.argsort(self.scores[score], kind="stable")[:number]]


@dataclass(frozen=True)
class GroupReport:
    """The figures of a set.

    Attributes:
        images: How many there are.
        counts: tp, fp, fn, tn: pixels of all images together.
        pooled: ``background``, ``foreground`` and their ``mean`` -> score -> value, from the counts of all images
            together: every pixel weighs the same.
        pooled_miou: The mean IoU of the two classes again, with its interval.
        per_image: Score -> mean over the images: every image weighs the same.
        baselines: Name -> what a mask scores that never looks at the image, pooled.
    """

    images: int
    counts: Mapping[str, int]
    pooled: Mapping[str, Mapping[str, float]]
    pooled_miou: Interval
    per_image: Mapping[str, Interval]
    baselines: Mapping[str, Baseline]


@dataclass(frozen=True)
class EvaluationReport:
    """What an evaluation found.

    Attributes:
        config: Its settings.
        total: All images together.
        groups: Sub-folder -> its images; empty where there is only one.
        images: Each image's scores.
    """

    config: EvaluationConfig
    total: GroupReport
    groups: Mapping[str, GroupReport]
    images: ImageScores

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "settings": asdict(self.config),
            "total": asdict(self.total),
            "groups": {name: asdict(group) for name, group in self.groups.items()},
            "images": [
                {"name": name, **({"group": group} if group else {}), **self.images.of(index)}
                for index, (name, group) in enumerate(zip(self.images.names, self.images.groups, strict=True))
            ],
        }


def report_group(
    counts: NDArray[np.float64], images: ImageScores, truth: TruthMap, config: EvaluationConfig
) -> GroupReport:
    """Put a set's figures together.

    Args:
        counts: [N, 4]: tp, fp, fn, tn of each image.
        images: The scores of the same images.
        truth: Where their truth lies.
        config: How often to resample, and from which seed.
    """
    sums = Counts(*torch.from_numpy(counts.sum(axis=0)))
    classes = {"background": swap_classes(sums), "foreground": sums}
    pooled = {
        name: {score: float(metric(seen)) for score, metric in CLASS_SCORES.items()} for name, seen in classes.items()
    }
    pooled["mean"] = {score: (pooled["background"][score] + pooled["foreground"][score]) / 2 for score in CLASS_SCORES}
    miou, means = _intervals(counts, images, config)
    return GroupReport(
        images=len(images),
        counts={name: int(number) for name, number in zip(Counts._fields, sums, strict=True)},
        pooled=pooled,
        pooled_miou=miou,
        per_image=means,
        baselines=score_baselines(truth),
    )


def _intervals(
    counts: NDArray[np.float64], images: ImageScores, config: EvaluationConfig
) -> tuple[Interval, dict[str, Interval]]:
    """Pooled mIoU and every per-image mean, with intervals over the images."""
    values = np.stack(list(images.scores.values()), axis=1)
    known = counts.shape[1]

    def figures(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        pooled = mean_iou(Counts(*torch.from_numpy(sums[:, :known].copy()).T)).numpy()
        return np.column_stack([pooled, sums[:, known:] / len(values)])

    rows = np.concatenate([counts, values], axis=1)
    miou, *means = bootstrap_intervals(rows, figures, config.bootstrap, config.seed)
    return miou, dict(zip(images.scores, means, strict=True))
