"""Trainings by command line."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import pytest
from tests.tiny_run import SETTINGS, any_masks_serve, as_settings, content, outcome, write_generator

from labels4free import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any masks serve, no waiting for the disk, no terminal, and the log as it was."""
    logger = logging.getLogger("labels4free")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logger.level)
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
