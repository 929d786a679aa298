from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labels4free import cli
from labels4free.chain import run as chain_run
from labels4free.chain.budget import Plan, Planned
from labels4free.chain.config import ChainConfig
from labels4free.chain.run import Asked, ChainResult
from labels4free.errors import RunError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the chain by one that ends as its last call says: what it was called with."""
    made: list[Any] = [ChainResult(Path("a class/segmenter.safetensors"), Path("a class/index.html"), 61.0)]

    def run(photos: Path, out: Path, asked: Asked, *, device: str, watch: Any, planned: Any) -> ChainResult:
        made.append((photos, out, asked, device))
        planned(Plan(ChainConfig(), {"alpha": Planned("600 steps", 61.0), "pairs": Planned("9 images", 5.0)}), "40m")
        watch.say("[1/7] prepare: crop")
        with watch.bar("Preparing") as update:
            update(1, 2)
        if isinstance(made[0], Exception):
            raise made[0]
        return made[0]

    monkeypatch.setattr(chain_run, "run_chain", run)
    return made


def test_says_what_the_budget_buys_and_how_to_cut_out_a_photo(
    calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--budget", "40m", "--resolution", "32", "--mirror", "--seed", "2", "--pretrained", "cats.pkl"]
    flags += ["--set", "alpha.steps=9", "--set", "segmenter.steps=8"]
    assert cli.main(["from-photos", "cats", "--out", "a class", *flags]) == cli.SUCCESS
    asked = Asked(
        32, "40m", mirror=True, pretrained="cats.pkl", seed=2, settings=["alpha.steps=9", "segmenter.steps=8"]
    )
    assert calls[1:] == [(Path("cats"), Path("a class"), asked, "cpu")]
    assert capsys.readouterr().out.splitlines() == [
        "What 40m buys on this machine:",
        "  alpha      600 steps  1 min 01 s",
        "  pairs      9 images   5 s",
        "[1/7] prepare: crop",
        "Done in 1 min 01 s. Open a class/index.html in a browser. Cut out a photo:",
        "  labels4free segment PHOTO.jpg --model 'a class/segmenter.safetensors' --out cut",
    ]


def test_what_is_not_asked_for_is_left_to_the_chain(calls: list[Any]) -> None:
    assert cli.main(["from-photos", "cats", "--out", "c"]) == cli.SUCCESS
    assert calls[1][2] == Asked()


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupt_says_the_command_that_goes_on(
    calls: list[Any], capsys: pytest.CaptureFixture[str], number: str, code: int
) -> None:
    calls[0] = ChainResult(None, None, 3.0, number)
    assert cli.main(["from-photos", "my cats", "--out", "c", "--device", "cpu", "--seed", "1"]) == code
    assert "go on with:\n  labels4free from-photos 'my cats' --out c\n" in capsys.readouterr().err


def test_another_device_is_part_of_that_command(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    calls[0] = ChainResult(None, None, 3.0, "SIGINT")
    assert cli.main(["from-photos", "cats", "--out", "c", "--device", "cuda"]) == cli.INTERRUPTED
    assert "labels4free from-photos cats --out c --device cuda\n" in capsys.readouterr().err


def test_a_chain_that_stops_is_a_failure(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    calls[0] = RunError("The chain stops at the stage check: the masks are empty.")
    assert cli.main(["from-photos", "cats", "--out", "c"]) == cli.FAILURE
    assert "labels4free: The chain stops at the stage check" in capsys.readouterr().err


def test_refuses_several_processes(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["from-photos", "cats", "--out", "c"]) == cli.FAILURE
    assert len(calls) == 1


@pytest.mark.slow
def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for flags in (["--resolution", "48"], ["--set", "x=1"], ["--budget", "0m"], []):
        command = ["from-photos", str(tmp_path / "empty"), "--out", str(tmp_path / "out"), *flags]
        assert cli.main(command) == cli.FAILURE
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
