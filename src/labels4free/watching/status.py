"""How a run is doing, from nothing but its folder: for another process, another machine, a network share.

Nothing here ever writes, and the run need not know: the log is read as it grows (``training_loop/log.py``), and file
times say how long ago something happened. Log entries have no time, so that an interrupted run leaves the same log as
one that was not; how fast a run goes follows from two looks at it or, at the first look, from the times of its files.
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
from typing import TYPE_CHECKING, Any, NamedTuple

from labels4free.errors import ConfigError, RunError
from labels4free.training.recipes import RECIPES
from labels4free.training_loop.log import LogEntry, LogTail
from labels4free.training_loop.resume import own_settings
from labels4free.training_loop.run_dir import Place, RunDir
from labels4free.watching.verdicts import CHECK, Bounds, Judged, Series, Verdict, judge_checks, judge_steps

if TYPE_CHECKING:
    from collections.abc import Mapping


_CHUNK = re.compile(r"samples_(\d+)\.safetensors")
_CACHE = "cache"
_WINDOW = 120.0  # seconds over which the speed is taken
_SHORTEST = 0.5  # seconds between two looks that say something about it
_SILENT = 120.0  # seconds without a sign after which a run counts as silent, or ...
_SILENT_STEPS = 20.0  # ... the time of so many steps, if that is longer, or ...
_SILENT_UNKNOWN = 900.0  # ... this where nobody knows how long a step takes: a chunk of the cache can take minutes


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


class Progress(NamedTuple):
    """Where a run is.

    Attributes:
        member: Which of :attr:`members` networks is being trained, from 0.
        members: Networks that are trained one after the other.
        restart: 0 at first; each automatic restart adds 1.
        attempts: As many are made at most.
        done: Steps done since, the warm-up included.
        total: Steps of the whole training.
        warmup: Steps of it before the alpha network moves.
    """

    member: int
    members: int
    restart: int
    attempts: int
    done: int
    total: int
    warmup: int


@dataclass(frozen=True)
class RunStatus:
    """The status of a training run, from one look at its folder.

    Attributes:
        path: The folder.
        generator: Zoo name or file of its generator, or the beginning of its state hash.
        recipe: Name of its recipe.
        state: What it does.
        reason: Why it is lost or thought to have stopped; None otherwise.
        progress: Where it is.
        rendered: Samples of the cache that are rendered, of how many; None where there is no cache, or nothing to
            render.
        speed: Steps a second; None where that cannot be told.
        seconds_left: To the end, at that speed; None where that cannot be told, or nothing is left.
        checked: Step of the alpha network at the last check; None if there was none.
        checks: What it measured, judged.
        steps: What every step logs, judged.
        problem: What it found wrong; None if nothing.
        losses: Why each earlier attempt was given up, as sentences without a full stop.
        files: The newest ``network``, ``picture`` and ``checkpoint``, as far as there are any.
        quiet: Seconds since anything was written.
    """

    path: Path
    generator: str
    recipe: str
    state: State
    reason: str | None
    progress: Progress
    rendered: tuple[int, int] | None
    speed: float | None
    seconds_left: float | None
    checked: int | None
    checks: tuple[Judged, ...]
    steps: tuple[Judged, ...]
    problem: str | None
    losses: tuple[str, ...]
    files: Mapping[str, FileNote]
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
            self.config = own_settings(self.run, RECIPES)
            source = stored["source"] if "source" in stored else stored["generator"]
            self.generator = str(source["name"] or source["state_hash"][:12])
        except (ConfigError, KeyError, TypeError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
            raise RunError(
                f"{self.run.path / 'config.json'} is damaged or of a later labels4free ({reason}); restore it, or "
                "upgrade labels4free."
            ) from error
        self.recipe, self.settings = self.config.recipe, self.config.to_json()
        self._trainings = getattr(self.config, "trainings", 1)  # recipes without members have one
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
        progress = self._progress()
        files = _Files(self.run, RECIPES[self.recipe].product.file, self.settings.get(_CACHE))
        speed = self._speed(files, progress)
        quiet = max(0.0, min(files.quiet, time.monotonic() - self._grew))
        state, reason = self._state(files, progress, speed, quiet)
        left = progress.total - progress.done
        left += (progress.members - 1 - progress.member) * self.config.total_steps(0)
        going = state in (State.WARM_UP, State.TRAINING)
        return RunStatus(
            path=self.run.path,
            generator=self.generator,
            recipe=self.recipe,
            state=state,
            reason=reason,
            progress=progress,
            rendered=files.rendered if state in (State.STARTING, State.RENDERING, State.SILENT) else None,
            speed=speed if going else None,
            seconds_left=left / speed if going and speed else None,
            checked=self._checked,
            checks=judge_checks(self._series, self._bounds()),
            steps=judge_steps(self._series),
            problem=self._problem,
            losses=tuple(self._losses),
            files=files.newest(),
            quiet=quiet,
        )

    def _forget(self) -> None:
        self._last = LogEntry(0, 0, 0, None, {}, None, None)
        self._series: dict[str, Series] = {}
        self._checked: int | None = None
        self._problem: str | None = None
        self._losses: list[str] = []

    def _take(self, entry: LogEntry) -> None:
        if entry[:2] != self._last[:2]:
            self._series, self._checked, self._problem = {}, None, None
        self._last = entry
        self._grew = time.monotonic() if self._looks else self._grew
        if entry.lost:
            whose = f"Network {entry.member + 1}, attempt" if self._trainings > 1 else "Attempt"
            self._losses.append(f"{whose} {entry.restart + 1} lost after {entry.iteration:,} steps: {entry.lost}")
        if entry.step is None:
            return
        for name, value in entry.numbers.items():
            self._series.setdefault(name, Series()).add(value, entry.step)
        if any(name.startswith(CHECK) for name in entry.numbers):
            self._checked, self._problem = entry.step, entry.problem

    def _progress(self) -> Progress:
        member, restart, done, *_ = self._last
        total, attempts = self.config.total_steps(restart), self.config.monitor.max_restarts + 1
        return Progress(member, self._trainings, restart, attempts, done, total, total - self.config.steps)

    def _speed(self, files: _Files, progress: Progress) -> float | None:
        """Steps a second, between two looks or, at the first ones, between two files of the attempt."""
        now, of = time.monotonic(), self._last[:2]
        while self._looks and (self._looks[0][1] != of or now - self._looks[0][0] > _WINDOW):
            self._looks.popleft()
        self._looks.append((now, of, progress.done))
        began, _, done = self._looks[0]
        if progress.done > done and now - began > _SHORTEST:
            return (progress.done - done) / (now - began)
        stamps = sorted({*files.stamps(of, progress.warmup), (progress.done, files.logged)})
        rates = [(b - a) / (late - early) for (a, early), (b, late) in pairwise(stamps) if b > a and late > early]
        return median(rates[-5:]) if rates else None

    def _state(self, files: _Files, progress: Progress, speed: float | None, quiet: float) -> tuple[State, str | None]:
        done, verb = progress.done, RECIPES[self.recipe].verb
        if files.found["network"]:
            return State.FINISHED, None
        if self._last.lost and progress.restart + 1 >= progress.attempts:
            return State.LOST, self._last.lost
        saved = Place(*self._last[:3]) in files.places["checkpoint"].values()
        if done % self.config.checkpoint_interval and saved and done < progress.total:
            return State.STOPPED, f"interrupted, with a checkpoint written; go on with {verb} --resume"
        patience = max(_SILENT, _SILENT_STEPS / speed) if speed and not files.rendering else _SILENT_UNKNOWN
        if quiet > patience:
            return State.SILENT, f"no file was written for long; if its process is gone: {verb} --resume"
        if files.rendering:
            return State.RENDERING, None
        if not done and not progress.restart:
            return State.STARTING, None
        return (State.WARM_UP if done < progress.warmup else State.TRAINING), None

    def _bounds(self) -> Bounds:
        """What the losses on coverage push against; recipes have one for both sides, one for each, or none."""
        loss, sides = self.settings.get("loss", {}), ("foreground", "background")
        once = (tuple(loss.get(f"min_{side}_coverage") for side in sides),)
        tried = getattr(getattr(self.config, "loss", None), "bounds", once)  # the widest of those that are tried
        up, down = (
            min(least) if loss.get(f"{side}_coverage", loss.get("coverage", 0)) > 0 else None
            for side, least in zip(sides, zip(*tried, strict=True), strict=True)
        )
        settled = (self._checked or 0) >= self.config.monitor.grace_steps
        return Bounds(up, None if down is None else 1 - down, settled)


class _Files:
    """The files of a run and their times, at one moment."""

    def __init__(self, run: RunDir, product: str, cache: Mapping[str, Any] | None) -> None:
        self.now = time.time()
        places = {"picture": run.picture_files(), "checkpoint": run.checkpoint_files()}
        self.places = {kind: {path: place for place, path in found} for kind, found in places.items()}
        paths = {"network": run.path.glob(product), **self.places}
        self.found = {kind: {path: _time_of(path) for path in found} for kind, found in paths.items()}
        self.logged = _time_of(run.log_path)
        self.rendered: tuple[int, int] | None = None
        self.rendering = False
        signs = [self.logged, _time_of(run.path / "config.json")]
        signs += [written for files in self.found.values() for written in files.values()]
        if cache:
            chunks = _files(Path(cache["folder"] or run.path / _CACHE), _CHUNK)
            signs += chunks.values()
            starts = sorted(int(path.stem.rpartition("_")[2]) for path in chunks)
            width = min((b - a for a, b in pairwise(starts)), default=0)
            self.rendered = (min(cache["size"], width * len(starts)), cache["size"])
            # A run that goes on after its cache was deleted has a log, too, and renders all the same.
            newer = max(chunks.values(), default=0.0) > self.logged
            self.rendering = self.rendered[0] < cache["size"] and (newer or not self.logged)
        self.quiet = self.now - max(signs)

    def newest(self) -> dict[str, FileNote]:
        """The file of each kind that was written last."""
        last = {
            kind: max(files, key=lambda path: (files[path], str(path))) for kind, files in self.found.items() if files
        }
        return {kind: FileNote(path, max(0.0, self.now - self.found[kind][path])) for kind, path in last.items()}

    def stamps(self, of: tuple[int, int], warmup: int) -> set[tuple[int, float]]:
        """(iteration, time) of the files that an attempt at a member wrote."""
        warmups = {"picture": warmup, "checkpoint": 0}  # pictures count the steps of the network that is kept
        return {
            (place.step + warmups[kind], self.found[kind][path])
            for kind, places in self.places.items()
            for path, place in places.items()
            if place[:2] == of
        }


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
