"""``--resume auto``: one command that starts, goes on, passes over damaged checkpoints, and says when all is done."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

import pytest
from tests.tiny_run import SETTINGS, TOTAL, as_settings, content, interrupt_at, outcome

from labels4free import cli
from labels4free.training_loop.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("quick")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bits(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 4, len(data), 999):  # one may hit nothing but padding
        data[place] ^= 1
    path.write_bytes(data)


def test_it_starts_a_run_and_goes_on_with_it(
    words: Callable[..., list[str]],
    tmp_path: Path,
    whole: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = words("--resume", "auto")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6, signal.SIGTERM)
        assert cli.main(command) == 143
    assert cli.main(command) == cli.SUCCESS
    assert outcome(tmp_path / "run") == whole
    before = content(tmp_path / "run")
    capsys.readouterr()
    assert cli.main(command) == cli.SUCCESS
    said = capsys.readouterr()
    assert f"The run in {tmp_path / 'run'} is finished: nothing is left to do." in said.err
    assert f"{TOTAL} steps; masks cover" in said.out
    assert content(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("damage", "left"),
    [([truncate], 2), ([flip_bits], 2), ([truncate, flip_bits], 1), ([flip_bits, truncate, flip_bits], 0)],
    ids=["truncated", "flipped", "both", "all"],
)
def test_damaged_checkpoints_are_passed_over(
    words: Callable[..., list[str]],
    tmp_path: Path,
    whole: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: list[Callable[[Path], None]],
    left: int,
) -> None:
    for iteration in (3, 6, 8):  # a checkpoint at each, besides those of every fifth
        with monkeypatch.context() as patch:
            interrupt_at(patch, iteration, signal.SIGTERM)
            assert cli.main(words("--resume", "auto")) == 143
    files = sorted((tmp_path / "run" / "checkpoints" / "member_0" / "restart_0").iterdir(), reverse=True)
    assert [path.name for path in files] == ["step_000009.pt", "step_000007.pt", "step_000005.pt"]
    for path, do in zip(files, damage, strict=False):
        do(path)
    capsys.readouterr()
    newest = RunDir(tmp_path / "run").latest_checkpoint()
    assert (newest.step if newest else 0) == [0, 5, 7][left]
    assert cli.main(words("--resume", "auto")) == cli.SUCCESS
    said = capsys.readouterr().err
    for path in files[: len(damage)]:
        assert re.search(rf"^Checkpoint {path} is damaged and was passed over: \S", said, re.M)
    assert outcome(tmp_path / "run") == whole


def test_a_run_keeps_its_settings(
    words: Callable[..., list[str]],
    refused: Callable[[list[str]], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt_at(monkeypatch, 2, signal.SIGTERM)
    assert cli.main(words("--resume", "auto")) == 143
    said = refused(words("--resume", "auto", "--set", "seed=3"))
    assert "A resumed run keeps its settings" in said
    assert "seed=0 (asked for: 3)" in said


def test_a_folder_with_something_else_is_left_alone(
    generator_file: Path, tmp_path: Path, refused: Callable[[list[str]], str]
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    command = ["train", str(generator_file), "--out", str(out), *as_settings(SETTINGS), "--resume", "auto"]
    assert "is not empty (it holds thesis.tex) and is no run" in refused(command)


def test_plain_resume_needs_a_run(resume: list[str], refused: Callable[[list[str]], str]) -> None:
    assert "There is no run to resume at" in refused(resume)


def test_another_word_is_a_usage_error(resume: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([*resume, "always"])
    assert caught.value.code == 2
    assert "auto" in capsys.readouterr().err
