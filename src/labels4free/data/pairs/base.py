"""The contracts of data sets of pairs: what encodes and writes one, and what reads one."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np

from labels4free.data.pairs.files import LATENTS, decode_latents, decode_part
from labels4free.data.pairs.record import FileEntry, Pair, PairRecord, measure
from labels4free.data.walk import listed
from labels4free.errors import ConfigError, DataError
from labels4free.files import opened_atomically, write_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from labels4free.data.mask_files import Foreground
    from labels4free.data.pairs.record import PairLayout

T = TypeVar("T")

_logger = logging.getLogger(__name__)

CARD = "README.md"
"""Name of the text about a data set that lies in it."""

_RECORD = {value.name for value in dataclasses.fields(PairRecord)}


@dataclass(frozen=True, eq=False)
class EncodedPair:
    """A pair as bytes.

    Attributes:
        record: Its measurements.
        files: Path in the data set, or name in the shard -> content, in the order in which they are written.
        notes: What the format says of it elsewhere than in these files; JSON values.
    """

    record: PairRecord
    files: Mapping[str, bytes]
    notes: Mapping[str, Any] = field(default_factory=dict)


class PairShard(ABC):
    """Writes one shard of a data set. As a context, it takes back what it wrote unless :meth:`close` was reached.

    Args:
        out: The data set's folder.
        layout: How pairs are written.
        shard: The shard's number.

    Raises:
        DataError: From every method, if a file cannot be written.
    """

    def __init__(self, out: Path, layout: PairLayout, shard: int) -> None:
        self.out, self.layout, self.shard = out, layout, shard

    @abstractmethod
    def add(self, encoded: EncodedPair) -> None:
        """Append a pair. Pairs come in the order of their indices."""

    @abstractmethod
    def close(self) -> dict[str, FileEntry]:
        """End the shard.

        Returns:
            Path in the data set -> length and checksum, of every file of the shard.
        """

    @abstractmethod
    def discard(self) -> None:
        """Take back what was written; does nothing after :meth:`close`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


class PairSet(ABC):
    """The pairs of a data set on disk, by index, in an order that never changes.

    Pairs that cannot be read are skipped with a warning: damage shows when a pair is first used, and the next readable
    one then takes its place, so that an index always gives the same pair; iterating leaves them out.

    Attributes:
        path: Where the data set lies.
        names: Each pair's name in the data set, in order.
        parts: What every pair holds, of :data:`labels4free.data.names.PARTS`.
        skipped: What a pair is called -> why it cannot be used, as far as is known yet.
        foreground: Labels that are the object, in masks that are maps of labels; None refuses those.
    """

    path: Path
    names: Sequence[str]
    parts: tuple[str, ...]
    skipped: dict[str, str]
    foreground: Foreground | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Pair:
        """One pair, with all of its parts. Measurements that the data set does not hold are taken now.

        Raises:
            IndexError: If there is no such index; negative ones count from the end.
            DataError: If no pair is readable any more.
        """
        return self._first_readable(index, self._pair)

    def __iter__(self) -> Iterator[Pair]:
        for number in range(len(self)):
            if (pair := self._attempt(number, self._pair)) is not None:
                yield pair

    def pictures(self, index: int, parts: Sequence[str] = ("image", "mask")) -> dict[str, NDArray[Any]]:
        """Some pictures of a pair: less to decode than all of it.

        Returns:
            Part -> pixels, as :class:`labels4free.data.pairs.record.Pair` has them.

        Raises:
            IndexError, DataError: As ``self[index]``; DataError also if the data set does not hold such a part.
        """
        if missing := [part for part in parts if part not in self.parts]:
            raise DataError(f"{self.path} holds no {missing[0]}: its pairs have {', '.join(self.parts)}.")
        return self._first_readable(index, lambda number: self._pictures(number, parts))

    @abstractmethod
    def _file(self, number: int, part: str) -> tuple[Path | bytes, str]:
        """The file of one part of a pair, or its content, and its name; DataError if there is none."""

    def _picture(self, number: int, part: str) -> NDArray[Any]:
        """Decode one picture; DataError if it cannot be."""
        return decode_part(part, *self._file(number, part), self.foreground)

    @abstractmethod
    def _values(self, number: int) -> Mapping[str, Any]:
        """What the data set says of a pair: its record among other things, or nothing."""

    def _pair(self, number: int) -> Pair:
        pictures = self._pictures(number, [part for part in self.parts if part != LATENTS])
        latents = decode_latents(*self._file(number, LATENTS)) if LATENTS in self.parts else {}
        values = {name: value for name, value in self._values(number).items() if name in _RECORD}
        if "foreground_ratio" in values:
            try:
                return Pair(PairRecord.from_json(values), pictures, latents)
            except DataError as error:
                raise DataError(f"The record of {self.names[number]} in {self.path} is damaged. {error}") from error
        mask = pictures.get("mask", np.zeros((1, 1), np.uint8))
        stem = self.names[number].rpartition("/")[2].partition(".")[0]
        index = int(stem) if stem.isdecimal() else number
        known = {name: values[name] for name in ("truncation_psi", "label") if name in values}
        return Pair(measure(index, pictures.get("alpha", mask), mask, **known), pictures, latents)

    def _pictures(self, number: int, parts: Sequence[str]) -> dict[str, NDArray[Any]]:
        pictures = {part: self._picture(number, part) for part in parts}
        if len(shapes := {picture.shape[:2] for picture in pictures.values()}) > 1:
            sizes = " and ".join(f"{width} x {height}" for height, width in sorted(shapes))
            raise DataError(f"The pictures of {self.names[number]} in {self.path} differ in size ({sizes}).")
        return pictures

    def _first_readable(self, index: int, load: Callable[[int], T]) -> T:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} pairs, there is no number {index}.")
        for step in range(len(self)):
            if (loaded := self._attempt((index + step) % len(self), load)) is not None:
                return loaded
        why = self.skipped.get(self.names[index % len(self)], "")
        raise DataError(f"{self.path} holds no readable pair, of {len(self)}. {why}".rstrip())

    def _attempt(self, number: int, load: Callable[[int], T]) -> T | None:
        """What was loaded; None, with a warning the first time, if it is damaged."""
        name = self.names[number]
        if name in self.skipped:
            return None
        try:
            return load(number)
        except DataError as error:
            self.skip({name: str(error)})
            return None

    def skip(self, reasons: Mapping[str, str]) -> None:
        """Leave pairs out from now on, and warn of it.

        Args:
            reasons: What a pair is called -> a sentence on why it cannot be used.
        """
        if not reasons:
            return
        self.skipped |= reasons
        _logger.warning("Skipped %d pair(s) in %s: %s", len(reasons), self.path, listed(reasons.values()))


class PairFormat(ABC):
    """A format of data sets: its writer and its reader. The classes themselves are used; they hold nothing.

    Attributes:
        needs: Parts without which the format makes no sense.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def check(cls, layout: PairLayout) -> None:
        """Refuse a layout that the format cannot hold.

        Raises:
            ConfigError: If a part is missing that it needs.
        """
        if missing := [part for part in cls.needs if part not in layout.parts]:
            raise ConfigError(
                f"This format needs {' and '.join(cls.needs)} of each pair, {missing[0]} was not asked for: "
                "add it to the parts, or choose another format."
            )

    @classmethod
    @abstractmethod
    def encode(cls, pair: Pair, layout: PairLayout) -> EncodedPair:
        """A pair as the bytes of its files; a pure function, for any thread.

        Args:
            pair: Holds at least the layout's parts.
            layout: How pairs are written.
        """

    @classmethod
    @abstractmethod
    def open_shard(cls, out: Path, layout: PairLayout, shard: int) -> PairShard:
        """Begin a shard, a context to which encoded pairs are added.

        Raises:
            DataError: If it cannot be written.
        """

    @classmethod
    @abstractmethod
    def finish(
        cls, out: Path, layout: PairLayout, shards: Iterable[tuple[int, Sequence[PairRecord]]], card: str = ""
    ) -> dict[str, FileEntry]:
        """Write the files over all shards; done twice, they are the same.

        Args:
            out: The data set's folder.
            layout: How pairs are written.
            shards: Number and records of each, in order; gone through once, one at a time.
            card: A text in Markdown about the data set, for its README.md; the format adds the header that it needs.

        Returns:
            Path in the data set -> length and checksum, of every such file.

        Raises:
            DataError: If one cannot be written, or a file of a shard that it needs cannot be read.
        """

    @classmethod
    @abstractmethod
    def matches(cls, path: Path) -> bool:
        """Whether a data set of this format lies there."""

    @classmethod
    @abstractmethod
    def open(cls, path: Path) -> PairSet:
        """Open a data set of this format.

        Raises:
            DataError: If it cannot be read, or holds no pair.
        """

    @classmethod
    @abstractmethod
    def pictures(cls, out: Path, layout: PairLayout, shard: int, index: int) -> dict[str, NDArray[Any]]:
        """The pictures of one pair of a data set that is ours; no other shard is looked at, however many there are.

        Args:
            out: The data set's folder.
            layout: How its pairs are written.
            shard: The pair's shard.
            index: The pair's number.

        Returns:
            Part -> pixels, as :class:`labels4free.data.pairs.record.Pair` has them, of all parts but latents.

        Raises:
            DataError: If one is missing or damaged.
        """


class MeasuredFile:
    """A file written piece by piece that appears complete or not at all; its checksum is taken on the way.

    Args:
        path: File to write; an older one is replaced.
        sync: See :func:`labels4free.files.write_atomically`.

    Raises:
        DataError: From every method but ``discard``, if the file cannot be written.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self.path = path
        self._digest = hashlib.sha256()
        self.bytes = 0
        self._open = contextlib.ExitStack()
        with self._failures():
            self._file = self._open.enter_context(opened_atomically(path, sync=sync))

    def write(self, data: bytes) -> None:
        """Append."""
        with self._failures():
            self._file.write(data)
        self._digest.update(data)
        self.bytes += len(data)

    def commit(self) -> FileEntry:
        """Put it in its place."""
        with self._failures():
            self._open.close()
        return FileEntry(self.bytes, self._digest.hexdigest())

    def discard(self) -> None:
        """Leave nothing behind; does nothing after :meth:`commit`."""
        # What is thrown into the context makes it clean up; what it throws back is that, or a failure while closing.
        with contextlib.suppress(_Discarded, OSError), self._open:
            raise _Discarded

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(write_failure(self.path, error)) from error


class _Discarded(Exception):  # noqa: N818  no error
    """Ends the context of a file that is not wanted any more."""


def write_entry(path: Path, pieces: Iterable[bytes], *, sync: bool = True) -> FileEntry:
    """Write a file piece by piece, whole or not at all.

    Args:
        path: The file.
        pieces: Its content.
        sync: See :func:`labels4free.files.write_atomically`.

    Raises:
        DataError: If it cannot be written.
    """
    file = MeasuredFile(path, sync=sync)
    try:
        for piece in pieces:
            file.write(piece)
        return file.commit()
    finally:
        file.discard()


def write_card(out: Path, card: str) -> dict[str, FileEntry]:
    """Write the text about a data set, if there is one."""
    return {CARD: write_entry(out / CARD, [card.encode()])} if card else {}


def json_line(values: Mapping[str, Any]) -> bytes:
    """One line of JSON."""
    return (json.dumps(values, ensure_ascii=False) + "\n").encode()
