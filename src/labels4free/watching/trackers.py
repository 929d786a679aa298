"""TensorBoard and Weights & Biases: shown the entries and pictures of a run's log, each once, also after a resumption.

Each attempt (and each member, where a run has several) is a run of its own for the tracker, with the iteration of the
attempt as its step axis. Log entries have no time: a tracker's clock shows when it was told.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from labels4free.errors import ConfigError, RunError
from labels4free.files import write_atomically
from labels4free.training_loop.run_dir import RunDir
from labels4free.watching.verdicts import CHECK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from labels4free.training_loop.log import LogEntry

_log = logging.getLogger(__name__)

_PROJECT = "labels4free"


class Tracker(Protocol):
    """Something that shows numbers and pictures of runs.

    A run that was resumed may tell what it told before: only what then differs, or is new, is to be shown.
    """

    def log(self, entry: LogEntry) -> None:
        """Take an entry of the log, in the log's order; others can see it when this returns."""

    def picture(self, entry: LogEntry, path: Path) -> None:
        """Take the picture of the entry that was told last."""

    def close(self) -> None:
        """End."""


class Trackers:
    """The trackers of a run, told together.

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
        self.run, self.strict = run, strict
        self._open = {name: TRACKERS[name](into or run, run) for name in names}

    def log(self, entry: LogEntry) -> None:
        """Show an entry of the log.

        Raises:
            RunError: If a tracker fails and they are strict.
        """
        self._tell(lambda tracker: tracker.log(entry))

    def picture(self, entry: LogEntry, path: Path) -> None:
        """Show the picture of the entry that was shown last; raises as :meth:`log`."""
        self._tell(lambda tracker: tracker.picture(entry, path))

    def close(self) -> None:
        """End every tracker; raises as :meth:`log`."""
        self._tell(lambda tracker: tracker.close())

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
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
                    self.run,
                    name,
                )
                del self._open[name]


class TensorBoardTracker(Tracker):
    """Event files below ``INTO/tensorboard``, one folder an attempt; read by ``tensorboard --logdir``.

    Whenever the log begins again, or goes on after a cut, TensorBoard is told to forget what it had from there on.

    Args:
        into: Folder.
        run: The run's folder.

    Raises:
        ConfigError: If TensorBoard is not installed.
    """

    def __init__(self, into: Path, run: Path) -> None:  # noqa: ARG002  as the others
        self._files = _imported("torch.utils.tensorboard", "tensorboard")
        self.folder = into / "tensorboard"
        self._writer: Any = None
        self._last: LogEntry | None = None

    def log(self, entry: LogEntry) -> None:
        last, self._last = self._last, entry
        if not last or entry[:2] != last[:2] or (entry.step is not None and entry[:3] <= last[:3]):
            self.close()
            self._writer = self._files.SummaryWriter(str(self.folder / _name(entry)), purge_step=entry.iteration)
        for name, number in entry.numbers.items():
            self._writer.add_scalar(_tag(name), number, entry.iteration)
        for name, text in _words(entry).items():
            self._writer.add_text(name, text, entry.iteration)
        self._writer.flush()

    def picture(self, entry: LogEntry, path: Path) -> None:
        with Image.open(path) as image:
            self._writer.add_image("masks", np.asarray(image.convert("RGB")), entry.iteration, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        if self._writer:
            self._writer.close()


class WandbTracker(Tracker):
    """Runs of Weights & Biases, one an attempt, in a group named as the run; its files lie in ``INTO/wandb``.

    Its own environment variables count (``WANDB_MODE=offline``, ``WANDB_ENTITY``, ``WANDB_PROJECT``: labels4free if it
    is not set). The service takes nothing back, and one that is offline knows nothing: what has been shown is noted in
    ``INTO/wandb/labels4free.json``, so that another process goes on from there.

    Args:
        into: Folder.
        run: The run's folder.

    Raises:
        ConfigError: If W&B is not installed.
    """

    def __init__(self, into: Path, run: Path) -> None:
        self._wandb = _imported("wandb", "wandb")
        self.run, self.into = run, into
        self._note = into / "wandb" / "labels4free.json"
        self._id, self._seen = "", (0, 0, -1)  # of what was shown last: member, attempt, iteration
        self._session: Any = None

    def log(self, entry: LogEntry) -> None:
        if not self._id:
            note = json.loads(self._note.read_text(encoding="utf-8")) if self._note.exists() else {}
            self._id, self._seen = str(note.get("id") or secrets.token_hex(4)), tuple(note.get("seen", self._seen))
        again = entry[:3] == self._seen and entry.step is None and self._session  # why the attempt ended at this step
        if entry[:3] > self._seen or again:
            if not self._session or entry[:2] != self._seen[:2]:
                self._begin(entry)
            if entry.iteration >= self._session.starting_step:  # of a resumed one: what the service has
                numbers = {_tag(name): number for name, number in entry.numbers.items()}
                self._session.log(numbers, step=entry.iteration)
            self._session.summary.update(_words(entry))
            self._seen = entry[:3]
            note = json.dumps({"id": self._id, "seen": self._seen}) + "\n"
            write_atomically(self._note, note.encode(), sync=False)

    def picture(self, entry: LogEntry, path: Path) -> None:
        if self._session and entry[:3] == self._seen:
            self._session.log({"masks": self._wandb.Image(str(path), caption=path.stem)}, step=entry.iteration)

    def close(self) -> None:
        if self._session:
            self._session.finish()
        self._session = None

    def _begin(self, entry: LogEntry) -> None:
        """Begin the session of an attempt, or go on with it."""
        self.close()
        self._note.parent.mkdir(parents=True, exist_ok=True)
        group, name = self.run.resolve().name, _name(entry)
        self._session = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=f"{self._id}-{name.replace('/', '-')}",
            name=f"{group} {name}" if any(entry[:2]) else group,
            group=group,
            dir=str(self.into),
            config=RunDir(self.run).config(),
            resume="allow" if os.environ.get("WANDB_MODE") != "offline" else None,
            settings=self._wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )


TRACKERS: dict[str, Callable[[Path, Path], Tracker]] = {"tensorboard": TensorBoardTracker, "wandb": WandbTracker}
"""Every tracker by the name that ``--track`` takes: called with (folder for its files, the run's folder)."""


def _imported(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f"--track {extra} needs a package that is missing ({error}): pip install {extra}.") from error


def _name(entry: LogEntry) -> str:
    restart = f"restart_{entry.restart}"
    return f"member_{entry.member}/{restart}" if entry.member else restart


def _words(entry: LogEntry) -> dict[str, str]:
    """What was found wrong, and why the attempt ended, if it is so."""
    return {name: text for name, text in (("problem", entry.problem), ("lost", entry.lost)) if text}


def _tag(name: str) -> str:
    """The name with its group in front, as both trackers sort their charts."""
    for group, prefix in (("check", CHECK), ("loss", "loss_")):
        if name.startswith(prefix):
            return f"{group}/{name.removeprefix(prefix)}"
    return f"train/{name}"
