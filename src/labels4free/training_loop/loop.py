"""What surrounds the steps of a training run in its folder: log, checks, pictures, checkpoints, restarts, the result.

A run takes its trainers out of a :class:`Loop`, has each do its step and gives the numbers back::

    with Loop(run, recipe, info) as loop:
        for trainer in loop.trainers(start):
            try:
                loop.record(trainer.step())
            except FloatingPointError as error:
                loop.lost(str(error))
        loop.finish(recipe.finished)
    return loop.result

The loop knows no recipe. Where several processes train together, all go through it in step; the main process alone
checks, draws, reads and writes, and all do what it decides.
"""

from __future__ import annotations

import logging
import shutil
import time
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self

from labels4free.checkpoints.native import SNAPSHOT, read_native_header, write_native
from labels4free.errors import RunError
from labels4free.pictures.pixels import write_png
from labels4free.training_loop.best import Best
from labels4free.training_loop.contracts import Check, LoopConfig, Product, Recipe, T, TrainProgress, TrainResult
from labels4free.training_loop.distributed import process_group
from labels4free.training_loop.interrupts import SIGNALS, Interrupts, Stopped
from labels4free.training_loop.run_dir import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from labels4free.training_loop.run_dir import RunDir

_log = logging.getLogger(__name__)

_SCRATCH = "cache"
_LONGEST_WITHOUT_PICTURE = 600.0  # seconds: whoever looks wants to see something, however slow the machine
# The first ones fit into a narrow terminal.
_SHOWN = ("foreground_ratio", "accuracy", "loss_discriminator", "loss_adversarial", "loss")


def finished_run(run: RunDir, product: Product, config: LoopConfig) -> TrainResult | None:
    """Result of a run that has ended; None where there is something left to do, as where it was lengthened."""
    path = run.path / product.file
    if not path.exists():
        return None
    info = read_native_header(path, product.kind).info
    if config.length and info["train"][config.length] < getattr(config, config.length):
        return None
    check = Check(info["health"], info["problem"]) if "health" in info else None
    _drop_scratch(run)  # of a run that was killed while it did
    return TrainResult(path, None, info["steps"], info["steps"], info["restarts"], check, info.get("kept_step"))


class Stage(NamedTuple):
    """Where in a run of several members the loop is; a run of a single one has but this stage.

    Attributes:
        member: Number of the member.
        steps: Steps of the members that have ended.
        restarts: Their restarts.
        steps_to_come: Steps of the members that have not begun.
        state: What a checkpoint notes of those that have ended.
        trial: It is a trial: lost, it is given up, not started over.
    """

    member: int | None = None
    steps: int = 0
    restarts: int = 0
    steps_to_come: int = 0
    state: Mapping[str, Any] = {}
    trial: bool = False


class Loop(Generic[T]):
    """Gives a run its trainers, from its last checkpoint on, and follows up each of their steps.

    As a context it has SIGINT (Ctrl-C) and SIGTERM end the current step, write a checkpoint, and leave the context.

    Args:
        run: The folder.
        recipe: What is trained.
        info: Kept with the finished network.
        progress: Told about every sample and step.

    Attributes:
        trainer: The one that moves.
        stage: Where in a run of several members it is.
        saved: State of the newest checkpoint; None where there is none.
        check: What the last check found; None before the first.
        given_up: Why the trial that moves was given up; None if it was not.
        result: How the run ended, once the context is left.

    Raises:
        RunError: On entering, if the newest checkpoint is of a later version, or the folder cannot be written; from
            the methods, if it cannot be written, or the run was lost more often than ``monitor.max_restarts``.
    """

    trainer: T
    result: TrainResult

    def __init__(
        self, run: RunDir, recipe: Recipe[T], info: Mapping[str, Any], progress: TrainProgress | None = None
    ) -> None:
        self.run, self.recipe, self.config, self.info = run, recipe, recipe.config, info
        self.progress = progress if process_group().is_main else None
        self.interrupts = Interrupts(patient=process_group().launched)
        self.stage = Stage()
        self.check: Check | None = None
        self.best = Best(self.config.monitor)
        self.given_up: str | None = None
        self._problem: str | None = None
        self._drawn = time.monotonic()

    def __enter__(self) -> Self:
        checkpoint = process_group().on_main(self.run.resume)
        self.saved = checkpoint.state if checkpoint else None
        self.interrupts.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.interrupts.__exit__(kind, error, traceback)
        if isinstance(error, Stopped):
            at = self.trainer if hasattr(self, "trainer") else None
            iteration, restart = (at.iteration, at.restart) if at else self._saved_position()
            steps, total, restarts = self._so_far(iteration, restart)
            self.result = TrainResult(None, str(error), steps, total, restarts, self.check)
            return True
        return False

    @property
    def scratch(self) -> Path:
        """Folder for what can be made again; it need not exist, and goes when the run is finished."""
        return self.run.path / _SCRATCH

    def rendered(self, done: int, total: int) -> None:
        """Report what comes before the first step.

        Raises:
            Stopped: If a signal came, in this process: all stop then.
        """
        if self.progress:
            self.progress(done, total)
        if self.interrupts.requested:
            raise Stopped(self.interrupts.requested)

    def trainers(self, start: Callable[[int], T]) -> Iterator[T]:
        """Yield the trainer before each of its steps: another one after it was lost.

        Args:
            start: Makes the trainer of a restart, from 0 on.
        """
        if self.saved is not None:
            self.trainer = start(int(self.saved["restart"]))
            self.trainer.load_state_dict(self.saved)
            self.best.load_state_dict(self.saved["best"])
            self.given_up = self.saved.get("given_up")
            self.saved = None
        else:
            self.trainer = start(0)
            if self.stage.member:
                self._save_if_due()
        while not self.over:
            yield self.trainer
            if self._problem:
                self._start_over(start, self._problem)
                self._problem = None
            if not self.over or not self.stage.steps_to_come:
                self._save_if_due()

    @property
    def over(self) -> bool:
        """Whether the training has come to its end."""
        return self.trainer.iteration >= self.trainer.total or self.best.exhausted or self.given_up is not None

    @property
    def step(self) -> int:
        """Steps of the network that is kept; negative during a warm-up."""
        return self.trainer.iteration - self.trainer.warmup

    def record(self, numbers: Mapping[str, float]) -> None:
        """Log a step, check, draw and report."""
        trainer, step, config = self.trainer, self.step, self.config
        entry = self.where() | {"step": step, **numbers}
        last = step == config.steps
        if step > 0 and (step % config.monitor.interval == 0 or last):
            check = self.check = process_group().on_main(trainer.check)
            entry |= {f"check_{name}": value for name, value in check.numbers.items()}
            if check.problem:
                entry["problem"] = check.problem
                self._judge(check, step)
            if not self._problem:
                better = self.best.offer(trainer.kept, step, check)
                first = not (self.stage.member or self._keeps_earlier)
                if check.problem is None and (better or first):
                    process_group().on_main(lambda: self._write(SNAPSHOT, {"kept_step": step}))
                last = last or self.best.exhausted
                entry |= self._verdict(step) if last else {}
        if process_group().is_main:
            self.run.append_log(entry)
            late = time.monotonic() - self._drawn > _LONGEST_WITHOUT_PICTURE
            if step >= 0 and (step % config.picture_interval == 0 or last or late):
                self.draw(Place(self.stage.member or 0, trainer.restart, step).picture)
        if self.progress:
            steps, total, _ = self._so_far(trainer.iteration, trainer.restart)
            self.progress(steps, total, {name: numbers[name] for name in _SHOWN if name in numbers})

    def lost(self, problem: str) -> None:
        """Have the training start over before its next step."""
        self._problem = problem

    def where(self) -> dict[str, Any]:
        """Which step this is, as the log says it."""
        member = {} if self.stage.member is None else {"member": self.stage.member}
        return {**member, "restart": self.trainer.restart, "iteration": self.trainer.iteration}

    def draw(self, name: str) -> None:
        """Write a picture of what the network that would be kept does."""
        write_png(self.run.pictures / name, self.recipe.picture(self.trainer))
        self._drawn = time.monotonic()

    @property
    def _keeps_earlier(self) -> bool:
        """Whether the network to keep is that of a check, and not the last step's."""
        return self.config.keeps_best and self.best.step is not None

    def to_keep(self) -> tuple[int, Check]:
        """Step of the network to keep, and what its check found."""
        if self._keeps_earlier:
            assert self.best.step is not None
            return self.best.step, Check(self.best.numbers)
        return self.step, self.check or process_group().on_main(self.trainer.check)

    def keep(self) -> tuple[int, Check]:
        """Give the trainer the network to keep; returns its step, and what its check found."""
        found = self.to_keep()
        if self._keeps_earlier:
            self.best.put_back(self.trainer.kept)
        return found

    def next_stage(self, stage: Stage) -> None:
        """Go on with another member."""
        self.stage, self.check, self.best, self.given_up = stage, None, Best(self.config.monitor), None

    def noted(self) -> dict[str, Any]:
        """Have the trainer keep the network that :meth:`keep` finds, and the loop its check; what to note with it."""
        kept_step, self.check = self.keep()
        return {"kept_step": kept_step}

    def finish(self, noted: Callable[[], dict[str, Any]] | None = None) -> None:
        """Write the finished network; the main process does it alone.

        Args:
            noted: Does what :meth:`noted` does, which None stands for.
        """
        self.result = process_group().on_main(lambda: self._finished(noted or self.noted))

    def _finished(self, noted: Callable[[], dict[str, Any]]) -> TrainResult:
        """Write the network to keep, and drop the scratch folder.

        Its file comes last: where it is, nothing is left to do. Killed before that, the run goes on from the checkpoint
        written here, which no step follows and thus no check.
        """
        self._save()
        steps, _, restarts = self._so_far(self.trainer.iteration, self.trainer.restart)
        (self.run.path / SNAPSHOT).unlink(missing_ok=True)  # first: where the network is, nothing is left to do
        info = {"restarts": restarts, "steps": steps, **noted()}
        path = self._write(self.recipe.product.file, info)
        _drop_scratch(self.run)
        return TrainResult(path, None, steps, steps, restarts, self.check, info["kept_step"])

    def _write(self, file: str, noted: Mapping[str, Any]) -> Path:
        """Write the network that would be kept now into the run's folder."""
        assert self.check is not None  # only a network that was checked is kept
        health = {"health": self.check.numbers, "problem": self.check.problem}
        path, made = self.run.path / file, self.recipe.finished(self.trainer)
        write_native(
            path,
            kind=self.recipe.product.kind,
            family=made.family,
            config=made.config(),
            state=made.state_dict(),
            info={**self.info, **noted, **health},
        )
        return path

    def _verdict(self, step: int) -> dict[str, Any]:
        """What to log at the end of a training that went well: which network is kept, and whether it ends early."""
        early = step < self.config.steps
        if early:
            _log.info("Step %d: no better score for %d steps; training ends.", step, self.config.monitor.patience)
        if self.best.step is None or not self.config.keeps_best:
            return {"kept_step": step}
        if self.best.step < step:
            score = self.best.numbers["score"]
            _log.info("The network of step %d has the best score, %.3f, and is kept.", self.best.step, score)
        return {"kept_step": self.best.step, "kept_score": self.best.numbers["score"]}

    def _judge(self, check: Check, step: int) -> None:
        """Note that the training is lost, or warn that it may be."""
        if step >= self.config.monitor.grace_steps or check.hopeless:
            self._problem = check.problem
            return
        last = step == self.config.steps
        _log.warning("Step %d: %s%s.", step, check.problem, "" if last else "; it may still turn")

    def _save_if_due(self) -> None:
        """Write a checkpoint where one is due, and where a signal came to any process.

        Raises:
            Stopped: If one came, and there is something left to do.
        """
        came = process_group().sum(*(int(self.interrupts.requested == name) for name in SIGNALS))
        interrupted = next((name for name, count in zip(SIGNALS, came, strict=True) if count), None)
        if interrupted or self.trainer.iteration % self.config.checkpoint_interval == 0:
            self._save()
        if interrupted and not self.over:
            raise Stopped(interrupted)

    def _save(self) -> None:
        if process_group().is_main:
            state = self.trainer.state_dict() | {"best": self.best.state_dict(), **self.stage.state}
            state |= {"given_up": self.given_up} if self.given_up else {}
            place = Place(self.stage.member or 0, self.trainer.restart, self.trainer.iteration)
            self.run.save_checkpoint(place, state)

    def _start_over(self, start: Callable[[int], T], problem: str) -> None:
        """Start again; a trial ends instead.

        Raises:
            RunError: If that was the last time allowed.
        """
        if process_group().is_main:
            self.run.append_log(self.where() | {"lost": problem})
        if self.stage.trial:
            self.given_up = problem
            return
        most, step, restart = self.config.monitor.max_restarts, self.step, self.trainer.restart
        if restart >= most:
            raise RunError(
                f"Training was lost in attempt {restart + 1}, the last: {problem}. See {self.run.pictures}; "
                f"{self.recipe.advice}"
            )
        self.trainer = start(restart + 1)
        self.best = Best(self.config.monitor)
        hardening = self.config.hardening(restart + 1)
        _log.warning("Step %d: %s. Starting over (%d of %d), with %s.", step, problem, restart + 1, most, hardening)

    def _saved_position(self) -> tuple[int, int]:
        return (self.saved["iteration"], self.saved["restart"]) if self.saved else (0, 0)

    def _so_far(self, iteration: int, restart: int) -> tuple[int, int, int]:
        """Steps done, steps in all, and restarts."""
        stage = self.stage
        total = stage.steps + self.config.total_steps(restart) + stage.steps_to_come
        return stage.steps + iteration, total, stage.restarts + restart


def _drop_scratch(run: RunDir) -> None:
    shutil.rmtree(run.path / _SCRATCH, ignore_errors=True)  # hundreds of MB that the seed can bring back
