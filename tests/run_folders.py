"""Folders of training runs without the training: a log as it would be, empty files for the rest."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from PIL import Image

from labels4free.training.alpha.config import DiscriminatorConfig, LossConfig, MonitorConfig, TrainConfig
from labels4free.training_loop.resume import to_run_json
from labels4free.training_loop.run_dir import Place, RunDir
from labels4free.watching.status import RunStatus, RunWatcher

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

WARMUP, STEPS = 20, 100
SETTINGS = TrainConfig(
    steps=STEPS,
    members=1,
    checkpoint_interval=25,
    discriminator=DiscriminatorConfig(warmup_steps=WARMUP),
    loss=LossConfig(min_background_coverage=0.3),
    monitor=MonitorConfig(interval=25, grace_steps=50, max_restarts=1),
)
HEALTHY = {
    "foreground_ratio": 0.5,
    "foreground_ratio_sd": 0.1,
    "sharpness": 0.99,
    "contrast": 0.4,
    "center_bias": 0.5,
    "swap_gain": 3.0,
    "inpainting_error": 0.4,
}
EMPTY = "the masks are empty (mean alpha 0.001)"


def new_run(path: Path, config: Any = SETTINGS, name: str | None = "tiny") -> RunDir:
    """A run that has just been started."""
    return RunDir.create(path, {"generator": {"name": name, "state_hash": "ab" * 32}, **to_run_json(config)})


def entries(stop: int, start: int = 0, restart: int = 0, **check: float) -> list[dict[str, Any]]:
    """Entries of the log of a restart, iterations start + 1 to stop, with a check every 25 steps of the alpha network.

    The numbers are functions of the iteration, as in a run that is resumed: `loss_discriminator` is a hundredth of it.
    """
    found = []
    for iteration in range(start + 1, stop + 1):
        step = iteration - WARMUP * (1 + restart)
        entry: dict[str, Any] = {"restart": restart, "iteration": iteration, "step": step}
        entry |= {"loss_discriminator": iteration / 100, "accuracy": 0.75}
        if step > 0 and step % 25 == 0:
            entry |= {f"check_{k}": v for k, v in {**HEALTHY, **check}.items()}
        found.append(entry)
    return found


def lost(restart: int, iteration: int) -> list[dict[str, Any]]:
    """The entries in which a restart is found lost."""
    *before, last = entries(iteration, restart=restart, foreground_ratio=0.001)
    return [*before, {**last, "problem": EMPTY}, {"restart": restart, "iteration": iteration, "lost": EMPTY}]


def log(run: RunDir, some: Iterable[dict[str, Any]]) -> None:
    """Add entries to a run's log."""
    with run.log_path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in some)


def cut_log(run: RunDir, lines: int) -> None:
    """Cut the log back, as resuming does."""
    kept = run.log_path.read_bytes().splitlines(keepends=True)[:lines]
    os.truncate(run.log_path, sum(map(len, kept)))


def checkpoint(run: RunDir, iteration: int, restart: int = 0, written: float | None = None) -> Path:
    """Stand-in for a checkpoint."""
    path = run.checkpoints / Place(0, restart, iteration).checkpoint
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    if written is not None:
        os.utime(path, (written, written))
    return path


def picture(run: RunDir, step: int, restart: int = 0) -> Path:
    """A small picture of a step of the alpha network."""
    path = run.pictures / Place(0, restart, step).picture
    Image.new("RGB", (4, 3), (step % 256, 0, 0)).save(path)
    return path


def look(run: RunDir) -> RunStatus:
    """One look at a run."""
    return RunWatcher(run.path).look()
