"""The loop of a training run in its folder: steps, log, checks, pictures, checkpoints, restarts, the finished network.

It knows no recipe. A :class:`Recipe` gives it what differs: the trainer of an attempt, a picture, the network in the
end.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from labels4free.checkpoints.native import read_native_header, write_native
from labels4free.data.images import write_png
from labels4free.errors import RunError
from labels4free.training.interrupts import Interrupts
from labels4free.training.monitor import Health

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.training.config import MonitorConfig
    from labels4free.training.run_dir import RunDir

_log = logging.getLogger(__name__)

ALPHA_FILE = "alpha.safetensors"
"""The finished network in a run's folder."""
_SCRATCH = "bank"
_SHOWN = ("coverage", "accuracy", "loss_discriminator", "loss_adversarial")  # the first ones fit into a narrow terminal


class TrainProgress(Protocol):
    """Told how far a run is."""

    def __call__(self, done: int, total: int, numbers: Mapping[str, float] | None = None, /) -> None:
        """``done`` of ``total`` samples are rendered, or steps are done; then with the numbers that matter."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        alpha_file: The finished alpha network; None if the run was interrupted.
        interrupted: Name of the signal that stopped it, or None.
        steps: Steps done in the last attempt, the warm-up included.
        total: Steps of the whole attempt.
        restarts: How often it was started over by itself.
        health: The last check; None if there was none.
    """

    alpha_file: Path | None
    interrupted: str | None
    steps: int
    total: int
    restarts: int
    health: Health | None


class Trainer(Protocol):
    """The state of one attempt, and the step that changes it.

    Attributes:
        attempt: 0 at first; each automatic restart adds 1.
        iteration: Steps done, a warm-up included.
    """

    attempt: int
    iteration: int

    @property
    def warmup(self) -> int:
        """Steps before the alpha network moves."""

    @property
    def total(self) -> int:
        """Steps of the whole attempt."""

    @property
    def alpha_step(self) -> int:
        """Steps of the alpha network done; negative during the warm-up."""

    def step(self) -> dict[str, float]:
        """Do one step; returns its losses.

        Raises:
            FloatingPointError: If a loss is not finite; the network that it was for is then untouched.
        """

    def check(self) -> Health:
        """Examine the network that would be kept."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, with the keys ``attempt`` and ``iteration``."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""


class LoopConfig(Protocol):
    """Settings that the loop itself reads."""

    @property
    def steps(self) -> int:
        """Steps of the alpha network."""

    @property
    def checkpoint_interval(self) -> int:
        """Steps between checkpoints."""

    @property
    def picture_interval(self) -> int:
        """Steps of the alpha network between pictures."""

    @property
    def monitor(self) -> MonitorConfig:
        """When to check, and what to do about it."""

    def total_steps(self, attempt: int, /) -> int:
        """Steps of a whole attempt."""


T = TypeVar("T", bound=Trainer)


class Recipe(Protocol[T]):
    """What a way of training gives the loop.

    Attributes:
        advice: What to try where it is lost again and again, as the end of a sentence.
    """

    advice: str

    @property
    def config(self) -> LoopConfig:
        """Its settings."""

    def prepare(self, scratch: Path, rendered: Callable[[int, int], None]) -> None:
        """Do what comes before the first step.

        Args:
            scratch: Folder for what can be made again; it need not exist, and goes when the run is finished.
            rendered: To be called with (done, total); it may raise, to stop.
        """

    def attempt(self, number: int) -> T:
        """Start an attempt."""

    def picture(self, trainer: T) -> NDArray[np.uint8]:
        """Show what the network that would be kept does, [H, W, 3]."""

    def finished(self, trainer: T) -> AlphaNetwork:
        """The network to keep, for the generator's own feature maps."""


def run_loop(
    run: RunDir, recipe: Recipe[T], info: Mapping[str, Any], progress: TrainProgress | None = None
) -> TrainResult:
    """Train in a run's folder, from its last checkpoint if there is one.

    SIGINT (Ctrl-C) and SIGTERM end the current step, write a checkpoint and return.

    Args:
        run: The folder.
        recipe: What to do.
        info: Kept with the finished network.
        progress: Told about every sample and step.

    Raises:
        RunError: If the folder cannot be written, or the run was lost more often than ``monitor.max_restarts``.
    """
    with Interrupts() as interrupts:
        try:
            return _Loop(run, recipe, info, interrupts, progress).go()
        except _Stopped as stopped:
            done = run.latest_checkpoint()
            steps, restarts = (done.state["iteration"], done.state["attempt"]) if done else (0, 0)
            return TrainResult(None, str(stopped), steps, recipe.config.total_steps(restarts), restarts, None)


def finished_run(run: RunDir, config: LoopConfig) -> TrainResult | None:
    """Result of a run that has ended; None where there is something left to do."""
    if not (run.path / ALPHA_FILE).exists():
        return None
    info = read_native_header(run.path / ALPHA_FILE, "alpha_network").info
    health = Health(**info["health"], problem=info.get("problem")) if "health" in info else None
    _drop_scratch(run)  # of a run that was killed while it did
    total = config.total_steps(info["restarts"])
    return TrainResult(run.path / ALPHA_FILE, None, total, total, info["restarts"], health)


class _Stopped(Exception):  # noqa: N818  not an error: a signal came before the first step
    pass


class _Loop(Generic[T]):
    def __init__(
        self,
        run: RunDir,
        recipe: Recipe[T],
        info: Mapping[str, Any],
        interrupts: Interrupts,
        progress: TrainProgress | None,
    ) -> None:
        self.run, self.recipe, self.config, self.info = run, recipe, recipe.config, info
        self.interrupts, self.progress = interrupts, progress
        self.health: Health | None = None
        recipe.prepare(run.path / _SCRATCH, self._rendered)

    def _rendered(self, done: int, total: int) -> None:
        if self.progress:
            self.progress(done, total)
        if self.interrupts.requested:
            raise _Stopped(self.interrupts.requested)

    def go(self) -> TrainResult:
        """Train to the end, or to a signal."""
        trainer = self._restored() or self.recipe.attempt(0)
        while trainer.iteration < trainer.total:
            problem = None
            try:
                logs = trainer.step()
            except FloatingPointError as error:
                problem = str(error)
            else:
                problem = self._after_step(trainer, logs)
            if problem:
                trainer = self._restarted(trainer, problem)
            interrupted = self.interrupts.requested
            if interrupted or trainer.iteration % self.config.checkpoint_interval == 0:
                self.run.save_checkpoint(_checkpoint_number(trainer), trainer.state_dict())
            if interrupted and trainer.iteration < trainer.total:
                return self._result(trainer, None, interrupted)
        return self._result(trainer, self._finish(trainer), None)

    def _after_step(self, trainer: T, logs: Mapping[str, float]) -> str | None:
        """Log, check, draw and report; returns why the attempt is lost, or None."""
        step, config, problem = trainer.alpha_step, self.config, None
        entry: dict[str, Any] = {"attempt": trainer.attempt, "iteration": trainer.iteration, "step": step, **logs}
        last = step == config.steps
        if step > 0 and (step % config.monitor.interval == 0 or last):
            self.health = trainer.check()
            entry |= {f"check_{name}": value for name, value in self.health.numbers().items()}
            if self.health.problem:
                entry["problem"] = self.health.problem
                problem = self._judge(self.health, step)
        self.run.append_log(entry)
        if step >= 0 and (step % config.picture_interval == 0 or last):
            name = f"attempt_{trainer.attempt}_step_{step:06d}.png"
            write_png(self.run.pictures / name, self.recipe.picture(trainer))
        if self.progress:
            self.progress(trainer.iteration, trainer.total, {name: logs[name] for name in _SHOWN if name in logs})
        return problem

    def _judge(self, health: Health, step: int) -> str | None:
        if step >= self.config.monitor.grace_steps or health.hopeless:
            return health.problem
        last = step == self.config.steps
        _log.warning("Step %d: %s%s.", step, health.problem, "" if last else "; it may still turn")
        return None

    def _restored(self) -> T | None:
        checkpoint = self.run.resume()
        if checkpoint is None:
            return None
        trainer = self.recipe.attempt(int(checkpoint.state["attempt"]))
        trainer.load_state_dict(checkpoint.state)
        return trainer

    def _restarted(self, trainer: T, problem: str) -> T:
        """Start the next attempt.

        Raises:
            RunError: If that was the last one allowed.
        """
        self.run.append_log({"attempt": trainer.attempt, "iteration": trainer.iteration, "lost": problem})
        most = self.config.monitor.max_restarts
        if trainer.attempt >= most:
            raise RunError(
                f"Training was lost in attempt {trainer.attempt + 1}, the last: {problem}. See {self.run.pictures}; "
                f"{self.recipe.advice}"
            )
        fresh = self.recipe.attempt(trainer.attempt + 1)
        warmup = f", with {fresh.warmup} warm-up steps" if fresh.warmup else ""
        _log.warning(
            "Step %d: %s. Starting over (%d of %d)%s.", trainer.alpha_step, problem, fresh.attempt, most, warmup
        )
        return fresh

    def _finish(self, trainer: T) -> Path:
        """Write the network to keep, and drop the scratch folder.

        Its file comes last: where it is, nothing is left to do. Killed before that, the run goes on from the checkpoint
        written here, which no step follows and thus no check.
        """
        self.run.save_checkpoint(_checkpoint_number(trainer), trainer.state_dict())
        self.health = self.health or trainer.check()
        network = self.recipe.finished(trainer)
        info = {**self.info, "restarts": trainer.attempt}
        info |= {"health": self.health.numbers(), "problem": self.health.problem}
        path = self.run.path / ALPHA_FILE
        write_native(
            path,
            kind="alpha_network",
            family=network.family,
            config=network.config(),
            state=network.state_dict(),
            info=info,
        )
        _drop_scratch(self.run)
        return path

    def _result(self, trainer: T, alpha_file: Path | None, interrupted: str | None) -> TrainResult:
        return TrainResult(alpha_file, interrupted, trainer.iteration, trainer.total, trainer.attempt, self.health)


def _drop_scratch(run: RunDir) -> None:
    shutil.rmtree(run.path / _SCRATCH, ignore_errors=True)  # hundreds of MB that the seed can bring back


def _checkpoint_number(trainer: Trainer) -> int:
    """Number a checkpoint so that later attempts sort after earlier ones."""
    return trainer.attempt * 1_000_000_000 + trainer.iteration
