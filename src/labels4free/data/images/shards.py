"""Images in WebDataset shards, tar files of samples: their reader and their writer.

A sample is the run of files that share a name up to its first dot (webdataset/webdataset, README.md, "The WebDataset
Format"). Every sample gives one image; what else it holds (labels, captions, masks) is left alone.
"""

from __future__ import annotations

import os
import re
from typing import IO, TYPE_CHECKING

from labels4free.data.decoding import is_image_name
from labels4free.data.images.base import ImageSource, ImageWriter, StoreLayout, best_size, write_folder_manifest
from labels4free.data.names import is_data_set
from labels4free.data.tar import (
    Place,
    encode_member,
    end_of_shard,
    find_shards,
    is_shard,
    is_shard_name,
    read_member,
    sample_key,
    scan,
)
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_SIZED = re.compile(r"([1-9]\d*)\.[a-z]+")


class ShardSource(ImageSource):
    """The images of tar shards, in the shards' natural order and the members' own.

    The shards are scanned once, when they are opened; an image is then read from its place. Of a sample with several
    images the first serves whose ending has no further dot (``1.jpg`` rather than ``1.mask.png``); where they are sizes
    (``1.128.jpg``, ``1.256.jpg``), the best one.

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
        for shard in find_shards(path):
            samples: dict[str, list[tuple[str, Place]]] = {}
            for name, place in scan(shard, self.skipped):
                if is_image_name(name):
                    samples.setdefault(sample_key(name), []).append((name, place))
            for images in samples.values():
                name, place = _chosen(images, resolution)
                names.append(f"{shard.name}/{name}")
                self._places.append(place)
        self.names = tuple(names)
        if not names:
            raise DataError(f"{path} holds no image: give tar files with PNG, JPEG or WebP files in them.")

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether it is a tar file, a pattern of them, or a folder that has some and no images beside them.

        The contact sheet beside the shards of a data set of pairs does not count.
        """
        if path.is_dir():
            names = [entry.name for entry in path.iterdir()]
            return any(map(is_shard_name, names)) and (is_data_set(path) or not any(map(is_image_name, names)))
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


def _chosen(images: list[tuple[str, Place]], resolution: int | None) -> tuple[str, Place]:
    """The one image of a sample."""
    endings = [name.rpartition("/")[2].partition(".")[2].lower() for name, _ in images]
    sized = {int(match[1]): n for n, ending in enumerate(endings) if (match := _SIZED.fullmatch(ending))}
    if len(sized) == len(images):
        return images[sized[best_size(sized, resolution)]]
    return next((image for image, ending in zip(images, endings, strict=True) if "." not in ending), images[0])
