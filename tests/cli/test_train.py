from __future__ import annotations

import errno
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny import tiny_generator as build_tiny_generator
from tests.tiny_run import SETTINGS, TOTAL, WARMUP, any_masks_serve, as_settings, content, outcome, write_generator

from labels4free import cli
from labels4free.checkpoints.loading import load_alpha_network
from labels4free.cli import train
from labels4free.training import alpha_run, monitor
from labels4free.training.alpha_trainer import AlphaTrainer
from labels4free.training.config import TrainConfig
from labels4free.training.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log as it was, any masks serve, no waiting for the disk, and stderr is no terminal."""
    logger = logging.getLogger("labels4free")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logger.level)
    any_masks_serve(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def generator_file(tmp_path_factory: pytest.TempPathFactory, tiny_generator: Any) -> Path:
    return write_generator(tmp_path_factory.mktemp("generator") / "tiny.safetensors", tiny_generator)


@pytest.fixture(scope="module")
def whole(generator_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves that nothing interrupts."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        any_masks_serve(monkeypatch)
        assert cli.main(["train", str(generator_file), "--out", str(run), *as_settings(SETTINGS)]) == cli.SUCCESS
    return outcome(run)


@pytest.fixture
def words(generator_file: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The words of a short training into the folder ``run``, and more words behind them."""

    def words(*more: str, generator: str | Path = generator_file) -> list[str]:
        return ["train", str(generator), "--out", str(tmp_path / "run"), *as_settings(SETTINGS), *more]

    return words


@pytest.fixture
def resume(generator_file: Path, tmp_path: Path) -> list[str]:
    return ["train", str(generator_file), "--out", str(tmp_path / "run"), "--resume"]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[[list[str]], str]:
    """Run a command that must fail: returns its one sentence, having checked that it left everything as it was."""

    def refused(command: list[str]) -> str:
        before = content(tmp_path)
        capsys.readouterr()
        assert cli.main(command) == cli.FAILURE
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("labels4free: ")
        assert said.err.count("\n") == 1
        assert content(tmp_path) == before
        return said.err

    return refused


def interrupt_at(monkeypatch: pytest.MonkeyPatch, iteration: int, number: signal.Signals = signal.SIGINT) -> None:
    """Send a signal in the middle of a step."""
    step = AlphaTrainer.step

    def interrupted(self: AlphaTrainer) -> Any:
        if self.iteration == iteration:
            signal.raise_signal(number)
        return step(self)

    monkeypatch.setattr(AlphaTrainer, "step", interrupted)


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
    assert "adversarial" in said.err
    command = shlex.split(masks.removeprefix("Masks: labels4free ").replace("DIR", str(tmp_path / "masks")))
    assert cli.main([*command[:-1], "2"]) == cli.SUCCESS
    assert len(list((tmp_path / "masks" / "masks").iterdir())) == 2


def test_flags_are_settings(generator_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(tmp_path / "photos" / "a.png")
    monkeypatch.chdir(tmp_path)
    command = ["train", str(generator_file), "--out", "run", *as_settings(SETTINGS)]
    command += ["--steps", "2", "--batch-size", "3", "--resolution", "8", "--seed", "5", "--set", "loss.coverage=0.25"]
    assert cli.main([*command, "--data", "photos"]) == cli.SUCCESS
    used = json.loads((tmp_path / "run" / "config.json").read_text())
    assert used["generator"]["name"] == str(generator_file)
    config = used["train"]
    # --set is the stronger of the two, and comes last
    expected = SETTINGS.to_json()
    assert {name: config[name] for name in expected if name not in ("loss", "data")} == {
        name: value for name, value in expected.items() if name not in ("loss", "data")
    }
    assert config["loss"] == {**expected["loss"], "coverage": 0.25}


def test_flags_alone(generator_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(alpha_run, "train_alpha_network", lambda *given, **options: seen.append((given, options)))
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    command = ["train", str(generator_file), "--out", "run", "--steps", "2", "--batch-size", "3", "--resolution", "16"]
    with pytest.raises(AttributeError):  # there is no result to describe
        cli.main([*command, "--seed", "5", "--data", "photos"])
    (((_, out, config), options),) = seen
    wanted = {"steps": 2, "batch_size": 3, "resolution": 16, "seed": 5, "data": str(tmp_path / "photos")}
    assert config == TrainConfig(**wanted)
    assert out == Path("run")
    assert options["generator_name"] == str(generator_file)
    assert options["resume"] is False


def test_defaults_in_the_help_are_those_of_the_settings() -> None:
    documented = dict(re.findall(r"^ +(\w+): .*?Default (\d+)\.$", train.run.__doc__ or "", re.MULTILINE))
    assert documented.keys() == {"steps", "batch_size", "resolution", "seed"}
    assert documented == {name: str(getattr(TrainConfig(), name)) for name in documented}


def test_masks_that_are_wrong_in_the_end_are_said_to_be(
    words: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(monitor, "find_problem", lambda **numbers: "the masks are empty")
    assert cli.main(words("--set", "monitor.grace_steps=100")) == cli.SUCCESS
    assert "Something is wrong, though: the masks are empty. Look at " in capsys.readouterr().err


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


# Bad input


def test_unknown_generator(refused: Callable[[list[str]], str], words: Callable[..., list[str]]) -> None:
    said = refused(words(generator="mobilestylegan-cats"))
    assert (
        "mobilestylegan-cats is neither a file nor a model of the zoo; the models are mobilestylegan-ffhq-1024." in said
    )


def test_a_generator_that_is_none(
    refused: Callable[[list[str]], str], words: Callable[..., list[str]], generator_file: Path, tmp_path: Path
) -> None:
    data = generator_file.read_bytes()
    (tmp_path / "short.safetensors").write_bytes(data[:-100])
    assert "short.safetensors is truncated" in refused(words(generator=tmp_path / "short.safetensors"))
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8 no checkpoint")
    assert "photo.jpg is not a safetensors file" in refused(words(generator=tmp_path / "photo.jpg"))
    assert "is a folder, expected a checkpoint file" in refused(words(generator=tmp_path))


def test_an_alpha_network_instead_of_a_generator(
    refused: Callable[[list[str]], str], words: Callable[..., list[str]], tmp_path: Path, whole: dict[str, Any]
) -> None:
    (tmp_path / "alpha.safetensors").write_bytes(whole["alpha"])
    said = refused(words(generator=tmp_path / "alpha.safetensors"))
    assert "holds a checkpoint of kind 'alpha_network', expected kind 'generator'" in said


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            ["--set", "resolution=128"],
            "makes images of 64 pixels, which cannot be averaged to a training resolution of 128",
        ),
        (["--set", "resolution=64"], "choose a resolution of at most 32"),
        (["--set", "resolution=48"], "resolution must be a power of two of at least 8, got 48."),
        (["--set", "steps=0"], "steps must be at least 1, got 0."),
        (["--set", "batch_size=-1"], "batch_size must be at least 1, got -1."),
        (["--set", "loss.colour=1"], "Unknown setting 'loss.colour'; the valid names there are binarization, "),
        (["--set", "colour=1"], "Unknown setting 'colour'; the valid names there are steps, batch_size, "),
        (["--set", "loss.coverage=much"], "loss.coverage must be float, got 'much'."),
        (["--set", "steps=1.5"], "steps must be int, got '1.5'."),
        (["--set", "steps"], "A setting must look like section.field=value, got 'steps'."),
        (["--set", "loss=1"], "loss is a section; set one of its fields: loss.binarization, "),
        (["--set", "background.mode=black"], "background.mode must be none or one of zero_first_conv, "),
        (["--device", "tpu"], "Unknown device 'tpu'; use cpu, cuda, cuda:N or mps."),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_settings_that_cannot_serve(
    refused: Callable[[list[str]], str], words: Callable[..., list[str]], more: list[str], sentence: str
) -> None:
    more = [*more, "--set", "discriminator.channel_base=128"]
    assert sentence in refused(words(*more))


def test_a_flag_that_is_no_number(words: Callable[..., list[str]], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words("--steps", "many"))
    assert end.value.code == 2
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("none", "none does not exist: give a folder of images."),
        ("empty", "empty holds no readable image (no image files in it)"),
        ("damaged", "damaged holds no readable image (the 2 image files in it are damaged)"),
        ("file", "file is a file: give a folder of images."),
    ],
)
def test_no_real_images(
    refused: Callable[[list[str]], str], words: Callable[..., list[str]], tmp_path: Path, folder: str, sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "damaged").mkdir()
    for name in ("a.png", "b.jpg"):
        (tmp_path / "damaged" / name).write_text("no image")
    assert sentence in refused(words("--set", f"data={tmp_path / folder}"))


def test_a_corrupt_image_among_good_ones(
    words: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for k in range(3):
        Image.fromarray(np.full((20, 20, 3), 50 * k, dtype=np.uint8)).save(photos / f"{k}.png")
    (photos / "broken.png").write_bytes((photos / "1.png").read_bytes()[:30])
    assert cli.main(words("--set", f"data={photos}")) == cli.SUCCESS
    said = capsys.readouterr().err
    assert f"Skipped 1 image file(s) in {photos}: {photos / 'broken.png'} cannot be read as an image" in said


def test_an_output_folder_that_cannot_serve(
    refused: Callable[[list[str]], str],
    words: Callable[..., list[str]],
    resume: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    assert "There is no run to resume at" in refused(resume)
    run.write_text("a file")
    assert "is a file, but a run needs a folder" in refused(words())
    run.unlink()
    run.mkdir()
    (run / "thesis.txt").write_text("mine")
    assert "is not empty (it holds thesis.txt) and is no run" in refused(words())
    (run / "thesis.txt").unlink()
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        assert cli.main(words()) == cli.INTERRUPTED
    for more in ([], ["--set", "seed=3"]):
        assert "holds a run already: go on with it by --resume, or choose another folder" in refused(words(*more))
    assert cli.main(resume) == cli.SUCCESS
    assert "holds a run already" in refused(words())


def test_resumed_with_other_settings(
    refused: Callable[[list[str]], str],
    words: Callable[..., list[str]],
    resume: list[str],
    tmp_path: Path,
    whole: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        assert cli.main(words()) == cli.INTERRUPTED
    said = refused([*resume, "--steps", "99", "--set", "alpha.width=7"])
    assert "A resumed run keeps its settings; " in said
    assert "has steps=8 (asked for: 99), alpha.width=4 (asked for: 7). Start a new run to change them." in said
    assert "Unknown setting 'alpha.colour'" in refused([*resume, "--set", "alpha.colour=7"])
    other = write_generator(tmp_path / "other.safetensors", build_tiny_generator(seed=1))
    assert "was started on the generator " in refused([*resume[:1], str(other), *resume[2:]])
    assert cli.main([*resume, "--steps", str(SETTINGS.steps), "--set", "alpha.width=4"]) == cli.SUCCESS  # the same ones
    assert outcome(tmp_path / "run") == whole


@pytest.mark.parametrize(
    "name", ["config.json", "bank.json", "previews.safetensors", "step_000005.pt", "alpha.safetensors"]
)
def test_no_space_left(
    words: Callable[..., list[str]],
    resume: list[str],
    tmp_path: Path,
    whole: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    _full_disk(monkeypatch, name)
    assert cli.main(words()) == cli.FAILURE
    said = capsys.readouterr()
    assert said.out == ""
    *_, sentence = said.err.splitlines()
    assert sentence.startswith("labels4free: There is no space left to write ")
    assert said.err.count("labels4free: ") == 1
    assert "Traceback" not in said.err
    assert not list((tmp_path / "run").rglob("*.tmp"))
    monkeypatch.undo()
    any_masks_serve(monkeypatch)
    assert cli.main(words() if name == "config.json" else resume) == cli.SUCCESS
    assert outcome(tmp_path / "run") == whole


def test_no_space_left_for_a_picture(
    words: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _full_disk(monkeypatch, "attempt_0_step_000004.png")
    assert cli.main(words()) == cli.FAILURE
    assert "labels4free: There is no space left to write " in capsys.readouterr().err


def _full_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A file of that name finds no space, whether it is synchronised or not."""
    rename = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if Path(target).name == name or (name in Path(target).name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)


def test_a_lost_run_is_one_sentence(
    words: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(monitor, "find_problem", lambda **numbers: "the masks are empty")
    assert cli.main(words("--set", "monitor.max_restarts=1")) == cli.FAILURE
    *_, sentence = capsys.readouterr().err.splitlines()
    assert sentence.startswith("labels4free: Training was lost in attempt 2, the last: the masks are empty. See ")


def test_the_network_of_a_run_can_be_loaded(whole: dict[str, Any], tmp_path: Path, tiny_generator: Any) -> None:
    (tmp_path / "alpha.safetensors").write_bytes(whole["alpha"])
    network = load_alpha_network(tmp_path)
    output = tiny_generator.synthesize(tiny_generator.map(torch.ones(1, 8)))
    assert network(output.features).shape == (1, 1, 64, 64)
