"""The paper's recipe from end to end: train, stop, resume bit for bit, start over, sample."""

from __future__ import annotations

import json
import logging
import math
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from tests.tiny import KEEP_ALL, tiny_stylegan2
from tests.tiny_paper import CHANNELS, PAPER, paper_config, small_discriminator
from tests.tiny_run import Killed, any_masks_serve, assert_same, killing, outcome, signalling, write_generator

from labels4free import cli
from labels4free.checkpoints.loading import load_alpha_network
from labels4free.checkpoints.native import read_native_header, write_native
from labels4free.checkpoints.places import beside
from labels4free.errors import CheckpointError, ConfigError, DataError, RunError
from labels4free.networks.merge_network import MergeNetwork
from labels4free.networks.paper_network import PaperNetwork
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.alpha.paper_trainer import PaperTrainer
from labels4free.training.alpha.run import train_alpha_network
from labels4free.training_loop.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from labels4free.networks.discriminator import Discriminator
    from labels4free.training_loop.contracts import TrainResult

pytestmark = pytest.mark.slow

STEPS = PAPER.steps


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    any_masks_serve(monkeypatch)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., TrainResult]:
    generator = tiny_stylegan2(channels=CHANNELS)

    def train(out: str = "run", config: Any = PAPER, **options: Any) -> TrainResult:
        options.setdefault("generator_name", "tiny")
        return train_alpha_network(generator, tmp_path / out, config, **options)

    return train


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an uninterrupted run leaves."""
    path = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        any_masks_serve(monkeypatch)
        result = train_alpha_network(tiny_stylegan2(channels=CHANNELS), path, PAPER, generator_name="tiny")
    return {"result": result, **outcome(path)}


def test_what_a_run_leaves(whole: dict[str, Any]) -> None:
    result = whole["result"]
    assert whole["files"] == ["alpha.safetensors", "checkpoints", "config.json", "log.jsonl", "pictures"]
    assert sorted(whole["pictures"]) == [f"restart_0_step_{step:06d}.png" for step in (2, 4)]
    assert (result.steps, result.total, result.restarts, result.interrupted) == (STEPS, STEPS, 0, None)
    run = result.file.parent
    config = json.loads((run / "config.json").read_text())
    assert (config["recipe"], config["train"]) == ("paper", PAPER.to_json())
    log = [json.loads(line) for line in whole["log"].splitlines()]
    assert [entry["step"] for entry in log] == list(range(1, STEPS + 1))
    assert [entry["step"] for entry in log if "check_center_bias" in entry] == [2, 4]
    assert all(math.isfinite(value) for entry in log for value in entry.values())
    network = load_alpha_network(run)
    assert isinstance(network, PaperNetwork)
    info = read_native_header(result.file, "alpha_network").info
    assert (info["recipe"], info["train"], info["restarts"]) == ("paper", PAPER.to_json(), 0)
    picture = np.asarray(Image.open(run / "pictures" / "restart_0_step_000004.png"))
    assert picture.std() > 20


@pytest.mark.parametrize("iteration", [1, 3])
def test_stopped_and_resumed(
    train: Callable[..., TrainResult], whole: dict[str, Any], tmp_path: Path, iteration: int
) -> None:
    stopped = train(progress=signalling(signal.SIGTERM, iteration=iteration))
    assert (stopped.interrupted, stopped.steps, stopped.total) == ("SIGTERM", iteration, STEPS)
    resumed = train(config=None, resume=True)
    assert resumed.check == whole["result"].check
    assert_same(tmp_path / "run", whole)
    assert train(config=None, resume=True) == resumed  # a finished one


@pytest.mark.parametrize("iteration", [2, STEPS])
def test_killed_and_resumed(
    train: Callable[..., TrainResult], whole: dict[str, Any], tmp_path: Path, iteration: int
) -> None:
    with pytest.raises(Killed):
        train(progress=killing(iteration))
    train(config=None, resume=True)
    assert_same(tmp_path / "run", whole)


def test_a_lost_run_starts_over(
    train: Callable[..., TrainResult], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: Any
) -> None:
    step = PaperTrainer.step

    def broken(self: PaperTrainer) -> dict[str, float]:
        if self.restart < broken.lost and self.iteration == 1:  # type: ignore[attr-defined]
            raise FloatingPointError("The discriminator's loss is not finite (nan)")
        return step(self)

    monkeypatch.setattr(PaperTrainer, "step", broken)
    broken.lost = 1  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING, "labels4free"):
        assert train().restarts == 1
    (message,) = caplog.messages
    assert message.startswith("Step 1: The discriminator's loss is not finite (nan). Starting over (1 of 3), with ")
    assert message.endswith(", with foreground coverage weight 2.4, background 0.")
    broken.lost = 9  # type: ignore[attr-defined]
    with pytest.raises(RunError, match=r"lost in attempt 4, the last: .* try another --seed, other coverage weights"):
        train("other")


def test_faithful_and_with_our_own_network(train: Callable[..., TrainResult], whole: dict[str, Any]) -> None:
    config = paper_config(faithful=True, alpha={"network": "merge", "width": 4})
    result = train(config=config)
    assert result.file is not None
    network = load_alpha_network(result.file)
    assert isinstance(network, MergeNetwork)
    run = RunDir(result.file.parent)
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    saved = network.state_dict()
    assert all((saved[name] == value).all() for name, value in checkpoint.state["network"].items())


# Real images


def photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    return folder


def test_a_folder_of_real_images(train: Callable[..., TrainResult], whole: dict[str, Any], tmp_path: Path) -> None:
    config = paper_config(data=str(photos(tmp_path / "photos", 5)))
    train(config=config)
    found = outcome(tmp_path / "run")
    assert found["alpha"] != whole["alpha"]
    train("stopped", config, progress=signalling(signal.SIGINT, iteration=2))
    train("stopped", None, resume=True)
    assert_same(tmp_path / "stopped", {"result": None, **found})


def test_fewer_images_than_a_step_needs(train: Callable[..., TrainResult], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 3 images, but a step needs 4"):
        train(config=paper_config(data=str(photos(tmp_path / "photos", 3))))
    assert not (tmp_path / "run").exists()


# A discriminator to begin with


def write_discriminator(path: Path, discriminator: Discriminator) -> Path:
    write_native(
        path,
        kind="discriminator",
        family="stylegan2",
        config=discriminator.config(),
        state=discriminator.state_dict(),
    )
    return path


def test_a_pretrained_discriminator(train: Callable[..., TrainResult], whole: dict[str, Any], tmp_path: Path) -> None:
    file = write_discriminator(tmp_path / "d.safetensors", small_discriminator())
    config = paper_config(discriminator={"pretrained": str(file)})
    train(config=config)
    found = outcome(tmp_path / "run")
    assert found["checkpoint"] != whole["checkpoint"]
    train("stopped", config, progress=signalling(signal.SIGINT, iteration=2))
    train("stopped", None, resume=True)
    assert_same(tmp_path / "stopped", {"result": None, **found})
    train("other", config, progress=signalling(signal.SIGINT, iteration=2))
    write_discriminator(file, small_discriminator())  # other random weights
    with pytest.raises(ConfigError, match=r"other was started with another discriminator than the one that .*d\.safet"):
        train("other", None, resume=True)


def test_the_generators_own_discriminator(train: Callable[..., TrainResult], tmp_path: Path) -> None:
    file = write_generator(tmp_path / "g.safetensors", tiny_stylegan2(channels=CHANNELS))
    config = paper_config(discriminator={"pretrained": "generator"})
    with pytest.raises(CheckpointError, match="is a generator without a discriminator"):
        train(config=config, generator_name=str(file))
    write_discriminator(beside(file, "discriminator"), small_discriminator())
    assert train(config=config, generator_name=str(file)).file
    with pytest.raises(ConfigError, match="no generator_name says which one that is; give the discriminator's file"):
        train("nameless", config, generator_name=None)


@pytest.mark.parametrize(
    ("discriminator", "sentence"),
    [
        (small_discriminator(32), "judges images of 32 pixels, but composites have 16; set resolution=32, or begin"),
        (small_discriminator(c_dim=3), r"judges images by class \(3 classes\), and real images come without"),
    ],
)
def test_a_discriminator_that_does_not_fit(
    train: Callable[..., TrainResult], tmp_path: Path, discriminator: Discriminator, sentence: str
) -> None:
    file = write_discriminator(tmp_path / "d.safetensors", discriminator)
    with pytest.raises(ConfigError, match=sentence):
        train(config=paper_config(discriminator={"pretrained": str(file)}))
    assert not (tmp_path / "run").exists()


# Refusals


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"resolution": 64}, "makes images of 32 pixels, which cannot be averaged to a training resolution of 64"),
        (
            {"samples": {"background_mode": "black"}},
            r"samples\.background_mode must be none or one of zero_first_conv, zero_constant, got black\.",
        ),
        ({"alpha": {"network": "merge", "min_resolution": 64}}, "No feature map lies between min_resolution=64"),
    ],
)
def test_settings_that_the_generator_cannot_serve(
    train: Callable[..., TrainResult], tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        train(config=paper_config(**changes))
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_its_recipe_and_settings(train: Callable[..., TrainResult], tmp_path: Path) -> None:
    train(progress=signalling(signal.SIGINT, iteration=1))
    with pytest.raises(ConfigError, match=r"has recipe=paper \(asked for: replay\)\. Start a new run"):
        train(config=TrainConfig(), resume=True)
    with pytest.raises(ConfigError, match=r"has samples\.truncation_psi=0\.7 \(asked for: 0\.5\)\. Start a new run"):
        train(config=paper_config(samples={"truncation_psi": 0.5}), resume=True)


# By command line


def test_from_a_file_of_settings_to_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator, run = write_generator(tmp_path / "g.safetensors", tiny_stylegan2(channels=CHANNELS)), tmp_path / "run"
    assert cli.main(["presets", "ffhq-single-gpu"]) == cli.SUCCESS
    file = tmp_path / "my.toml"
    file.write_text(capsys.readouterr().out)
    words = ["train", str(generator), "--out", str(run), "--config", str(file), "--steps", "2", "--seed", "5"]
    words += ["--set", "discriminator.channel_max=4", "--set", "monitor.samples=2"]
    assert cli.main(words) == cli.SUCCESS
    stored = json.loads((run / "config.json").read_text())["train"]
    assert (stored["steps"], stored["seed"], stored["batch_size"]) == (2, 5, 2)
    assert stored["loss"]["min_background_coverage"] == 0.4
    assert cli.main(["train", str(generator), "--out", str(run), "--resume"]) == cli.SUCCESS
    assert cli.main(["sample", str(run), "--out", str(tmp_path / "masks"), "--num", "2", *KEEP_ALL]) == cli.SUCCESS
    assert len(list((tmp_path / "masks" / "masks").iterdir())) == 2
