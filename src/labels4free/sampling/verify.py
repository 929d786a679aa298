"""Is a data set what its manifest says? Every file against its checksum, and single pairs made anew."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labels4free.checkpoints.state_hash import state_hash
from labels4free.data.names import MANIFEST
from labels4free.data.pairs.base import CARD
from labels4free.data.pairs.formats import PAIR_FORMATS
from labels4free.data.pairs.manifest import read_manifest
from labels4free.data.pairs.record import FileEntry
from labels4free.data.pairs.shard_records import (
    SHARD_FOLDER,
    ShardRecord,
    file_entry,
    find_damage,
    read_shard,
    shard_path,
)
from labels4free.errors import ConfigError, DataError, RunError
from labels4free.files import failing_as, write_atomically
from labels4free.sampling.calibration import CALIBRATION
from labels4free.sampling.config import SampleConfig
from labels4free.sampling.pair import PairRenderer, single_thread
from labels4free.sampling.paper_grids import GRIDS
from labels4free.sampling.shards import inspect_shard, shard_count, shard_range
from labels4free.sampling.summary import CONTACT_SHEET, DROPPED_SHEET, PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from labels4free.layered import LayeredGenerator

_OWN = (MANIFEST, CALIBRATION, CONTACT_SHEET, DROPPED_SHEET, PAGE, CARD)
_OWN_FOLDERS = (f"{GRIDS}/",)


@dataclass(frozen=True)
class Verification:
    """What :func:`verify_data_set` found.

    Attributes:
        num: Candidates of the data set.
        pairs: Pairs in its finished shards.
        files: Files that were compared with their checksums.
        missing: Shards that are not finished.
        damaged: Shard -> file -> what is wrong with it.
        spanning: The same for files that span all shards.
        foreign: Files that are none of the data set's.
    """

    num: int
    pairs: int
    files: int
    missing: tuple[int, ...]
    damaged: Mapping[int, Mapping[str, str]]
    spanning: Mapping[str, str]
    foreign: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether all of it is there and undamaged; foreign files do not count."""
        return not (self.missing or self.damaged or self.spanning)


@dataclass(frozen=True)
class Recreation:
    """A pair that was made anew.

    Attributes:
        index: Its number.
        files: Name in the data set -> content.
        differing: The files that differ from the stored ones, with how.
        reason: Why the data set leaves this candidate out; None for a pair. Then there is nothing to compare.
    """

    index: int
    files: Mapping[str, bytes]
    differing: Mapping[str, str]
    reason: str | None


def verify_data_set(out: str | Path, progress: Callable[[int, int], None] | None = None) -> Verification:
    """Compare every file of a data set with its checksum. Nothing is changed.

    Args:
        out: The data set's folder.
        progress: Called as ``progress(shards looked at, shards)``.

    Raises:
        RunError: If it is no data set of this version, or its manifest is damaged.
    """
    out = Path(out)
    manifest = read_manifest(out)
    num, size = manifest["num"], _config(manifest).shard_size
    count = shard_count(num, size)
    recorded = {name: digest for name, digest, *_ in manifest.get("shards", [])}
    known, pairs, files = set(_OWN), 0, 0
    missing, damaged = [], {}
    for shard in range(count):
        known.add(name := f"{SHARD_FOLDER}/{shard_path(out, shard).name}")
        record, wrong = inspect_shard(out, shard, shard_range(shard, num, size), recorded.get(name))
        if record is not None:
            pairs, files = pairs + len(record.records), files + len(record.files)
            known.update(record.files)
        if wrong:
            damaged[shard] = wrong
        elif record is None:
            missing.append(shard)
        if progress:
            progress(shard + 1, count)
    spanning = {name: FileEntry(length, digest) for name, (length, digest) in manifest.get("files", {}).items()}
    known.update(spanning)
    return Verification(
        num=num,
        pairs=pairs,
        files=files + len(spanning),
        missing=tuple(missing),
        damaged=damaged,
        spanning=find_damage(out, spanning),
        foreign=() if missing or damaged else _foreign(out, known),
    )


def recreate_pair(out: str | Path, index: int, layered: LayeredGenerator) -> Recreation:
    """Make a pair of a data set anew from what the manifest says, and compare it with the stored one, byte for byte.

    Args:
        out: The data set's folder.
        index: The pair's number.
        layered: The generator and the alpha network that the manifest names.

    Raises:
        RunError: If it is no data set of this version, or these are other networks.
        ConfigError: If it has no such pair.
        DataError: If the record of its shard is missing or damaged.
    """
    out = Path(out)
    manifest = read_manifest(out)
    if not 0 <= index < manifest["num"]:
        raise ConfigError(f"{out} has the pairs 0 to {manifest['num'] - 1}, there is no number {index}.")
    for part, network in (("generator", layered.generator), ("alpha_network", layered.alpha_network)):
        if state_hash(network) != manifest[part]["state_hash"]:
            raise RunError(
                f"{out} was made with another {part.replace('_', ' ')} than this one: its weights are others. Name the "
                f"right one ({manifest[part].get('name') or 'the manifest does not say which'})."
            )
    config = _config(manifest)
    shard = index // config.shard_size
    record = read_shard(out, shard)
    if record is None:
        raise DataError(f"Shard {shard} of {out}, which pair {index} belongs to, is not finished.")
    reason = next((why for one, why in record.dropped if one.index == index), None)
    renderer = PairRenderer(layered, config)
    with single_thread():
        pair = renderer.render([index])[0].pair
    encoded = PAIR_FORMATS[config.format].encode(pair, config.layout(renderer.size))
    differing = {} if reason is not None else _differing(out, record, encoded.files)
    return Recreation(index, dict(encoded.files), differing, reason)


def write_recreation(recreation: Recreation, folder: Path) -> list[Path]:
    """Write the files of a pair that was made anew.

    Raises:
        DataError: If one cannot be written.
    """
    paths = []
    for name, data in recreation.files.items():
        paths.append(path := folder / name)
        with failing_as(DataError, path):
            write_atomically(path, data)
    return paths


def _config(manifest: Mapping[str, Any]) -> SampleConfig:
    try:
        return SampleConfig.from_json(manifest["settings"])
    except ConfigError as error:
        raise RunError(f"The manifest's settings are damaged: {error}") from error


def _foreign(out: Path, known: set[str]) -> tuple[str, ...]:
    names = (path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return tuple(sorted(name for name in names if name not in known and not name.startswith(_OWN_FOLDERS)))


def _differing(out: Path, record: ShardRecord, files: Mapping[str, bytes]) -> dict[str, str]:
    archives = [name for name in record.files if name.endswith(".tar")]
    stored = _members(out / archives[0], files) if archives else None
    differing = {}
    for name, data in files.items():
        if stored is not None:
            digest = stored.get(name)
        else:
            path = out / name
            digest = file_entry(path).sha256 if path.is_file() else None
        if digest is None:
            differing[name] = "missing"
        elif digest != hashlib.sha256(data).hexdigest():
            differing[name] = "other content"
    return differing


def _members(path: Path, wanted: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of members of a tar file, by name."""
    try:
        with tarfile.open(path) as archive:
            found = {}
            for member in archive:
                if member.name in wanted and (file := archive.extractfile(member)) is not None:
                    found[member.name] = hashlib.sha256(file.read()).hexdigest()
            return found
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
