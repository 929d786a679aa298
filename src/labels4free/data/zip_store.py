"""Images in a zip file: its reader and its writer."""

from __future__ import annotations

import os
import zipfile
import zlib
from struct import Struct
from typing import IO, TYPE_CHECKING, Any

from labels4free.data.decoding import LARGEST_FILE, is_image_name, natural_key, too_large
from labels4free.data.image_store import (
    MANIFEST,
    ImageSource,
    ImageWriter,
    StoreLayout,
    parse_manifest,
    size_prefix,
)
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError)
_LOCAL_HEADER = Struct("<4s5H3L2H")  # APPNOTE.TXT 4.3.7
_EPOCH = (1980, 1, 1, 0, 0, 0)


class ZipSource(ImageSource):
    """Every image in a zip file, in any folder of it, in natural order; NVIDIA's dataset.zip is one such.

    Args:
        path: The file.
        resolution: Which size to read, where `prepare` wrote several.

    Raises:
        DataError: If it is no zip file, is damaged or encrypted, or holds no image.
    """

    def __init__(self, path: Path, resolution: int | None = None) -> None:
        self.path = path
        self.skipped = {}
        self._open: tuple[int, zipfile.ZipFile] | None = None
        members = {info.filename: info for info in self._archive().infolist()}
        prefix = size_prefix(zip_manifest(path), resolution)
        names = [name for name, info in members.items() if not info.is_dir() and name.startswith(prefix)]
        self.names = tuple(sorted(filter(is_image_name, names), key=natural_key))
        if not self.names:
            raise DataError(f"{path} holds no image: give a zip file with PNG, JPEG or other image files in it.")
        if members[self.names[0]].flag_bits & 1:
            raise DataError(f"{path} is encrypted: unpack it, and give the folder.")

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether it is a zip file, or is called one."""
        return path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))

    def read(self, index: int) -> bytes:
        name = self.names[index]
        try:
            archive = self._archive()
            if archive.getinfo(name).file_size > LARGEST_FILE:
                raise DataError(too_large(self.label(index)))
            return archive.read(name)
        except DataError:
            raise
        except _DAMAGE as error:
            raise DataError(f"{self.label(index)} cannot be read ({error}).") from error

    def _archive(self) -> zipfile.ZipFile:
        """The open file: processes that shared one would move each other's position in it."""
        if self._open is None or self._open[0] != os.getpid():
            try:
                self._open = os.getpid(), zipfile.ZipFile(self.path)
            except _DAMAGE as error:
                raise DataError(f"{self.path} cannot be read as a zip file ({error}); is it complete?") from error
        return self._open[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None}

    def __del__(self) -> None:
        if getattr(self, "_open", None) is not None and self._open is not None:
            self._open[1].close()

    def _traits(self) -> Iterable[str]:
        infos = map(self._archive().getinfo, self.names)
        return (f"{info.filename} {info.file_size} {info.CRC}" for info in infos)


class ZipWriter(ImageWriter):
    """Stored members without times, under another name until the file is whole."""

    is_file = True

    def __init__(self, out: Path, layout: StoreLayout, written: int = 0, offset: int = 0) -> None:
        super().__init__(out, layout, written, offset)
        out.parent.mkdir(parents=True, exist_ok=True)
        self._partial = out.with_name(f"{out.name}.unfinished")
        self._file: IO[bytes] = self._partial.open("r+b" if written else "wb")
        try:
            members = _members(self._file, offset, self._partial)
        except BaseException:
            self._file.close()
            raise
        self._file.seek(offset)
        self._file.truncate()
        self._archive = zipfile.ZipFile(self._file, "w")  # writes from where the file stands
        self._archive.infolist().extend(members)
        self._archive.NameToInfo.update((member.filename, member) for member in members)

    def add(self, encoded: Sequence[bytes]) -> None:
        for name, data in zip(self.layout.names(self.written), encoded, strict=True):
            self._archive.writestr(_member(name), data)
        self.written += 1

    def commit(self) -> int:
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def finish(self, manifest: bytes) -> None:
        self._archive.writestr(_member(MANIFEST), manifest)
        self._archive.close()
        self.commit()
        self._file.close()
        self._partial.replace(self.out)

    def close(self) -> None:
        try:
            self._archive.close()
        finally:
            self._file.close()


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # Unix, on every platform: the bytes are the same
    info.external_attr = 0o100644 << 16
    return info


def _members(file: IO[bytes], end: int, path: Path) -> list[zipfile.ZipInfo]:
    """What was written up to a position, from the headers before each member."""
    members: list[zipfile.ZipInfo] = []
    file.seek(0)
    while (position := file.tell()) < end:
        header = file.read(_LOCAL_HEADER.size)
        fields = _LOCAL_HEADER.unpack(header) if len(header) == _LOCAL_HEADER.size else (b"",)
        if fields[0] != b"PK\x03\x04":
            raise DataError(f"{path} is damaged: remove it and its journal, and prepare the images again.")
        *_, crc, stored, size, name_length, extra_length = fields
        info = _member(file.read(name_length).decode())
        info.CRC, info.compress_size, info.file_size, info.header_offset = crc, stored, size, position
        members.append(info)
        file.seek(extra_length + stored, os.SEEK_CUR)
    if position != end or os.fstat(file.fileno()).st_size < end:
        raise DataError(f"{path} is damaged: remove it and its journal, and prepare the images again.")
    return members


def zip_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest in a zip file; None where there is none, or no such file.

    Raises:
        DataError: If it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            data = archive.read(MANIFEST)
    except (KeyError, *_DAMAGE):
        return None
    return parse_manifest(data, str(path))
