"""Pairs in WebDataset shards: writer and reader.

A shard is a tar file, a pair the run of members that share a name up to the first dot (webdataset/webdataset,
README.md, "The WebDataset Format"): ``000000042.image.jpg``, ``000000042.mask.png``, ..., and ``000000042.json``, its
measurements.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from labels4free.data.decoding import LARGEST_FILE, is_image_name, too_large
from labels4free.data.pair_files import LATENTS, decode_latents, decode_part, encode_part, suffix_of
from labels4free.data.pair_store import EncodedPair, MeasuredFile, PairFormat, PairSet, PairShard, json_line, write_card
from labels4free.data.pairs import PARTS
from labels4free.data.shard_store import ShardSource, check_end, find_shards
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from labels4free.data.pairs import FileEntry, Pair, PairLayout, PairRecord

_RECORD = "json"


def shard_name(shard: int) -> str:
    """The file of a shard."""
    return f"shard-{shard:06d}.tar"


class TarShard(PairShard):
    """A tar file (USTAR) without times and owners, so that its bytes depend on the pairs alone.

    A shard without pairs is a tar file without members: patterns of shards have no gaps.
    """

    def __init__(self, out: Path, layout: PairLayout, shard: int) -> None:
        super().__init__(out, layout, shard)
        self._file = MeasuredFile(out / shard_name(shard))

    def add(self, encoded: EncodedPair) -> None:
        for name, data in encoded.files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            self._file.write(info.tobuf(tarfile.USTAR_FORMAT))
            self._file.write(data)
            self._file.write(bytes(-len(data) % tarfile.BLOCKSIZE))

    def close(self) -> dict[str, FileEntry]:
        end = 2 * tarfile.BLOCKSIZE
        self._file.write(bytes(end + -(self._file.bytes + end) % tarfile.RECORDSIZE))
        return {self._file.path.name: self._file.commit()}

    def discard(self) -> None:
        self._file.discard()


class _Member(NamedTuple):
    offset: int
    length: int
    name: str


class ShardSet(PairSet):
    """The pairs of tar shards.

    The shards are scanned once; a part is then read from its place. What precedes damage in a shard is used. A part is
    named by the first word of its ending (``.image.jpg``); an image with no such word (``.jpg``) is the ``image``.
    Parts that fewer than half of the samples have are left alone.

    Args:
        path: A folder of ``.tar`` files, one of them, or a pattern such as ``shard-{000000..000009}.tar``.

    Raises:
        DataError: If a shard is missing, compressed or no tar file, or none holds a pair.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.skipped = path, {}
        self.names: list[str] = []
        self._places: list[tuple[Path, dict[str, _Member]]] = []
        damaged: dict[str, str] = {}
        for shard in find_shards(path):
            for key, members in _scan(shard, damaged).items():
                self.names.append(f"{shard.name}/{key}")
                self._places.append((shard, members))
        self.skip(damaged)
        counts = Counter(part for _, members in self._places for part in members)
        self.parts = tuple(part for part in PARTS if 2 * counts[part] > len(self._places))
        if not self.parts:
            raise DataError(f"{path} holds no pair: give tar files with an image and a mask of the same name in them.")

    def _picture(self, number: int, part: str) -> NDArray[Any]:
        return decode_part(part, *self._read(number, part))

    def _latents(self, number: int) -> dict[str, NDArray[np.float32]]:
        return decode_latents(*self._read(number, LATENTS))

    def _values(self, number: int) -> Mapping[str, Any]:
        if _RECORD not in self._places[number][1]:
            return {}
        data, name = self._read(number, _RECORD)
        try:
            values = json.loads(data)
        except ValueError as error:
            raise DataError(f"{name} is no JSON ({error}).") from error
        return values if isinstance(values, dict) else {}

    def _read(self, number: int, part: str) -> tuple[bytes, str]:
        """Content and name of one member."""
        shard, members = self._places[number]
        if part not in members:
            raise DataError(f"There is no {part} of {self.names[number]} in {self.path}.")
        return _read_member(shard, members[part])


class ShardFormat(PairFormat):
    """WebDataset shards, ``shard-000000.tar`` and so on."""

    @classmethod
    def encode(cls, pair: Pair, layout: PairLayout) -> EncodedPair:
        key = f"{pair.record.index:09d}"
        parts = sorted(layout.parts, key=list(PARTS).index)  # the image first: readers of images alone take that
        files = {f"{key}.{part}{suffix_of(part, layout)}": encode_part(part, pair, layout) for part in parts}
        return EncodedPair(pair.record, files | {f"{key}.{_RECORD}": json_line(pair.record.to_json())})

    @classmethod
    def open_shard(cls, out: Path, layout: PairLayout, shard: int) -> TarShard:
        return TarShard(out, layout, shard)

    @classmethod
    def finish(
        cls,
        out: Path,
        layout: PairLayout,  # noqa: ARG003  others need it
        shards: Iterable[tuple[int, Sequence[PairRecord]]],  # noqa: ARG003  every shard is whole by itself
        card: str = "",
    ) -> dict[str, FileEntry]:
        return write_card(out, card)

    @classmethod
    def matches(cls, path: Path) -> bool:
        if path.is_dir():
            return not (path / PARTS["image"]).is_dir() and bool(find_shards(path))
        return ShardSource.matches(path)

    @classmethod
    def pictures(cls, out: Path, layout: PairLayout, shard: int, index: int) -> dict[str, NDArray[Any]]:
        path = out / shard_name(shard)
        members = _scan(path, {}).get(f"{index:09d}", {})
        if missing := [part for part in layout.parts if part not in members]:
            raise DataError(f"There is no {missing[0]} of pair {index} in {path}.")
        parts = [part for part in layout.parts if part != LATENTS]
        return {part: decode_part(part, *_read_member(path, members[part])) for part in parts}

    @classmethod
    def open(cls, path: Path) -> ShardSet:
        return ShardSet(path)


def _scan(shard: Path, damaged: dict[str, str]) -> dict[str, dict[str, _Member]]:
    """The pairs of a shard: name -> part -> place. What is wrong with the shard is noted in ``damaged``."""
    samples: dict[str, dict[str, _Member]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            try:
                for info in tar:
                    if info.isreg() and not info.issparse():
                        key, part = _split(info.name)
                        samples.setdefault(key, {}).setdefault(part, _Member(info.offset_data, info.size, info.name))
                check_end(shard, tar.offset)
            except (tarfile.TarError, EOFError, OSError) as error:
                damaged[str(shard)] = f"{shard} is damaged ({error}): what comes before that is used."
    except (tarfile.TarError, EOFError, OSError) as error:
        compressed = "; if it is compressed, unpack it to .tar" if isinstance(error, tarfile.TarError) else ""
        raise DataError(f"{shard} cannot be read as a tar file ({error}){compressed}.") from error
    return {key: parts for key, parts in samples.items() if not parts.keys().isdisjoint(PARTS)}


def _read_member(shard: Path, member: _Member) -> tuple[bytes, str]:
    """Content and name of one member."""
    name = f"{shard}/{member.name}"
    if member.length > LARGEST_FILE:
        raise DataError(too_large(name))
    try:
        with shard.open("rb", buffering=0) as file:
            file.seek(member.offset)
            data = file.read(member.length)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}.") from error
    if len(data) < member.length:
        raise DataError(f"{name} is cut off: its shard ends within it.")
    return data, name


def _split(name: str) -> tuple[str, str]:
    """The sample's name and the part of a member."""
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    part = ending.split(".")[0].lower()
    if part not in PARTS and "." not in ending and is_image_name(name):
        part = "image"
    return folder + slash + stem, part
