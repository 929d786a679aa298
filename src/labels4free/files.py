"""Files that appear complete or not at all, and sentences for those that cannot be read or written."""

from __future__ import annotations

import codecs
import contextlib
import errno
import glob
import os
import platform
import re
import secrets
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY_SUFFIX = ".tmp"
"""End of the name of a file that is still being written, or was when its process was killed."""

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_WRITER = re.compile(r"\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]+" + re.escape(TEMPORARY_SUFFIX) + "$")
_WRITER_BYTES = 36  # of a temporary name's two dots and what is between the second and the end, at most
_DAY = 86400.0
_SHORT = 100  # bytes of a name that every file system takes
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@contextlib.contextmanager
def opened_atomically(path: str | Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Write a file bit by bit that appears complete or not at all: temporary file beside it, renamed at the end.

    Missing folders are made. Where the block ends in an exception, Ctrl-C included, the temporary file is removed and
    an older file is untouched.

    Args:
        path: File to write; an older one is replaced.
        sync: As for :func:`write_atomically`.

    Yields:
        The temporary file, open for reading and writing.

    Raises:
        OSError: If the file cannot be written; :func:`write_failure` puts it into a sentence.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        # After a failed write, removing must not hide the first error.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    if sync:
        _sync_folder(path.parent)


def write_atomically(path: str | Path, data: bytes | memoryview, *, sync: bool = True) -> None:
    """Write a file that appears complete or not at all: temporary file beside it, flushed to disk, then renamed.

    Missing folders are made. On failure, and on Ctrl-C, the temporary file is removed and an older file is untouched.

    Args:
        path: File to write; an older one is replaced.
        data: Its whole content.
        sync: Wait until the disk has it, so that it survives a power cut. Costs milliseconds: leave it out for files
            that come by the thousand and can be made again.

    Raises:
        OSError: If the file cannot be written; :func:`write_failure` puts it into a sentence.
    """
    with opened_atomically(path, sync=sync) as file:
        file.write(data)


def temporary_path(path: Path) -> Path:
    """A name beside a file to write it under until it is whole; says which process of which machine writes.

    A long name is cut, so that the temporary one is no longer: wherever the file may lie, that may too.
    Our own names rather than tempfile's: that module makes files only their owner can read. Two writers never collide.
    """
    writer = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f"{_temporary_start(path.name)}.{writer}{TEMPORARY_SUFFIX}")


def temporary_pattern(path: Path) -> str:
    """The pattern of all names that :func:`temporary_path` gives for a file, to look them up in its folder."""
    return f"{glob.escape(_temporary_start(path.name))}.*{TEMPORARY_SUFFIX}"


def _temporary_start(name: str) -> str:
    encoded = os.fsencode(name)
    # Cut between characters, and without bytes that are none: not every file system takes them.
    return "." + encoded[: max(len(encoded), _SHORT) - _WRITER_BYTES].decode(errors="ignore")


def remove_leftovers(folder: Path) -> int:
    """Remove what killed processes left half-written in a folder and below it; files that are being written stay.

    A process of this machine is asked for by its number. Files of other machines, of which nothing is known here, go
    once nobody has written to them for a day.

    Returns:
        How many files were removed.
    """
    removed = 0
    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith(TEMPORARY_SUFFIX) and name.startswith(".") and _is_left(path := Path(place, name)):
                with contextlib.suppress(OSError):
                    path.unlink()
                    removed += 1
    return removed


def _is_left(path: Path) -> bool:
    writer = _WRITER.search(path.name)
    if writer and writer["machine"] == _machine() and not _is_alive(int(writer["process"])):
        return True
    try:
        return time.time() - path.stat().st_mtime > _DAY
    except OSError:
        return False


def _is_alive(process: int) -> bool:
    """Whether there is such a process on this machine, as far as can be told."""
    if os.name == "nt":  # there the question itself would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def write_failure(path: str | Path, error: OSError) -> str:
    """One sentence on why a file could not be written and what to do."""
    if error.errno in _NO_SPACE:
        return f"There is no space left to write {path}; free some or choose another disk. Nothing was left behind."
    if error.errno in _NOT_ALLOWED:
        return f"{path} cannot be written: {error.strerror}; make its folder writable or choose another one."
    return f"{path} cannot be written: {error.strerror or error}."


def unreadable(path: str | Path, error: OSError) -> str:
    """One sentence on why a checkpoint or model file of any format cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return f"There is no checkpoint at {path}."
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder, expected a checkpoint file."
    return f"{path} cannot be read: {error.strerror or error}."


def read_text(path: str | Path) -> str:
    """A text file as editors and shells write it: UTF-8, or what its byte-order mark says (PowerShell, Notepad).

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is in another encoding; the error says so.
    """
    data = Path(path).read_bytes()
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"its encoding is not {encoding.upper()} ({error.reason}): save it as UTF-8") from error
    if "\0" in text:
        raise ValueError("it holds null characters, as UTF-16 without its mark does: save it as UTF-8")
    return text


@contextlib.contextmanager
def utf8_path(path: str | Path) -> Iterator[str]:
    """A name for a file that is UTF-8, while the context lasts, for libraries that take no other.

    Yields:
        The path itself where it is; else that of the opened file.

    Raises:
        OSError: If the file cannot be opened.
    """
    if not any("\ud800" <= letter <= "\udfff" for letter in str(path)):  # what Python makes of other bytes
        yield str(path)
        return
    with Path(path).open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"


def in_full(source: str) -> str:
    """A file or folder by its full path, since work may go on from another folder; any other word as it is."""
    return str(Path(source).resolve()) if source and Path(source).exists() else source


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut, where the platform can."""
    with contextlib.suppress(OSError):  # Windows opens no folders, some network disks sync none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def failing_as(kind: type[Exception], path: str | Path) -> Iterator[None]:
    """Raise an OSError of the block, which writes a file, as an error of ours, in :func:`write_failure`'s words."""
    try:
        yield
    except OSError as error:
        raise kind(write_failure(path, error)) from error
