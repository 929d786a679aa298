from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.tiny import KEEP_ALL
from tests.tiny_run import SETTINGS, TOTAL, WARMUP, as_settings, content, interrupt_at, outcome

from labels4free import cli
from labels4free.checkpoints.loading import load_alpha_network
from labels4free.settings_fields import build
from labels4free.training.alpha import monitor
from labels4free.training.alpha import run as alpha_run
from labels4free.training.alpha.config import TrainConfig
from labels4free.training_loop.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


pytestmark = pytest.mark.usefixtures("quick")

# Good runs


def test_a_run_from_a_native_checkpoint(
    words: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words()) == cli.SUCCESS
    said = capsys.readouterr()
    run = tmp_path / "run"
    assert {p.name for p in run.iterdir()} == {
        "config.json",
        "log.jsonl",
        "pictures",
        "checkpoints",
        "alpha.safetensors",
    }
    result, masks = said.out.splitlines()
    assert result.startswith(f"{run / 'alpha.safetensors'}: {TOTAL} steps; masks cover ")
    assert re.search(r"cover \d+% of the picture, are \d+% binary, middle minus border [+-]0\.\d\d$", result)
    assert masks == f"Masks: labels4free sample {run} --out DIR --num 16"
    assert f"{TOTAL}/{TOTAL}" in said.err
    assert "fg ratio 0." in said.err
    command = shlex.split(masks.removeprefix("Masks: labels4free ").replace("DIR", str(tmp_path / "masks")))
    assert cli.main([*command[:-1], "2", *KEEP_ALL]) == cli.SUCCESS
    assert len(list((tmp_path / "masks" / "masks").iterdir())) == 2


def test_flags_are_settings(
    generator_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def trained(*given: Any, **options: Any) -> alpha_run.TrainResult:
        seen.append((given, options))
        return alpha_run.TrainResult(Path("run/alpha.safetensors"), None, 9, 9, 2, None)

    monkeypatch.setattr(alpha_run, "train_alpha_network", trained)
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    command = ["train", str(generator_file), "--out", "run", "--steps", "2", "--batch-size", "3", "--resolution", "16"]
    command += ["--seed", "5", "--data", "photos", "--set", "loss.coverage=0.25", "--set", "alpha.width=2"]
    assert cli.main(command) == cli.SUCCESS
    (((_, out, config), options),) = seen
    flags = {"steps": 2, "batch_size": 3, "resolution": 16, "seed": 5}
    data = str(tmp_path / "photos")  # in full: the run may be resumed from elsewhere
    changed = build(TrainConfig, {**flags, "data": data, "loss": {"coverage": 0.25}, "alpha": {"width": 2}})
    assert config == changed
    assert out == Path("run")
    assert options["generator_name"] == str(generator_file)
    assert options["resume"] is False
    assert capsys.readouterr().out.startswith("run/alpha.safetensors: 9 steps, after 2 restarts\nMasks: ")


def test_flags_and_settings_may_need_each_other(
    refused: Callable[[list[str]], str], generator_file: Path, tmp_path: Path
) -> None:
    command = ["train", str(generator_file), "--out", str(tmp_path / "run"), "--resolution", "2048"]
    assert "channel_base must be at least the training resolution 2048" in refused(command)
    said = refused([*command, "--set", "discriminator.channel_base=4096"])
    assert "makes images of 64 pixels, which cannot be averaged to a training resolution of 2048" in said


@pytest.mark.parametrize("name", ["steps", "batch_size", "resolution", "seed"])
def test_defaults_in_the_help_are_those_of_the_settings(capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    page = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    documented = re.search(rf"--{name.replace('_', '-')} [A-Z]+ .*?\(default: (\d+)\)", page)
    assert documented
    assert int(documented[1]) == getattr(TrainConfig(), name)


def test_masks_that_are_wrong_in_the_end_are_said_to_be(
    words: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(monitor, "find_problem", lambda **numbers: "the masks are empty")
    assert cli.main(words("--set", "monitor.grace_steps=100")) == cli.SUCCESS
    assert "Something is wrong, though: the masks are empty. Look at " in capsys.readouterr().err


def test_the_network_of_a_run_can_be_loaded(whole: dict[str, Any], tmp_path: Path, tiny_generator: Any) -> None:
    (tmp_path / "alpha.safetensors").write_bytes(whole["alpha"])
    network = load_alpha_network(tmp_path)
    output = tiny_generator.synthesize(tiny_generator.map(torch.ones(1, 8)))
    assert network(output.features).shape == (1, 1, 64, 64)


# Interrupted


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_says_how_to_go_on(
    words: Callable[..., list[str]],
    tmp_path: Path,
    whole: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, WARMUP + 2, number)
        assert cli.main(words()) == code
    said = capsys.readouterr()
    assert said.out == ""
    *_, stopped, command = said.err.splitlines()
    assert stopped == f"Stopped at step {WARMUP + 3} of {TOTAL}. Go on with:"
    program, *again = shlex.split(command)
    assert program == "labels4free"
    assert cli.main(again) == cli.SUCCESS
    assert outcome(tmp_path / "run") == whole
    before = content(tmp_path / "run")
    capsys.readouterr()
    assert cli.main(again) == cli.SUCCESS  # a finished one
    assert f"{TOTAL} steps; masks cover" in capsys.readouterr().out
    assert content(tmp_path / "run") == before


@pytest.mark.slow
def test_interrupted_with_awkward_names(
    generator_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_at(monkeypatch, 1)
    run = tmp_path / "my run"
    assert cli.main(["train", str(generator_file), "--out", str(run), *as_settings(SETTINGS)]) == cli.INTERRUPTED
    *_, command = capsys.readouterr().err.splitlines()
    assert shlex.split(command) == ["labels4free", "train", str(generator_file), "--out", str(run), "--resume"]


def test_another_device_is_part_of_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], generator_file: Path
) -> None:
    stopped = alpha_run.TrainResult(None, "SIGTERM", 3, 9, 0, None)
    monkeypatch.setattr(alpha_run, "train_alpha_network", lambda *given, **options: stopped)
    assert cli.main(["train", str(generator_file), "--out", "r", "--device", "cpu:0"]) == 143
    assert capsys.readouterr().err.endswith(f"train {generator_file} --out r --resume --device cpu:0\n")


@pytest.fixture
def process(generator_file: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A long training in a process of its own."""
    command = [sys.executable, "-m", "labels4free", "train", str(generator_file), "--out", str(tmp_path / "run")]
    command += [*as_settings(SETTINGS), "--set", "steps=100000", "--set", "monitor.grace_steps=100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.slow
def test_sigterm_ends_the_process_in_order(process: subprocess.Popen[str], tmp_path: Path) -> None:
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not log.exists() or log.read_text().count("\n") < WARMUP + 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert out == ""
    assert "Traceback" not in err
    stopped = re.search(r"^Stopped at step (\d+) of 100003\. Go on with:\n  labels4free train .* --resume$", err, re.M)
    assert stopped
    checkpoint = RunDir(tmp_path / "run").latest_checkpoint()
    assert checkpoint is not None
    assert checkpoint.step == int(stopped[1]) == log.read_text().count("\n")
