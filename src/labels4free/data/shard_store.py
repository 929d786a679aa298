"""Images in WebDataset shards, tar files of samples: their reader and their writer.

A sample is the run of files that share a name up to its first dot (webdataset/webdataset, README.md, "The WebDataset
Format"). Every sample gives one image; what else it holds (labels, captions, masks) is left alone.
"""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from labels4free.data.decoding import LARGEST_FILE, is_image_name, natural_key, too_large
from labels4free.data.image_store import ImageSource, ImageWriter, StoreLayout, best_size, write_folder_manifest
from labels4free.data.pair_manifest import is_data_set
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SUFFIX = ".tar"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_SIZED = re.compile(r"([1-9]\d*)\.[a-z]+")
_MOST_SHARDS = 1_000_000


class _Member(NamedTuple):
    shard: int
    offset: int
    length: int


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
        self.path = path
        self.skipped = {}
        self._shards = find_shards(path)
        self._members: list[_Member] = []
        names: list[str] = []
        for number, shard in enumerate(self._shards):
            for name, member in self._scan(number, shard, resolution):
                names.append(f"{shard.name}/{name}")
                self._members.append(member)
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
            return any(map(_is_shard_name, names)) and (is_data_set(path) or not any(map(is_image_name, names)))
        return path.suffix.lower() == _SUFFIX or (path.is_file() and tarfile.is_tarfile(path))

    def read(self, index: int) -> bytes:
        member = self._members[index]
        if member.length > LARGEST_FILE:
            raise DataError(too_large(self.label(index)))
        try:
            with self._shards[member.shard].open("rb", buffering=0) as file:
                file.seek(member.offset)
                data = file.read(member.length)
        except OSError as error:
            raise DataError(f"{self.label(index)} cannot be read: {error.strerror or error}.") from error
        if len(data) < member.length:
            raise DataError(f"{self.label(index)} is cut off: its shard ends within it.")
        return data

    def label(self, index: int) -> str:
        shard = self._shards[self._members[index].shard]
        return f"{shard.parent}/{self.names[index]}"

    def _scan(self, number: int, shard: Path, resolution: int | None) -> Iterable[tuple[str, _Member]]:
        """Name and place of each sample's image."""
        samples: dict[str, list[tuple[str, _Member]]] = {}
        try:
            with tarfile.open(shard, "r:") as tar:
                try:
                    for info in tar:
                        if info.isreg() and not info.issparse() and is_image_name(info.name):
                            member = _Member(number, info.offset_data, info.size)
                            samples.setdefault(_key(info.name), []).append((info.name, member))
                    check_end(shard, tar.offset)
                except (tarfile.TarError, EOFError, OSError) as error:
                    self.skipped[str(shard)] = f"{shard} is damaged ({error}): what comes before that is used."
        except (tarfile.TarError, EOFError, OSError) as error:
            compressed = "; if it is compressed, unpack it to .tar" if isinstance(error, tarfile.TarError) else ""
            raise DataError(f"{shard} cannot be read as a tar file ({error}){compressed}.") from error
        return [_chosen(images, resolution) for images in samples.values()]

    def _traits(self) -> Iterable[str]:
        return (f"{name} {member.length}" for name, member in zip(self.names, self._members, strict=True))


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
        return self.out / f"{self.written // self.layout.shard_images:06d}{_SUFFIX}"

    def add(self, encoded: Sequence[bytes]) -> None:
        if self._file is None:
            self._file = self._path().open("wb")
        several = len(self.layout.sizes) > 1
        for size, data in zip(self.layout.sizes, encoded, strict=True):
            info = tarfile.TarInfo(f"{self.written:05d}{f'.{size}' if several else ''}{self.layout.suffix}")
            info.size = len(data)
            self._file.write(info.tobuf(tarfile.USTAR_FORMAT) + data)
            self._file.write(bytes(-len(data) % tarfile.BLOCKSIZE))
        self.written += 1
        if self.written % self.layout.shard_images == 0:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._file is not None:
            end = self._file.tell() + 2 * tarfile.BLOCKSIZE
            self._file.write(bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE))
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


def _is_shard_name(name: str) -> bool:
    return name.lower().endswith(_SUFFIX) and not name.startswith(".")


def find_shards(path: Path) -> list[Path]:
    """The tar files of a folder, a pattern or a path, in natural order.

    Raises:
        DataError: If one is missing.
    """
    if path.is_dir():
        return [
            path / name for name in sorted((p.name for p in path.iterdir() if _is_shard_name(p.name)), key=natural_key)
        ]
    shards = [Path(name) for name in _expand(str(path))]
    if missing := [shard for shard in shards if not shard.is_file()]:
        more = f", nor {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"There is no shard {missing[0]}{more}, of {len(shards)}: check the path or the pattern.")
    return shards


def _expand(pattern: str) -> list[str]:
    """Every name of a pattern with ranges such as {000..123}; the ends' width decides about leading zeros."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < _MOST_SHARDS:
        raise DataError(f"{match[0]} is no range of shards: it must rise, by less than {_MOST_SHARDS:,}.")
    rests = _expand(pattern[match.end() :])
    return [f"{pattern[: match.start()]}{n:0{len(match[1])}d}{rest}" for n in range(first, last + 1) for rest in rests]


def check_end(shard: Path, offset: int) -> None:
    """Tell the end of a tar file from a damaged header, which the standard library takes for one."""
    with shard.open("rb") as file:
        file.seek(offset)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError(f"no header at byte {offset:,}")


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _chosen(images: list[tuple[str, _Member]], resolution: int | None) -> tuple[str, _Member]:
    """The one image of a sample."""
    endings = [name.rpartition("/")[2].partition(".")[2].lower() for name, _ in images]
    sized = {int(match[1]): n for n, ending in enumerate(endings) if (match := _SIZED.fullmatch(ending))}
    if len(sized) == len(images):
        return images[sized[best_size(sized, resolution)]]
    return next((image for image, ending in zip(images, endings, strict=True) if "." not in ending), images[0])
