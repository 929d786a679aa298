"""Which photos a command names, and where the picture of each goes."""

from __future__ import annotations

import glob
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labels4free.data.walk import find_files, find_images
from labels4free.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SUFFIX = ".png"


class PhotoFile(NamedTuple):
    """A photo, and the picture to be made of it."""

    path: Path
    target: Path


class Found(NamedTuple):
    """The photos of a command, in order, and a sentence for each word that names none and each file left out."""

    photos: list[PhotoFile]
    problems: list[str]


def find_photos(words: Iterable[str], out: Path) -> Found:
    """Find photos by file names, folders and patterns.

    A folder stands for every image file below it, hidden ones and those below ``out`` left out, and its inner folders
    are kept in ``out``; what looks like an image there and is not read is a problem. A pattern (``*``, ``?``,
    ``[...]``, and ``**`` for any depth) stands for every file that fits, and keeps folders from its first part with
    such a sign on. It is looked up unless there is a file of that name. The picture of ``a.jpg`` is ``out/a.png``;
    where several photos would go to the same file, each keeps its ending, ``out/a.jpg.png``. A photo that is named
    twice is taken once.

    Args:
        words: File names, folders, patterns.
        out: The folder for the pictures.

    Raises:
        ConfigError: If photos of different folders have the same name, a picture would replace a photo, or ``out`` is
            itself a folder of photos.
    """
    names: dict[Path, Path] = {}  # photo -> its name below out
    problems: list[str] = []
    for word in words:
        try:
            for path, name in _resolve(word, out, problems):
                names.setdefault(path, name)
        except DataError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{word} cannot be read: {error.strerror or error}.")
    counts = Counter(name.with_suffix("") for name in names.values())
    photos = []
    for path, name in names.items():
        stem = name.with_suffix("") if counts[name.with_suffix("")] == 1 else name
        photos.append(PhotoFile(path, out / stem.with_name(stem.name + SUFFIX)))
    _check_targets(photos)
    return Found(photos, problems)


def _resolve(word: str, out: Path, problems: list[str]) -> list[tuple[Path, Path]]:
    """The photos that a word names, and what each is called."""
    path = Path(word)
    if path.is_dir():
        return [(path / name, name) for name in _inside(path, out, problems)]
    if not path.exists() and glob.has_magic(word):
        first = next(index for index, part in enumerate(path.parts) if glob.has_magic(part))
        root, pattern = Path(*path.parts[:first]), path.parts[first:]
        depth = None if "**" in pattern else len(pattern)
        found = find_files(root, lambda name: _is_like(name.split("/"), pattern), depth=depth)
        problems += found.left_out.values()
        if not found.names and not found.left_out:
            raise DataError(f"No file is called like {word}.")
        return [(root / name, Path(name)) for name in found.names]
    if not path.exists():
        raise DataError(f"There is no image at {word}.")
    return [(path, Path(path.name))]


def _is_like(name: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a pattern; ``**`` stands for any number of them."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(_is_like(name[skipped:], pattern[1:]) for skipped in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], pattern[0]) and _is_like(name[1:], pattern[1:])


def _inside(folder: Path, out: Path, problems: list[str]) -> list[Path]:
    """The photos below a folder that are not below ``out``, relative to the folder."""
    own = out.resolve()
    if own == folder.resolve():
        raise ConfigError(
            f"--out is the folder of the photos, {folder}: the next time its pictures would count as photos; choose "
            "another one, or one inside."
        )
    found = find_images(folder)
    problems += found.left_out.values()
    names = [Path(name) for name in found.names]
    if not names and not found.left_out:
        raise DataError(
            f"{folder} holds no readable image (no image files in it): give a folder of PNG, JPEG or other image files."
        )
    if folder.resolve() in own.parents:
        names = [name for name in names if own not in (folder / name).resolve().parents]
        if not names and not found.left_out:
            raise DataError(f"{folder} holds no photos but the pictures in {out}.")
    return names


def _check_targets(photos: list[PhotoFile]) -> None:
    sources = {photo.path.resolve() for photo in photos}
    taken: dict[Path, Path] = {}
    for path, target in photos:
        if target in taken:
            raise ConfigError(
                f"{taken[target]} and {path} would both become {target}: give their common folder, or one --out each."
            )
        if target.resolve() in sources:
            raise ConfigError(f"{target} would replace a photo; choose another --out.")
        taken[target] = path
