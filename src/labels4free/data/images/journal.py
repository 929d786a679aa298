"""The journal of a store that is being written: what is safe on disk, so that a later process goes on behind it."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labels4free.data.images.base import KIND
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import IO


@dataclass
class Progress:
    """How far a preparation is.

    Attributes:
        done: Images of the source that are dealt with.
        written: Images of the store: fewer, where some were skipped.
        offset: What the writer's ``commit`` returned.
        skipped: Name -> why it could not be read.
        enlarged: Images whose shorter side is below the largest size.
    """

    done: int = 0
    written: int = 0
    offset: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    enlarged: int = 0


class Journal:
    """A file of JSON lines: the settings, then what each commit added. A line that a kill has torn is dropped.

    Args:
        path: The file; made with its folder where it is missing.
        settings: What decides about the result, for a new journal.

    Attributes:
        settings: Those that the journal was begun with.
        progress: The sum of its lines.

    Raises:
        DataError: If the file is no journal, or another process writes to it.
        OSError: If it cannot be written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.progress = Progress()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("a+b")
        try:
            _lock(self._file, path)
            self._file.seek(0)
            lines = self._file.read().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith(b"\n")]
            self._file.truncate(sum(map(len, whole)))
            if whole:
                self.settings = self._read(path, whole)
            else:
                self.settings = dict(settings)
                self._write({"kind": KIND, "settings": self.settings})
        except BaseException:
            self._file.close()
            raise

    def append(self, step: Progress) -> None:
        """Note a commit: the numbers so far, but of ``skipped`` and ``enlarged`` what is new."""
        self._write(dataclasses.asdict(step))
        self._sum(step)

    def close(self) -> None:
        """Close the file, and let other processes have it."""
        self._file.close()

    def _read(self, path: Path, lines: list[bytes]) -> dict[str, Any]:
        try:
            header, *steps = map(json.loads, lines)
            if header["kind"] != KIND:
                raise ValueError(f"its kind is {header['kind']}")
            for step in steps:
                self._sum(Progress(**step))
            return dict(header["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} is no journal of prepared images ({error}): remove it and what it is for."
            ) from error

    def _sum(self, step: Progress) -> None:
        now = self.progress
        now.done, now.written, now.offset = step.done, step.written, step.offset
        now.skipped |= step.skipped
        now.enlarged += step.enlarged

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write((json.dumps(line) + "\n").encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep a second process out, until the file closes or this process dies; where the platform knows such locks."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(f"Another process is at work on {path.parent}: wait for it, or end it.") from error
    except OSError:  # some network disks have no locks
        return
