"""The shards of a data set: which there are, which a process takes, whether one is whole, and writing one."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labels4free.data.pairs.formats import PAIR_FORMATS
from labels4free.data.pairs.shard_records import (
    SHARD_FOLDER,
    ShardRecord,
    file_entry,
    find_damage,
    read_shard,
    shard_path,
    write_shard,
)
from labels4free.errors import ConfigError, DataError
from labels4free.files import failing_as
from labels4free.sampling.stream import Choice, finished_candidates

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from labels4free.data.pairs.record import Pair, PairRecord
    from labels4free.sampling.filters import Thresholds
    from labels4free.sampling.pair import PairRenderer

_log = logging.getLogger(__name__)

_CHECKERS = 4  # checksums run outside the interpreter lock


@dataclass(frozen=True)
class Partition:
    """The partition of a data set that one call makes: a range of shards, a rank, worker processes.

    Attributes:
        workers: Processes that this call starts; 1 does the work in this one.
        first: The first shard of the partition.
        last: Its last shard; None for the last one there is.
        rank: Of several calls that share the work, this one's number, from 0: it takes every ``world``-th shard.
        world: How many calls share it.

    Raises:
        ConfigError: If a value is out of range.
    """

    workers: int = 1
    first: int = 0
    last: int | None = None
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}.")
        if self.first < 0 or (self.last is not None and self.last < self.first):
            raise ConfigError(f"shards must be a range such as 0-99, got {self.first}-{self.last}.")
        if not 0 <= self.rank < self.world:
            raise ConfigError(f"rank must lie in [0, {self.world - 1}] for a world of {self.world}, got {self.rank}.")

    def shards(self, count: int) -> list[int]:
        """The shards of the partition, of a data set of ``count``.

        Raises:
            ConfigError: If there are no such shards.
        """
        last = count - 1 if self.last is None else self.last
        if self.first >= count or last >= count:
            raise ConfigError(f"shards {self.first}-{last} were asked for, the data set has 0-{count - 1}.")
        return [shard for shard in range(self.first, last + 1) if shard % self.world == self.rank]


def shard_count(num: int, shard_size: int) -> int:
    """Shards of a data set of ``num`` candidates."""
    return -(-num // shard_size)


def shard_range(shard: int, num: int, shard_size: int) -> range:
    """The candidates of a shard."""
    return range(shard * shard_size, min(num, (shard + 1) * shard_size))


def finished_shard(out: Path, shard: int, candidates: range) -> ShardRecord | None:
    """The record of a shard, if it is there and covers these candidates; a damaged one counts as missing.

    Raises:
        DataError: If it cannot be read for another reason than damage.
    """
    try:
        record = read_shard(out, shard)
    except DataError as error:
        _log.warning("%s", error)
        return None
    except OSError as error:
        raise DataError(f"{shard_path(out, shard)} cannot be read: {error.strerror or error}.") from error
    if record is None or (record.start, record.stop) != (candidates.start, candidates.stop):
        return None
    return record


def inspect_shard(
    out: Path, shard: int, candidates: range, sha256: str | None = None
) -> tuple[ShardRecord | None, dict[str, str]]:
    """The record of a finished shard, and what is wrong with which of its files, by their checksums.

    Args:
        out: The data set's folder.
        shard: Its number.
        candidates: Those that it must cover; a record of others, of a data set that has grown, counts as missing.
        sha256: Checksum of the record itself, where it is known.
    """
    path = shard_path(out, shard)
    name = f"{SHARD_FOLDER}/{path.name}"
    try:
        record = read_shard(out, shard)
        if record is None or (record.start, record.stop) != (candidates.start, candidates.stop):
            return None, {}
        if sha256 is not None and file_entry(path).sha256 != sha256:
            return record, {name: "other content"}
    except DataError:
        return None, {name: "damaged"}
    except OSError as error:
        return None, {name: f"cannot be read: {error.strerror or error}"}
    return record, find_damage(out, record.files)


def check_shards(out: Path, jobs: Sequence[tuple[int, range]], progress: Callable[[int], None]) -> list[int]:
    """Compare the files of finished shards with their checksums.

    Args:
        out: The data set's folder.
        jobs: Shards and their candidates.
        progress: Called with the candidates of each shard that is finished and whole.

    Returns:
        The shards that are missing or damaged; the latter with a warning.
    """

    def inspect(job: tuple[int, range]) -> tuple[ShardRecord | None, dict[str, str]]:
        return inspect_shard(out, *job)

    missing = []
    with ThreadPoolExecutor(min(_CHECKERS, os.cpu_count() or 1)) as pool:
        for (shard, candidates), (record, wrong) in zip(jobs, pool.map(inspect, jobs), strict=True):
            if record is None or wrong:
                missing.append(shard)
            else:
                progress(len(candidates))
            if wrong:
                name, what = next(iter(wrong.items()))
                more = f" and {len(wrong) - 1} more files" if len(wrong) > 1 else ""
                _log.warning("Shard %d is damaged (%s: %s%s): it is made again.", shard, name, what, more)
    return missing


def write_shards(
    renderer: PairRenderer,
    out: Path,
    jobs: Sequence[tuple[int, range]],
    thresholds: Thresholds,
    look: Callable[[Pair], None] | None = None,
) -> Generator[int, None, None]:
    """Render and write shards.

    Args:
        renderer: Renders the pairs.
        out: The data set's folder.
        jobs: Shards and their candidates.
        thresholds: Which candidates are left out.
        look: Called with every pair that is rendered, from any thread.

    Yields:
        The number of each candidate that is done; its shard's record is written once all of its are.

    Raises:
        DataError: If a file cannot be written.
    """
    config = renderer.config
    layout, pair_format = config.layout(renderer.size), PAIR_FORMATS[config.format]
    indices = (index for _, candidates in jobs for index in candidates)
    stream = finished_candidates(renderer, indices, Choice(thresholds, pair_format, layout, look))
    try:
        for shard, candidates in jobs:
            kept: list[PairRecord] = []
            dropped: list[tuple[PairRecord, str]] = []
            skipped: set[str] = set()
            path = shard_path(out, shard)
            with failing_as(DataError, path):
                path.unlink(missing_ok=True)  # its files are about to change
            with pair_format.open_shard(out, layout, shard) as writer:
                for index, one in zip(candidates, stream, strict=False):
                    skipped.update(one.skipped)
                    if one.reason is not None:
                        dropped.append((one.record, one.reason))
                    elif one.encoded is not None:
                        writer.add(one.encoded)
                        kept.append(one.record)
                    yield index
                files = writer.close()
            start, stop = candidates.start, candidates.stop
            record = ShardRecord(shard, start, stop, files, tuple(kept), tuple(dropped), tuple(sorted(skipped)))
            with failing_as(DataError, path):
                write_shard(out, record)
    finally:
        stream.close()
