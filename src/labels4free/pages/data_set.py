"""The page of a data set: samples, doubtful ones, dropped ones, how its measurements spread, how it was made.

It is made from the manifest, the shards' records and the files of the few pairs that it shows: whatever the number of
pairs, little memory is needed and the page stays small. The same data set has the same page.
"""

from __future__ import annotations

import heapq
import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from labels4free.data.pairs.formats import PAIR_FORMATS
from labels4free.data.pairs.manifest import read_manifest
from labels4free.data.pairs.shard_records import read_shard
from labels4free.errors import DataError, RunError
from labels4free.pages.html import Histogram, Picture, Report, Section, write_report
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.sampling.card import DATA_SET, reading_programs, sample_command, without_folders
from labels4free.sampling.config import SampleConfig
from labels4free.sampling.summary import DROPPED_SHEET, PAGE
from labels4free.settings_fields import flat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from labels4free.data.pairs.record import PairRecord

_log = logging.getLogger(__name__)

SAMPLES = 12
"""How many pairs the page shows, evenly spaced over the data set ..."""
DOUBTFUL = 6
"""... and how many of the least certain ones."""

_WIDTH = 360  # pixels of the picture of a pair, at most
_CELL = 160
_BARS = 20  # of a histogram, at least; less than 2.5 times as many
_CHECKS = (255, 214)  # the two greys of the board that cut-outs lie on
_CHECK = 16  # pixels of one of its squares
_PRECISION = 1_000_000  # records are rounded to as many steps


class _Measure(NamedTuple):
    """A measurement of pairs: what it is called, how finely it is counted, which values it can have."""

    title: str
    step: float
    low: float | None = None
    high: float | None = None


_MEASURED = {
    "foreground_ratio": _Measure("Foreground ratio: fraction of the picture that the mask covers", 0.001, 0, 1),
    "sharpness": _Measure("Sharpness: 1 where every alpha is 0 or 1", 0.0001, None, 1),
    "uncertainty": _Measure("Uncertainty: 0 where all augmentations of a latent agree", 0.0001, 0),
    "discriminator_score": _Measure("Discriminator score: its logit, larger looks more real", 0.01),
}


class Spread:
    """How the values of one measurement are distributed, in bounded memory.

    Args:
        step: What values are rounded down to; a multiple of a millionth.
    """

    def __init__(self, step: float) -> None:
        self._step = round(step * _PRECISION)
        self._counts: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def add(self, value: float, *, kept: bool) -> None:
        """Count a value."""
        place, counts = round(value * _PRECISION) // self._step, self._counts[not kept]
        counts[place] = counts.get(place, 0) + 1

    def histogram(self, title: str, low: float | None = None, high: float | None = None) -> Histogram | None:
        """Some twenty to fifty bars of a round width over all values, kept ones below dropped ones.

        Args:
            title: Of the histogram.
            low: Where the first bar begins, no higher than any value; None for the lowest value.
            high: Where the last one ends, no lower than any value; None for the highest value.

        Returns:
            The histogram; None if there was no value.
        """
        places = [place for counts in self._counts for place in counts]
        if not places:
            return None
        start = min(places) if low is None else round(low * _PRECISION) // self._step
        end = max(places) + 1 if high is None else round(high * _PRECISION) // self._step
        per = _round_down((end - start) / _BARS)
        first, number = start // per, -(-end // per) - start // per
        bars = [[0] * number for _ in self._counts]
        for row, counts in zip(bars, self._counts, strict=True):
            for place, count in counts.items():
                row[min(place // per - first, number - 1)] += count  # a value of just ``high`` is in the last bar
        width = per * self._step / _PRECISION
        groups = {"kept": bars[0]} | ({"dropped": bars[1]} if any(bars[1]) else {})
        return Histogram(title, first * width, width, groups)


def _round_down(bars: float) -> int:
    """The largest of 1, 2, 5, 10, 20, ... that is no larger; at least 1."""
    power: int = 10 ** max(0, math.floor(math.log10(max(bars, 1))))
    return max(power * factor for factor in (1, 2, 5) if factor == 1 or power * factor <= bars)


class _Shown(NamedTuple):
    record: PairRecord
    shard: int


class _Overview:
    """What a look at all records leaves: the spreads, and which pairs the page shows."""

    def __init__(self, out: Path, manifest: Mapping[str, Any]) -> None:
        kept = manifest["summary"]["kept"]
        number = min(SAMPLES, kept)
        wanted = {round(k * (kept - 1) / max(number - 1, 1)) for k in range(number)}
        self.spreads = {name: Spread(measure.step) for name, measure in _MEASURED.items()}
        self.samples: list[_Shown] = []
        self.certain = "uncertainty" if manifest["summary"]["uncertainty"] is not None else "sharpness"
        doubtful: list[tuple[float, int, int, PairRecord]] = []
        place = 0
        for record, shard, is_kept in _records(out, manifest["shard_count"]):
            for name, spread in self.spreads.items():
                if (value := getattr(record, name)) is not None:
                    spread.add(value, kept=is_kept)
            if not is_kept:
                continue
            if place in wanted:
                self.samples.append(_Shown(record, shard))
            place += 1
            doubt = record.uncertainty if self.certain == "uncertainty" else 1 - record.sharpness
            heapq.heappush(doubtful, (doubt or 0.0, -record.index, shard, record))
            if len(doubtful) > DOUBTFUL:
                heapq.heappop(doubtful)
        self.doubtful = [_Shown(record, shard) for *_, shard, record in sorted(doubtful, reverse=True)]


def _records(out: Path, shards: int) -> Iterator[tuple[PairRecord, int, bool]]:
    """All records of a finished data set with their shards: of each shard the kept ones, then the others."""
    for number in range(shards):
        try:
            shard = read_shard(out, number)
        except OSError as error:
            raise DataError(f"Shard {number} of {out} cannot be read: {error.strerror or error}.") from error
        if shard is None:
            raise RunError(
                f"Shard {number} of {out} is not finished: go on with the same `labels4free sample` command."
            )
        for record in shard.records:
            yield record, number, True
        for record, _ in shard.dropped:
            yield record, number, False


def write_sample_page(out: Path) -> Path:
    """Write the page of a finished data set into its folder.

    Pairs whose files are damaged are left out, with a warning.

    Args:
        out: The data set's folder.

    Returns:
        The page's path.

    Raises:
        RunError: If it is no data set, or none that is finished; or the page cannot be written.
        DataError: If the record of a shard is damaged.
    """
    manifest = without_folders(read_manifest(out))
    if not manifest.get("complete"):
        raise RunError(f"{out} is unfinished: go on with the same `labels4free sample` command.")
    overview = _Overview(out, manifest)
    return write_report(out / PAGE, _report(out, manifest, overview, _Pictures(out, manifest)))


def _report(out: Path, manifest: Mapping[str, Any], overview: _Overview, shown: _Pictures) -> Report:
    summary, settings = manifest["summary"], manifest["settings"]
    figures = [
        (f"{summary['kept']}", "pairs"),
        (f"{manifest['num'] - summary['kept']}", f"of {manifest['num']} candidates dropped"),
        (f"{100 * summary['foreground_ratio_mean']:.0f} %", "of the picture is foreground, on average"),
        (f"{100 * summary['sharpness']:.1f} %", "sharpness: 100 % where every alpha is 0 or 1"),
    ]
    if summary["uncertainty"] is not None:
        figures.append((f"{summary['uncertainty']:.4f}", "mean uncertainty"))
    doubt = (
        "Those pairs whose masks change most under other noise, fine styles or networks."
        if overview.certain == "uncertainty"
        else "Those pairs whose alpha is least decided. With --uncertainty they would be those that change most."
    )
    sections = [
        Section(
            "Samples",
            f"{len(overview.samples)} pairs, evenly spaced over the data set. {shown.legend}",
            shown.of(overview.samples),
        ),
        Section("Look at these first", f"{doubt} They are in the data set.", shown.of(overview.doubtful)),
        _dropped(out, summary),
        Section("How the measurements spread", histograms=_histograms(overview)),
        Section(
            "How to go on",
            "Where the data set's folder is DATASET; README.md in it says more.",
            commands=[
                sample_command(manifest, DATA_SET),
                f"labels4free verify {DATA_SET}",
                "",
                *reading_programs(settings["format"], shown.layout, manifest["shard_count"])[0].splitlines(),
            ],
        ),
        Section("Settings", rows=_settings(manifest)),
    ]
    generator, versions = manifest["generator"], manifest["versions"]
    return Report(
        title=f"Images with masks: {settings['category']}",
        headline=f"{summary['kept']} pairs of {settings['size']} x {settings['size']} pixels from "
        f"{generator['name'] or 'a ' + generator['family'] + ' generator'}, masks by an alpha network of "
        f"{manifest['alpha_network']['parameters']} weights. No label was used; nobody checked the masks.",
        figures=figures,
        sections=sections,
        footer=f"Made by labels4free {versions['labels4free']} with PyTorch {versions['torch']}.",
    )


def _dropped(out: Path, summary: Mapping[str, Any]) -> Section:
    reasons = [(reason, f"{count}") for reason, count in summary["dropped"].items()]
    title = "What was left out"
    if not reasons:
        return Section(title, "Nothing: every candidate passed the filters.")
    picture = Picture(out / DROPPED_SHEET, "The first candidates that were left out, with their numbers and reasons")
    return Section(title, "By reason, the first that applied:", [picture], reasons, wide=True)


def _histograms(overview: _Overview) -> list[Histogram]:
    found = (overview.spreads[name].histogram(title, low, high) for name, (title, _, low, high) in _MEASURED.items())
    return [histogram for histogram in found if histogram is not None]


def _settings(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    generator, alpha = manifest["generator"], manifest["alpha_network"]
    rows = [
        ("generator", f"{generator['name']} ({generator['family']}, {generator['resolution']} pixels)"),
        ("generator's state hash", generator["state_hash"]),
        ("alpha network", f"{alpha['name']} ({alpha['parameters']} weights)"),
        ("alpha network's state hash", alpha["state_hash"]),
    ]
    for name, value in flat(manifest["settings"]).items():
        if value is not None and value != []:
            rows.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return [*rows, ("device", manifest["device"]), *manifest["versions"].items()]


class _Pictures:
    """Makes the page's pictures of pairs."""

    def __init__(self, out: Path, manifest: Mapping[str, Any]) -> None:
        config = SampleConfig.from_json(manifest["settings"])
        self.layout = config.layout(manifest["settings"]["size"])
        self._out, self._format = out, PAIR_FORMATS[config.format]

    @property
    def legend(self) -> str:
        """What the cells of a picture are."""
        names = [name for row in _cells(dict.fromkeys(self.layout.parts)) for name in row]
        return f"Row by row: {', '.join(names)}." if names else ""

    def of(self, pairs: Sequence[_Shown]) -> list[Picture]:
        """One picture a pair."""
        found = []
        for record, shard in pairs:
            try:
                pictures = self._format.pictures(self._out, self.layout, shard, record.index)
            except DataError as error:
                _log.warning("Pair %d is left out of the page. %s", record.index, error)
                continue
            rows = [[_cell(name, pictures) for name in row] for row in _cells(pictures)]
            if rows:
                cell = min(_CELL, _WIDTH // max(map(len, rows)) - 8)  # less the gutters
                found.append(Picture(contact_sheet(rows, cell=cell), _caption(record)))
        return found


def _caption(record: PairRecord) -> str:
    words = f"{record.index:05d}: foreground ratio {record.foreground_ratio:.3f}, sharpness {record.sharpness:.3f}"
    return words if record.uncertainty is None else f"{words}, uncertainty {record.uncertainty:.4f}"


def _cells(parts: Mapping[str, object]) -> list[list[str]]:
    """What a picture of a pair shows, in two rows; "cut-out" stands for what is laid on the board."""
    opacity = "cutout" in parts or ("image" in parts and ("alpha" in parts or "mask" in parts))
    cells = [part for part in ("image", "alpha", "mask", "composite", "background") if part in parts]
    if opacity:
        cells.insert(1, "cut-out")
    half = -(-len(cells) // 2)
    return [row for row in (cells[:half], cells[half:]) if row]


def _cell(name: str, pictures: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    if name != "cut-out":
        return _eight_bits(pictures[name])
    if "cutout" in pictures:
        colours, opacity = pictures["cutout"][..., :3], pictures["cutout"][..., 3]
    else:
        colours, opacity = (
            pictures["image"],
            _eight_bits(pictures["alpha"] if "alpha" in pictures else pictures["mask"]),
        )
    height, width = opacity.shape
    # The squares keep their size on the page, whatever that of the picture.
    side = max(1, round(_CHECK * max(height, width) / _CELL))
    y, x = np.ogrid[:height, :width]
    board = np.where((y // side + x // side) % 2 == 0, *_CHECKS)[..., None]
    fraction = opacity[..., None] / 255
    return np.rint(colours * fraction + board * (1 - fraction)).astype(np.uint8)


def _eight_bits(picture: NDArray[Any]) -> NDArray[np.uint8]:
    return (picture // 257).astype(np.uint8) if picture.dtype == np.uint16 else picture.astype(np.uint8)
