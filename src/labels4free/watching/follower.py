"""Shows a run's log to trackers as it grows (``trackers.py``): beside a training, or to one that is over.

The log is the truth; a tracker is shown what stands in it and nothing else. That makes one way serve a run that goes on
and one that is over, in the process that trains (:func:`tracking`) or in any other (``labels4free watch --track``).
Training cannot be changed by it, nor stopped: a tracker that fails is left out with a warning, and can be given the
whole log later.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from labels4free.errors import RunError
from labels4free.training_loop.log import LogTail
from labels4free.training_loop.run_dir import Place, RunDir
from labels4free.watching.trackers import Trackers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from labels4free.training_loop.contracts import TrainProgress
    from labels4free.training_loop.log import LogEntry

_log = logging.getLogger(__name__)


class LogFollower:
    """Shows a run's log and pictures to trackers, and what is added to them.

    Args:
        run: The run's folder; it need not hold anything yet.
        names, into, strict: As for :class:`Trackers`.

    Raises:
        ConfigError: As :class:`Trackers`.
    """

    def __init__(self, run: Path, names: Sequence[str], into: Path | None = None, *, strict: bool = True) -> None:
        self.run, self.trackers = RunDir(run), Trackers(run, names, into, strict=strict)
        self._tail = LogTail(self.run.log_path)
        self._undrawn: LogEntry | None = None  # the last entry with a step, while it may still get a picture

    def catch_up(self) -> None:
        """Show what is new; of a log that was cut back everything, since its trackers are made for that.

        Raises:
            RunError: If the log cannot be read, or a strict tracker fails.
        """
        if self._tail.cut_back():
            self._undrawn = None
        pictures = dict(self.run.picture_files())
        self._show_picture(pictures)  # drawn after its entry was read
        for entry in self._tail.entries():
            self.trackers.log(entry)
            if entry.step is not None:
                self._undrawn = entry
                self._show_picture(pictures)

    def _show_picture(self, pictures: Mapping[Place, Path]) -> None:
        entry = self._undrawn
        if entry and entry.step is not None and (place := Place(entry.member, entry.restart, entry.step)) in pictures:
            self.trackers.picture(entry, pictures[place])
            self._undrawn = None

    def close(self) -> None:
        """End every tracker.

        Raises:
            RunError: If a strict one fails.
        """
        self.trackers.close()


@contextmanager
def tracking(
    run: str | Path, names: Sequence[str], progress: TrainProgress | None = None, *, interval: float = 1.0
) -> Iterator[TrainProgress | None]:
    """Show a run to trackers while this process trains it.

    Args:
        run: The run's folder; it may be made later.
        names: Of :data:`labels4free.watching.trackers.TRACKERS`; with none of them this does nothing.
        progress: Told what the yielded one is told.
        interval: Seconds between two looks at the log.

    Yields:
        What to give to :func:`labels4free.training.alpha.run.train_alpha_network` as its progress.

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
