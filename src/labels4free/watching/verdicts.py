"""What the numbers of a run's log should be, and whether they are: for whoever watches a run.

What is wrong is the monitor's to say (:func:`labels4free.training.alpha.monitor.find_problem`): a number is bad exactly
where the monitor objects to it, and doubtful where it would object to one that is a little worse. Numbers that nothing
is known of, because a later version logs them, are shown without a judgement.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from enum import IntEnum
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from labels4free.training.alpha.monitor import find_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CHECK = "check_"
"""Beginning of the names of the monitor's numbers in the log."""

_HEALTHY = {"foreground_ratio": 0.5, "contrast": 0.5, "center_bias": 0.5, "swap_gain": 1.0}
_MARGINS = {"foreground_ratio": (-0.07, 0.07), "contrast": (-0.05,)}
_UNIFORM = 0.01  # deviation of foreground ratio between images below which one mask may serve all
_FEW_VALUES_BINARY = 0.8
_UNSTEADY = 0.8
_FALLEN = 0.8  # fraction of its best value below which a number has fallen
_WON = 0.98
_RECENT = 32  # newest values whose mean is shown of what every step logs


class Verdict(IntEnum):
    """What to think of a number; the larger, the worse."""

    OPEN = 0
    GOOD = 1
    DOUBTFUL = 2
    BAD = 3


@dataclass(frozen=True)
class Judged:
    """A metric of the training log, with a verdict.

    Attributes:
        name: As the log has it, without :data:`CHECK`.
        value: The newest one, of a check; of what every step logs, the mean of the newest 32. NaN if it is not finite.
        verdict: What to think of it.
        expected: What it should be, in a few words; empty if nothing is known of it.
        history: Means of neighbouring values over the attempt, oldest first.
    """

    name: str
    value: float
    verdict: Verdict
    expected: str
    history: tuple[float, ...]


class Bounds(NamedTuple):
    """What a run's settings ask of its masks.

    Attributes:
        min_foreground_ratio: Mean alpha below which training pushes up; None if it does not.
        max_foreground_ratio: Mean alpha above which training pushes down; None if it does not.
        settled: Whether the run is past its grace, so that numbers that rise slowly should have risen.
    """

    min_foreground_ratio: float | None = None
    max_foreground_ratio: float | None = None
    settled: bool = True


class Series:
    """A number over an attempt; those of its values that are finite, 8 bytes each.

    Attributes:
        last: The newest value; NaN at first, and where the log has none.
        best: The largest value; NaN at first.
        best_step: Where that was, by the step given to :meth:`add`.
    """

    CAPACITY = 256

    def __init__(self) -> None:
        self.last, self.best, self.best_step = math.nan, math.nan, 0
        self._values = array("d")

    def add(self, value: float, step: int = 0) -> None:
        """Add the newest value."""
        self.last = value
        if math.isfinite(value):
            self._values.append(value)
            if not value <= self.best:
                self.best, self.best_step = value, step

    def recent(self) -> float:
        """Mean of the newest values, 32 at most; NaN where there are none."""
        return fmean(self._values[-_RECENT:]) if self._values else math.nan

    def points(self) -> tuple[float, ...]:
        """Means of neighbouring values, oldest first, at most :attr:`CAPACITY`."""
        width = max(1, math.ceil(len(self._values) / self.CAPACITY))
        return tuple(fmean(self._values[i : i + width]) for i in range(0, len(self._values), width))


def judge_checks(series: Mapping[str, Series], bounds: Bounds) -> tuple[Judged, ...]:
    """Judge what the monitor's checks measured.

    Args:
        series: Numbers by name, with :data:`CHECK`, of one attempt.
        bounds: What the settings ask for.

    Returns:
        One for each, in the order of the table below; those that are not in it come last.
    """
    found = {name.removeprefix(CHECK): one for name, one in series.items() if name.startswith(CHECK)}
    values = {name: one.last for name, one in found.items()}
    rows = []
    for name in sorted(found, key=_place(_CHECKS)):
        meaning = _CHECKS.get(name, _UNKNOWN)
        if _wrong(name, values):
            meaning = meaning._replace(verdict=lambda *_: Verdict.BAD)
        rows.append(_judged(name, found[name], values[name], meaning, bounds))
    return tuple(rows)


def judge_steps(series: Mapping[str, Series]) -> tuple[Judged, ...]:
    """Judge what every step logs: losses, accuracy, foreground ratio of the batch and whatever else there is.

    Args:
        series: As for :func:`judge_checks`, which takes the others.
    """
    rows = []
    for name in sorted((name for name in series if not name.startswith(CHECK)), key=_place(_STEPS)):
        meaning = _means(_STEPS.get(name, ""), _not_won if name == "accuracy" else _open)
        rows.append(_judged(name, series[name], series[name].recent(), meaning, Bounds()))
    return tuple(rows)


def _judged(name: str, one: Series, value: float, meaning: _Meaning, bounds: Bounds) -> Judged:
    if not math.isfinite(one.last):
        return Judged(name, value, Verdict.BAD, "not a finite number", one.points())
    return Judged(name, value, meaning.verdict(one, bounds), meaning.expected(one, bounds), one.points())


def _place(table: Mapping[str, object]) -> Callable[[str], tuple[int, str]]:
    order = {name: i for i, name in enumerate(table)}
    return lambda name: (order.get(name, len(order)), name)


def _wrong(name: str, values: Mapping[str, float]) -> bool:
    """Whether the monitor objects, and to this number."""
    if name not in _HEALTHY:
        return False
    if find_problem(**{**_HEALTHY, name: values[name]}):
        return True
    pair = {other: values.get(other, _HEALTHY[other]) for other in ("center_bias", "swap_gain")}
    return name in pair and bool(find_problem(**{**_HEALTHY, **pair})) and values[name] < 0


def _near_a_problem(name: str) -> Callable[[Series, Bounds], Verdict]:
    def verdict(one: Series, _: Bounds) -> Verdict:
        worse = any(find_problem(**{**_HEALTHY, name: one.last + margin}) for margin in _MARGINS[name])
        return Verdict.DOUBTFUL if worse else Verdict.GOOD

    return verdict


def _at_least(least: float, *, once_settled: bool = False) -> Callable[[Series, Bounds], Verdict]:
    def verdict(one: Series, bounds: Bounds) -> Verdict:
        if one.last >= least:
            return Verdict.GOOD
        return Verdict.OPEN if once_settled and not bounds.settled else Verdict.DOUBTFUL

    return verdict


def _not_fallen(one: Series, _: Bounds) -> Verdict:
    return Verdict.DOUBTFUL if one.last < _FALLEN * one.best else Verdict.GOOD


def _large(one: Series, _: Bounds) -> str:
    return f"large; the best was {one.best:.3f}, step {one.best_step}"


def _foreground_ratio(one: Series, bounds: Bounds) -> Verdict:
    low, high = bounds.min_foreground_ratio, bounds.max_foreground_ratio
    if (low is not None and one.last < low) or (high is not None and one.last > high):
        return Verdict.DOUBTFUL
    return _near_a_problem("foreground_ratio")(one, bounds)


def _foreground_ratio_expected(_: Series, bounds: Bounds) -> str:
    low, high = bounds.min_foreground_ratio, bounds.max_foreground_ratio
    if low is not None and high is not None:
        return f"{low:.2f} to {high:.2f} of the picture"
    if low is not None:
        return f"at least {low:.2f} of the picture"
    return "neither empty nor full"


class _Meaning(NamedTuple):
    expected: Callable[[Series, Bounds], str]
    verdict: Callable[[Series, Bounds], Verdict]


def _means(text: str, verdict: Callable[[Series, Bounds], Verdict]) -> _Meaning:
    return _Meaning(lambda *_: text, verdict)


def _open(*_: object) -> Verdict:
    return Verdict.OPEN


def _not_won(one: Series, _: Bounds) -> Verdict:
    return Verdict.DOUBTFUL if one.recent() > _WON else Verdict.OPEN


_STEADY = _at_least(_UNSTEADY, once_settled=True)
_UNKNOWN = _means("", _open)

_CHECKS: dict[str, _Meaning] = {
    "score": _Meaning(_large, _not_fallen),
    "teacher_miou": _means("near 1: finds what the pairs' masks show", _STEADY),
    "augmented_miou": _means("near 1: on changed pictures, too", _STEADY),
    "teacher_error": _means("near 0: alpha is matched", _open),
    "agreement_tta": _means("near 1: light does not move it", _STEADY),
    "diversity": _means("near 1: as varied as real images", _at_least(0.5, once_settled=True)),
    "swd": _means("falls as images look real", _open),
    "agreement_photos": _means("near 1: sure of photos", _STEADY),
    "inpainting_error": _Meaning(_large, _not_fallen),
    "agreement_mixing": _means("near 1: fine styles do not move it", _STEADY),
    "agreement_noise": _means("near 1: noise does not move it", _STEADY),
    "foreground_ratio": _Meaning(_foreground_ratio_expected, _foreground_ratio),
    "foreground_ratio_sd": _means("above 0: masks differ by image", _at_least(_UNIFORM)),
    "foreground_ratio_min": _means("of the image that has least", _open),
    "foreground_ratio_max": _means("of the image that has most", _open),
    "sharpness": _means("near 1: alpha is 0 or 1", _at_least(_FEW_VALUES_BINARY, once_settled=True)),
    "contrast": _means("well above 0: alpha varies", _near_a_problem("contrast")),
    "center_bias": _means("above 0: objects in the middle", _at_least(0)),
    "swap_gain": _means("above 0: swapped is less real", _at_least(0)),
}

_STEPS: dict[str, str] = {
    "accuracy": "0.5: D guesses, 1: always right",
    "loss_discriminator": "1.39: D guesses, 0: always sure",
    "loss_adversarial": "falls as composites look real",
    "foreground_ratio": "mean alpha of the batch",
    "binarization": "falls to 0 as alpha turns 0 or 1",
    "loss_foreground_coverage": "0 unless masks are too small",
    "loss_background_coverage": "0 unless masks are too large",
    "r1": "penalty on D's gradient",
    "r2": "the same, on generated images",
    "path_length": "settles",
    "path_length_penalty": "falls as paths get even",
    "images": "real images seen",
    "augmentation_probability": "rises where D learns by heart",
    "overfitting": "adapts the augmentation",
    "loss": "falls as masks are matched",
    "loss_cross_entropy": "falls as masks are matched",
    "loss_iou": "0: the masks are matched",
    "loss_absolute": "0: the alphas are matched",
    "photo_fraction": "of the batch, photos with reliable masks",
}
