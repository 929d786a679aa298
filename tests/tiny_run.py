"""Training runs of half a second, for tests, and what two of them must have in common."""

from __future__ import annotations

import dataclasses
import signal
from typing import TYPE_CHECKING, Any

import pytest

from labels4free.checkpoints.native import write_native
from labels4free.training.alpha import monitor
from labels4free.training.alpha.config import (
    AlphaConfig,
    BackgroundConfig,
    CacheConfig,
    DiscriminatorConfig,
    LossConfig,
    MonitorConfig,
    TrainConfig,
)
from labels4free.training.alpha.feature_cache import PREVIEWS
from labels4free.training.alpha.run import train_alpha_network
from labels4free.training.alpha.trainer import AlphaTrainer
from labels4free.training_loop.run_dir import RunDir, state_digest
from tests.folders import content

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from labels4free.generators.base import Generator

SETTINGS = TrainConfig(
    steps=8,
    members=1,
    batch_size=2,
    resolution=16,
    checkpoint_interval=5,
    picture_interval=4,
    cache=CacheConfig(size=12, calibration_samples=4),
    alpha=AlphaConfig(width=4, learning_rate=0.01),
    discriminator=DiscriminatorConfig(channel_base=64, channel_max=8, warmup_steps=3, r1_interval=3),
    loss=LossConfig(min_foreground_coverage=0.25, min_background_coverage=0.3),
    background=BackgroundConfig(filled_from_step=1, filled_full_step=3),
    monitor=MonitorConfig(interval=4, samples=4, grace_steps=0),
)
"""Three steps of warm-up, eight of training; everything that happens in a long run happens in them but trials."""

WARMUP, STEPS = SETTINGS.discriminator.warmup_steps, SETTINGS.steps
TOTAL = WARMUP + STEPS
RENDERED = (
    SETTINGS.cache.calibration_samples
    + SETTINGS.cache.size
    + PREVIEWS
    + sum(SETTINGS.monitor.augmented_samples.values())
)


def tiny_config(**changes: Any) -> TrainConfig:
    """:data:`SETTINGS` with changes: ``steps=9`` for a field, ``monitor={"interval": 2}`` for fields of a section."""
    for name, value in changes.items():
        if isinstance(value, dict):
            changes[name] = dataclasses.replace(getattr(SETTINGS, name), **value)
    return dataclasses.replace(SETTINGS, **changes)


def as_settings(config: Any) -> list[str]:
    """The words of the command line that turn the defaults into a configuration."""
    words = []
    for name, value in config.to_json().items():
        fields = {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
        for path, setting in fields.items():
            words += ["--set", f"{path}={'none' if setting is None else setting}"]
    return words


def write_generator(path: Path, generator: Generator) -> Path:
    """Write a generator as a native checkpoint."""
    family, config, state = generator.family, generator.config(), generator.state_dict()
    write_native(path, kind="generator", family=family, config=config, state=state)
    return path


def outcome(run: Path) -> dict[str, Any]:
    """All that a finished run leaves and that must not depend on how often it was stopped."""
    checkpoint = RunDir(run).latest_checkpoint()
    assert checkpoint is not None
    return {
        "alpha": (run / "alpha.safetensors").read_bytes(),
        "checkpoint": (checkpoint.step, state_digest(checkpoint.state)),
        "log": (run / "log.jsonl").read_text(),
        "pictures": content(run / "pictures"),
        "files": sorted(p.name for p in run.iterdir()),
    }


def any_masks_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the monitor find nothing wrong: so few steps make no good masks."""
    monkeypatch.setattr(monitor, "find_problem", lambda **numbers: None)


def whole_run(generator: Generator, path: Path, config: TrainConfig) -> dict[str, Any]:
    """Train without interruption: the result, and what the run leaves."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        any_masks_serve(monkeypatch)
        result = train_alpha_network(generator, path, config, generator_name="tiny")
    return {"result": result, **outcome(path)}


def assert_same(run: Path, whole: dict[str, Any]) -> None:
    """Compare what a run left with what :func:`whole_run` returned, bit for bit."""
    found = outcome(run)
    assert found.keys() | {"result"} == whole.keys()
    for name, value in found.items():
        assert value == whole[name], name


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours may catch it."""


def killing(iteration: int) -> Callable[..., None]:
    """Progress that kills the run at an iteration, before its checkpoint."""

    def progress(done: int, total: int, numbers: Any = None) -> None:
        if numbers is not None and done == iteration:
            raise Killed

    return progress


def signalling(
    number: signal.Signals, *, iteration: int | None = None, rendered: int | None = None
) -> Callable[..., None]:
    """Progress that sends a signal at an iteration, or when so much is rendered."""

    def progress(done: int, total: int, numbers: Any = None) -> None:
        if done == (rendered if numbers is None else iteration):
            signal.raise_signal(number)

    return progress


def interrupt_at(monkeypatch: pytest.MonkeyPatch, iteration: int, number: signal.Signals = signal.SIGINT) -> None:
    """Have a signal come in the middle of the step that follows an iteration."""
    step = AlphaTrainer.step

    def interrupted(self: AlphaTrainer) -> Any:
        if self.iteration == iteration:
            signal.raise_signal(number)
        return step(self)

    monkeypatch.setattr(AlphaTrainer, "step", interrupted)
