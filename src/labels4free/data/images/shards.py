"""Images in WebDataset shards, tar files of samples: their reader and their writer.

A sample is the run of files that share a name up to its first dot (webdataset/webdataset, README.md, "The WebDataset
Format"). Every sample gives one image; what else it holds (labels, captions, masks) is left alone. Names with dots of
their own (``22.05.1.png``) make one sample of many images, which all count then.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import partial
from typing import IO, TYPE_CHECKING

from labels4free.data.decoding import opened_image
from labels4free.data.images.base import (
    ImageSource,
    ImageWriter,
    StoreLayout,
    beside_a_store,
    best_size,
    write_folder_manifest,
)
from labels4free.data.names import PARTS, is_data_set
from labels4free.data.tar import (
    Place,
    encode_member,
    end_of_shard,
    find_shards,
    is_shard,
    read_member,
    sample_key,
    scan_shards,
)
from labels4free.data.walk import HEAD, find_images, is_image_name, listed, why_unread
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    _Member = tuple[str, Place]

_SIZED = re.compile(r"([1-9]\d*)\.[a-z]+")
_WORDS = re.compile(r"[a-z_]+(\.[a-z_]+)*\.[a-z0-9]+")


class ShardSource(ImageSource):
    """The images of tar shards, in the shards' natural order and the members' own.

    The shards are scanned once, when they are opened; an image is then read from its place. Of a sample with several
    images the first serves whose ending has no further dot (``1.jpg`` rather than ``1.mask.png``); where they are sizes
    (``1.128.jpg``, ``1.256.jpg``, of so many pixels), the best one.

    Args:
        path: A folder of ``.tar`` files, one of them, or a pattern such as ``set-{000000..000009}.tar``.
        resolution: Which size to read, where samples hold several.

    Raises:
        DataError: If a shard is missing, compressed or no tar file, or none holds an image.
    """

    def __init__(self, path: Path, resolution: int | None = None) -> None:
        self.path, self.skipped = path, {}
        names: list[str] = []
        self._places: list[Place] = []
        for shard, members in scan_shards(path, self.skipped):
            samples: dict[str, list[tuple[str, Place]]] = {}
            for name, place in members:
                label = f"{shard}/{name}"
                if is_image_name(name):
                    samples.setdefault(sample_key(name), []).append((name, place))
                elif reason := why_unread(name, label, partial(_head, place, label)):
                    self.skipped[label] = reason
            for name, place in _chosen(samples, resolution):
                names.append(f"{shard.name}/{name}")
                self._places.append(place)
        self.names = tuple(names)
        self.skipped |= {} if is_data_set(path) else beside_a_store(path, "tar shards")
        if not names:
            rest = f" {listed(self.skipped.values())}" if self.skipped else ""
            raise DataError(f"{path} holds no image: give tar files with PNG, JPEG or WebP files in them.{rest}")

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether it is a tar file, a pattern of them, or a folder that has more of them than images.

        The contact sheet beside the shards of a data set of pairs does not count.
        """
        if path.is_dir():
            shards = len(find_shards(path))
            return shards > 0 and (is_data_set(path) or shards > len(find_images(path).names))
        return is_shard(path)

    def read(self, index: int) -> bytes:
        return read_member(self._places[index], self.label(index))

    def label(self, index: int) -> str:
        return f"{self._places[index].shard.parent}/{self.names[index]}"

    def _traits(self) -> Iterable[str]:
        return (f"{name} {place.length}" for name, place in zip(self.names, self._places, strict=True))


class ShardWriter(ImageWriter):
    """Shards ``000000.tar``, ``000001.tar``, ... of so many images each, without times and owners."""

    def __init__(self, out: Path, layout: StoreLayout, written: int = 0, offset: int = 0) -> None:
        super().__init__(out, layout, written, offset)
        out.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] | None = None
        if offset:
            path = self._path()
            if not path.exists() or path.stat().st_size < offset:
                raise DataError(f"{path} is damaged: remove {out}, and prepare the images again.")
            self._file = path.open("r+b")
            self._file.seek(offset)
            self._file.truncate()

    def _path(self) -> Path:
        return self.out / f"{self.written // self.layout.shard_images:06d}.tar"

    def add(self, encoded: Sequence[bytes]) -> None:
        if self._file is None:
            self._file = self._path().open("wb")
        several = len(self.layout.sizes) > 1
        for size, data in zip(self.layout.sizes, encoded, strict=True):
            name = f"{self.written:05d}{f'.{size}' if several else ''}{self.layout.suffix}"
            self._file.write(encode_member(name, data))
        self.written += 1
        if self.written % self.layout.shard_images == 0:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._file is not None:
            self._file.write(end_of_shard(self._file.tell()))
            self.commit()
            self._file.close()
            self._file = None

    def commit(self) -> int:
        if self._file is None:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def finish(self, manifest: bytes) -> None:
        self._end_shard()
        write_folder_manifest(self.out, manifest)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _chosen(samples: dict[str, list[_Member]], resolution: int | None) -> Iterator[_Member]:
    """The images of a shard's samples: one of each, but all where dots in names have made one sample of several."""
    counts = Counter(_ending(name) for images in samples.values() for name, _ in images)
    has_sizes: bool | None = None
    for images in samples.values():
        by_ending = {_ending(name): (name, place) for name, place in images}
        sized = {int(match[1]): ending for ending in by_ending if (match := _SIZED.fullmatch(ending))}
        if len(images) > 1 and len(sized) == len(images):
            if has_sizes is None:
                size, ending = next(iter(sized.items()))
                has_sizes = _has_side(by_ending[ending], size)
            if has_sizes:
                yield by_ending[sized[best_size(sized, resolution)]]
                continue
        plain = next((member for ending, member in by_ending.items() if "." not in ending), None)
        others = [member for ending, member in by_ending.items() if "." in ending]
        if plain is not None:
            yield plain
            yield from (member for member in others if not _WORDS.fullmatch(_ending(member[0])))
        elif all(_is_part(ending, counts) for ending in by_ending):
            yield images[0]
        else:
            yield from others


def _ending(name: str) -> str:
    """What tells a file from the others of its sample: from the first dot on."""
    return name.rpartition("/")[2].partition(".")[2].lower()


def _is_part(ending: str, counts: Counter[str]) -> bool:
    """Whether an ending says what is in each sample's picture, as ``left.jpg`` does, and is no piece of a name."""
    return ending.partition(".")[0] in PARTS or (bool(_WORDS.fullmatch(ending)) and counts[ending] > 1)


def _has_side(member: _Member, side: int) -> bool:
    try:
        with opened_image(read_member(member[1], member[0]), member[0]) as image:
            return side in image.size
    except DataError:  # it is skipped when it is used
        return True


def _head(place: Place, label: str) -> bytes:
    return read_member(place._replace(length=min(place.length, HEAD)), label)
