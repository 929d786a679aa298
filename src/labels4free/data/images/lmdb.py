"""Images in an LMDB as rosinality's StyleGAN2 lays it out: its reader and its writer.

Keys and values: rosinality/stylegan2-pytorch prepare_data.py. ``{size}-{index:05d}`` -> an encoded image of that many
pixels a side, several sizes in one file; ``length`` -> the number of images, in ASCII digits. Any other LMDB whose
values are image files is read too, such as LSUN's own (fyu/lsun data.py): hash -> WebP.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import threading
import weakref
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from labels4free.data.images.base import (
    ImageSource,
    ImageWriter,
    StoreLayout,
    beside_a_store,
    best_size,
    spoken,
    write_folder_manifest,
)
from labels4free.data.walk import HEAD, find_images, image_kind
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import lmdb

_DATA_FILE = "data.mdb"
_LENGTH = b"length"
_KEY = re.compile(rb"([1-9]\d{0,5})-\d{5,}")
_MAGIC = b"\xde\xc0\xef\xbe"  # on the first page of an LMDB, behind its header
_LOOKED_AT = 10
_FIRST_MAP_SIZE = 64 * 2**20


def image_key(size: int, index: int) -> str:
    """The key of one image of one size."""
    return f"{size}-{index:05d}"


class _Names(Sequence[str]):
    """The keys of one size, made when asked for: there may be millions."""

    def __init__(self, size: int, length: int) -> None:
        self._size, self._length = size, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        return image_key(self._size, range(self._length)[index])


class _Keys(Sequence[str]):
    """All keys, as they are sorted. Held in one piece: LSUN has millions."""

    def __init__(self, cursor: lmdb.Cursor) -> None:
        keys = [bytes(key) for key in cursor.iternext(keys=True, values=False) if key != _LENGTH]
        self._ends = array("Q", itertools.accumulate(map(len, keys)))
        self._joined = b"".join(keys)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        number = range(len(self))[index]
        if isinstance(number, range):
            return [self[n] for n in number]
        return os.fsdecode(self._joined[self._ends[number - 1] if number else 0 : self._ends[number]])


class LmdbSource(ImageSource):
    """The images of one size in an LMDB; of one whose keys tell no sizes, all.

    Args:
        path: Its folder, or its file.
        resolution: The size; None takes the largest.

    Raises:
        DataError: If it is no LMDB, one of another program, or cut off, or does not hold this size.
    """

    def __init__(self, path: Path, resolution: int | None = None) -> None:
        self.path = path
        self._shared: _Environment | None = None
        self.sizes: tuple[int, ...]
        self.skipped = beside_a_store(path, "an LMDB")
        with self._environment().begin() as transaction:
            length = transaction.get(_LENGTH)
            sizes = _sizes(transaction.cursor())
            if not sizes and _holds_images(transaction.cursor()):
                self.names, self.sizes = _Keys(transaction.cursor()), ()
                return
        if length is None or not length.isdigit() or (int(length) > 0 and not sizes):
            what = "the entry `length`" if length is None else "a number in `length` and keys such as `256-00000`"
            raise DataError(
                f"{path} is an LMDB of another program, or unfinished: {what}, as rosinality's prepare_data.py writes "
                "it, is missing, and its first values are no image files; give the images in another form, such as a "
                "folder."
            )
        if int(length) == 0:
            raise DataError(f"{path} is an LMDB without images: its `length` is 0.")
        if resolution is not None and resolution not in sizes:
            raise DataError(
                f"{path} holds images of {spoken(sizes)} pixels, asked for was {resolution}: "
                f"choose one of those, or prepare this size as well."
            )
        self.names = _Names(best_size(sizes, resolution), int(length))
        self.sizes = tuple(sorted(sizes))

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether it is the folder of an LMDB, or its file by name; a file that only has the name counts alone."""
        if path.is_file():
            return path.suffix.lower() in (".mdb", ".lmdb")
        if not (path / _DATA_FILE).is_file():
            return False
        with (path / _DATA_FILE).open("rb") as file:
            return _MAGIC in file.read(32) or not find_images(path).names

    def read(self, index: int) -> bytes:
        import lmdb

        key = self.names[index]
        try:
            with self._environment().begin() as transaction:
                data: bytes | None = transaction.get(os.fsencode(key))
        except lmdb.Error as error:
            raise DataError(f"{self.label(index)} cannot be read ({error}).") from error
        if data is None:
            raise DataError(f"{self.label(index)} is missing.")
        return data

    def _environment(self) -> lmdb.Environment:
        if self._shared is None or self._shared.process != os.getpid():
            self._shared = _Environment.of(self.path)
        return self._shared.environment

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shared": None}

    def _traits(self) -> Iterable[str]:
        file = self.path / _DATA_FILE if self.path.is_dir() else self.path
        return (f"{self.names[0]} {len(self)} {file.stat().st_size}",)


class _Environment:
    """An LMDB opened for reading. A process must not open one twice, nor use its parent's: see :meth:`of`."""

    _lock: ClassVar = threading.Lock()
    _opened: ClassVar[weakref.WeakValueDictionary[str, _Environment]] = weakref.WeakValueDictionary()

    def __init__(self, path: Path) -> None:
        import lmdb

        self.process = os.getpid()
        try:
            # rosinality/stylegan2-pytorch dataset.py opens it so: no lock file, so that read-only disks serve.
            self.environment = lmdb.open(
                _lmdb_path(path),
                subdir=path.is_dir(),
                max_readers=32,
                readonly=True,
                lock=False,
                readahead=False,
                meminit=False,
            )
        except (lmdb.Error, OSError) as error:
            raise DataError(f"{path} cannot be opened as an LMDB ({error}).") from error
        file = path / _DATA_FILE if path.is_dir() else path
        pages, page = self.environment.info()["last_pgno"] + 1, self.environment.stat()["psize"]
        if file.stat().st_size < pages * page:  # reading behind the end would end the process
            self.environment.close()
            raise DataError(
                f"{path} is cut off: {file.stat().st_size:,} bytes of {pages * page:,} are there; copy it again."
            )

    @classmethod
    def of(cls, path: Path) -> _Environment:
        """This process's environment of a path, shared by all who read it and closed after the last."""
        key = os.path.realpath(path)
        with cls._lock:
            known = cls._opened.get(key)
            if known is not None and known.process != os.getpid():  # inherited by a fork
                known.environment.close()
                known = None
            if known is None:
                known = cls._opened[key] = cls(path)
                weakref.finalize(known, known.environment.close)
            return known


def _sizes(cursor: lmdb.Cursor) -> set[int]:
    """Every size that has a key, leaping from one to the next: keys are sorted by their bytes."""
    sizes: set[int] = set()
    found = cursor.first()
    while found:
        key = bytes(cursor.key())
        match = _KEY.fullmatch(key)
        if match:
            sizes.add(int(match[1]))
            found = cursor.set_range(match[1] + b".")  # the character behind "-"
        elif key[:1].isdigit():
            found = cursor.next()
        else:
            found = False  # all digits sort before all letters
    return sizes


def _holds_images(cursor: lmdb.Cursor) -> bool:
    """Whether there is an image file among the first values."""
    return any(image_kind(bytes(value[:HEAD])) for _, (_, value) in zip(range(_LOOKED_AT), cursor, strict=False))


def _lmdb_path(path: Path) -> str | bytes:
    """A path as LMDB takes any: as bytes where names are such."""
    return str(path) if os.name == "nt" else os.fsencode(path)


class LmdbWriter(ImageWriter):
    """One transaction a commit; the map grows with the data. ``length``, which every reader looks for, comes last."""

    def __init__(self, out: Path, layout: StoreLayout, written: int = 0, offset: int = 0) -> None:
        import lmdb

        super().__init__(out, layout, written, offset)
        out.mkdir(parents=True, exist_ok=True)
        file = out / _DATA_FILE
        size = file.stat().st_size if file.exists() else 0
        self._entries: list[tuple[bytes, bytes]] = []
        try:
            self._environment = lmdb.open(_lmdb_path(out), map_size=max(_FIRST_MAP_SIZE, size), readahead=False)
        except lmdb.Error as error:
            raise _os_error(error, file) from error

    def add(self, encoded: Sequence[bytes]) -> None:
        for size, data in zip(self.layout.sizes, encoded, strict=True):
            self._entries.append((image_key(size, self.written).encode(), data))
        self.written += 1

    def commit(self) -> int:
        self._put(self._entries)
        self._entries = []
        return 0

    def _put(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        import lmdb

        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in entries:
                        transaction.put(key, value)
            except lmdb.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()["map_size"])
            except lmdb.Error as error:
                needed = 2 * sum(len(value) for _, value in entries)  # they are rounded up to pages
                raise _os_error(error, self.out / _DATA_FILE, needed) from error
            else:
                return

    def finish(self, manifest: bytes) -> None:
        self.commit()
        self._put([(_LENGTH, str(self.written).encode())])
        self._environment.close()
        write_folder_manifest(self.out, manifest)

    def close(self) -> None:
        self._environment.close()


def _os_error(error: lmdb.Error, file: Path, needed: int = 0) -> OSError:
    """What LMDB says about the disk, in the words of the file system. Of a full one it may say no more than EIO."""
    import lmdb

    if isinstance(error, lmdb.DiskError) or shutil.disk_usage(file.parent).free < needed:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
    return OSError(errno.EIO, str(error), str(file))
