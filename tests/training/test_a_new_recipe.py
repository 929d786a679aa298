"""What docs/adding.md promises: a new recipe is one entry in the table and one folder (here a class and a function)."""

from __future__ import annotations

import dataclasses
import signal
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch
from tests.tiny_run import Killed, killing, signalling
from tests.training.trainer_contract import TrainerContract

from labels4free.checkpoints.native import read_native_header
from labels4free.errors import ConfigError, RunError
from labels4free.training.alpha.config import MonitorConfig
from labels4free.training.config_file import as_toml, read_config_file, run_settings
from labels4free.training.recipes import RECIPES
from labels4free.training_loop.contracts import Check, Product, RecipeEntry
from labels4free.training_loop.ema import Ema
from labels4free.training_loop.loop import Loop
from labels4free.training_loop.precision import Precision
from labels4free.training_loop.resume import begin, to_run_json
from labels4free.training_loop.run_dir import RunDir, state_digest
from labels4free.training_loop.state import Update, restore, state_of
from labels4free.watching.status import RunWatcher

LINE = Product("alpha_network", "line.safetensors", "a line")


@dataclass(frozen=True)
class LineConfig:
    """Settings of a recipe that fits a line."""

    recipe: ClassVar[str] = "line"
    length: ClassVar[str | None] = "steps"

    steps: int = 3
    """Steps."""
    seed: int = 0
    """Decides the draws."""
    rate: float = 0.1
    """The learning rate."""
    checkpoint_interval: int = 2
    """Steps between checkpoints."""
    picture_interval: int = 2
    """Steps between pictures."""
    monitor: MonitorConfig = field(default_factory=lambda: MonitorConfig(interval=2, grace_steps=0))

    @property
    def keeps_best(self):
        return self.monitor.keep == "best"

    def total_steps(self, restart):
        return self.steps

    def hardening(self, restart):
        return f"a learning rate of {self.rate / 2**restart:g}"

    def to_json(self):
        return dataclasses.asdict(self)


class Line(torch.nn.Linear):
    family = "line"

    def config(self):
        return {}


class LineTrainer:
    """Fits y = 3 x + 1."""

    warmup = 0

    def __init__(self, config, restart=0):
        self.config, self.restart, self.iteration = config, restart, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed + 100 * restart)
            self.network = Line(1, 1)
        self.average = Ema(self.network, 2)
        adam = torch.optim.Adam(self.network.parameters(), config.rate / 2**restart)
        self.update = Update(adam, Precision("float32", torch.device("cpu")))
        self.total = config.steps

    @property
    def kept(self):
        return self.average.module

    def step(self):
        rng = torch.Generator().manual_seed(1000 * self.config.seed + self.iteration)
        x = torch.rand(8, 1, generator=rng)
        loss = (self.network(x) - 3 * x - 1).square().mean()
        self.update.apply("The loss", [(loss, {})])
        self.average.update(self.network, self.iteration)
        self.iteration += 1
        return {"loss": loss.item()}

    def check(self):
        error = float((self.kept.weight - 3).abs())
        return Check({"error": error, "score": 1 / (1 + error)})

    def parts(self):
        return {"network": self.network, "average": self.average, **self.update.parts()}

    def state_dict(self):
        return state_of(self)

    def load_state_dict(self, state):
        restore(self, state)


class LineRecipe:
    product, advice = LINE, "draw another line."

    def __init__(self, config):
        self.config = config

    def finished(self, trainer):
        return trainer.kept

    def picture(self, trainer):
        return np.zeros((4, 4, 3), np.uint8)


def train_line(out, config=None, *, resume=False, progress=None):
    begun = begin(out, resume, config, {"line": RECIPES["line"]}, "source")
    if begun.result:
        return begun.result
    recipe = RECIPES["line"].start(begun.config)
    info = {"source": {"name": "3x + 1", "state_hash": "31"}, **to_run_json(begun.config)}
    run = begun.run or RunDir.create(out, info)
    with Loop(run, recipe, info, progress) as loop:
        for trainer in loop.trainers(lambda restart: LineTrainer(begun.config, restart)):
            try:
                loop.record(trainer.step())
            except FloatingPointError as error:
                loop.lost(str(error))
        loop.finish()
    return loop.result


@pytest.fixture(autouse=True)
def entry(monkeypatch):
    """The one entry."""
    entry = RecipeEntry(LineConfig, LineRecipe, LINE, "draw")
    monkeypatch.setitem(RECIPES, "line", entry)
    return entry


class TestItsTrainer(TrainerContract):
    OTHER = ({}, "")

    @pytest.fixture
    def make(self):
        return lambda restart=0, **settings: LineTrainer(LineConfig(**settings), restart)

    def test_the_state_of_another_network_is_refused(self):
        """Lines are all alike."""


def left(run):
    """What must not depend on how often a run was stopped."""
    checkpoint = RunDir(run).latest_checkpoint()
    network = (run / LINE.file).read_bytes()
    return network, (run / "log.jsonl").read_bytes(), checkpoint.place, state_digest(checkpoint.state)


def test_it_trains_three_steps_stops_and_resumes_bit_for_bit(tmp_path):
    whole = train_line(tmp_path / "whole")
    assert (whole.file.name, whole.steps, whole.total, whole.interrupted) == (LINE.file, 3, 3, None)
    assert read_native_header(whole.file, LINE.kind).info["recipe"] == "line"
    stopped = train_line(tmp_path / "stopped", progress=signalling(signal.SIGINT, iteration=1))
    assert (stopped.interrupted, stopped.steps, stopped.total) == ("SIGINT", 1, 3)
    with pytest.raises(Killed):
        train_line(tmp_path / "killed", progress=killing(3))
    for name in ("stopped", "killed"):
        assert train_line(tmp_path / name, resume=True).check == whole.check
        assert left(tmp_path / name) == left(tmp_path / "whole")
    assert train_line(tmp_path / "whole", resume="auto") == whole


def test_its_settings_come_from_the_command_line_and_from_files(tmp_path):
    assert run_settings("draw", None, None, ["steps=5"], ["monitor.interval=1"], None).monitor.interval == 1
    file = tmp_path / "line.toml"
    file.write_text(as_toml(LineConfig(rate=0.5)))
    assert read_config_file(file).recipe == "line"
    assert run_settings("draw", None, file, [], [], None) == LineConfig(rate=0.5)
    with pytest.raises(ConfigError, match="These are settings of a line, not of an alpha network: use them with draw"):
        run_settings("train", None, file, [], [], None)
    train_line(tmp_path / "run")
    assert run_settings("draw", None, None, [], [], tmp_path / "run") is None
    with pytest.raises(ConfigError, match=r"has rate=0\.1 \(asked for: 0\.5\)\. Start a new run"):
        train_line(tmp_path / "run", run_settings("draw", None, file, [], [], tmp_path / "run"), resume=True)
    with pytest.raises(RunError, match="holds a run already"):
        train_line(tmp_path / "run")


def test_it_is_watched(tmp_path):
    train_line(tmp_path / "run")
    assert RunWatcher(tmp_path / "run").look().state.value == "finished"
