"""Reading a run's log while somebody else writes it: only what is new, and from the start where it was cut back.

A resumed run cuts its log back to its last checkpoint (``run_dir.py``), a killed one may leave half a line, and a
network share may show a file late. Nothing here ever writes.
"""

from __future__ import annotations

import json
import math
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from labels4free.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

_BLOCK = 1 << 20
_RECENT = 32


class LogEntry(NamedTuple):
    """One line of the log.

    Attributes:
        member: Which of several networks that are trained one after the other; 0 where there is one.
        attempt: 0 at first; each automatic restart adds 1.
        iteration: Steps done in the attempt, a warm-up included.
        step: Steps of the alpha network done, negative in a warm-up; None in the line that says why an attempt is lost.
        numbers: Everything else that is a number, by name; NaN where the log has null, its word for NaN and infinity.
        problem: What a check found wrong, or None.
        lost: Why the attempt ended here, or None.
    """

    member: int
    attempt: int
    iteration: int
    step: int | None
    numbers: dict[str, float]
    problem: str | None
    lost: str | None


class LogTail:
    """Where one reader is in a log.

    Args:
        path: The log; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start_over()

    def _start_over(self) -> None:
        self._anchor, self._anchored = 0, b""  # where the last whole line begins, and the line
        self._lines = 0

    def cut_back(self) -> bool:
        """Whether what was read is no longer what the log begins with; then :meth:`entries` starts at its first line.

        Raises:
            RunError: If the log cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._anchor)
                same = file.read(len(self._anchored)) == self._anchored
        except FileNotFoundError:
            same = not self._anchored
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror or error}.") from error
        if not same:
            self._start_over()
        return not same

    def entries(self) -> Iterator[LogEntry]:
        """What was added since the last call; half a line at the end waits until it is whole.

        Raises:
            RunError: If the log cannot be read, or a line is no entry of a training log.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._anchor + len(self._anchored))
                for line in _whole_lines(file):
                    entry = _parse(line, f"Line {self._lines + 1} of {self.path}")
                    self._anchor += len(self._anchored)
                    self._anchored = line
                    self._lines += 1
                    yield entry
        except FileNotFoundError:
            return
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror or error}.") from error


class Series:
    """A number over an attempt, in little memory however long that is.

    Attributes:
        last: The newest value; NaN at first, and where the log has none.
        last_at: Its iteration.
        best: The largest value; NaN at first.
        best_step: Where that was, by the step given to :meth:`add`.
    """

    CAPACITY = 256

    def __init__(self) -> None:
        self.last, self.last_at = math.nan, 0
        self.best, self.best_step = math.nan, 0
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._means: list[float] = []
        self._width, self._sum, self._count = 1, 0.0, 0

    def add(self, iteration: int, value: float, step: int = 0) -> None:
        """Add the newest value."""
        self.last, self.last_at = value, iteration
        if not math.isfinite(value):
            return
        if not value <= self.best:
            self.best, self.best_step = value, step
        self._recent.append(value)
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count == self._width:
            self._means.append(self._sum / self._width)
            self._sum, self._count = 0.0, 0
        if len(self._means) == self.CAPACITY:
            self._means = [(a + b) / 2 for a, b in zip(self._means[::2], self._means[1::2], strict=True)]
            self._width *= 2

    def recent(self) -> float:
        """Mean of the newest values, 32 at most; NaN where there are none."""
        return sum(self._recent) / len(self._recent) if self._recent else math.nan

    def points(self) -> tuple[float, ...]:
        """Means of neighbouring values, oldest first, fewer than :attr:`CAPACITY`."""
        rest = (self._sum / self._count,) if self._count else ()
        return (*self._means, *rest)


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while block := file.read(_BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        yield from (line + b"\n" for line in lines)


def _parse(line: bytes, what: str) -> LogEntry:
    try:
        values: dict[str, Any] = dict(json.loads(line))
        member, step = values.pop("member", 0), values.pop("step", None)
        attempt, iteration = values.pop("attempt"), values.pop("iteration")
        if {type(member), type(attempt), type(iteration)} != {int} or type(step) not in (int, type(None)):
            raise TypeError("its position is no whole number")
        lost, problem = values.pop("lost", None), values.pop("problem", None)
        numbers = {k: math.nan if v is None else float(v) for k, v in values.items() if _is_number(v)}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(
            f"{what} is no entry of a training log ({reason}); the log is damaged, or another program's."
        ) from error
    return LogEntry(member, attempt, iteration, step, numbers, problem and str(problem), lost and str(lost))


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
