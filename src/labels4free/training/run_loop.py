"""The loop of a training run in its folder: steps, log, checks, pictures, checkpoints, restarts, the finished network.

A run trains its members one after the other; an attempt at one that is lost is started over. The loop knows no recipe.
A :class:`Recipe` gives it what differs: the trainer of an attempt, a picture, the network in the end. Where several
processes train together, all go through this loop in step; process 0 alone checks, draws, reads and writes, and all do
what it decides.
"""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Any, Generic

from labels4free.checkpoints.native import read_native_header, write_native
from labels4free.errors import RunError
from labels4free.pictures.pixels import write_png
from labels4free.training.best import Best
from labels4free.training.contracts import (
    ALPHA,
    LoopConfig,
    Member,
    Product,
    Recipe,
    T,
    Trainer,
    TrainProgress,
    TrainResult,
)
from labels4free.training.interrupts import SIGNALS, Interrupts, Stopped
from labels4free.training.monitor import Health

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from labels4free.training.run_dir import RunDir

__all__ = ["ALPHA_FILE", "TrainProgress", "TrainResult", "Trainer", "finished_run", "run_loop"]

_log = logging.getLogger(__name__)

ALPHA_FILE = ALPHA.file
"""The finished alpha network in a run's folder."""
CONSENSUS_PICTURE = "consensus.png"
"""The last picture, where there are several members."""
ATTEMPT_STRIDE, MEMBER_STRIDE = 1_000_000_000, 1_000
"""A checkpoint's number is ``(member * MEMBER_STRIDE + attempt) * ATTEMPT_STRIDE + iteration``."""
_SCRATCH = "bank"
# The first ones fit into a narrow terminal.
_SHOWN = ("coverage", "accuracy", "loss_discriminator", "loss_adversarial", "loss")


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
    with Interrupts(patient=recipe.world.launched) as interrupts:
        try:
            return _Loop(run, recipe, info, interrupts, progress).go()
        except Stopped as stopped:
            steps, total, restarts = recipe.world.from_lead(lambda: _position(run, recipe.config))
            return TrainResult(None, str(stopped), steps, total, restarts, None)


def finished_run(run: RunDir, config: LoopConfig, product: Product = ALPHA) -> TrainResult | None:
    """Result of a run that has ended; None where there is something left to do."""
    path = run.path / product.file
    if not path.exists():
        return None
    info = read_native_header(path, product.kind).info
    health = Health.from_numbers(info["health"], info.get("problem")) if "health" in info else None
    _drop_scratch(run)  # of a run that was killed while it did
    steps = info.get("steps", config.total_steps(info["restarts"]))  # not noted before there were members
    return TrainResult(path, None, steps, steps, info["restarts"], health, info.get("kept_step"))


class _Loop(Generic[T]):
    def __init__(
        self,
        run: RunDir,
        recipe: Recipe[T],
        info: Mapping[str, Any],
        interrupts: Interrupts,
        progress: TrainProgress | None,
    ) -> None:
        self.run, self.recipe, self.config, self.info, self.world = run, recipe, recipe.config, info, recipe.world
        self.interrupts, self.progress = interrupts, progress
        self.health: Health | None = None
        self.members: list[Member] = []
        self.best = Best(recipe.config.monitor)
        self.kept_step: int | None = None
        recipe.prepare(run.path / _SCRATCH, self._rendered)

    def _rendered(self, done: int, total: int) -> None:
        if self.progress:
            self.progress(done, total)
        if self.interrupts.requested:
            raise Stopped(self.interrupts.requested)

    def go(self) -> TrainResult:
        """Train to the end, or to a signal."""
        trainer = self._restored() or self.recipe.attempt(0, 0)
        while not self._ended(trainer):
            problem = None
            try:
                logs = trainer.step()
            except FloatingPointError as error:
                problem = str(error)
            else:
                problem = self._after_step(trainer, logs)
            if problem:
                trainer = self._restarted(trainer, problem)
            elif self._over(trainer) and not self._ended(trainer):
                trainer = self._next_member(trainer)
            interrupted = self._interrupted()
            if interrupted or trainer.iteration % self.config.checkpoint_interval == 0:
                self._save(trainer)
            if interrupted and not self._ended(trainer):
                return self._result(trainer, None, interrupted)
        path = self.world.from_lead(lambda: self._finish(trainer))
        return self._result(trainer, path, None)

    def _over(self, trainer: T) -> bool:
        """Whether training of this member has come to its end."""
        return trainer.iteration >= trainer.total or self.best.exhausted

    def _ended(self, trainer: T) -> bool:
        """Whether that was the last member."""
        return self._over(trainer) and len(self.members) + 1 >= self.config.members

    def _after_step(self, trainer: T, logs: Mapping[str, float]) -> str | None:
        """Log, check, draw and report; returns why the attempt is lost, or None."""
        step, config, problem = trainer.alpha_step, self.config, None
        entry = self._where(trainer) | {"step": step, **logs}
        last = step == config.steps
        if step > 0 and (step % config.monitor.interval == 0 or last):
            self.health = self.world.from_lead(trainer.check)
            entry |= {f"check_{name}": value for name, value in self.health.numbers().items()}
            if self.health.problem:
                entry["problem"] = self.health.problem
                problem = self._judge(self.health, step)
            if not problem:
                self.best.offer(trainer.kept, step, self.health)
                last = last or self.best.exhausted
                entry |= self._verdict(step) if last else {}
        if self.world.leads:
            self.run.append_log(entry)
            if step >= 0 and (step % config.picture_interval == 0 or last):
                member = f"member_{len(self.members)}_" if self.members else ""
                name = f"{member}attempt_{trainer.attempt}_step_{step:06d}.png"
                write_png(self.run.pictures / name, self.recipe.picture(trainer))
        if self.progress:
            steps, total, _ = _so_far(self.config, self._where(trainer), self.members)
            self.progress(steps, total, {name: logs[name] for name in _SHOWN if name in logs})
        return problem

    def _where(self, trainer: T) -> dict[str, Any]:
        """Which step of which attempt this is, and of which member where there are several."""
        member = {"member": len(self.members)} if self.config.members > 1 else {}
        return {**member, "attempt": trainer.attempt, "iteration": trainer.iteration}

    def _verdict(self, step: int) -> dict[str, Any]:
        """What to log at the end of an attempt that went well: which network is kept, and whether it ends early."""
        early = step < self.config.steps
        if early:
            _log.info("Step %d: no better score for %d steps; training ends.", step, self.config.monitor.patience)
        if self.best.step is None or not self.config.keeps_best:
            return {"kept_step": step}
        if self.best.step < step:
            score = self.best.numbers["score"]
            _log.info("The network of step %d has the best score, %.3f, and is kept.", self.best.step, score)
        return {"kept_step": self.best.step, "kept_score": self.best.numbers["score"]}

    def _interrupted(self) -> str | None:
        """Name of the signal that came, to whichever process."""
        came = self.world.total(*(int(self.interrupts.requested == name) for name in SIGNALS))
        return next((name for name, count in zip(SIGNALS, came, strict=True) if count), None)

    def _save(self, trainer: T) -> None:
        if self.world.leads:
            members = [member._asdict() for member in self.members]
            state = trainer.state_dict() | {"best": self.best.state_dict(), "members": members}
            self.run.save_checkpoint(_checkpoint_number(trainer, len(self.members)), state)

    def _judge(self, health: Health, step: int) -> str | None:
        if step >= self.config.monitor.grace_steps or health.hopeless:
            return health.problem
        last = step == self.config.steps
        _log.warning("Step %d: %s%s.", step, health.problem, "" if last else "; it may still turn")
        return None

    def _restored(self) -> T | None:
        checkpoint = self.world.from_lead(self.run.resume)
        if checkpoint is None:
            return None
        state = checkpoint.state
        self.members = [Member(**member) for member in state.get("members", [])]
        trainer = self.recipe.attempt(int(state["attempt"]), len(self.members))
        trainer.load_state_dict(state)
        if "best" in state:
            self.best.load_state_dict(state["best"])
        return trainer

    def _next_member(self, trainer: T) -> T:
        """Note what the member leaves, and start the next one."""
        self.members.append(self._member(trainer))
        self.best = Best(self.config.monitor)
        self.health = None
        return self.recipe.attempt(0, len(self.members))

    def _member(self, trainer: T) -> Member:
        """What a member leaves; its trainer then has the network to keep."""
        step, health = trainer.alpha_step, self.health or trainer.check()
        if self.config.keeps_best and self.best.step is not None:
            step, health = self.best.step, Health.from_numbers(self.best.numbers, None)
            self.best.put_back(trainer.kept)
        network = {name: value.detach().cpu().clone() for name, value in trainer.kept.state_dict().items()}
        return Member(network, step, trainer.iteration, trainer.attempt, health.numbers(), health.problem)

    def _restarted(self, trainer: T, problem: str) -> T:
        """Start the next attempt.

        Raises:
            RunError: If that was the last one allowed.
        """
        if self.world.leads:
            self.run.append_log(self._where(trainer) | {"lost": problem})
        most = self.config.monitor.max_restarts
        if trainer.attempt >= most:
            raise RunError(
                f"Training was lost in attempt {trainer.attempt + 1}, the last: {problem}. See {self.run.pictures}; "
                f"{self.recipe.advice}"
            )
        fresh = self.recipe.attempt(trainer.attempt + 1, len(self.members))
        self.best = Best(self.config.monitor)
        guards = self.config.guards(fresh.attempt)
        _log.warning(
            "Step %d: %s. Starting over (%d of %d), with %s.", trainer.alpha_step, problem, fresh.attempt, most, guards
        )
        return fresh

    def _finish(self, trainer: T) -> Path:
        """Write the network to keep, and drop the scratch folder.

        Its file comes last: where it is, nothing is left to do. Killed before that, the run goes on from the checkpoint
        written here, which no step follows and thus no check.
        """
        self._save(trainer)
        info = {**self.info, **self._joined(trainer)}
        network = self.recipe.finished(trainer)
        product = self.recipe.product
        path = self.run.path / product.file
        write_native(
            path,
            kind=product.kind,
            family=network.family,
            config=network.config(),
            state=network.state_dict(),
            info=info,
        )
        _drop_scratch(self.run)
        return path

    def _joined(self, trainer: T) -> dict[str, Any]:
        """Have the trainer keep what the run leaves, and check it; returns what to note of it."""
        steps, _, restarts = _so_far(self.config, self._where(trainer), self.members)
        members = [*self.members, self._member(trainer)]
        info: dict[str, Any] = {"restarts": restarts, "steps": steps, "kept_step": members[-1].step}
        if len(members) > 1:
            found = self.recipe.join(trainer, members)
            _log.info("Consensus of members %s, which agree by %.3f.", _listed(found.kept), found.agreement)
            self.health = trainer.check()
            noted = {"consensus": list(found.kept), "agreements": list(found.agreements)}
            noted["agreement_members"] = found.agreement
            self.run.append_log(self._where(trainer) | noted | {"check_score": self.health.score})
            write_png(self.run.pictures / CONSENSUS_PICTURE, self.recipe.picture(trainer))
            info |= noted | {"kept_step": None, "kept_steps": [member.step for member in members]}
            info["members"] = [{**m.numbers, "problem": m.problem, "restarts": m.restarts} for m in members]
        else:
            self.health = Health.from_numbers(members[0].numbers, members[0].problem)
        self.kept_step = info["kept_step"]
        return info | {"health": self.health.numbers(), "problem": self.health.problem}

    def _result(self, trainer: T, alpha_file: Path | None, interrupted: str | None) -> TrainResult:
        steps, total, restarts = _so_far(self.config, self._where(trainer), self.members)
        total = steps if alpha_file else total  # what ended early has no more steps
        return TrainResult(alpha_file, interrupted, steps, total, restarts, self.health, self.kept_step)


def _drop_scratch(run: RunDir) -> None:
    shutil.rmtree(run.path / _SCRATCH, ignore_errors=True)  # hundreds of MB that the seed can bring back


def _position(run: RunDir, config: LoopConfig) -> tuple[int, int, int]:
    """:func:`_so_far` by the newest checkpoint."""
    done = run.latest_checkpoint()
    return _so_far(config, done.state if done else {"iteration": 0, "attempt": 0})


def _so_far(config: LoopConfig, state: Mapping[str, Any], members: Sequence[Member] = ()) -> tuple[int, int, int]:
    """Steps done, steps in all, and restarts, of a run whose current member's attempt is in this state."""
    ended = members or [Member(**member) for member in state.get("members", [])]
    steps = sum(member.steps for member in ended) + state["iteration"]
    to_come = (config.members - len(ended) - 1) * config.total_steps(0)
    total = sum(member.steps for member in ended) + config.total_steps(state["attempt"]) + to_come
    return steps, total, sum(member.restarts for member in ended) + state["attempt"]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def _checkpoint_number(trainer: Trainer, member: int = 0) -> int:
    """Number a checkpoint so that later members sort after earlier ones, and later attempts, too."""
    return (member * MEMBER_STRIDE + trainer.attempt) * ATTEMPT_STRIDE + trainer.iteration
