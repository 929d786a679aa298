"""Pairs as numbered files, a folder for each part: writer and reader. Also what other formats of files share.

``images/00000.png``, ``masks/00000.png``, ``alpha/00000.png`` and so on, and the measurements in ``records.jsonl``, a
line a pair. The reader takes any folder with images in ``images/`` and masks of the same names, but for the endings, in
``masks/``: data sets of earlier versions, and those of others.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from labels4free.data.names import PARTS
from labels4free.data.pairs.base import EncodedPair, PairFormat, PairSet, PairShard, json_line, write_card, write_entry
from labels4free.data.pairs.files import LATENTS, decode_part, encode_part, suffix_of
from labels4free.data.walk import find_files, find_images, natural_key
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from labels4free.data.pairs.record import FileEntry, Pair, PairLayout, PairRecord

RECORDS = "records.jsonl"
"""Name of the file with the pairs' measurements."""

_MANIFEST = "manifest.json"  # of data sets of the first format, which say there what their pairs have in common


def part_path(part: str, index: int, layout: PairLayout) -> str:
    """The file of one part of a pair, relative to the data set."""
    return f"{PARTS[part]}/{index:05d}{suffix_of(part, layout)}"


def encode_files(pair: Pair, layout: PairLayout, parts: Iterable[str]) -> dict[str, bytes]:
    """Parts of a pair as files: relative path -> content."""
    return {part_path(part, pair.record.index, layout): encode_part(part, pair, layout) for part in parts}


class FileShard(PairShard):
    """A shard of numbered files. Each appears whole or not at all; none waits for the disk, there are too many."""

    def __init__(self, out: Path, layout: PairLayout, shard: int) -> None:
        super().__init__(out, layout, shard)
        self._entries: dict[str, FileEntry] = {}
        self._closed = False

    def add(self, encoded: EncodedPair) -> None:
        for name, data in encoded.files.items():
            self._entries[name] = write_entry(self.out / name, [data], sync=False)

    def close(self) -> dict[str, FileEntry]:
        self._closed = True
        return self._entries

    def discard(self) -> None:
        for name in () if self._closed else self._entries:
            with contextlib.suppress(OSError):
                (self.out / name).unlink(missing_ok=True)


def numbered_pictures(out: Path, layout: PairLayout, index: int, parts: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Decode parts of a pair from numbered files; latents are passed over.

    Raises:
        DataError: If one is missing or damaged.
    """
    paths = {part: out / part_path(part, index, layout) for part in parts if part != LATENTS}
    return {part: decode_part(part, path, str(path)) for part, path in paths.items()}


class FolderSet(PairSet):
    """The pairs of a folder: as ``records.jsonl`` lists them, else every image that has a mask, in natural order.

    Args:
        path: The folder.

    Raises:
        DataError: If it cannot be read, or holds no pair.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.skipped = path, {}
        left_out: dict[str, str] = {}
        self._files = {part: files_by_stem(path, part, left_out) for part in PARTS}
        self.skip(left_out)
        self.parts = tuple(part for part in PARTS if self._files[part])
        self._records = JsonLines(path / RECORDS) if (path / RECORDS).is_file() else None
        self._common: dict[str, Any] = {}
        if self._records is not None:
            self.names = [f"{_index(values, path):05d}" for values in self._records]
        else:
            images, masks = self._files["image"], self._files["mask"] or self._files["alpha"]
            self.names = sorted(images.keys() & masks.keys(), key=natural_key)
            kept = set(self.names)
            # Parts that only some of the pairs have are no parts of the data set.
            self.parts = tuple(part for part in self.parts if kept <= self._files[part].keys())
            self._common = _first_format(path / _MANIFEST)
            bare = sorted(images.keys() - kept, key=natural_key)
            self.skip({stem: f"{path / PARTS['image'] / images[stem]} has no mask." for stem in bare})
            bare = sorted(masks.keys() - kept, key=natural_key)
            where = path / PARTS["mask" if self._files["mask"] else "alpha"]
            self.skip({f"{where / masks[stem]}": f"{where / masks[stem]} has no image." for stem in bare})
        if not self.names:
            raise DataError(
                f"{path} holds no pair: put images into {path / PARTS['image']} and a mask of the same name for each "
                f"into {path / PARTS['mask']}."
            )

    def _values(self, number: int) -> Mapping[str, Any]:
        return self._common if self._records is None else self._records[number]

    def _file(self, number: int, part: str) -> tuple[Path, str]:
        name = self._files[part].get(self.names[number])
        if name is None:
            raise DataError(f"There is no {part} of {self.names[number]} in {self.path / PARTS[part]}.")
        return (path := self.path / PARTS[part] / name), str(path)


class FolderFormat(PairFormat):
    """Numbered files in a folder for each part."""

    @classmethod
    def encode(cls, pair: Pair, layout: PairLayout) -> EncodedPair:
        return EncodedPair(pair.record, encode_files(pair, layout, layout.parts))

    @classmethod
    def open_shard(cls, out: Path, layout: PairLayout, shard: int) -> FileShard:
        return FileShard(out, layout, shard)

    @classmethod
    def finish(
        cls,
        out: Path,
        layout: PairLayout,  # noqa: ARG003  others need it
        shards: Iterable[tuple[int, Sequence[PairRecord]]],
        card: str = "",
    ) -> dict[str, FileEntry]:
        lines = (json_line(record.to_json()) for _, records in shards for record in records)
        return {RECORDS: write_entry(out / RECORDS, lines)} | write_card(out, card)

    @classmethod
    def matches(cls, path: Path) -> bool:
        return (path / PARTS["image"]).is_dir()

    @classmethod
    def pictures(
        cls,
        out: Path,
        layout: PairLayout,
        shard: int,  # noqa: ARG003  files are found by the number of the pair
        index: int,
    ) -> dict[str, NDArray[Any]]:
        return numbered_pictures(out, layout, index, layout.parts)

    @classmethod
    def open(cls, path: Path) -> PairSet:
        return FolderSet(path)


def files_by_stem(path: Path, part: str, left_out: dict[str, str]) -> dict[str, str]:
    """What a data set's folder for a part holds, at any depth: name without its ending -> name.

    Args:
        path: The data set's folder.
        part: The part.
        left_out: Takes a sentence on every file that is not used, under its path.

    Raises:
        DataError: If the folder is there and cannot be read.
    """
    root = path / PARTS[part]
    if not root.is_dir():
        return {}
    walked = find_files(root, _is_archive) if part == LATENTS else find_images(root)
    left_out |= {str(root / name): reason for name, reason in walked.left_out.items()}
    found: dict[str, str] = {}
    for name in walked.names:
        stem = name.rpartition(".")[0]
        if stem in found:
            left_out[str(root / name)] = f"{root / name} is left out: {found[stem]} has its name but for the ending."
        else:
            found[stem] = name
    return found


def _is_archive(name: str) -> bool:
    return name.endswith(".npz") and not name.startswith(".")


def _index(values: Mapping[str, Any], path: Path) -> int:
    index = values.get("index")
    if type(index) is not int or index < 0:
        raise DataError(f"{path / RECORDS} is damaged: a line of it has the index {index!r}.")
    return index


def _first_format(path: Path) -> dict[str, Any]:
    """What the manifest of the first format says of every pair; nothing where there is none."""
    try:
        settings = json.loads(path.read_bytes())["settings"]
        return {"truncation_psi": float(settings["truncation_psi"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


class JsonLines:
    """The objects of a file of JSON lines, by number. Only their places are kept: such files have a line a pair.

    Args:
        path: The file.

    Raises:
        DataError: From every method, if it cannot be read, or a line is no JSON object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: list[int] = []
        position = 0
        try:
            with path.open("rb") as file:
                for line in file:
                    if line.strip():
                        self._places.append(position)
                    position += len(line)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> dict[str, Any]:
        try:
            with self.path.open("rb") as file:
                file.seek(self._places[number])
                return self._parsed(file.readline(), number)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}.") from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            for number, line in enumerate(filter(bytes.strip, file)):
                yield self._parsed(line, number)

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            values = json.loads(line)
        except ValueError as error:
            raise DataError(f"{self.path} is damaged: object {number + 1} in it is no JSON ({error}).") from error
        if not isinstance(values, dict):
            raise DataError(f"{self.path} is damaged: line {number + 1} is no JSON object.")
        return values
