from __future__ import annotations

import dataclasses
import json
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.tiny_distillation import SETTINGS, write_pairs, write_photos
from tests.tiny_run import as_settings, content

from labels4free import cli
from labels4free.checkpoints.native import read_native_header, write_native
from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.segmenter import run as segmenter_run
from labels4free.training.segmenter.config import SegmenterConfig
from labels4free.training.segmenter.rendered_pairs import rendered_size
from labels4free.training.segmenter.trainer import SegmenterTrainer
from labels4free.training_loop.contracts import TrainResult

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]


@pytest.fixture
def alpha_file(tmp_path: Path, tiny_generator: Any, generator_file: Path) -> Path:
    """An alpha network that knows its generator, untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(3)  # not every untrained network's masks pass the filters
        network = MergeNetwork(tiny_generator.feature_specs, tiny_generator.resolution, width=4)
    path = tmp_path / "alpha.safetensors"
    info = {"generator": {"name": str(generator_file)}}
    write_native(
        path,
        kind="alpha_network",
        family="merge",
        config=network.config(),
        state={name: 50 * value if "head" in name else value for name, value in network.state_dict().items()},
        info=info,
    )
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Calls of the training, which does nothing."""
    calls: list[Any] = []

    def train(*given: Any, **options: Any) -> TrainResult:
        calls.append((given, options))
        return TrainResult(Path("run/segmenter.safetensors"), None, 4, 4, 0, None)

    monkeypatch.setattr(segmenter_run, "train_segmenter", train)
    return calls


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["distill", *words]) == cli.FAILURE
    return capsys.readouterr().err


def test_a_run_on_a_data_set(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert cli.main(["distill", "--out", str(run), "--pairs", str(pairs), *as_settings(SETTINGS)]) == cli.SUCCESS
    said = capsys.readouterr()
    start, rest = said.out.splitlines()[-1].split(": ", 1)
    assert start == str(run / "segmenter.safetensors")
    assert rest.startswith("4 steps; mean IoU with the pairs' masks 0.")
    assert "4/4" in said.err
    assert "Something is wrong, though: the masks are no better" in said.err


def test_pairs_are_rendered(alpha_file: Path, generator_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = dataclasses.replace(SETTINGS, seed=3, pairs=dataclasses.replace(SETTINGS.pairs, num=40))
    words = ["distill", str(alpha_file), "--out", str(run), *as_settings(config)]
    assert cli.main(words) == cli.SUCCESS
    manifest = json.loads((run / "pairs" / "manifest.json").read_text())
    settings = manifest["settings"]
    assert manifest["num"] == 40
    assert (settings["seed"], settings["size"], settings["parts"]) == (3, 32, ["image", "alpha"])
    assert (settings["min_truncation_psi"], settings["max_truncation_psi"]) == (0.5, 1.0)
    source = read_native_header(run / "segmenter.safetensors", "segmenter").info["source"]
    assert source["name"] == str(alpha_file)
    assert source["generator"]["name"] == str(generator_file)
    assert source["state_hash"] == f"{source['generator']['state_hash']} {source['alpha_network']['state_hash']}"
    # Another teacher may not go on with it, and without a word the same one does.
    assert cli.main(["distill", "--out", str(run), "--resume"]) == cli.SUCCESS


def test_flags_are_settings(seen: list[Any], pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toml = tmp_path / "own.toml"
    toml.write_text('recipe = "segmenter"\nsteps = 7\nbatch_size = 4\n[loss]\niou = 2.0\n')
    write_photos(tmp_path / "photos")
    words = ["distill", "--out", "run", "--pairs", "pairs", "--config", "own.toml", "--unlabelled", "photos"]
    words += ["--backgrounds", "photos", "--size", "64", "--steps", "9", "--seed", "5", "--set", "augmentation.jpeg=1"]
    words += ["--pretrained", "faces"]
    assert cli.main(words) == cli.SUCCESS
    (((out, made, config), options),) = seen
    assert (out, made) == (Path("run"), Path("pairs"))
    photos = str(tmp_path / "photos")  # in full: the run may be resumed from elsewhere
    expected = SegmenterConfig(steps=9, batch_size=4, size=64, seed=5, pretrained="faces")
    expected = dataclasses.replace(
        expected,
        loss=dataclasses.replace(expected.loss, iou=2.0),
        augmentation=dataclasses.replace(expected.augmentation, jpeg=1.0),
        pairs=dataclasses.replace(expected.pairs, background_pictures=photos),
        self_training=dataclasses.replace(expected.self_training, unlabelled=photos),
    )
    assert config == expected
    assert options["resume"] is False
    assert options["source"] is None


@pytest.mark.parametrize("name", ["num", "size", "steps", "batch_size", "seed"])
def test_defaults_in_the_help_are_those_of_the_settings(capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit):
        cli.main(["distill", "--help"])
    page = " ".join("".join(" " if c in "│╭╮╰╯─" else c for c in capsys.readouterr().out).split())
    said = page.split(f"--{name.replace('_', '-')} ")[1].split("(default: ")[1].split(")")[0]
    config = SegmenterConfig()
    assert int(said) == (config.pairs.num if name == "num" else getattr(config, name))


def test_interrupted_it_says_how_to_go_on(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = SegmenterTrainer.step

    def interrupted(self: SegmenterTrainer) -> Any:
        if self.iteration == 1:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(SegmenterTrainer, "step", interrupted)
        assert cli.main(["distill", "--out", str(run), "--pairs", str(pairs), *as_settings(SETTINGS)]) == 130
    said = capsys.readouterr().err
    assert "Stopped at step 2 of 4. Go on with:\n" in said
    command = shlex.split(said.rstrip().splitlines()[-1])
    assert command[:2] == ["labels4free", "distill"]
    assert cli.main(command[1:]) == cli.SUCCESS
    assert (run / "segmenter.safetensors").exists()


def test_what_is_missing_or_wrong(
    pairs: Path, alpha_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(tmp_path / "run")
    assert "distill needs pairs to learn from" in refused(capsys, "--out", run)
    assert "is no alpha network file" in refused(capsys, str(tmp_path / "none"), "--out", run)
    assert "Unknown setting 'loss.magic'" in refused(
        capsys, "--out", run, "--pairs", str(pairs), "--set", "loss.magic=1"
    )
    assert "There is no run to resume" in refused(capsys, "--out", run, "--pairs", str(pairs), "--resume")
    toml = tmp_path / "own.toml"
    toml.write_text('recipe = "paper"\n')
    said = refused(capsys, "--out", run, "--pairs", str(pairs), "--config", str(toml))
    assert "settings of an alpha network (recipe paper), not of a segmenter: use them with train" in said
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "distill trains in one process" in refused(capsys, "--out", run, "--pairs", str(pairs))
    assert not (tmp_path / "run").exists()


def test_a_run_on_a_data_set_needs_it_again(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert cli.main(["distill", "--out", str(run), "--pairs", str(pairs), *as_settings(SETTINGS)]) == cli.SUCCESS
    before = content(run)
    assert f"learns from the data set {pairs}: give it again (--pairs)" in refused(
        capsys, "--out", str(run), "--resume"
    )
    assert content(run) == before


def test_train_refuses_a_segmenters_settings(
    words: Callable[..., list[str]], tmp_path: Path, generator_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = tmp_path / "own.toml"
    toml.write_text('recipe = "segmenter"\n')
    command = ["train", str(generator_file), "--out", str(tmp_path / "run"), "--config", str(toml)]
    assert cli.main(command) == cli.FAILURE
    assert "These are settings of a segmenter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("resolution", "size", "rendered"), [(1024, 256, 256), (1024, 320, 512), (64, 256, 64), (96, 32, 48), (64, 32, 32)]
)
def test_pairs_are_rendered_no_smaller_than_needed(resolution: int, size: int, rendered: int) -> None:
    assert rendered_size(resolution, size) == rendered
