"""The scores of a set, one image at a time: what is kept of each is a row of numbers."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from labels4free.errors import DataError
from labels4free.evaluation.baselines import TruthMap
from labels4free.evaluation.config import TRUTH_THRESHOLD, EvaluationConfig
from labels4free.evaluation.report import EvaluationReport, GroupReport, ImageScores, report_group
from labels4free.metrics.masks import (
    METRICS,
    Counts,
    boundary_f,
    count,
    e_measure,
    mean_absolute_error,
    s_measure,
    threshold_counts,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

_COUNTS = len(Counts._fields)
_OTHERS = ("boundary_f", "s_measure", "e_measure_mean", "mae")


@dataclass
class _Group:
    names: list[str] = field(default_factory=list)
    rows: array[float] = field(default_factory=lambda: array("d"))
    truth_map: TruthMap = field(default_factory=TruthMap)

    def table(self) -> NDArray[np.float64]:
        return np.array(self.rows).reshape(len(self.names), -1)


class MaskScorer:
    """Collects the scores of pairs of masks; bounded memory, some 100 bytes an image.

    It knows no file and no network: evaluation of folders, of a segmenter and of a training run all end here.

    Args:
        config: The settings.
    """

    def __init__(self, config: EvaluationConfig | None = None) -> None:
        self.config = config or EvaluationConfig()
        self._groups: dict[str, _Group] = {}

    def add(
        self,
        name: str,
        alpha: Tensor | NDArray[np.float32],
        truth: Tensor | NDArray[np.float32],
        *,
        group: str = "",
        valid: Tensor | NDArray[np.bool_] | None = None,
    ) -> dict[str, float]:
        """Score one image.

        Args:
            name: Of the image.
            alpha: The prediction: float [H, W] in [0, 1].
            truth: float [H, W] in [0, 1]; foreground where it exceeds 0.5.
            group: The set that the image belongs to, such as a class.
            valid: boolean [H, W]: which pixels count; None means all.

        Returns:
            Score name -> value, as in :class:`ImageScores`.

        Raises:
            DataError: If a mask has another shape, holds no number or one outside [0, 1].
        """
        alpha, truth = _as_mask(alpha, f"The predicted mask of {name}"), _as_mask(truth, f"The true mask of {name}")
        if alpha.shape != truth.shape:
            raise DataError(
                f"The masks of {name} must have one size, got {list(alpha.shape)} predicted and {list(truth.shape)} "
                "true."
            )
        within = torch.from_numpy(np.array(valid)) if isinstance(valid, np.ndarray) else valid
        row = self._row(alpha, truth, within)
        members = self._groups.setdefault(group, _Group())
        members.names.append(name)
        members.rows.extend(row)
        members.truth_map.add(truth > TRUTH_THRESHOLD, within)
        return _scores(np.array(row)[None]).of(0)

    def report(self) -> EvaluationReport:
        """Put the scores of everything together.

        Raises:
            DataError: If there is no image.
        """
        if not self._groups:
            raise DataError("There is no image to score; give at least one pair of masks.")
        whole = TruthMap()
        for members in self._groups.values():
            whole += members.truth_map
        rows = {name: members.table() for name, members in self._groups.items()}
        every = np.concatenate(list(rows.values()))
        names = [name for members in self._groups.values() for name in members.names]
        images = _scores(every, names, [name for name, members in self._groups.items() for _ in members.names])
        groups: dict[str, GroupReport] = {}
        if len(self._groups) > 1:
            for name, members in self._groups.items():
                counts = rows[name][:, :_COUNTS]
                groups[name] = report_group(counts, _scores(rows[name]), members.truth_map, self.config)
        total = report_group(every[:, :_COUNTS], images, whole, self.config)
        return EvaluationReport(self.config, total, groups, images)

    def _row(self, alpha: Tensor, truth: Tensor, valid: Tensor | None) -> list[float]:
        """Counts, then the scores that do not follow from them."""
        predicted, true = alpha > self.config.threshold, truth > TRUTH_THRESHOLD
        counts = count(predicted[None], true[None], None if valid is None else valid[None])
        # For the S-measure, which knows no pixels that do not count, these are background in both.
        seen = (alpha, true) if valid is None else (alpha * valid, true & valid)
        return [
            *(float(number) for number in counts),
            boundary_f(predicted, true, valid, self.config.boundary_tolerance),
            s_measure(*seen),
            float(e_measure(threshold_counts(alpha, true, valid)).mean()),
            mean_absolute_error(alpha, truth, valid),
        ]


def _scores(rows: NDArray[np.float64], names: Sequence[str] = (), groups: Sequence[str] = ()) -> ImageScores:
    counts = Counts(*torch.from_numpy(rows[:, :_COUNTS].copy()).T)
    columns = {name: metric(counts).numpy() for name, metric in METRICS.items()}
    columns["e_measure"] = e_measure(counts).numpy()
    columns |= {name: rows[:, _COUNTS + k] for k, name in enumerate(_OTHERS)}
    return ImageScores(tuple(names), tuple(groups), columns)


def _as_mask(mask: Tensor | NDArray[np.float32], what: str) -> Tensor:
    if isinstance(mask, np.ndarray):
        mask = torch.from_numpy(np.require(mask, np.float32, "W"))  # PyTorch warns of arrays that are read-only
    values = mask.detach().cpu().float()
    if values.ndim != 2 or values.numel() == 0:
        raise DataError(f"{what} must have shape [H, W], got {list(values.shape)}.")
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 1:
        raise DataError(f"{what} must hold numbers from 0 to 1, got {low:g} to {high:g}.")
    return values
