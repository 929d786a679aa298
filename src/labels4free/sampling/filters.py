"""Which pairs go into a data set: limits on their measurements, and the reason where one is left out.

Two kinds of limit. Absolute ones say what a mask may look like; they cost nothing and are on by default. Relative ones
are quantiles, as in "drop the tenth that is least certain": their numbers are found once, on the first candidates
(:func:`calibrate`), and then hold for the whole data set, so that whether a pair is kept depends on no other shard.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from labels4free.errors import ConfigError, DataError
from labels4free.settings_fields import build, check_types, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from labels4free.data.pairs.record import PairRecord


@dataclass(frozen=True)
class FilterConfig:
    """What a pair must be like to be kept. Measurements are those of :class:`labels4free.data.pairs.record.PairRecord`.

    Attributes:
        min_foreground_ratio: Least fraction of the picture that the mask covers, in [0, 1]; 0 allows empty masks.
        max_foreground_ratio: Largest fraction that it covers, in [0, 1]; 1 allows full masks.
        max_components: Most parts that a mask may have, at least 1; None for any number.
        min_largest_component_fraction: Least fraction of the mask's pixels in its largest part, in [0, 1]; None for
            any. The default drops masks that are mostly scattered pieces.
        min_sharpness_quantile: Of the pairs that pass the limits above, the fraction that is dropped, those whose alpha
            is least decided, in [0, 1); None drops none. The one quantile that needs no further rendering.
        max_uncertainty_quantile: Of those pairs, the fraction that is kept, those of lowest uncertainty, in (0, 1];
            None keeps all. Needs an uncertainty to be measured.
        min_discriminator_score_quantile: Of those pairs, the fraction that is dropped, those that look least real to
            the discriminator, in [0, 1); None drops none. Needs a discriminator.
        calibration: Candidates on which the quantiles are found, at least 1: the first of the data set.

    Raises:
        ConfigError: If a value is out of range, or no mask could pass.
    """

    min_foreground_ratio: float = 0.02
    max_foreground_ratio: float = 0.98
    max_components: int | None = None
    min_largest_component_fraction: float | None = 0.5
    min_sharpness_quantile: float | None = None
    max_uncertainty_quantile: float | None = None
    min_discriminator_score_quantile: float | None = None
    calibration: int = 256

    def __post_init__(self) -> None:
        check_types(self)
        within(self, "[0, 1]", "min_foreground_ratio", "max_foreground_ratio", "min_largest_component_fraction")
        within(self, "[1, inf)", "max_components", "calibration")
        within(self, "(0, 1]", "max_uncertainty_quantile", hint="0.9 keeps the most certain nine tenths")
        within(self, "[0, 1)", "min_sharpness_quantile", hint="0.1 drops the least decided tenth")
        within(self, "[0, 1)", "min_discriminator_score_quantile", hint="0.1 drops the least real tenth")
        if self.min_foreground_ratio > self.max_foreground_ratio:
            raise ConfigError(
                f"min_foreground_ratio {self.min_foreground_ratio} is above max_foreground_ratio "
                f"{self.max_foreground_ratio}: no mask could pass."
            )

    @property
    def needs_calibration(self) -> bool:
        """Whether there are quantiles to find."""
        quantiles = (self.min_sharpness_quantile, self.max_uncertainty_quantile, self.min_discriminator_score_quantile)
        return any(quantile is not None for quantile in quantiles)


NO_FILTERS = FilterConfig(min_foreground_ratio=0.0, max_foreground_ratio=1.0, min_largest_component_fraction=None)
"""Keeps every pair."""


@dataclass(frozen=True)
class Thresholds:
    """A :class:`FilterConfig` with numbers in the place of its quantiles: what :func:`drop_reason` goes by.

    Attributes:
        min_foreground_ratio: As in the config, like the three that follow.
        max_foreground_ratio: See there.
        max_components: See there.
        min_largest_component_fraction: See there.
        min_sharpness: Least sharpness, in [0, 1]; None for any.
        max_uncertainty: Largest uncertainty, in [0, 1]; None for any.
        min_discriminator_score: Least logit of the discriminator; None for any.
        calibrated_on: Pairs that the quantiles were taken over; 0 if there are none.
    """

    min_foreground_ratio: float
    max_foreground_ratio: float
    max_components: int | None
    min_largest_component_fraction: float | None
    min_sharpness: float | None = None
    max_uncertainty: float | None = None
    min_discriminator_score: float | None = None
    calibrated_on: int = 0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Undo :func:`labels4free.settings_fields.as_json`.

        Raises:
            ConfigError: If a value is missing, of another kind or unknown.
        """
        names = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise ConfigError(f"These are no thresholds of filters, which are {', '.join(sorted(names))}: {values!r}.")
        return build(cls, values)


def calibrate(records: Iterable[PairRecord], config: FilterConfig) -> Thresholds:
    """Turn quantiles into numbers.

    The quantiles are taken over the pairs that pass the other limits: what an empty mask's uncertainty is says nothing
    about the rest. They interpolate linearly between neighbouring values. The result depends on the records alone, not
    on their order.

    Args:
        records: Measurements of the first ``config.calibration`` candidates; not looked at if there is no quantile.
        config: What is wanted.

    Raises:
        ConfigError: If a quantile is asked for that was not measured, or no candidate passes the other limits.
    """
    absolute = Thresholds(
        config.min_foreground_ratio,
        config.max_foreground_ratio,
        config.max_components,
        config.min_largest_component_fraction,
    )
    if not config.needs_calibration:
        return absolute
    seen = list(records)
    passing = [record for record in seen if drop_reason(record, absolute) is None]
    if not passing:
        raise ConfigError(
            f"None of the first {len(seen)} pairs passes the limits on foreground ratio and components, so that there "
            "is nothing to take quantiles of: look at the masks, or widen the limits."
        )
    return Thresholds(
        **asdict(absolute)
        | {
            "min_sharpness": _quantile(passing, "sharpness", config.min_sharpness_quantile),
            "max_uncertainty": _quantile(passing, "uncertainty", config.max_uncertainty_quantile),
            "min_discriminator_score": _quantile(
                passing, "discriminator_score", config.min_discriminator_score_quantile
            ),
            "calibrated_on": len(passing),
        }
    )


def drop_reason(record: PairRecord, thresholds: Thresholds) -> str | None:
    """Why a pair is left out: a few words, the same for all pairs that fail the same limit; None if it is kept.

    Of several reasons the first counts, in the order of the attributes of :class:`Thresholds`.

    Raises:
        DataError: If there is a limit on something that was not measured.
    """
    t = thresholds
    if record.foreground_ratio < t.min_foreground_ratio:
        return f"foreground ratio below {t.min_foreground_ratio:g}"
    if record.foreground_ratio > t.max_foreground_ratio:
        return f"foreground ratio above {t.max_foreground_ratio:g}"
    if t.max_components is not None and record.components > t.max_components:
        return f"more than {t.max_components} component{'s' if t.max_components > 1 else ''}"
    if (
        t.min_largest_component_fraction is not None
        and record.foreground_ratio > 0
        and record.largest_component_fraction < t.min_largest_component_fraction
    ):
        return f"largest component below {t.min_largest_component_fraction:g} of the mask"
    if t.min_sharpness is not None and record.sharpness < t.min_sharpness:
        return f"sharpness below {t.min_sharpness:.4g}"
    if t.max_uncertainty is not None and _measured(record, "uncertainty") > t.max_uncertainty:
        return f"uncertainty above {t.max_uncertainty:.4g}"
    if t.min_discriminator_score is not None and _measured(record, "discriminator_score") < t.min_discriminator_score:
        return f"discriminator score below {t.min_discriminator_score:.4g}"
    return None


def _measured(record: PairRecord, name: str) -> float:
    value: float | None = getattr(record, name)
    if value is None:
        raise DataError(f"Pair {record.index} has no {name}, but there is a limit on it: sample with it measured.")
    return value


def _quantile(records: list[PairRecord], name: str, fraction: float | None) -> float | None:
    if fraction is None:
        return None
    values = [value for record in records if (value := getattr(record, name)) is not None]
    if len(values) < len(records):
        how = {
            "uncertainty": "ask for noise or mixing augmentations, or give an ensemble",
            "discriminator_score": "give a discriminator",
        }[name]
        raise ConfigError(f"A quantile of {name} was asked for, but no {name} was measured: {how}.")
    return float(np.quantile(np.array(values, dtype=np.float64), fraction))
