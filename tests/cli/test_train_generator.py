"""Trainings of generators by command line."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.tiny_generator_run import SETTINGS, STEPS, write_images
from tests.tiny_run import SETTINGS as OF_ALPHA
from tests.tiny_run import as_settings, content

from labels4free import cli
from labels4free.checkpoints.loading import load_generator
from labels4free.settings_fields import build
from labels4free.training.generator import run as generator_run
from labels4free.training.generator.config import GeneratorConfig
from labels4free.training.generator.presets import CONFIGS
from labels4free.training.generator.trainer import GeneratorTrainer
from labels4free.training_loop.contracts import Check, TrainResult

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "images")


@pytest.fixture
def command(images: Path, tmp_path: Path) -> list[str]:
    """The words of a short training into the folder ``run``."""
    return ["train-generator", str(images), "--out", str(tmp_path / "run"), *as_settings(SETTINGS)]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the library is called with, which then does nothing."""
    calls: list[Any] = []
    check = Check({"diversity": 0.876, "swd": 0.1234, "score": 0.9})

    def trained(*given: Any, **options: Any) -> TrainResult:
        calls.append((given, options))
        return TrainResult(Path("run/generator.safetensors"), None, 9, 9, 0, check)

    monkeypatch.setattr(generator_run, "train_generator", trained)
    return calls


def interrupt_at(monkeypatch: pytest.MonkeyPatch, iteration: int, number: signal.Signals) -> None:
    """Have a signal come in the middle of the step that follows an iteration."""
    step = GeneratorTrainer.step

    def interrupted(self: GeneratorTrainer) -> Any:
        if self.iteration == iteration:
            signal.raise_signal(number)
        return step(self)

    monkeypatch.setattr(GeneratorTrainer, "step", interrupted)


# Good runs


@pytest.mark.slow
def test_a_run_from_images(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command) == cli.SUCCESS
    said = capsys.readouterr()
    file = tmp_path / "run" / "generator.safetensors"
    result, following = said.out.splitlines()
    assert re.fullmatch(
        rf"{file}: {STEPS} steps; its images differ from each other by \d+% of what real ones do, "
        r"distance \(SWD\) \d\.\d{3}",
        result,
    )
    assert following == f"Next: labels4free train {file} --out ALPHA"
    assert "16x16 in batches of 4: discriminator.r1_gamma=0.0128" in said.err
    assert f"{STEPS}/{STEPS}" in said.err
    assert load_generator(file).resolution == 16


@pytest.mark.slow
def test_what_is_said_to_come_next_works(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command) == cli.SUCCESS
    *_, following = capsys.readouterr().out.splitlines()
    program, *words = shlex.split(following.removeprefix("Next: ").replace("ALPHA", str(tmp_path / "alpha")))
    assert program == "labels4free"
    small = [*as_settings(OF_ALPHA), "--resolution", "8", "--set", "monitor.grace_steps=100"]
    assert cli.main([*words, *small]) == cli.SUCCESS


def test_flags_are_settings(
    seen: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parent.pt").touch()
    command = ["train-generator", "photos", "--out", "run", "--pretrained", "parent.pt", "--resolution", "32"]
    command += ["--kimg", "7", "--batch-size", "6", "--mirror", "--seed", "5", "--device", "cpu:0"]
    command += ["--set", "discriminator.r1_gamma=0.25", "--set", "network.z_dim=9"]
    assert cli.main(command) == cli.SUCCESS
    (((images, out, config), options),) = seen
    assert (images, out) == (Path("photos"), Path("run"))
    flags = {"resolution": 32, "images": 7000, "batch_size": 6, "mirror": True, "seed": 5}
    parent = str(tmp_path / "parent.pt")  # in full: the run may be resumed from elsewhere
    sections = {"discriminator": {"r1_gamma": 0.25}, "network": {"z_dim": 9}}
    assert config == build(GeneratorConfig, {**flags, "pretrained": parent, **sections})
    assert (options["resume"], options["device"]) == (False, "cpu:0")
    assert capsys.readouterr().out == (
        "run/generator.safetensors: 9 steps; its images differ from each other by 88% of what real ones do, distance "
        "(SWD) 0.123\nNext: labels4free train run/generator.safetensors --out ALPHA\n"
    )


def test_without_flags_the_defaults(seen: list[Any]) -> None:
    assert cli.main(["train-generator", "photos", "--out", "run"]) == cli.SUCCESS
    (((_, _, config), _),) = seen
    assert config == GeneratorConfig()


def test_a_name_of_the_zoo_stays_a_name(seen: list[Any]) -> None:
    words = ["train-generator", "photos", "--out", "run", "--pretrained", "mobilestylegan-ffhq-1024"]
    assert cli.main(words) == cli.SUCCESS
    assert seen[0][0][2].pretrained == "mobilestylegan-ffhq-1024"


@pytest.mark.parametrize("name", CONFIGS)
def test_presets(seen: list[Any], name: str) -> None:
    assert cli.main(["train-generator", "photos", "--out", "run", "--preset", name]) == cli.SUCCESS
    assert cli.main(["train-generator", "photos", "--out", "run", "--preset", name, "--seed", "4"]) == cli.SUCCESS
    first, second = (given[2] for given, _ in seen)
    assert first == CONFIGS[name][0]
    assert second == build(GeneratorConfig, first.to_json() | {"seed": 4})


def test_a_file_of_settings(seen: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("resolution = 128\n[discriminator]\nr1_gamma = 3.0\n")
    words = ["train-generator", "photos", "--out", "run", "--config", str(file)]
    assert cli.main([*words, "--preset", "tiny", "--resolution", "32"]) == cli.SUCCESS
    config = seen[0][0][2]
    assert (config.resolution, config.discriminator.r1_gamma, config.network.channel_base) == (32, 3.0, 2048)


@pytest.mark.parametrize(("name", "factor"), [("resolution", 1), ("kimg", 1000), ("seed", 1)])
def test_defaults_in_the_help_are_those_of_the_settings(
    capsys: pytest.CaptureFixture[str], name: str, factor: int
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train-generator", "--help"])
    page = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    documented = re.search(rf"--{name} [A-Z]+ .*?\(default: (\d+)\)", page)
    assert documented
    assert factor * int(documented[1]) == getattr(GeneratorConfig(), "images" if name == "kimg" else name)


def test_the_help_needs_no_torch(without_torch: Callable[[list[str]], str]) -> None:
    page = without_torch(["train-generator", "--help"])
    assert "generator.safetensors" in page
    for flag in ("--out", "--preset", "--pretrained", "--resolution", "--kimg", "--resume", "--set"):
        assert flag in page


# Interrupted


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_says_how_to_go_on(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, number)
        assert cli.main(command) == code
    said = capsys.readouterr()
    assert said.out == ""
    *_, stopped, going_on = said.err.splitlines()
    assert stopped == f"Stopped at step 3 of {STEPS}. Go on with:"
    program, *again = shlex.split(going_on)
    assert (program, again) == ("labels4free", [*command[:4], "--resume"])
    assert cli.main(again) == cli.SUCCESS
    before = content(tmp_path / "run")
    capsys.readouterr()
    assert cli.main(again) == cli.SUCCESS  # a finished one
    said = capsys.readouterr()
    assert f"{STEPS} steps; its images differ" in said.out
    assert "is finished: nothing is left to do" in said.err
    assert content(tmp_path / "run") == before


@pytest.mark.slow
def test_resume_auto_starts_and_goes_on(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*command, "--resume", "auto"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1, signal.SIGTERM)
        assert cli.main(words) == 143
    assert cli.main(words) == cli.SUCCESS
    assert (tmp_path / "run" / "generator.safetensors").exists()


@pytest.mark.slow
def test_a_resumed_run_keeps_its_settings(
    command: list[str], monkeypatch: pytest.MonkeyPatch, refused: Callable[[list[str]], str]
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1, signal.SIGTERM)
        assert cli.main(command) == 143
    assert "has seed=0 (asked for: 3)" in refused([*command[:4], "--resume", "--seed", "3"])


def test_another_device_is_part_of_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = TrainResult(None, "SIGTERM", 3, 9, 0, None)
    monkeypatch.setattr(generator_run, "train_generator", lambda *given, **options: stopped)
    assert cli.main(["train-generator", "my photos", "--out", "r", "--device", "cpu:0"]) == 143
    assert capsys.readouterr().err.endswith("train-generator 'my photos' --out r --resume --device cpu:0\n")


# Refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "cat-paper"], r"an alpha network \(recipe paper\), not of a generator: use them with train\."),
        (["--preset", "dogs"], "Unknown preset 'dogs'; the presets are "),
        (["--resolution", "100"], "resolution must be a power of two of at least 8, got 100"),
        (["--kimg", "0"], "images must be at least 1, got 0"),
        (["--batch-size", "0"], "batch_size must be at least 1, got 0"),
        (["--set", "r1_gamma=1"], "Unknown setting 'r1_gamma'; the valid names there are images, resolution, "),
        (["--set", "discriminator.r1_gamma=nan"], "discriminator.r1_gamma must be float or none, got nan"),
        (["--config", "none.toml"], "none.toml cannot be read: No such file or directory"),
        (
            ["--pretrained", "nothing.pt", "--resolution", "16", "--set", "checks.samples=20"],
            "nothing.pt is neither a file nor a model of the zoo",
        ),
        (["--resume"], "There is no run to resume at"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_refusals(
    images: Path, tmp_path: Path, refused: Callable[[list[str]], str], words: list[str], said: str
) -> None:
    command = ["train-generator", str(images), "--out", str(tmp_path / "run")]
    assert re.search(said, refused([*command, *words]))


def test_settings_of_a_generator_are_none_of_an_alpha_network(
    generator_file: Path, tmp_path: Path, refused: Callable[[list[str]], str]
) -> None:
    said = refused(["train", str(generator_file), "--out", str(tmp_path / "run"), "--preset", "tiny"])
    assert "These are settings of a generator, not of an alpha network: use them with train-generator." in said


def test_images_that_are_none(tmp_path: Path, refused: Callable[[list[str]], str]) -> None:
    words = ["--out", str(tmp_path / "run")]
    assert "none does not exist" in refused(["train-generator", str(tmp_path / "none"), *words])
    (tmp_path / "empty").mkdir()
    assert "no image files in it" in refused(["train-generator", str(tmp_path / "empty"), *words])
    one = write_images(tmp_path / "one", 1)
    assert "has 1 images; a generator cannot learn from fewer than 20" in refused(["train-generator", str(one), *words])


@pytest.mark.slow
def test_a_collapse_ends_with_one_sentence(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GeneratorTrainer, "check", lambda self: Check({"score": 0.0}, "the generator has collapsed: x"))
    assert cli.main([*command, "--set", "checks.grace=0"]) == cli.FAILURE
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith(
        "labels4free: Training was lost in attempt 1, the last: the generator has collapsed: x. See "
    )
    assert last.endswith("or begin with --pretrained.")
