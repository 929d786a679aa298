"""Where the settings of a training come from, and which count more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.tiny import tiny_stylegan2
from tests.tiny_run import as_settings, interrupt_at, tiny_config, write_generator

from labels4free import cli
from labels4free.training.alpha import run as alpha_run
from labels4free.training.alpha.config import LossConfig, TrainConfig
from labels4free.training.alpha.paper_config import PaperConfig
from labels4free.training.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def generator_256(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = tiny_stylegan2(channels=dict.fromkeys([4, 8, 16, 32, 64, 128, 256], 2))
    return write_generator(tmp_path_factory.mktemp("generator") / "g.safetensors", generator)


@pytest.fixture
def config_of(generator_256: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The settings that a command line trains by."""
    seen: list[Any] = []

    def trained(*given: Any, **options: Any) -> alpha_run.TrainResult:
        seen.append(given[2])
        return alpha_run.TrainResult(Path("run/alpha.safetensors"), None, 9, 9, 2, None)

    monkeypatch.setattr(alpha_run, "train_alpha_network", trained)
    monkeypatch.chdir(tmp_path)

    def config_of(*words: str) -> Any:
        assert cli.main(["train", str(generator_256), "--out", "run", *words]) == cli.SUCCESS
        return seen[-1]

    return config_of


@pytest.mark.slow
def test_without_any_the_default(config_of: Callable[..., Any]) -> None:
    assert config_of() == config_of("--preset", "auto") == TrainConfig()


def test_a_preset(config_of: Callable[..., Any]) -> None:
    assert config_of("--preset", "horse-single-gpu") == PRESETS["horse-single-gpu"].config


def test_preset_then_file_then_flags_then_set(config_of: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("steps = 11\nbatch_size = 11\nseed = 11\n[loss]\nadversarial = 11\n")
    words = [
        "--preset",
        "horse-single-gpu",
        "--config",
        "my.toml",
        "--batch-size",
        "12",
        "--seed",
        "12",
        "--set",
        "seed=13",
    ]
    config = config_of(*words)
    assert (config.steps, config.batch_size, config.seed, config.loss.adversarial) == (11, 12, 13, 11.0)
    assert config.loss.background_coverage == 6.0


def test_a_file_alone(config_of: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("[loss]\nbinarization = 3\n")
    assert config_of("--config", "my.toml") == TrainConfig(loss=LossConfig(binarization=3.0))
    (tmp_path / "my.toml").write_text('recipe = "paper"\n')
    assert config_of("--config", "my.toml") == PaperConfig()


def test_a_discriminator(config_of: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "d.pt").write_text("")
    config = config_of("--preset", "cat-single-gpu", "--discriminator", "d.pt")
    assert config.discriminator.pretrained == str(tmp_path / "d.pt")  # in full: the run may be resumed from elsewhere
    config = config_of("--preset", "cat-single-gpu", "--discriminator", "generator")
    assert config.discriminator.pretrained == "generator"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--preset", "dogs"], "Unknown preset 'dogs'; the presets are ffhq-paper, "),
        (["--preset", "ffhq-paper"], "is for generators of 1024x1024 pixels, and this one makes 256x256; horse-paper"),
        (["--discriminator", "d.pt"], "--discriminator is for presets of the paper's recipe, such as car-paper;"),
        (["--config", "none.toml"], "none.toml cannot be read: No such file or directory"),
        (
            ["--preset", "auto", "--config", "published.toml"],
            "but the preset or run that it shall change follows replay",
        ),
        (
            ["--config", "unknown.toml"],
            "unknown.toml has unknown settings: loss.colour (valid there: loss.binarization,",
        ),
        (
            ["--preset", "horse-single-gpu", "--set", "loss.coverage=1"],
            "Unknown setting 'loss.coverage'; the valid names there",
        ),
        (
            ["--preset", "horse-single-gpu", "--set", "alpha.network=big"],
            "alpha.network must be one of paper, merge, got 'big'.",
        ),
        (
            ["--preset", "horse-single-gpu", "--discriminator", "none.pt"],
            "none.pt is neither a file nor a model of the zoo",
        ),
        (["--preset", "horse-single-gpu", "--resolution", "512"], "cannot be averaged to a training resolution of 512"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(
    refused: Callable[[list[str]], str],
    generator_256: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("published.toml").write_text('recipe = "paper"\n')
    Path("unknown.toml").write_text("[loss]\ncolour = 1\n")
    assert sentence in refused(["train", str(generator_256), "--out", "run", *words])


@pytest.mark.slow
def test_resuming_needs_none_of_them(
    generator_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[[list[str]], str]
) -> None:
    config = tiny_config(steps=2)
    (tmp_path / "my.toml").write_text("steps = 2\n")
    run = ["train", str(generator_file), "--out", str(tmp_path / "run")]
    words = [*as_settings(config), "--config", str(tmp_path / "my.toml")]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        assert cli.main([*run, *words]) == cli.INTERRUPTED
    (tmp_path / "other.toml").write_text("steps = 3\n")
    said = refused([*run, "--resume", "--config", str(tmp_path / "other.toml")])
    assert "has steps=2 (asked for: 3). Start a new run to change them." in said
    assert "(asked for: 1000)" in refused([*run, "--resume", "--preset", "auto"])
    assert cli.main([*run, "--resume", "--config", str(tmp_path / "my.toml")]) == cli.SUCCESS
    assert cli.main([*run, "--resume"]) == cli.SUCCESS
