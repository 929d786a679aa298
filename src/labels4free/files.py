"""Writing files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"
"""End of the name of a file that is still being written, or was when its process was killed."""

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


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
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Our own name rather than tempfile's: that module makes files only their owner can read. Two writers never collide.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
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


def write_failure(path: str | Path, error: OSError) -> str:
    """One sentence on why a file could not be written and what to do."""
    if error.errno in _NO_SPACE:
        return f"There is no space left to write {path}; free some or choose another disk. Nothing was left behind."
    if error.errno in _NOT_ALLOWED:
        return f"{path} cannot be written: {error.strerror}; make its folder writable or choose another one."
    return f"{path} cannot be written: {error.strerror or error}."


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut, where the platform can."""
    with contextlib.suppress(OSError):  # Windows opens no folders, some network disks sync none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
