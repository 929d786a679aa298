"""How a run is doing, from nothing but its folder: for another process, another machine, a network share.

Nothing here ever writes, and the run need not know: the log is read as it grows (``log_tail.py``), and file times say
how long ago something happened. Log entries have no time, so that an interrupted run leaves the same log as one that
was not; how fast a run goes follows from two looks at it or, at the first look, from the times of its files.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from labels4free.errors import ConfigError, RunError
from labels4free.training.config import TrainConfig
from labels4free.training.contracts import ALPHA, SEGMENTER
from labels4free.training.judging import CHECK, Bounds, Judged, Verdict, judge_checks, judge_steps
from labels4free.training.log_tail import LogTail, Series
from labels4free.training.recipes import from_run_json, recipe_of
from labels4free.training.run_dir import RunDir
from labels4free.training.run_loop import MEMBER_STRIDE
from labels4free.training.segmenter_config import SegmenterConfig

if TYPE_CHECKING:
    from labels4free.training.log_tail import LogEntry
    from labels4free.training.recipes import AnyConfig

ATTEMPT_STRIDE = 1_000_000_000
"""A checkpoint's number is that of its member and attempt times this, plus its iteration (``run_loop.py``)."""

_CHECKPOINT = re.compile(r"step_(\d+)\.pt")
_PICTURE = re.compile(r"(?:member_(\d+)_)?attempt_(\d+)_step_(\d+)")
_BANK = "bank"
_WINDOW = 120.0  # seconds over which the speed is taken
_SHORTEST = 0.5  # seconds between two looks that say something about it
_SILENT = 120.0  # seconds without a sign after which a run counts as silent, or ...
_SILENT_STEPS = 20.0  # ... the time of so many steps, if that is longer, or ...
_SILENT_UNKNOWN = 900.0  # ... this where nobody knows how long a step takes: a chunk of the bank can take minutes


class State(StrEnum):
    """What a run does."""

    STARTING = "starting"
    RENDERING = "rendering"
    WARM_UP = "warming up"
    TRAINING = "training"
    FINISHED = "finished"
    STOPPED = "stopped"
    SILENT = "silent"
    LOST = "lost"


class FileNote(NamedTuple):
    """A file of the run.

    Attributes:
        path: Where it is.
        age: Seconds since it was written.
    """

    path: Path
    age: float


@dataclass(frozen=True)
class RunStatus:
    """What one look at a run's folder shows.

    Attributes:
        path: The folder.
        generator: Zoo name or file of its generator, or the beginning of its fingerprint.
        recipe: Name of its recipe.
        state: What it does.
        reason: Why it is lost or thought to have stopped; None otherwise.
        member: Which of :attr:`members` networks is being trained, from 0.
        members: Networks that are trained one after the other.
        attempt: 0 at first; each automatic restart adds 1.
        max_restarts: Restarts that are allowed.
        done: Steps done in the attempt, the warm-up included.
        total: Steps of the whole attempt.
        warmup: Steps of it before the alpha network moves.
        rendered: Samples of the bank that are rendered, of how many; None where there is no bank, or nothing to render.
        speed: Steps a second; None where that cannot be told.
        seconds_left: To the end, at that speed; None where that cannot be told, or nothing is left.
        checked: Step of the alpha network at the last check; None if there was none.
        checks: What it measured, judged.
        steps: What every step logs, judged.
        problem: What it found wrong; None if nothing.
        losses: Why each earlier attempt was given up, as sentences without a full stop.
        network: The finished network; None before the end.
        picture: The newest one.
        checkpoint: The newest one.
        quiet: Seconds since anything was written.
    """

    path: Path
    generator: str
    recipe: str
    state: State
    reason: str | None
    member: int
    members: int
    attempt: int
    max_restarts: int
    done: int
    total: int
    warmup: int
    rendered: tuple[int, int] | None
    speed: float | None
    seconds_left: float | None
    checked: int | None
    checks: tuple[Judged, ...]
    steps: tuple[Judged, ...]
    problem: str | None
    losses: tuple[str, ...]
    network: FileNote | None
    picture: FileNote | None
    checkpoint: FileNote | None
    quiet: float

    @property
    def over(self) -> bool:
        """Whether nothing more will happen: finished, or lost for good."""
        return self.state in (State.FINISHED, State.LOST)

    @property
    def verdict(self) -> Verdict:
        """What to think of the run as a whole."""
        if self.state is State.LOST or self.problem:
            return Verdict.BAD
        if self.state in (State.STOPPED, State.SILENT):
            return Verdict.DOUBTFUL
        return max((one.verdict for one in self.checks), default=Verdict.OPEN)


def runs_in(path: str | Path) -> list[Path]:
    """The run at a path or, where there is none, the runs in the folders below it, by name.

    Raises:
        RunError: If there is none either way.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunError(f"There is no run at {path}: {'it is a file' if path.exists() else 'no such folder'}.")
    found = [path] if _is_run(path) else sorted(child for child in path.iterdir() if _is_run(child))
    if not found:
        raise RunError(f"There is no run at {path}: neither a config.json in it, nor in a folder below it.")
    return found


def read_status(path: str | Path) -> RunStatus:
    """One look at a run.

    Raises:
        RunError: As :class:`RunWatcher` and :meth:`RunWatcher.look`.
    """
    return RunWatcher(path).look()


class RunWatcher:
    """Looks at a run again and again, reading of its log only what is new.

    Args:
        path: The run's folder.

    Raises:
        RunError: If there is no run, or its config.json is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.run = RunDir(Path(path))
        if not _is_run(self.run.path):
            raise RunError(f"There is no run at {path}: no config.json in it.")
        stored = self.run.config()
        try:
            self.config = from_run_json(stored)
            source = stored["source" if isinstance(self.config, SegmenterConfig) else "generator"]
            self.generator = str(source["name"] or source["fingerprint"][:12])
        except (ConfigError, KeyError, TypeError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise RunError(
                f"{self.run.path / 'config.json'} is damaged or of a later labels4free ({reason}); restore it, or "
                "upgrade labels4free."
            ) from error
        self._tail = LogTail(self.run.log_path)
        self._looks: deque[tuple[float, tuple[int, int], int]] = deque()  # time, member and attempt, iteration
        self._grew = -math.inf
        self._forget()

    def look(self) -> RunStatus:
        """Read what is new, and say how the run is doing.

        Raises:
            RunError: If the log cannot be read or is damaged; a later look may succeed.
        """
        if self._tail.cut_back():
            self._forget()
        for entry in self._tail.entries():
            self._take(entry)
        files = _Files(self.run, self.config)
        speed = self._speed(files)
        quiet = max(0.0, min(files.quiet, time.monotonic() - self._grew))
        state, reason = self._state(files, speed, quiet)
        left = self.total - self.done
        left += (self.members - 1 - self.member) * self.config.total_steps(0)
        going = state in (State.WARM_UP, State.TRAINING)
        return RunStatus(
            path=self.run.path,
            generator=self.generator,
            recipe=recipe_of(self.config),
            state=state,
            reason=reason,
            member=self.member,
            members=self.members,
            attempt=self.attempt,
            max_restarts=self.config.monitor.max_restarts,
            done=self.done,
            total=self.total,
            warmup=self.total - self.config.steps,
            rendered=files.rendered if state in (State.STARTING, State.RENDERING, State.SILENT) else None,
            speed=speed if going else None,
            seconds_left=left / speed if going and speed else None,
            checked=self._checked,
            checks=judge_checks(self._series, self._bounds()),
            steps=judge_steps(self._series),
            problem=self._problem,
            losses=tuple(self._losses),
            network=files.newest(files.networks),
            picture=files.newest(files.pictures),
            checkpoint=files.newest(files.checkpoints),
            quiet=quiet,
        )

    @property
    def members(self) -> int:
        """Networks that are trained one after the other."""
        return int(getattr(self.config, "members", 1))

    @property
    def verb(self) -> str:
        """What such a run is started with."""
        return "distill" if isinstance(self.config, SegmenterConfig) else "train"

    @property
    def place(self) -> int:
        """Member and attempt as one number, as in the numbers of checkpoints."""
        return self.member * MEMBER_STRIDE + self.attempt

    @property
    def total(self) -> int:
        """Steps of the attempt."""
        return self.config.total_steps(self.attempt)

    def _forget(self) -> None:
        self.member, self.attempt, self.done = 0, 0, 0
        self._series: dict[str, Series] = {}
        self._checked: int | None = None
        self._problem: str | None = None
        self._lost: str | None = None
        self._losses: list[str] = []

    def _take(self, entry: LogEntry) -> None:
        if (entry.member, entry.attempt) != (self.member, self.attempt):
            self.member, self.attempt, self._series = entry.member, entry.attempt, {}
            self._checked = self._problem = None
        self.done, self._lost = entry.iteration, entry.lost
        self._grew = time.monotonic() if self._looks else self._grew
        if entry.lost:
            whose = f"Network {entry.member + 1}, attempt" if self.members > 1 else "Attempt"
            self._losses.append(f"{whose} {entry.attempt + 1} lost after {entry.iteration:,} steps: {entry.lost}")
        if entry.step is None:
            return
        for name, value in entry.numbers.items():
            self._series.setdefault(name, Series()).add(entry.iteration, value, entry.step)
        if any(name.startswith(CHECK) for name in entry.numbers):
            self._checked, self._problem = entry.step, entry.problem

    def _speed(self, files: _Files) -> float | None:
        """Steps a second, between two looks or, at the first ones, between two files of the attempt."""
        now, of = time.monotonic(), (self.member, self.attempt)
        while self._looks and (self._looks[0][1] != of or now - self._looks[0][0] > _WINDOW):
            self._looks.popleft()
        self._looks.append((now, of, self.done))
        began, _, done = self._looks[0]
        if self.done > done and now - began > _SHORTEST:
            return (self.done - done) / (now - began)
        stamps = sorted({*files.stamps(self.place, self.total - self.config.steps), (self.done, files.logged)})
        rates = [(b - a) / (late - early) for (a, early), (b, late) in pairwise(stamps) if b > a and late > early]
        return median(rates[-5:]) if rates else None

    def _state(self, files: _Files, speed: float | None, quiet: float) -> tuple[State, str | None]:
        if files.networks:
            return State.FINISHED, None
        if self._lost and self.attempt >= self.config.monitor.max_restarts:
            return State.LOST, self._lost
        at = self.place * ATTEMPT_STRIDE + self.done
        if self.done % self.config.checkpoint_interval and at in files.numbers and self.done < self.total:
            return State.STOPPED, f"interrupted, with a checkpoint written; go on with {self.verb} --resume"
        patience = max(_SILENT, _SILENT_STEPS / speed) if speed and not files.rendering else _SILENT_UNKNOWN
        if quiet > patience:
            return State.SILENT, f"no file was written for long; if its process is gone: {self.verb} --resume"
        if files.rendering:
            return State.RENDERING, None
        if not self.done and not self.attempt:
            return State.STARTING, None
        return (State.WARM_UP if self.done < self.total - self.config.steps else State.TRAINING), None

    def _bounds(self) -> Bounds:
        settled = (self._checked or 0) >= self.config.monitor.grace_steps
        if isinstance(self.config, SegmenterConfig):
            return Bounds(settled=settled)
        loss = self.config.loss
        if isinstance(self.config, TrainConfig):
            pushes_up = pushes_down = self.config.loss.coverage > 0
        else:
            pushes_up, pushes_down = self.config.loss.foreground_coverage > 0, self.config.loss.background_coverage > 0
        return Bounds(
            loss.min_foreground_coverage if pushes_up else None,
            1 - loss.min_background_coverage if pushes_down else None,
            settled,
        )


class _Files:
    """The files of a run and their times, at one moment."""

    def __init__(self, run: RunDir, config: AnyConfig) -> None:
        self.now = time.time()
        self.checkpoints = _files(run.checkpoints, _CHECKPOINT)
        self.pictures = _files(run.pictures, _PICTURE)
        self.numbers = {int(match[1]) for path in self.checkpoints if (match := _CHECKPOINT.fullmatch(path.name))}
        product = SEGMENTER if isinstance(config, SegmenterConfig) else ALPHA
        self.networks = _files(run.path, re.compile(re.escape(product.file) + "$"))
        self.logged = _time_of(run.log_path)
        self.rendered: tuple[int, int] | None = None
        self.rendering = False
        signs = [self.logged, _time_of(run.path / "config.json"), *self.networks.values()]
        signs += [*self.checkpoints.values(), *self.pictures.values()]
        if isinstance(config, TrainConfig):
            folder = Path(config.bank.folder) if config.bank.folder else run.path / _BANK
            chunks = _files(folder, re.compile(r"samples_(\d+)\.safetensors"))
            signs += chunks.values()
            starts = sorted(int(path.stem.rpartition("_")[2]) for path in chunks)
            size = config.bank.size
            width = min((b - a for a, b in pairwise(starts)), default=0)
            self.rendered = (min(size, width * len(starts)), size)
            # A run that goes on after its bank was deleted has a log, too, and renders all the same.
            newer = max(chunks.values(), default=0.0) > self.logged
            self.rendering = self.rendered[0] < size and (newer or not self.logged)
        self.quiet = self.now - max(signs)

    def newest(self, files: dict[Path, float]) -> FileNote | None:
        """The file that was written last, or None."""
        if not files:
            return None
        path = max(files, key=lambda path: (files[path], path.name))
        return FileNote(path, max(0.0, self.now - files[path]))

    def stamps(self, place: int, warmup: int) -> set[tuple[int, float]]:
        """(iteration, time) of the files that an attempt at a member wrote; ``place`` as :attr:`RunWatcher.place`."""
        found = {divmod(number, ATTEMPT_STRIDE): number for number in self.numbers}
        times = {path.name: written for path, written in self.checkpoints.items()}
        stamps = {(i, times[f"step_{n:06d}.pt"]) for (at, i), n in found.items() if at == place}
        for path, written in self.pictures.items():
            match = _PICTURE.search(path.name)
            if match and int(match[1] or 0) * MEMBER_STRIDE + int(match[2]) == place:
                stamps.add((int(match[3]) + warmup, written))
        return stamps


def _is_run(path: Path) -> bool:
    return (path / "config.json").is_file() and (path / "checkpoints").is_dir()


def _files(folder: Path, name: re.Pattern[str]) -> dict[Path, float]:
    """Files whose name matches, with their times; none if there is no such folder."""
    try:
        return {path: _time_of(path) for path in folder.iterdir() if name.match(path.name)}
    except OSError:  # not made yet, or gone between two looks
        return {}


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
