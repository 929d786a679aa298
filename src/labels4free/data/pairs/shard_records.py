"""The record of a finished shard: which candidates it covers, what was kept, and what its files must be."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labels4free.data.pairs.record import FileEntry, PairRecord
from labels4free.errors import DataError
from labels4free.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SHARD_FOLDER = "shards"


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard.

    Attributes:
        shard: Its number, from 0.
        start: Its first candidate.
        stop: The candidate behind its last one.
        files: Path below the data set's folder, with forward slashes -> what the file must be.
        records: Measurements of the pairs that were kept, in the order of their indices.
        dropped: Those of the others, each with the reason.
        skipped_backgrounds: Background pictures that were to be used but could not be read.
    """

    shard: int
    start: int
    stop: int
    files: Mapping[str, FileEntry]
    records: tuple[PairRecord, ...]
    dropped: tuple[tuple[PairRecord, str], ...]
    skipped_backgrounds: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The record as a JSON file: the same record gives the same bytes."""
        values: dict[str, Any] = {
            "shard": self.shard,
            "start": self.start,
            "stop": self.stop,
            "files": {path: [entry.bytes, entry.sha256] for path, entry in sorted(self.files.items())},
            "records": [record.to_json() for record in self.records],
            "dropped": [[record.to_json(), reason] for record, reason in self.dropped],
        }
        if self.skipped_backgrounds:
            values["skipped_backgrounds"] = list(self.skipped_backgrounds)
        return (json.dumps(values, separators=(",", ":")) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ShardRecord:
        """Undo :meth:`to_bytes`.

        Raises:
            DataError: If these are not the bytes of a record, or it contradicts itself.
        """
        try:
            values = json.loads(data)
            record = cls(
                shard=int(values["shard"]),
                start=int(values["start"]),
                stop=int(values["stop"]),
                files={str(path): FileEntry(int(n), str(digest)) for path, (n, digest) in values["files"].items()},
                records=tuple(PairRecord.from_json(one) for one in values["records"]),
                dropped=tuple((PairRecord.from_json(one), str(reason)) for one, reason in values["dropped"]),
                skipped_backgrounds=tuple(values.get("skipped_backgrounds", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"This is no record of a shard ({error}).") from error
        seen = sorted(r.index for r in (*record.records, *(dropped for dropped, _ in record.dropped)))
        if seen != list(range(record.start, record.stop)):
            raise DataError(f"This record of a shard does not cover the candidates {record.start} to {record.stop}.")
        return record


def shard_path(out: Path, shard: int) -> Path:
    """Where the record of a shard lies."""
    return out / SHARD_FOLDER / f"{shard:06d}.json"


def write_shard(out: Path, record: ShardRecord) -> None:
    """Write the record: from now on the shard is finished.

    Raises:
        OSError: If it cannot be written.
    """
    write_atomically(shard_path(out, record.shard), record.to_bytes())


def read_shard(out: Path, shard: int) -> ShardRecord | None:
    """The record of a shard; None if the shard is not finished.

    Raises:
        DataError: If it is damaged.
        OSError: If it cannot be read.
    """
    path = shard_path(out, shard)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        record = ShardRecord.from_bytes(data)
    except DataError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if record.shard != shard:
        raise DataError(f"{path} is the record of shard {record.shard}.")
    return record


def file_entry(path: Path) -> FileEntry:
    """Measure a file: its length and its SHA-256. Memory stays flat.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileEntry(file.tell(), digest.hexdigest())


def find_damage(out: Path, files: Mapping[str, FileEntry], tick: Callable[[int], None] | None = None) -> dict[str, str]:
    """Compare files with what they must be.

    Args:
        out: The data set's folder.
        files: Path below it -> what the file must be.
        tick: Called with the bytes of each file that was looked at.

    Returns:
        Path -> what is wrong, of those that are not as they must be; empty if all is well.
    """
    wrong = {}
    for name, entry in files.items():
        path = out / name
        try:
            if not path.is_file():
                wrong[name] = "missing"
            elif (length := path.stat().st_size) != entry.bytes:
                wrong[name] = f"{length} bytes instead of {entry.bytes}"
            elif file_entry(path) != entry:
                wrong[name] = "other content"
        except OSError as error:
            wrong[name] = f"cannot be read: {error.strerror or error}"
        if tick:
            tick(entry.bytes)
    return wrong
