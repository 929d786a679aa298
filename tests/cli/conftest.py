"""Trainings by command line."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.tiny_run import SETTINGS, any_masks_serve, as_settings, content, outcome, write_generator

from labels4free import cli
from labels4free.checkpoints.native import write_native
from labels4free.networks.merge_network import MergeNetwork

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_WITHOUT_TORCH = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "safetensors"):
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Missing())
from labels4free.cli import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def _log_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("labels4free")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logger.level)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any masks serve, no waiting for the disk, no terminal."""
    any_masks_serve(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session")
def generator_file(tmp_path_factory: pytest.TempPathFactory, tiny_generator: Any) -> Path:
    return write_generator(tmp_path_factory.mktemp("generator") / "tiny.safetensors", tiny_generator)


@pytest.fixture(scope="session")
def whole(generator_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves that nothing interrupts."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        any_masks_serve(monkeypatch)
        assert cli.main(["train", str(generator_file), "--out", str(run), *as_settings(SETTINGS)]) == cli.SUCCESS
    return outcome(run)


@pytest.fixture
def words(generator_file: Path, tmp_path: Path, quick: None) -> Callable[..., list[str]]:
    """The words of a short training into the folder ``run``, and more words behind them."""

    def words(*more: str, generator: str | Path = generator_file) -> list[str]:
        return ["train", str(generator), "--out", str(tmp_path / "run"), *as_settings(SETTINGS), *more]

    return words


@pytest.fixture
def resume(generator_file: Path, tmp_path: Path, quick: None) -> list[str]:
    return ["train", str(generator_file), "--out", str(tmp_path / "run"), "--resume"]


@pytest.fixture
def write_alpha(tmp_path: Path, tiny_generator: Any) -> Callable[..., str]:
    """Write an untrained alpha network for the tiny generator; the keywords are what its file says about itself.

    With a bias of 2.5 half of each image is object, with none nothing.
    """

    def write(bias: float = 0.0, **info: Any) -> str:
        torch.manual_seed(0)
        network = MergeNetwork(tiny_generator.feature_specs, tiny_generator.resolution, width=4)
        with torch.no_grad():
            network.head.weight.mul_(50)
            network.head.bias.fill_(bias)
        path, (config, state) = tmp_path / "alpha.safetensors", (network.config(), network.state_dict())
        write_native(path, kind="alpha_network", family="merge", config=config, state=state, info=info)
        return str(path)

    return write


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, list[str]]]:
    """Run a command: its exit code, what it prints, and the lines on stderr that are ours."""

    def said(*words: object) -> tuple[int, str, list[str]]:
        code = cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        ours = [line.removeprefix("labels4free: ") for line in err.splitlines() if line.startswith("labels4free: ")]
        return code, out, ours

    return said


@pytest.fixture
def without_torch() -> Callable[[list[str]], str]:
    """Run a command in a process that has no PyTorch: what it prints."""

    def run(words: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, "-c", _WITHOUT_TORCH, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


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
