from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.soft_disc import SoftDisc

if TYPE_CHECKING:
    from pathlib import Path

from labels4free.checkpoints.native import write_native
from labels4free.errors import RunError
from labels4free.layered import LayeredGenerator
from labels4free.pages.demo import DemoResult, demo_report, duration
from labels4free.pages.html import write_report
from labels4free.sampling.dataset import sample_dataset


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, tiny_generator: Any) -> DemoResult:
    folder = tmp_path_factory.mktemp("demo")
    sample_dataset(LayeredGenerator(tiny_generator, SoftDisc(sign=-1.0)), folder / "samples", 3)
    (folder / "run").mkdir()
    write_native(
        folder / "run" / "alpha.safetensors",
        kind="alpha_network",
        family="merge",
        config={},
        state={},
        info={"restarts": 1, "train": {"steps": 700}},
    )
    entries = [
        {"restart": 0, "iteration": 1, "foreground_ratio": 0.9},
        {"restart": 0, "iteration": 1, "lost": "the masks are full"},
        {"restart": 1, "iteration": 1, "loss_adversarial": 0.5, "foreground_ratio": 0.4},
        {"restart": 1, "iteration": 2, "loss_adversarial": None, "foreground_ratio": 0.6},
        {"restart": 1, "iteration": 4, "loss_adversarial": 0.25, "foreground_ratio": True},
    ]
    (folder / "run" / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return DemoResult(folder / "run", folder / "samples", "tiny", {"fetch": 2.0, "train": 425.0, "sample": 61.0})


def test_says_what_was_measured(result: DemoResult) -> None:
    report = demo_report(result)
    assert "3 images with masks from tiny" in report.headline
    assert "8 weights" in report.headline
    assert "7 min 05 s" in report.headline
    assert ("8 min 08 s", "in all") in report.figures
    assert ("1", "automatic restarts of training") in report.figures
    rows = dict(next(section.rows for section in report.sections if section.rows))
    assert rows["Masks that cannot be right"] == "of 3: 0 empty, 0 full, 3 inverted"
    assert rows["Center bias"].startswith("-0.")
    assert rows["Alpha network"] == "8 weights, 700 steps"
    assert rows["Sampling"] == "1 min 01 s for 3 samples, 64 pixels a side"
    commands = [line for section in report.sections for line in section.commands]
    assert f"labels4free sample {result.run} --out masks --num 1000" in commands


def test_curves_are_those_of_the_log(result: DemoResult) -> None:
    (training,) = [section for section in demo_report(result).sections if section.title == "Training"]
    curves = {curve.title.split(":")[0]: list(curve.points) for curve in training.curves}
    assert curves == {"Alpha network": [(1, 0.5), (4, 0.25)], "Foreground ratio": [(1, 0.4), (2, 0.6)]}


def test_page_can_be_written_without_a_log(result: DemoResult, tmp_path: Path) -> None:
    (tmp_path / "alpha.safetensors").write_bytes((result.run / "alpha.safetensors").read_bytes())
    page = write_report(tmp_path / "r.html", demo_report(replace(result, run=tmp_path))).read_text()
    assert "Masks from nothing" in page
    assert "<svg" not in page


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (425, "7 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7380, "2 h 03 min"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_damaged_files_are_one_sentence(result: DemoResult, tmp_path: Path) -> None:
    (tmp_path / "alpha.safetensors").write_bytes((result.run / "alpha.safetensors").read_bytes())
    (tmp_path / "log.jsonl").write_text("{\n")
    with pytest.raises(RunError, match="cannot be read as a log"):
        demo_report(replace(result, run=tmp_path))
    (tmp_path / "manifest.json").write_text("{\n")
    with pytest.raises(RunError, match=r"manifest\.json cannot be read"):
        demo_report(replace(result, samples=tmp_path))
