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
from labels4free.settings import build, check_types, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from labels4free.data.pairs.record import PairRecord


@dataclass(frozen=True)
class FilterConfig:
    """What a pair must be like to be kept. Measurements are those of :class:`labels4free.data.pairs.record.PairRecord`.

    Attributes:
        min_coverage: Least share of the picture that the mask covers, in [0, 1]; 0 allows empty masks.
        max_coverage: Largest share that it covers, in [0, 1]; 1 allows full masks.
        max_components: Most parts that a mask may have, at least 1; None for any number.
        min_largest_share: Least share of the mask's pixels in its largest part, in [0, 1]; None for any. The default
            drops masks that are mostly scattered pieces.
        min_binarity_quantile: Of the pairs that pass the limits above, the share that is dropped, those whose alpha is
            least decided, in [0, 1); None drops none. The one quantile that needs no further rendering.
        max_uncertainty_quantile: Of those pairs, the share that is kept, those of lowest uncertainty, in (0, 1]; None
            keeps all. Needs an uncertainty to be measured.
        min_realism_quantile: Of those pairs, the share that is dropped, those that look least real to the
            discriminator, in [0, 1); None drops none. Needs a discriminator.
        calibration: Candidates on which the quantiles are found, at least 1: the first of the data set.

    Raises:
        ConfigError: If a value is out of range, or no mask could pass.
    """

    min_coverage: float = 0.02
    max_coverage: float = 0.98
    max_components: int | None = None
    min_largest_share: float | None = 0.5
    min_binarity_quantile: float | None = None
    max_uncertainty_quantile: float | None = None
    min_realism_quantile: float | None = None
    calibration: int = 256

    def __post_init__(self) -> None:
        check_types(self)
        within(self, "[0, 1]", "min_coverage", "max_coverage", "min_largest_share")
        within(self, "[1, inf)", "max_components", "calibration")
        within(self, "(0, 1]", "max_uncertainty_quantile", hint="0.9 keeps the most certain nine tenths")
        within(self, "[0, 1)", "min_binarity_quantile", hint="0.1 drops the least decided tenth")
        within(self, "[0, 1)", "min_realism_quantile", hint="0.1 drops the least real tenth")
        if self.min_coverage > self.max_coverage:
            raise ConfigError(
                f"min_coverage {self.min_coverage} is above max_coverage {self.max_coverage}: no mask could pass."
            )

    @property
    def needs_calibration(self) -> bool:
        """Whether there are quantiles to find."""
        quantiles = (self.min_binarity_quantile, self.max_uncertainty_quantile, self.min_realism_quantile)
        return any(quantile is not None for quantile in quantiles)


NO_FILTERS = FilterConfig(min_coverage=0.0, max_coverage=1.0, min_largest_share=None)
"""Keeps every pair."""


@dataclass(frozen=True)
class Thresholds:
    """A :class:`FilterConfig` with numbers in the place of its quantiles: what :func:`drop_reason` goes by.

    Attributes:
        min_coverage: As in the config, like the three that follow.
        max_coverage: See there.
        max_components: See there.
        min_largest_share: See there.
        min_binarity: Least binarity, in [0, 1]; None for any.
        max_uncertainty: Largest uncertainty, in [0, 1]; None for any.
        min_realism: Least logit of the discriminator; None for any.
        calibrated_on: Pairs that the quantiles were taken over; 0 if there are none.
    """

    min_coverage: float
    max_coverage: float
    max_components: int | None
    min_largest_share: float | None
    min_binarity: float | None = None
    max_uncertainty: float | None = None
    min_realism: float | None = None
    calibrated_on: int = 0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Undo :func:`labels4free.settings.as_json`.

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
    absolute = Thresholds(config.min_coverage, config.max_coverage, config.max_components, config.min_largest_share)
    if not config.needs_calibration:
        return absolute
    seen = list(records)
    passing = [record for record in seen if drop_reason(record, absolute) is None]
    if not passing:
        raise ConfigError(
            f"None of the first {len(seen)} pairs passes the limits on coverage and components, so that there is "
            "nothing to take quantiles of: look at the masks, or widen the limits."
        )
    return Thresholds(
        **asdict(absolute)
        | {
            "min_binarity": _quantile(passing, "binarity", config.min_binarity_quantile),
            "max_uncertainty": _quantile(passing, "uncertainty", config.max_uncertainty_quantile),
            "min_realism": _quantile(passing, "realism", config.min_realism_quantile),
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
    if record.coverage < t.min_coverage:
        return f"coverage below {t.min_coverage:g}"
    if record.coverage > t.max_coverage:
        return f"coverage above {t.max_coverage:g}"
    if t.max_components is not None and record.components > t.max_components:
        return f"more than {t.max_components} component{'s' if t.max_components > 1 else ''}"
    if t.min_largest_share is not None and record.coverage > 0 and record.largest_share < t.min_largest_share:
        return f"largest component below {t.min_largest_share:g} of the mask"
    if t.min_binarity is not None and record.binarity < t.min_binarity:
        return f"binarity below {t.min_binarity:.4g}"
    if t.max_uncertainty is not None and _measured(record, "uncertainty") > t.max_uncertainty:
        return f"uncertainty above {t.max_uncertainty:.4g}"
    if t.min_realism is not None and _measured(record, "realism") < t.min_realism:
        return f"realism below {t.min_realism:.4g}"
    return None


def _measured(record: PairRecord, name: str) -> float:
    value: float | None = getattr(record, name)
    if value is None:
        raise DataError(f"Pair {record.index} has no {name}, but there is a limit on it: sample with it measured.")
    return value


def _quantile(records: list[PairRecord], name: str, share: float | None) -> float | None:
    if share is None:
        return None
    values = [value for record in records if (value := getattr(record, name)) is not None]
    if len(values) < len(records):
        how = {
            "uncertainty": "ask for noise or mixing views, or give an ensemble",
            "realism": "give a discriminator",
        }[name]
        raise ConfigError(f"A quantile of {name} was asked for, but no {name} was measured: {how}.")
    return float(np.quantile(np.array(values, dtype=np.float64), share))
