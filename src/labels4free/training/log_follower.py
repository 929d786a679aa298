"""Shows a run's log to trackers as it grows: TensorBoard, Weights & Biases (``trackers.py``).

The log is the truth; a tracker is shown what stands in it and nothing else. That makes one way serve a run that goes on
and one that is over, in the process that trains (:func:`tracking`) or in any other (``labels4free watch --track``).
Training cannot be changed by it, nor stopped: a tracker that fails is left out with a warning, and can be given the
whole log later. And nothing comes twice. A resumed run cuts its log back and writes the same entries again; then, and
whenever a process starts, TensorBoard's files are made anew from the log, while Weights & Biases, which takes nothing
back, is shown what it has not seen yet.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from labels4free.errors import ConfigError, RunError
from labels4free.training.log_tail import LogTail
from labels4free.training.run_dir import RunDir
from labels4free.training.trackers import TRACKERS, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from labels4free.training.log_tail import LogEntry
    from labels4free.training.run_loop import TrainProgress
    from labels4free.training.trackers import Tracker

_log = logging.getLogger(__name__)

_PICTURE = re.compile(r"(?:member_(\d+)_)?attempt_(\d+)_step_(\d+)\.png")
_Key = tuple[int, int, int]  # member, attempt, alpha step: what the name of a picture says


class LogFollower:
    """Shows a run's log and pictures to trackers, and what is added to them.

    Args:
        run: The run's folder; it need not hold anything yet.
        names: Of :data:`TRACKERS`.
        into: Folder for the trackers' files; None: the run's.
        strict: Raise where a tracker fails; otherwise it is left out from then on, with a logged warning.

    Raises:
        ConfigError: If a name is unknown or a package is missing.
    """

    def __init__(self, run: Path, names: Sequence[str], into: Path | None = None, *, strict: bool = True) -> None:
        for name in names:
            if name not in TRACKERS:
                raise ConfigError(f"Unknown tracker {name!r}; the trackers are {', '.join(TRACKERS)}.")
        self.run, self.strict = RunDir(run), strict
        self.trackers = {name: TRACKERS[name](into or run, run) for name in names}
        self._tail = LogTail(self.run.log_path)
        self._begin()

    def _begin(self) -> None:
        self._begun = False
        self._drawn: set[_Key] = set()
        self._shown: _Key | None = None  # of the last entry with a step, ...
        self._warmup = 0  # ... and how many steps more its iteration is

    def catch_up(self) -> None:
        """Show what is new.

        Raises:
            RunError: If the log cannot be read, or, if :attr:`strict`, a tracker fails.
        """
        if self._tail.cut_back():
            self._begin()
        pictures = self._new_pictures()
        for entry in self._tail.entries():
            if not self._begun:
                self._tell(lambda tracker: tracker.begin())
                self._begun = True
            self._show_pictures(pictures, (entry.member, entry.attempt, -1))
            self._show(entry)
            self._show_pictures(pictures, self._shown)
        self._show_pictures(pictures, self._shown)  # one that was drawn after its entry was read
        if self._begun:
            self._tell(lambda tracker: tracker.flush())

    def close(self) -> None:
        """End every tracker.

        Raises:
            RunError: As :meth:`catch_up`.
        """
        self._tell(lambda tracker: tracker.close())

    def _show(self, entry: LogEntry) -> None:
        at = Position(entry.member, entry.attempt, entry.iteration)
        words = {name: text for name, text in (("problem", entry.problem), ("lost", entry.lost)) if text}
        self._tell(lambda tracker: tracker.log(at, entry.numbers, words))
        if entry.step is not None:
            self._shown, self._warmup = (entry.member, entry.attempt, entry.step), entry.iteration - entry.step

    def _show_pictures(self, pictures: dict[_Key, Path], last: _Key | None) -> None:
        """Show the pictures of the attempt at hand up to a step of it, or all of it where ``last`` is of another."""
        if last is None or self._shown is None:
            return
        for key in sorted(key for key in pictures if key <= last and key[:2] == self._shown[:2]):
            path = pictures.pop(key)
            self._drawn.add(key)
            at = Position(key[0], key[1], key[2] + self._warmup)
            self._tell(lambda tracker, at=at, path=path: tracker.picture(at, path))  # type: ignore[misc]

    def _new_pictures(self) -> dict[_Key, Path]:
        found = {}
        for path in self.run.pictures.glob("*.png"):
            match = _PICTURE.fullmatch(path.name)
            if match:
                key = (int(match[1] or 0), int(match[2]), int(match[3]))
                if key not in self._drawn:
                    found[key] = path
        return found

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # a service that is down can raise anything
                said = f"{name} failed ({str(error).strip() or type(error).__name__})"
                if self.strict:
                    raise RunError(f"{said}; the run itself is not concerned.") from error
                _log.warning(
                    "%s and is left out from here on; training goes on. Afterwards: labels4free watch %s --track %s "
                    "--into DIR",
                    said,
                    self.run.path,
                    name,
                )
                del self.trackers[name]


@contextmanager
def tracking(
    run: str | Path, names: Sequence[str], progress: TrainProgress | None = None, *, interval: float = 1.0
) -> Iterator[TrainProgress | None]:
    """Show a run to trackers while this process trains it.

    Args:
        run: The run's folder; it may be made later.
        names: Of :data:`TRACKERS`; with none of them this does nothing.
        progress: Told what the yielded one is told.
        interval: Seconds between two looks at the log.

    Yields:
        What to give to :func:`labels4free.training.alpha_run.train_alpha_network` as its progress.

    Raises:
        ConfigError: As :class:`LogFollower`, before anything is trained.
    """
    if not names:
        yield progress
        return
    follower = LogFollower(Path(run), names, strict=False)
    due = 0.0

    def catch_up() -> None:
        nonlocal due
        try:
            follower.catch_up()
        except RunError as error:
            _log.warning("%s Nothing is tracked until it can be read.", error)
        due = time.monotonic() + interval

    def told(done: int, total: int, numbers: Mapping[str, float] | None = None, /) -> None:
        if progress:
            progress(done, total, numbers)
        if numbers is not None and time.monotonic() >= due:
            catch_up()

    try:
        yield told
    finally:
        catch_up()
        follower.close()
