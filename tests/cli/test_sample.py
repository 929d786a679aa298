from __future__ import annotations

import inspect
import json
import logging
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
import torch

from labels4free import cli, sampling
from labels4free.checkpoints import loading
from labels4free.checkpoints.native import write_native
from labels4free.cli import sample
from labels4free.data.sample_folder import FOLDERS, MANIFEST
from labels4free.networks.alpha_network import MergeNetwork
from labels4free.sampling import SampleConfig

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def generator_file(tmp_path: Path, tiny_generator: Any) -> Path:
    path = tmp_path / "tiny.safetensors"
    write_native(
        path,
        kind="generator",
        family=tiny_generator.family,
        config=tiny_generator.config(),
        state=tiny_generator.state_dict(),
    )
    return path


@pytest.fixture
def write_alpha(tmp_path: Path, tiny_generator: Any) -> Any:
    """Write an untrained alpha network for the tiny generator; the keywords are what its file says about itself."""

    def write(**info: Any) -> str:
        torch.manual_seed(0)
        network = MergeNetwork(tiny_generator.feature_specs, tiny_generator.resolution, width=4)
        with torch.no_grad():
            network.head.weight.mul_(50)
        path = tmp_path / "alpha.safetensors"
        config, state = network.config(), network.state_dict()
        write_native(path, kind="alpha_network", family="merge", config=config, state=state, info=info)
        return str(path)

    return write


def test_writes_samples_and_says_where(
    tmp_path: Path, write_alpha: Any, generator_file: Path, tiny_generator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint = loading.generator_fingerprint(tiny_generator)
    alpha = write_alpha(generator={"name": str(generator_file), "fingerprint": fingerprint})
    out = tmp_path / "out"
    words = ["--num", "2", "--seed", "4", "--truncation-psi", "0.5", "--threshold", "0.8", "--size", "32"]
    assert cli.main(["sample", alpha, "--out", str(out), *words]) == cli.SUCCESS
    said = capsys.readouterr().out
    assert f"2 samples in {out}, masks cover" in said
    assert f"Contact sheet: {out / 'contact_sheet.png'}" in said
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.png")) == sorted(
        ["contact_sheet.png", *(f"{folder}/0000{i}.png" for folder in FOLDERS for i in (0, 1))]
    )
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["generator"]["name"] == str(generator_file)
    assert manifest["generator"]["fingerprint"] == fingerprint
    settings = manifest["settings"]
    assert [settings[k] for k in ("seed", "truncation_psi", "threshold", "size")] == [4, 0.5, 0.8, 32]


def test_defaults_are_those_of_the_library() -> None:
    flags = inspect.signature(sample.run).parameters
    shared = [field for field in fields(SampleConfig) if field.name in flags]
    assert len(shared) == 6
    assert {field.name: flags[field.name].default for field in shared} == {
        field.name: field.default for field in shared
    }


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({}, "does not say which generator it belongs to; name it with --generator"),
        ({"generator": {"name": "/no/such/file"}}, "was trained on /no/such/file, which is not there"),
    ],
)
def test_without_a_generator_it_says_what_to_do(
    tmp_path: Path, write_alpha: Any, info: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sample", write_alpha(**info), "--out", str(tmp_path / "out"), "--num", "1"]) == cli.FAILURE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_changed_generator_is_refused_unless_it_is_named(
    tmp_path: Path, write_alpha: Any, generator_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alpha = write_alpha(generator={"name": str(generator_file), "fingerprint": "another"})
    words = ["sample", alpha, "--out", str(tmp_path / "out"), "--num", "1"]
    assert cli.main(words) == cli.FAILURE
    assert "its weights are others" in capsys.readouterr().err
    assert cli.main([*words, "--generator", str(generator_file)]) == cli.SUCCESS
    assert "was trained on other weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--num", "0"], "num must be at least 1 sample, got 0"),
        (["--num", "1", "--threshold", "2"], "threshold must lie in [0, 1], got 2.0"),
        (["--num", "1", "--device", "toaster"], "toaster"),
    ],
)
def test_bad_values_are_one_sentence(
    tmp_path: Path,
    write_alpha: Any,
    generator_file: Path,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alpha = write_alpha(generator={"name": str(generator_file)})
    assert cli.main(["sample", alpha, "--out", str(tmp_path / "out"), *words]) == cli.FAILURE
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_interrupt_says_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any, progress: Any, **rest: Any) -> None:
        progress(3, 9)
        raise KeyboardInterrupt

    monkeypatch.setattr(sampling, "sample_dataset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sample.sample_with_bar(None, tmp_path, 9, SampleConfig(), "tiny")
    assert f"3 of 9 samples are in {tmp_path}; the same command goes on from there." in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _restore_logging() -> Any:
    logger = logging.getLogger("labels4free")
    handlers, level = logger.handlers, logger.level
    yield
    logger.handlers, logger.level = handlers, level
