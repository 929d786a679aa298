from __future__ import annotations

import itertools
import json
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.soft_disc import SoftDisc

from labels4free import cli
from labels4free.checkpoints.native import write_native
from labels4free.cli import demo
from labels4free.errors import ConfigError, RunError
from labels4free.layered import LayeredGenerator
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.pictures.pixels import write_png
from labels4free.training.alpha import config as train_config
from labels4free.training.alpha import monitor
from labels4free.training.alpha import trainer as alpha_trainer
from labels4free.training.alpha.config import AlphaConfig, CacheConfig, DiscriminatorConfig, MonitorConfig, TrainConfig

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tiny_generator: Any, _clock: None) -> list[Path]:
    """Replace the slow steps by quick ones; the list holds the folder of each training call."""
    calls: list[Path] = []

    def train(generator: Any, name: str, run: Path, minutes: float, seed: int) -> None:
        calls.append(run)
        entries = [{"restart": 0, "iteration": k, "loss_discriminator": 1 / (k + 1)} for k in range(20)]
        (run / "pictures").mkdir(parents=True, exist_ok=True)
        (run / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        write_png(run / "pictures" / "restart_0_step_000019.png", contact_sheet([[torch.zeros(3, 8, 8)]], cell=8))
        info = {"restarts": 0, "train": {"steps": 20}}
        write_native(run / "alpha.safetensors", kind="alpha_network", family="merge", config={}, state={}, info=info)

    monkeypatch.setattr(demo, "SAMPLES", 2)
    monkeypatch.setattr(demo, "_fetch", lambda name: tiny_generator)
    monkeypatch.setattr(demo, "_train", train)
    monkeypatch.setattr(
        "labels4free.checkpoints.loading.load_layered",
        lambda source, generator, device: (LayeredGenerator(tiny_generator, SoftDisc()), generator),
    )
    return calls


@pytest.fixture
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the demo's clock finds it ten seconds later."""
    seconds = iter(range(0, 10_000, 10))
    monkeypatch.setattr(demo, "time", SimpleNamespace(monotonic=lambda: next(seconds)))


def test_does_four_steps_and_writes_the_page(
    tmp_path: Path, trained: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", "--out", str(tmp_path / "out"), "--seed", "3"]) == cli.SUCCESS
    said = capsys.readouterr().out
    assert [line[:5] for line in said.splitlines() if line.startswith("[")] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert "Done in " in said
    assert f"Open {tmp_path / 'out' / 'report.html'}" in said
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    said = "Masks from nothing|2 images with masks|Discriminator loss|restart 0 step 19|labels4free sample"
    assert [words for words in said.split("|") if words not in page] == []
    manifest = json.loads((tmp_path / "out" / "samples" / "manifest.json").read_text())
    assert manifest["settings"]["seed"] == 3
    assert manifest["settings"]["size"] == 64
    assert trained == [tmp_path / "out" / "run"]


def test_again_in_the_same_folder_keeps_the_samples_and_the_times(tmp_path: Path, trained: list[Path]) -> None:
    demo.run(out=tmp_path / "out")
    before = (tmp_path / "out" / "report.html").read_bytes()
    sample = tmp_path / "out" / "samples" / "images" / "00000.png"
    written = sample.stat().st_mtime_ns
    demo.run(out=tmp_path / "out")
    assert sample.stat().st_mtime_ns == written
    assert (tmp_path / "out" / "report.html").read_bytes() == before


def test_interrupt_says_how_to_go_on_and_the_time_spent_counts(
    tmp_path: Path, trained: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = demo._train

    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_train", interrupted)
    out = tmp_path / "a folder"
    assert cli.main(["demo", "--out", str(out), "--minutes", "2.5"]) == cli.INTERRUPTED
    said = capsys.readouterr().err
    assert f"labels4free demo --out '{out}' --minutes 2.5 --generator mobilestylegan-ffhq-1024 --seed 0" in said
    spent = json.loads((out / "demo.json").read_text())["seconds"]["train"]
    monkeypatch.setattr(demo, "_train", quick)
    demo.run(out=out, minutes=2.5)
    assert json.loads((out / "demo.json").read_text())["seconds"]["train"] > spent > 0
    assert (out / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"seed": 1}, {"minutes": 3.0}, {"generator": "other"}])
def test_refuses_a_demo_of_other_settings(tmp_path: Path, trained: list[Path], change: dict[str, Any]) -> None:
    demo.run(out=tmp_path / "out")
    (name,) = change
    with pytest.raises(RunError, match=f"holds a demo with {name} .*, asked for was {change[name]}"):
        demo.run(out=tmp_path / "out", **change)
    assert len(trained) == 1


def test_refuses_a_foreign_folder_a_file_and_a_damaged_state(tmp_path: Path, trained: list[Path]) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    for out in (tmp_path, tmp_path / "holiday.jpg"):
        with pytest.raises(RunError, match="is not an empty folder and holds no earlier demo"):
            demo.run(out=out)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "demo.json").write_text('{"settings": 3')
    with pytest.raises(RunError, match="is damaged"):
        demo.run(out=tmp_path / "broken")
    assert trained == []


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan")])
def test_refuses_minutes_that_are_none(tmp_path: Path, minutes: float) -> None:
    with pytest.raises(ConfigError, match="minutes must be above 0"):
        demo.run(out=tmp_path / "out", minutes=minutes)
    assert not (tmp_path / "out").exists()


def _tiny_config(minutes: float, seconds_per_image: float, *, seed: int) -> TrainConfig:
    assert minutes < 5
    return TrainConfig(
        steps=6,
        members=1,
        batch_size=2,
        resolution=16,
        seed=seed,
        picture_interval=3,
        cache=CacheConfig(size=12, calibration_samples=4),
        alpha=AlphaConfig(width=4, learning_rate=0.01),
        discriminator=DiscriminatorConfig(warmup_steps=2, channel_base=64, channel_max=8),
        monitor=MonitorConfig(samples=4),
    ).of_member(0)


@pytest.mark.slow
def test_real_training_interrupted_and_continued(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_generator: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = tmp_path / "tiny.safetensors", tmp_path / "out"
    family, config, state = tiny_generator.family, tiny_generator.config(), tiny_generator.state_dict()
    write_native(file, kind="generator", family=family, config=config, state=state)
    monkeypatch.setattr(demo, "SAMPLES", 2)
    monkeypatch.setattr(train_config, "config_for_minutes", _tiny_config)
    monkeypatch.setattr(monitor, "find_problem", lambda **numbers: None)  # six steps make no good masks
    monkeypatch.setattr(alpha_trainer.AlphaTrainer, "step", _interrupting(alpha_trainer.AlphaTrainer.step, at=5))
    words = ["demo", "--out", str(out), "--minutes", "5", "--generator", str(file), "--seed", "4"]
    assert cli.main(words) == cli.INTERRUPTED
    assert "this goes on from here" in capsys.readouterr().err
    assert not (out / "report.html").exists()
    assert cli.main(words) == cli.SUCCESS
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert "restart 0 step 6" in page
    assert json.loads((out / "run" / "config.json").read_text())["train"]["seed"] == 4
    log = [json.loads(line) for line in (out / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["iteration"] for entry in log] == list(range(1, 9))  # nothing was done twice


def _interrupting(step: Any, at: int) -> Any:
    """The training step, with a Ctrl-C during the one of that number."""
    steps = itertools.count(1)

    def interrupted(self: Any) -> Any:
        if next(steps) == at:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    return interrupted
