"""The log of a run, read while somebody else may write it: whole entries only, all of them or those that are new.

A resumed run cuts its log back to its last checkpoint (``run_dir.py``), a killed one may leave half a line, and a
network share may show a file late. Nothing here ever writes.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from labels4free.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_DAMAGE = (ValueError, TypeError, KeyError, OverflowError, RecursionError)


def read_log(path: Path, start: int = 0) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Read a log of JSON lines, oldest entry first.

    Args:
        path: The log; it need not exist yet.
        start: Byte at which an entry begins, for those who have read what is before it.

    Yields:
        A line with its line break, and its values by name. A last line that is torn or not yet whole is left out.

    Raises:
        RunError: If the file cannot be read, or a line holds no JSON object.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                try:
                    values = dict(json.loads(line))
                except _DAMAGE as error:
                    raise _damaged(path, start, error) from error
                yield line, values
                start += len(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(path, error) from error


class LogEntry(NamedTuple):
    """One entry of a training log; its first three values say where in the run it belongs, later ones compare greater.

    Attributes:
        member: Which of several networks that are trained one after the other; 0 where there is one.
        restart: 0 at first; each automatic restart adds 1.
        iteration: Steps done since, a warm-up included.
        step: Steps of the alpha network done, negative in a warm-up; None in the line that says why an attempt is lost.
        numbers: Everything else that is a number, by name; NaN where the log has null, its word for NaN and infinity.
        problem: What a check found wrong, or None.
        lost: Why the attempt ended here, or None.
    """

    member: int
    restart: int
    iteration: int
    step: int | None
    numbers: dict[str, float]
    problem: str | None
    lost: str | None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """The entry that a line's values are.

        Raises:
            KeyError, TypeError, OverflowError: If it is no entry of a training log.
        """
        values = dict(entry)
        member, step = values.pop("member", 0), values.pop("step", None)
        restart, iteration = values.pop("restart"), values.pop("iteration")
        if {type(member), type(restart), type(iteration)} != {int} or type(step) not in (int, type(None)):
            raise TypeError("its position is no whole number")
        lost, problem = values.pop("lost", None), values.pop("problem", None)
        numbers = {
            k: math.nan if v is None else float(v) for k, v in values.items() if type(v) in (int, float, type(None))
        }
        return cls(member, restart, iteration, step, numbers, problem and str(problem), lost and str(lost))


class LogTail:
    """Reads a training log incrementally: where one reader is in it.

    Args:
        path: The log; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last, self._at = b"", 0  # the last line that was read, and where it begins

    def cut_back(self) -> bool:
        """Whether what was read is no longer what the log begins with; then :meth:`entries` starts at its first line.

        Raises:
            RunError: If the log cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                same = file.read(len(self._last)) == self._last
        except FileNotFoundError:
            same = not self._last
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if not same:
            self._last, self._at = b"", 0
        return not same

    def entries(self) -> Iterator[LogEntry]:
        """What was added since the last call; half a line at the end waits until it is whole.

        Raises:
            RunError: If the log cannot be read, or a line is no entry of a training log.
        """
        for line, values in read_log(self.path, self._at + len(self._last)):
            at = self._at + len(self._last)
            try:
                entry = LogEntry.of(values)
            except _DAMAGE as error:
                raise _damaged(self.path, at, error) from error
            self._last, self._at = line, at
            yield entry


def _unreadable(path: Path, error: OSError) -> RunError:
    return RunError(f"{path} cannot be read: {error.strerror or error}.")


def _damaged(path: Path, at: int, error: Exception) -> RunError:
    """What to say of the line that begins at a byte."""
    number = path.read_bytes()[:at].count(b"\n") + 1
    reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return RunError(
        f"Line {number} of {path} is no entry of a training log ({reason}); it is damaged, or another program's, and "
        "cannot be read as a log."
    )
