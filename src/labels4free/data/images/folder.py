"""Images in a folder: its reader and its writer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from labels4free.data.decoding import is_image_name, natural_key, opened_image, read_bytes
from labels4free.data.images.base import ImageSource, ImageWriter, folder_manifest, size_prefix, write_folder_manifest
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class FolderSource(ImageSource):
    """Every file below a folder with the ending of a format that Pillow reads, at any depth, in natural order.

    ``2.png`` comes before ``10.png``; hidden files and folders are left out, links followed.

    Args:
        path: The folder.
        resolution: Which size to read, where `prepare` wrote several.
        check_headers: Look at each file's header, and leave out and list those that are no images.

    Raises:
        DataError: If the path is no folder or cannot be read, or holds no image.
    """

    def __init__(self, path: Path, resolution: int | None = None, *, check_headers: bool = False) -> None:
        self.path = path
        self.skipped = {}
        self._root = path / size_prefix(folder_manifest(path), resolution)
        names = _find_images(self._root)
        self.names = tuple(name for name in names if not check_headers or self._has_image_header(name))
        if not self.names:
            found = f"the {len(names)} image files in it are damaged" if names else "no image files in it"
            raise DataError(
                f"{path} holds no readable image ({found}): give a folder of PNG, JPEG or other image files."
            )

    @staticmethod
    def matches(path: Path) -> bool:
        """Whether it is a folder."""
        return path.is_dir()

    def read(self, index: int) -> bytes:
        return read_bytes(self._root / self.names[index])

    def label(self, index: int) -> str:
        return str(self._root / self.names[index])

    def beside(self, name: str) -> bytes | None:
        path = self._root / name
        return read_bytes(path) if path.is_file() else None

    def _has_image_header(self, name: str) -> bool:
        try:
            with opened_image(self._root / name):
                return True
        except DataError as error:
            self.skipped[str(self._root / name)] = str(error)
            return False

    def _traits(self) -> Iterable[str]:
        return (f"{name} {(self._root / name).stat().st_size}" for name in self.names)


class FolderWriter(ImageWriter):
    """Numbered files, ``00000.jpg``, or ``256/00000.jpg`` where there are several sizes.

    Files come by the hundred thousand, so that none waits for the disk: a power cut, unlike a kill, can lose some.
    """

    def add(self, encoded: Sequence[bytes]) -> None:
        for name, data in zip(self.layout.names(self.written), encoded, strict=True):
            path = self.out / name
            if self.written == 0:
                path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.written += 1

    def commit(self) -> int:
        return 0

    def finish(self, manifest: bytes) -> None:
        write_folder_manifest(self.out, manifest)

    def close(self) -> None:
        pass


def _find_images(folder: Path) -> list[str]:
    """Paths below the folder of every file that looks like an image, in natural order."""
    try:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise DataError(f"{folder} {what}: give a folder of images.")
        files = [path.relative_to(folder).as_posix() for path in _walk(folder)]
    except OSError as error:
        raise DataError(
            f"{error.filename or folder} cannot be read: {error.strerror}; change its permissions or move it away."
        ) from error
    return sorted(filter(is_image_name, files), key=natural_key)


def _walk(folder: Path) -> Iterator[Path]:
    """Every file at any depth but the hidden ones; links are followed, into every folder once."""

    def fail(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in files if not name.startswith("."))
