"""The contracts of image stores: what reads one, what writes one, and the manifest of those that ``prepare`` writes."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from labels4free.data.walk import find_images
from labels4free.errors import DataError
from labels4free.files import temporary_pattern, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

MANIFEST = "labels4free-images.json"
"""Name of the manifest in a finished store of ours: a file in its folder, in older ones a member of a zip file."""

KIND = "labels4free_images"
"""What the manifest and the journal say under "kind"."""

JOURNAL = "unfinished.jsonl"
"""Name of the journal that lies in an unfinished store."""


class ImageSource(ABC):
    """The encoded images of a store, by index, in an order that never changes.

    A source can be pickled and lives through a fork: what it holds open, each process opens for itself on first use.

    Attributes:
        path: Where the store lies.
        names: Each image's name inside the store, in order.
        skipped: Label -> why it cannot be used, of what opening the store has found damaged.
    """

    path: Path
    names: Sequence[str]
    skipped: dict[str, str]
    has_folders: ClassVar[bool] = False
    """Whether names have the users' folders in them."""

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def read(self, index: int) -> bytes:
        """One image file's content.

        Args:
            index: 0 <= index < len(self).

        Raises:
            DataError: If it cannot be read.
        """

    def label(self, index: int) -> str:
        """What an image is called in messages: where it lies, inside and out."""
        return f"{self.path}/{self.names[index]}"

    def beside(self, name: str) -> bytes | None:  # noqa: ARG002  for stores that hold nothing but images
        """Content of another file of the store, by its name; None where there is none."""
        return None

    def content_hash(self) -> str:
        """SHA-256 of the images' names and, where the store tells them without being read through, sizes or sums."""
        digest = hashlib.sha256()
        for line in self._traits():
            digest.update(f"{line}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _traits(self) -> Iterable[str]:
        return self.names


@dataclass(frozen=True)
class StoreLayout:
    """What a store written by us holds.

    Attributes:
        sizes: Sides of each image's versions in pixels, ascending.
        suffix: Ending of the image files, with its dot.
        shard_images: Images a shard, for shards.
    """

    sizes: tuple[int, ...]
    suffix: str
    shard_images: int

    def names(self, index: int) -> list[str]:
        """Path of each size of an image, in folders: sizes have folders where there are several."""
        folders = [f"{size}/" for size in self.sizes] if len(self.sizes) > 1 else [""]
        return [f"{folder}{index:05d}{self.suffix}" for folder in folders]


class ImageWriter(ABC):
    """Writes a store in order, so that a process killed at any moment can be followed by another.

    What was added is safe once :meth:`commit` returns. A writer made with what was safe then goes on from there, and
    the store ends in the same bytes (an LMDB: in the same keys and values) as an uninterrupted one.

    Args:
        out: The folder of the store.
        layout: What it holds.
        written: Images that are safe; 0 begins.
        offset: What :meth:`commit` returned then.
    """

    def __init__(self, out: Path, layout: StoreLayout, written: int = 0, offset: int = 0) -> None:
        self.out, self.layout, self.written, self.offset = out, layout, written, offset

    @abstractmethod
    def add(self, encoded: Sequence[bytes]) -> None:
        """Append one image: an encoded file for each size."""

    @abstractmethod
    def commit(self) -> int:
        """Make safe what was added; returns the offset that a later writer needs."""

    @abstractmethod
    def finish(self, manifest: bytes) -> None:
        """Complete the store; its manifest comes last, for it says that the store is whole."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open; what was not committed may be lost."""


def check_finished(path: Path) -> None:
    """Refuse a store whose preparation has not ended.

    Raises:
        DataError: If its journal is there and its manifest is not.
    """
    if (path / JOURNAL).exists() and not (path / MANIFEST).exists():
        raise DataError(f"{path} is unfinished: go on with the same `labels4free prepare` command.")


def parse_manifest(data: bytes, where: str) -> dict[str, Any]:
    """The manifest of a store of ours.

    Raises:
        DataError: If it is none.
    """
    try:
        manifest = json.loads(data)
    except ValueError:
        manifest = None
    if (
        not isinstance(manifest, dict)
        or manifest.get("kind") != KIND
        or not isinstance(settings := manifest.get("settings"), dict)
        or not isinstance(sizes := settings.get("sizes"), list)
        or not sizes
        or not all(type(size) is int and size > 0 for size in sizes)
    ):
        raise DataError(f"The manifest {MANIFEST} of {where} is damaged: remove it, or prepare the images again.")
    return manifest


def folder_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None where there is none.

    Raises:
        DataError: If it is damaged or cannot be read.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{folder / MANIFEST} cannot be read: {error.strerror or error}.") from error
    return parse_manifest(data, str(folder))


def write_folder_manifest(folder: Path, manifest: bytes) -> None:
    """Write the manifest of a folder, whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    for leftover in folder.glob(temporary_pattern(folder / MANIFEST)):  # of a process that was killed at this point
        leftover.unlink(missing_ok=True)
    write_atomically(folder / MANIFEST, manifest)


def beside_a_store(path: Path, what: str) -> dict[str, str]:
    """The images that lie below the folder of a store and are none of it: label -> a sentence.

    Args:
        path: The store; a single file has none beside it.
        what: What the store is.
    """
    names = find_images(path).names if path.is_dir() else ()
    return {str(path / name): f"{path / name} lies beside {what} and is left out: give it by itself." for name in names}


def size_prefix(manifest: Mapping[str, Any] | None, resolution: int | None) -> str:
    """The folder inside a store of ours that serves a resolution, with its slash: "" where there is one size only."""
    sizes: list[int] = manifest["settings"]["sizes"] if manifest else []
    return f"{best_size(sizes, resolution)}/" if len(sizes) > 1 else ""


def best_size(sizes: Iterable[int], resolution: int | None) -> int:
    """The size itself, else the next larger one, else the largest; None asks for the largest."""
    sizes = sorted(sizes)
    return next((size for size in sizes if resolution is not None and size >= resolution), sizes[-1])


def spoken(sizes: Iterable[int]) -> str:
    """``128, 256 and 512``."""
    *most, last = [str(size) for size in sorted(sizes)]
    return f"{', '.join(most)} and {last}" if most else last
