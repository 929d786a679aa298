"""Images in a zip file: its reader. NVIDIA's dataset.zip is one such."""

from __future__ import annotations

import os
import zipfile
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

from labels4free.data.decoding import LARGEST_FILE, too_large
from labels4free.data.images.base import MANIFEST, ImageSource, parse_manifest, size_prefix
from labels4free.data.walk import HEAD, is_image_name, listed, natural_key, why_unread
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError)


class ZipSource(ImageSource):
    """Every image in a zip file, in any folder of it, in natural order; NVIDIA's dataset.zip is one such.

    Args:
        path: The file.
        resolution: Which size to read, where `prepare` wrote several.

    Raises:
        DataError: If it is no zip file, is damaged or encrypted, or holds no image.
    """

    has_folders = True

    def __init__(self, path: Path, resolution: int | None = None) -> None:
        self.path = path
        self.skipped = {}
        self._open: tuple[int, zipfile.ZipFile] | None = None
        members = {info.filename: info for info in self._archive().infolist()}
        prefix = size_prefix(_manifest(self._archive(), path), resolution)
        names = [name for name, info in members.items() if not info.is_dir() and name.startswith(prefix)]
        self.names = tuple(sorted(filter(is_image_name, names), key=natural_key))
        wanted = set(self.names)
        for name in names:
            if name not in wanted and (reason := why_unread(name, f"{path}/{name}", partial(self._head, name))):
                self.skipped[f"{path}/{name}"] = reason
        if not self.names:
            rest = f" {listed(self.skipped.values())}" if self.skipped else ""
            raise DataError(f"{path} holds no image: give a zip file with PNG, JPEG or other image files in it.{rest}")
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

    def beside(self, name: str) -> bytes | None:
        try:
            return self._archive().read(name)
        except KeyError:
            return None
        except _DAMAGE as error:
            raise DataError(f"{name} in {self.path} cannot be read ({error}).") from error

    def _head(self, name: str) -> bytes:
        try:
            with self._archive().open(name) as file:
                return file.read(HEAD)
        except _DAMAGE:
            return b""

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


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any] | None:
    """The manifest of an earlier `prepare`; None where there is none. DataError if it is damaged."""
    try:
        data = archive.read(MANIFEST)
    except (KeyError, *_DAMAGE):
        return None
    return parse_manifest(data, str(path))
