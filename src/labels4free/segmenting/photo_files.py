"""Which photos a command names, and where the picture of each goes."""

from __future__ import annotations

import glob
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labels4free.data.decoding import natural_key
from labels4free.data.images.folder import FolderSource
from labels4free.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIX = ".png"


class PhotoFile(NamedTuple):
    """A photo, and the picture to be made of it."""

    path: Path
    target: Path


class Found(NamedTuple):
    """The photos of a command, in order, and a sentence for each of its words that named none."""

    photos: list[PhotoFile]
    problems: list[str]


def find_photos(words: Iterable[str], out: Path) -> Found:
    """Find photos by file names, folders and patterns.

    A folder stands for every image file below it, hidden ones and those below ``out`` left out, and its inner folders
    are kept in ``out``; so they are for a pattern (``*``, ``?``, ``[...]``, and ``**`` for any depth), from its first
    part with such a sign on. A pattern is looked up unless there is a file of that name. The picture of ``a.jpg`` is
    ``out/a.png``; where several photos would go to the same file, each keeps its ending, ``out/a.jpg.png``. A photo
    that is named twice is taken once.

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
            for path, name in _resolve(word, out):
                names.setdefault(path, name)
        except DataError as error:
            problems.append(str(error))
    counts = Counter(name.with_suffix("") for name in names.values())
    photos = []
    for path, name in names.items():
        stem = name.with_suffix("") if counts[name.with_suffix("")] == 1 else name
        photos.append(PhotoFile(path, out / stem.with_name(stem.name + SUFFIX)))
    _check_targets(photos)
    return Found(photos, problems)


def _resolve(word: str, out: Path) -> list[tuple[Path, Path]]:
    """The photos that a word names, and what each is called."""
    path = Path(word)
    if path.is_dir():
        return [(path / name, name) for name in _inside(path, out)]
    if not path.exists() and glob.has_magic(word):
        first = next(index for index, part in enumerate(path.parts) if glob.has_magic(part))
        root = Path(*path.parts[:first])
        names = [p.relative_to(root) for p in root.glob(str(Path(*path.parts[first:]))) if p.is_file()]
        names = sorted((n for n in names if not any(s.startswith(".") for s in n.parts)), key=_in_order)
        if not names:
            raise DataError(f"No file is called like {word}.")
        return [(root / name, name) for name in names]
    if not path.exists():
        raise DataError(f"There is no image at {word}.")
    return [(path, Path(path.name))]


def _inside(folder: Path, out: Path) -> list[Path]:
    """The photos below a folder that are not below ``out``, relative to the folder."""
    own = out.resolve()
    if own == folder.resolve():
        raise ConfigError(
            f"--out is the folder of the photos, {folder}: the next time its pictures would count as photos; choose "
            "another one, or one inside."
        )
    names = [Path(name) for name in FolderSource(folder).names]
    if folder.resolve() in own.parents:
        names = [name for name in names if own not in (folder / name).resolve().parents]
    if not names:
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


def _in_order(name: Path) -> tuple[list[list[str | int]], str]:
    return natural_key(name.as_posix())
