"""Pairs in WebDataset shards: writer and reader.

A shard is a tar file, a pair the run of members that share a name up to the first dot (webdataset/webdataset,
README.md, "The WebDataset Format"): ``000000042.image.jpg``, ``000000042.mask.png``, ..., and ``000000042.json``, its
measurements.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from labels4free.data.names import PARTS
from labels4free.data.pairs.base import EncodedPair, MeasuredFile, PairFormat, PairSet, PairShard, json_line, write_card
from labels4free.data.pairs.files import LATENTS, decode_part, encode_part, suffix_of
from labels4free.data.tar import (
    Place,
    encode_member,
    end_of_shard,
    find_shards,
    is_shard,
    read_member,
    scan,
    scan_shards,
)
from labels4free.data.walk import is_image_name, listed
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from labels4free.data.pairs.record import FileEntry, Pair, PairLayout, PairRecord

    _Parts = dict[str, tuple[Place, str]]

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
            self._file.write(encode_member(name, data))

    def close(self) -> dict[str, FileEntry]:
        self._file.write(end_of_shard(self._file.bytes))
        return {self._file.path.name: self._file.commit()}

    def discard(self) -> None:
        self._file.discard()


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
        self._members: list[_Parts] = []
        damaged: dict[str, str] = {}
        for shard, members in scan_shards(path, damaged):
            pairs = _pairs(shard, members)
            self.names += [f"{shard.name}/{key}" for key in pairs]
            self._members += pairs.values()
        self.skip(damaged)
        counts = Counter(part for parts in self._members for part in parts)
        self.parts = tuple(part for part in PARTS if 2 * counts[part] > len(self._members))
        if not self.parts:
            rest = f" {listed(damaged.values())}" if damaged else ""
            raise DataError(
                f"{path} holds no pair: give tar files with an image and a mask of the same name in them.{rest}"
            )

    def _values(self, number: int) -> Mapping[str, Any]:
        if _RECORD not in self._members[number]:
            return {}
        data, name = self._file(number, _RECORD)
        try:
            values = json.loads(data)
        except ValueError as error:
            raise DataError(f"{name} is no JSON ({error}).") from error
        return values if isinstance(values, dict) else {}

    def _file(self, number: int, part: str) -> tuple[bytes, str]:
        if part not in self._members[number]:
            raise DataError(f"There is no {part} of {self.names[number]} in {self.path}.")
        return _read(self._members[number][part])


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
        return is_shard(path)

    @classmethod
    def pictures(cls, out: Path, layout: PairLayout, shard: int, index: int) -> dict[str, NDArray[Any]]:
        path = out / shard_name(shard)
        members = _pairs(path, scan(path, {})).get(f"{index:09d}", {})
        if missing := [part for part in layout.parts if part not in members]:
            raise DataError(f"There is no {missing[0]} of pair {index} in {path}.")
        parts = [part for part in layout.parts if part != LATENTS]
        return {part: decode_part(part, *_read(members[part])) for part in parts}

    @classmethod
    def open(cls, path: Path) -> ShardSet:
        return ShardSet(path)


def _pairs(shard: Path, members: Iterable[tuple[str, Place]]) -> dict[str, _Parts]:
    """The pairs of a shard: name -> part -> place and name."""
    samples: dict[str, _Parts] = {}
    for name, place in members:
        key, part = _named(name)
        samples.setdefault(key, {}).setdefault(part, (place, f"{shard}/{name}"))
    # Where only dots in names tell an image apart, it may be another picture of a sample: "1.depth.png".
    return {
        key: parts
        for key, parts in samples.items()
        if not parts.keys().isdisjoint(PARTS.keys() - {"image"} if "." in key.rpartition("/")[2] else PARTS)
    }


def _named(name: str) -> tuple[str, str]:
    """The pair that a member belongs to, and the part that it is: ``1.mask.png``, and ``2.5.mask.png`` of ``2.5``."""
    folder, slash, file = name.rpartition("/")
    stem, *words = file.split(".")
    if len(words) < 2 or words[0].lower() in PARTS:
        part = words[0].lower() if words else ""
        return folder + slash + stem, "image" if part not in PARTS and is_image_name(name) else part
    if words[-2].lower() in PARTS:
        return folder + slash + ".".join([stem, *words[:-2]]), words[-2].lower()
    return folder + slash + ".".join([stem, *words[:-1]]), "image" if is_image_name(name) else words[-1].lower()


def _read(member: tuple[Place, str]) -> tuple[bytes, str]:
    """Content and name of a member."""
    return read_member(*member), member[1]
