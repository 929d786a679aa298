"""A whole training run in its folder: bank, attempts, checks, pictures, checkpoints, the finished alpha network."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from labels4free.checkpoints.loading import generator_fingerprint
from labels4free.checkpoints.native import read_native_header, write_native
from labels4free.data.contact_sheet import contact_sheet
from labels4free.data.images import ImageFolder, write_png
from labels4free.errors import ConfigError, RunError
from labels4free.layered import composite
from labels4free.networks.alpha_network import MergeNetwork
from labels4free.training.alpha_trainer import AlphaTrainer
from labels4free.training.bank import build_bank, check_resolution, claim_folder
from labels4free.training.config import TrainConfig, config_from_json
from labels4free.training.interrupts import Interrupts
from labels4free.training.monitor import Health
from labels4free.training.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labels4free.generators.base import Generator

_log = logging.getLogger(__name__)

ALPHA_FILE = "alpha.safetensors"
"""The finished network in a run's folder."""
_BANK = "bank"
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


def train_alpha_network(
    generator: Generator,
    out: str | Path,
    config: TrainConfig | None = None,
    *,
    resume: bool = False,
    generator_name: str | None = None,
    progress: TrainProgress | None = None,
) -> TrainResult:
    """Train an alpha network on a frozen generator.

    ``out`` then holds ``config.json``, ``log.jsonl``, ``pictures/``, ``checkpoints/`` and, in the end,
    ``alpha.safetensors`` (the running average). SIGINT (Ctrl-C) and SIGTERM end the current step, write a checkpoint
    and return; a run killed in any other way goes on from its last checkpoint. Resumed, it ends in the same bits.

    Args:
        generator: The generator, on the device to train on.
        out: The run's folder: new or empty, or with ``resume`` that of an earlier run.
        config: Settings; None means the defaults or, with ``resume``, those of the earlier run.
        resume: Go on with the run in ``out``.
        generator_name: Zoo name or file of the generator, noted in the results so that they find it again.
        progress: Told about every sample and step.

    Returns:
        How it ended.

    Raises:
        ConfigError: If the settings do not fit the generator, or are not those of the run to resume.
        DataError: If the folder of real images cannot serve.
        RunError: If the folder cannot be used, or the run was lost more often than ``monitor.max_restarts``.
    """
    source = {"name": generator_name, "family": generator.family, "fingerprint": generator_fingerprint(generator)}
    if resume:
        run = RunDir.open(out)
        config = _resumed_config(run, config, source)
        if (run.path / ALPHA_FILE).exists():
            return _finished(run, config)
    else:
        config = config or TrainConfig()
    network = _network_for(generator, config)
    reals = ImageFolder(config.data, config.resolution) if config.data else None
    if config.bank.folder:
        claim_folder(generator, network.levels, config, Path(config.bank.folder))
    if not resume:
        run = RunDir.create(out, {"generator": source, "train": config.to_json()})
    with Interrupts() as interrupts:
        try:
            return _Run(run, generator, network, config, reals, source, interrupts, progress).go()
        except _Stopped as stopped:
            done = run.latest_checkpoint()
            steps, restarts = (done.state["iteration"], done.state["attempt"]) if done else (0, 0)
            total = config.discriminator.warmup_steps * (1 + restarts) + config.steps
            return TrainResult(None, str(stopped), steps, total, restarts, None)


class _Stopped(Exception):  # noqa: N818  not an error: a signal came while the bank was rendered
    pass


class _Run:
    """The loop around :meth:`AlphaTrainer.step`."""

    def __init__(
        self,
        run: RunDir,
        generator: Generator,
        network: MergeNetwork,
        config: TrainConfig,
        reals: ImageFolder | None,
        source: Mapping[str, Any],
        interrupts: Interrupts,
        progress: TrainProgress | None,
    ) -> None:
        self.run, self.generator, self.config, self.reals, self.source = run, generator, config, reals, source
        self.interrupts, self.progress = interrupts, progress
        folder = Path(config.bank.folder) if config.bank.folder else run.path / _BANK
        self.bank, self.previews = build_bank(generator, network.levels, config, folder, self._rendered)
        self.network = self.bank.projection.network_like(network)
        self.health: Health | None = None

    def _rendered(self, done: int, total: int) -> None:
        if self.progress:
            self.progress(done, total)
        if self.interrupts.requested:
            raise _Stopped(self.interrupts.requested)

    def go(self) -> TrainResult:
        """Train to the end, or to a signal."""
        trainer = self._restored() or self._attempt(0)
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

    def _after_step(self, trainer: AlphaTrainer, logs: Mapping[str, float]) -> str | None:
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
            self._draw(trainer)
        if self.progress:
            self.progress(trainer.iteration, trainer.total, {name: logs[name] for name in _SHOWN if name in logs})
        return problem

    def _judge(self, health: Health, step: int) -> str | None:
        if step >= self.config.monitor.grace_steps or health.hopeless:
            return health.problem
        last = step == self.config.steps
        _log.warning("Step %d: %s%s.", step, health.problem, "" if last else "; it may still turn")
        return None

    def _attempt(self, number: int) -> AlphaTrainer:
        return AlphaTrainer(self.bank, self.network, self.config, attempt=number, reals=self.reals)

    def _restored(self) -> AlphaTrainer | None:
        checkpoint = self.run.resume()
        if checkpoint is None:
            return None
        trainer = self._attempt(int(checkpoint.state["attempt"]))
        trainer.load_state_dict(checkpoint.state)
        return trainer

    def _restarted(self, trainer: AlphaTrainer, problem: str) -> AlphaTrainer:
        """Start the next attempt.

        Raises:
            RunError: If that was the last one allowed.
        """
        self.run.append_log({"attempt": trainer.attempt, "iteration": trainer.iteration, "lost": problem})
        if trainer.attempt >= self.config.monitor.max_restarts:
            raise RunError(
                f"Training was lost in attempt {trainer.attempt + 1}, the last: {problem}. See {self.run.pictures}; "
                "try another --seed, more discriminator.warmup_steps, or other bounds loss.min_foreground_coverage and "
                "loss.min_background_coverage."
            )
        fresh = self._attempt(trainer.attempt + 1)
        _log.warning(
            "Step %d: %s. Starting over (%d of %d), with %d warm-up steps.",
            trainer.alpha_step,
            problem,
            fresh.attempt,
            self.config.monitor.max_restarts,
            fresh.warmup,
        )
        return fresh

    @torch.no_grad()
    def _draw(self, trainer: AlphaTrainer) -> None:
        """Write a picture of the previews; the composite is over the next preview's background."""
        batch = self.previews.take(torch.arange(len(self.previews)))
        logits = trainer.average.module.merge(batch.levels)
        size = batch.images.shape[-1]
        alpha = torch.nn.functional.interpolate(
            logits, size=(size, size), mode="bilinear", align_corners=False
        ).sigmoid()
        behind = self.previews.backgrounds.float().roll(1, 0)
        together = composite(batch.images, behind, alpha)
        rows = [[batch.images[i], alpha[i], together[i], behind[i]] for i in range(len(alpha))]
        sheet = contact_sheet(rows, ("image", "alpha", "composite", "background"), cell=size)
        write_png(self.run.pictures / f"attempt_{trainer.attempt}_step_{trainer.alpha_step:06d}.png", sheet)

    def _finish(self, trainer: AlphaTrainer) -> Path:
        """Write the averaged network as one for the generator's own feature maps, and drop the bank.

        Its file comes last: where it is, nothing is left to do. Killed before that, the run goes on from the checkpoint
        written here, which no step follows and thus no check.
        """
        self.run.save_checkpoint(_checkpoint_number(trainer), trainer.state_dict())
        self.health = self.health or trainer.check()
        folded = self.bank.projection.fold(trainer.average.module, self.generator.feature_specs)
        path = self.run.path / ALPHA_FILE
        info = {"generator": dict(self.source), "train": self.config.to_json(), "restarts": trainer.attempt}
        info |= {"health": self.health.numbers(), "problem": self.health.problem}
        write_native(
            path,
            kind="alpha_network",
            family=MergeNetwork.family,
            config=folded.config(),
            state=folded.state_dict(),
            info=info,
        )
        _drop_bank(self.run)
        return path

    def _result(self, trainer: AlphaTrainer, alpha_file: Path | None, interrupted: str | None) -> TrainResult:
        return TrainResult(alpha_file, interrupted, trainer.iteration, trainer.total, trainer.attempt, self.health)


def _finished(run: RunDir, config: TrainConfig) -> TrainResult:
    """Result of a run that had ended before it was resumed."""
    info = read_native_header(run.path / ALPHA_FILE, "alpha_network").info
    health = Health(**info["health"], problem=info.get("problem")) if "health" in info else None
    _drop_bank(run)  # of a run that was killed while it did
    total = config.discriminator.warmup_steps * (1 + info["restarts"]) + config.steps
    return TrainResult(run.path / ALPHA_FILE, None, total, total, info["restarts"], health)


def _drop_bank(run: RunDir) -> None:
    shutil.rmtree(run.path / _BANK, ignore_errors=True)  # hundreds of MB that the seed can bring back


def _checkpoint_number(trainer: AlphaTrainer) -> int:
    """Number a checkpoint so that later attempts sort after earlier ones."""
    return trainer.attempt * 1_000_000_000 + trainer.iteration


def _resumed_config(run: RunDir, config: TrainConfig | None, source: dict[str, Any]) -> TrainConfig:
    """The run's own settings, which are the only ones that it can go on with.

    Where ``source`` does not name the generator, the run's name for it is put in.

    Raises:
        ConfigError: If the generator or one of the settings asked for is another one.
        RunError: If the run's config.json is damaged.
    """
    stored = run.config()
    try:
        own = config_from_json(stored["train"])
        trained_on = stored["generator"]
        if trained_on["fingerprint"] != source["fingerprint"]:
            name = trained_on["name"] or trained_on["fingerprint"]
            raise ConfigError(f"{run.path} was started on the generator {name}, not on the one given.")
        source["name"] = source["name"] or trained_on["name"]
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.path / 'config.json'} lacks {error}; restore it, or start a new run.") from error
    if config is not None and config != own:
        ours, theirs = _flat(own.to_json()), _flat(config.to_json())
        changed = ", ".join(f"{k}={ours[k]} (asked for: {theirs[k]})" for k in ours if ours[k] != theirs[k])
        raise ConfigError(
            f"A resumed run keeps its settings; {run.path} has {changed}. Start a new run to change them."
        )
    return own


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out


def _network_for(generator: Generator, config: TrainConfig) -> MergeNetwork:
    """The alpha network that the settings ask for, untrained.

    Raises:
        ConfigError: If the generator cannot serve the settings; better now than when the bank is rendered.
    """
    check_resolution(generator, config.resolution)
    mode = config.background.mode
    if mode is not None and mode not in generator.background_modes:
        raise ConfigError(
            f"background.mode must be none or one of {', '.join(generator.background_modes)}, got {mode}."
        )
    network = MergeNetwork(
        generator.feature_specs,
        generator.resolution,
        width=config.alpha.width,
        min_resolution=config.alpha.min_resolution,
        max_resolution=config.alpha.max_resolution,
    )
    finest = generator.feature_specs[network.levels[-1][0]].resolution
    if finest < config.resolution:
        raise ConfigError(
            f"Training at a resolution of {config.resolution} needs feature maps as fine, but the alpha network reads "
            f"maps of up to {finest}; choose a resolution of at most {finest}, or raise alpha.max_resolution (now "
            f"{config.alpha.max_resolution}) where the generator has finer ones."
        )
    return network
