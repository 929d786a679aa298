"""What a data set is like, in numbers: taken from the records of its shards, one at a time."""

from __future__ import annotations

import logging
import math
from array import array
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from labels4free.data.pairs.base import CARD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from labels4free.data.pairs.record import PairRecord
    from labels4free.data.pairs.shard_records import ShardRecord

CONTACT_SHEET = "contact_sheet.png"
DROPPED_SHEET = "contact_sheet_dropped.png"
PAGE = "index.html"
SHEET_ROWS = 8

_log = logging.getLogger(__name__)

_NAMED = 20
_MEASURED = ("foreground_ratio", "sharpness", "center_bias", "uncertainty")
_FAULTS = ("empty", "full", "inverted")
_EMPTY, _FULL = 0.005, 0.995  # fraction of the pixels


class Flagged(NamedTuple):
    """Candidates that share a fault: how many, and the first of them by index."""

    total: int
    first: tuple[int, ...]


@dataclass(frozen=True)
class SampleSummary:
    """Summary of what :func:`labels4free.sampling.dataset.sample_dataset` made. Fractions are in [0, 1].

    Attributes:
        out: The data set's folder.
        num: Candidates of the whole data set.
        done: Candidates of finished shards; fewer than ``num`` where other processes are still at work.
        rendered: Candidates rendered by this call; the others were there before.
        kept: Pairs that the data set holds.
        dropped: Reason -> how many candidates were left out for it.
        seconds: Duration of this call.
        foreground_ratio_mean: Mean over the pairs of the mask's foreground ratio; 0 if there is no pair.
        foreground_ratio_sd: Its standard deviation over the pairs.
        sharpness: Mean over the pairs of theirs, see :class:`labels4free.data.pairs.record.PairRecord`.
        center_bias: Mean over the pairs of theirs, in [-1, 1].
        uncertainty: Mean over the pairs of theirs, where it was measured.
        empty: Candidates whose mask covers less than 0.5 % of the picture.
        full: Candidates whose mask covers more than 99.5 % of the picture.
        inverted: Other candidates whose center bias is below 0: probably background taken for object.
        skipped_backgrounds: Background pictures that could not be read.
    """

    out: Path
    num: int
    done: int
    rendered: int
    kept: int
    dropped: Mapping[str, int]
    seconds: float
    foreground_ratio_mean: float
    foreground_ratio_sd: float
    sharpness: float
    center_bias: float
    uncertainty: float | None
    empty: Flagged
    full: Flagged
    inverted: Flagged
    skipped_backgrounds: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every shard is finished."""
        return self.done == self.num

    @property
    def contact_sheet(self) -> Path:
        """The contact sheet of the first pairs."""
        return self.out / CONTACT_SHEET

    @property
    def card(self) -> Path:
        """The data set's card: what it is, where it comes from, how to read it."""
        return self.out / CARD

    @property
    def page(self) -> Path:
        """The page about the data set, which the command writes."""
        return self.out / PAGE

    @property
    def dropped_sheet(self) -> Path:
        """The contact sheet of the first candidates that were left out; only written if there are any."""
        return self.out / DROPPED_SHEET

    def to_json(self) -> dict[str, Any]:
        """What depends on the pairs alone, as JSON values: data sets of equal settings have equal manifests."""
        values = asdict(self)
        for name in ("out", "num", "done", "rendered", "seconds"):
            del values[name]
        for name in _FAULTS:
            count, first = getattr(self, name)
            values[name] = {"count": count, "first": list(first)}
        values["skipped_backgrounds"] = list(self.skipped_backgrounds)
        return values

    def warn(self) -> None:
        """Log what cannot be right."""
        for what, (count, first) in (
            ("empty", self.empty),
            ("full", self.full),
            ("probably inverted (alpha is higher at the border than in the middle)", self.inverted),
        ):
            if count:
                shown = ", ".join(f"{i:05d}" for i in first[:5]) + (", ..." if count > 5 else "")
                _log.warning("%d of %d masks are %s: %s.", count, self.done, what, shown)
        if self.skipped_backgrounds:
            shown = ", ".join(self.skipped_backgrounds[:5]) + (", ..." if len(self.skipped_backgrounds) > 5 else "")
            _log.warning("%d background pictures could not be read: %s.", len(self.skipped_backgrounds), shown)


@dataclass
class Tally:
    """Sums over the shards of a data set.

    Attributes:
        kept: Pairs so far.
        dropped: Reason -> candidates left out so far.
        first_kept: Records of the first pairs.
        first_dropped: Records of the first candidates that were left out, with the reasons.
    """

    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    first_kept: list[PairRecord] = field(default_factory=list)
    first_dropped: list[tuple[PairRecord, str]] = field(default_factory=list)
    _numbers: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in _MEASURED})
    _flags: dict[str, Flagged] = field(default_factory=lambda: dict.fromkeys(_FAULTS, Flagged(0, ())))
    _skipped: set[str] = field(default_factory=set)

    def add(self, shard: ShardRecord) -> None:
        """Add a shard; they come in order."""
        self.kept += len(shard.records)
        for record in shard.records:
            for name, values in self._numbers.items():
                if (value := getattr(record, name)) is not None:
                    values.append(value)
        for _, reason in shard.dropped:
            self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self.first_kept += shard.records[: SHEET_ROWS - len(self.first_kept)]
        self.first_dropped += shard.dropped[: SHEET_ROWS - len(self.first_dropped)]
        everyone = [*shard.records, *(record for record, _ in shard.dropped)]
        for record in sorted(everyone, key=lambda record: record.index):
            self._flag(record)
        self._skipped.update(shard.skipped_backgrounds)

    def summary(self, out: Path, num: int, rendered: int, seconds: float) -> SampleSummary:
        """The numbers of what was added."""
        means = {name: _mean(values) for name, values in self._numbers.items()}
        return SampleSummary(
            out=out,
            num=num,
            done=self.kept + sum(self.dropped.values()),
            rendered=rendered,
            kept=self.kept,
            dropped=dict(sorted(self.dropped.items())),
            seconds=seconds,
            foreground_ratio_mean=means["foreground_ratio"],
            foreground_ratio_sd=_deviation(self._numbers["foreground_ratio"]),
            sharpness=means["sharpness"],
            center_bias=means["center_bias"],
            uncertainty=means["uncertainty"] if self._numbers["uncertainty"] else None,
            **self._flags,
            skipped_backgrounds=tuple(sorted(self._skipped)),
        )

    def _flag(self, record: PairRecord) -> None:
        if record.foreground_ratio < _EMPTY:
            name = "empty"
        elif record.foreground_ratio > _FULL:
            name = "full"
        elif record.center_bias < 0:
            name = "inverted"
        else:
            return
        count, first = self._flags[name]
        self._flags[name] = Flagged(count + 1, (*first, record.index)[:_NAMED])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _deviation(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values)) if values else 0.0
