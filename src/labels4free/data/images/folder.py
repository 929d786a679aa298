"""Images in a folder: its reader and its writer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labels4free.data.decoding import opened_image, read_bytes
from labels4free.data.images.base import ImageSource, ImageWriter, folder_manifest, size_prefix, write_folder_manifest
from labels4free.data.walk import find_images, listed
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_ARCHIVE = "{} is an archive or a database, beside images: unpack it, or give it by itself."


class FolderSource(ImageSource):
    """Every file below a folder with the ending of a format that Pillow reads, at any depth, in natural order.

    ``2.png`` comes before ``10.png``; hidden files and folders are left out, links followed. What else looks like an
    image, and what cannot be read, is in ``skipped``.

    Args:
        path: The folder.
        resolution: Which size to read, where `prepare` wrote several.
        check_headers: Look at each file's header, and leave out and list those that are no images.

    Raises:
        DataError: If the path is no folder or cannot be read, or holds no image.
    """

    has_folders = True

    def __init__(self, path: Path, resolution: int | None = None, *, check_headers: bool = False) -> None:
        self.path = path
        self._root = path / size_prefix(folder_manifest(path), resolution)
        found = find_images(self._root)
        self.skipped = {str(self._root / name): reason for name, reason in found.left_out.items()}
        self.skipped |= {label: _ARCHIVE.format(label) for label in (str(self._root / name) for name in found.archives)}
        self.names = tuple(name for name in found.names if not check_headers or self._has_image_header(name))
        if not self.names:
            what = f"the {len(found.names)} image files in it are damaged" if found.names else "no image files in it"
            rest = f" {listed(self.skipped.values())}" if self.skipped else ""
            raise DataError(
                f"{path} holds no readable image ({what}): give a folder of PNG, JPEG or other image files.{rest}"
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
