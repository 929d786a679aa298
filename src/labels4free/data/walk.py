"""What lies below a folder: the one walk for all that read folders. Links are followed, and nothing is lost in silence.

What looks like an image and is none that is read, what cannot be read and links to nothing are listed; the rest is
used. Hidden files and folders are left alone, and so are other kinds of files.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HEAD = 16
"""Bytes from the beginning of a file by which :func:`why_unread` knows images."""

_NO_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG"})  # Pillow knows them and cannot decode them itself
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".7z", ".rar", "data.mdb", ".lmdb")
_TEXTS = frozenset({".txt", ".json", ".jsonl", ".xml", ".csv", ".md", ".cls", ".npy", ".npz"})  # come once an image
_HEIF = re.compile(r"\.(heic|heif)s?|\.hif")
_RAW = re.compile(
    r"\.(3fr|arw|cr[23w]|dcr|dng|erf|fff|iiq|k25|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|raw|rw[2l]|sr[2fw]|x3f)"
)
_OTHERS = re.compile(r"\.(ai|avifs?|emf|eps|exr|hdr|jxl|jxr|ps|svgz?|wdp|wmf|xcf)")
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "raw"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"
)
_BEGINNINGS = (  # of image files, by the formats' specifications
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"8BPS\0", "Photoshop"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
)


_FILE_ENDING = re.compile(r"\.[a-z]\w{0,5}")


class FoundFiles(NamedTuple):
    """What a walk has found.

    Attributes:
        names: Of the files that are wanted, relative to the folder, in natural order.
        left_out: Name -> a sentence on it, of what looks like an image and is not read, or cannot be read.
        archives: Names of archives and databases, which may hold images too.
    """

    names: tuple[str, ...]
    left_out: dict[str, str]
    archives: tuple[str, ...]


def find_images(folder: Path) -> FoundFiles:
    """Every file below a folder whose name has the ending of an image format that is read.

    Raises:
        DataError: If the folder itself is missing, none, or cannot be read.
    """
    return find_files(folder, is_image_name, images=True)


def find_files(
    folder: Path, wanted: Callable[[str], bool], *, depth: int | None = None, images: bool = False
) -> FoundFiles:
    """Every file below a folder whose relative name is wanted; links are followed, into every folder once.

    Args:
        folder: The folder.
        wanted: Says whether a file is, by its name.
        depth: Look into folders so deep; 1 is the folder alone, None all of them.
        images: Among the others look for images that are not read.

    Raises:
        DataError: If the folder itself is missing, none, or cannot be read.
    """
    found: list[str] = []
    archives: list[str] = []
    left_out: dict[str, str] = {}
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            entries = _entries(folder / inside, seen)
        except OSError as error:
            if not inside:
                raise DataError(_no_folder(folder, error)) from error
            left_out[inside] = f"{folder / inside} cannot be read: {error.strerror or error}."
            continue
        for entry in entries:
            name = f"{inside}/{entry.name}" if inside else entry.name
            is_folder, problem = _kind(entry)
            if is_folder:
                if depth is None or name.count("/") + 1 < depth:
                    waiting.append(name)
            elif problem is not None:
                if wanted(name) or not _FILE_ENDING.fullmatch(_ending(name)):  # then it may have been a folder
                    left_out[name] = problem
            elif wanted(name):
                found.append(name)
            elif images:
                if name.lower().endswith(_ARCHIVES):
                    archives.append(name)
                elif problem := why_unread(name, entry.path, functools.partial(_head, entry.path)):
                    left_out[name] = problem
    ordered = sorted(left_out, key=natural_key)
    return FoundFiles(
        tuple(sorted(found, key=natural_key)),
        {name: left_out[name] for name in ordered},
        tuple(sorted(archives, key=natural_key)),
    )


def _entries(folder: Path, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """What is in a folder, but for hidden entries; nothing the second time."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return []
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _kind(entry: os.DirEntry[str]) -> tuple[bool, str | None]:
    """Whether an entry is a folder, and why it is no file where it is neither."""
    try:
        if entry.is_dir():
            return True, None
        if entry.is_file():
            return False, None
        if entry.is_symlink() and not Path(entry.path).exists():
            return False, f"{entry.path} is a link to nothing."
        return False, f"{entry.path} is no file but a {_special(entry)}."
    except OSError as error:
        return False, f"{entry.path} cannot be read: {error.strerror or error}."


def _special(entry: os.DirEntry[str]) -> str:
    mode = entry.stat().st_mode
    return "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"


def _head(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def _no_folder(folder: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        what = "is a file" if folder.exists() else "does not exist"
        return f"{folder} {what}: give a folder of images."
    return f"{error.filename or folder} cannot be read: {error.strerror}; change its permissions or move it away."


def why_unread(name: str, where: str, head: Callable[[], bytes]) -> str | None:
    """Why a file that looks like an image, by its ending or by how it begins, is not read; None for any other file.

    Args:
        name: Of the file; no :func:`is_image_name`.
        where: What it is called in messages.
        head: Gives its first :data:`HEAD` bytes; asked where the name does not tell.
    """
    if _is_hidden(name):
        return None
    ending = _ending(name)
    if ending in _TEXTS:
        return None
    kind = "raw" if _RAW.fullmatch(ending) else ""
    if _HEIF.fullmatch(ending):
        kind = image_kind(head()) or "HEIC"  # JPEGs of that name are common
    if not kind and not _OTHERS.fullmatch(ending):
        kind = image_kind(head())
        if not kind:
            return None
    readable = f".{kind.lower()}" in _endings()  # HEIC and AVIF only are where Pillow can
    if kind == "HEIC" and not readable:
        return f"{where} is a HEIC picture: install pillow-heif to have those read, or convert it to JPEG."
    if kind == "raw":
        return f"{where} is a camera's raw file, which is not read: develop it to JPEG or PNG."
    if not kind or (kind in ("AVIF", "JPEG XL") and not readable):
        return f"{where} is in a format that is not read ({kind or ending[1:]}): convert it to PNG or JPEG."
    return f"{where} begins as {kind} does, but its name has no image's ending: rename it."


def image_kind(head: bytes) -> str:
    """The image format of a file that begins so (its first :data:`HEAD` bytes); empty if it is none that is known."""
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    return next((kind for beginning, kind in _BEGINNINGS if head.startswith(beginning)), "")


def is_image_name(name: str) -> bool:
    """Whether a file of this name holds an image, to go by its ending; hidden files and Mac archives' twins do not."""
    return not _is_hidden(name) and _ending(name) in _endings()


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in name.split("/"))


def _ending(name: str) -> str:
    """From the last dot on, in small letters."""
    _, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if dot else ""


@functools.cache
def register_formats() -> None:
    """Have Pillow read HEIC, where pillow-heif is installed (the extra ``heic``)."""
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()


@functools.cache
def _endings() -> frozenset[str]:
    register_formats()
    Image.init()
    readable = Image.OPEN.keys() - _NO_PICTURES
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in readable)


def natural_key(name: str) -> tuple[list[list[str | int]], str]:
    """Sorting key of a relative path: numbers compare as numbers, letters without regard to case."""
    parts = name.split("/")
    return [[int(s) if s.isdecimal() else s.casefold() for s in re.split(r"(\d+)", part)] for part in parts], name


def listed(reasons: Iterable[str], most: int = 5) -> str:
    """The first of some sentences, and how many more there are."""
    reasons = list(reasons)
    return " ".join(reasons[:most]) + (f" And {len(reasons) - most} more." if len(reasons) > most else "")
