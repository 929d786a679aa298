from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from labels4free.errors import RunError
from labels4free.folders import check_unused, claim, write_json

if TYPE_CHECKING:
    from pathlib import Path

NOTE = "note.json"
SUM, OTHER_SUM = "a" * 64, "b" * 64
SETTINGS = {"generator": SUM, "sizes": [64, 128], "seed": 0, "label": None}


def test_a_folder_is_claimed_once_and_recognised_then(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not claim(out, NOTE, SETTINGS, "samples")
    assert not out.exists()
    write_json(out / NOTE, SETTINGS)
    assert (out / NOTE).read_text() == json.dumps(SETTINGS, indent=1) + "\n"
    (out / "more.png").touch()
    assert claim(out, NOTE, SETTINGS, "samples")
    assert claim(out, NOTE, {"kind": 1}, "samples", lambda: {"kind": 1})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 3}, "holds samples made with seed 0, asked for was 3: choose another output folder"),
        ({"sizes": [64]}, "made with sizes 64,128, asked for was 64:"),
        ({"label": 2}, "made with label by default, asked for was 2:"),
        ({"generator": OTHER_SUM}, "holds samples of another generator: choose another output folder"),
        ({"more": True}, "made with more by default, asked for was True"),
    ],
)
def test_other_settings_need_another_folder(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    write_json(tmp_path / NOTE, SETTINGS)
    with pytest.raises(RunError, match=said):
        claim(tmp_path, NOTE, SETTINGS | change, "samples")
    assert claim(tmp_path, NOTE, SETTINGS | {"label": 2}, "samples", free=["label"])
    with pytest.raises(RunError, match="seed 0, asked for was 3"):
        claim(tmp_path, NOTE, SETTINGS | {"seed": 3}, "samples", free=["seed"])


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '"a"', "\xff"])
def test_a_note_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / NOTE).write_text(text, encoding="latin-1")
    with pytest.raises(RunError, match=r"note\.json (is not|cannot be read as) a manifest of samples.*: choose"):
        claim(tmp_path, NOTE, SETTINGS, "samples")


def test_places_that_cannot_serve(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file is a file, a folder was expected: choose another output folder"):
        check_unused(tmp_path / "file", "samples")
    with pytest.raises(RunError, match=r"is not empty and holds no earlier samples \(it holds file\): choose a new or"):
        claim(tmp_path, NOTE, SETTINGS, "samples")
    for name in "abc":
        (tmp_path / name).touch()
    with pytest.raises(RunError, match=r"it holds a, b, c, \.\.\.\)"):
        check_unused(tmp_path, "samples")


def test_what_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".left.tmp").touch()
    (tmp_path / "pictures").mkdir()
    check_unused(tmp_path, "runs", scaffold=["pictures", "checkpoints"])
    with pytest.raises(RunError, match="it holds pictures"):
        check_unused(tmp_path, "runs")
    (tmp_path / "pictures" / "a.png").touch()
    with pytest.raises(RunError, match="it holds pictures"):
        check_unused(tmp_path, "runs", scaffold=["pictures"])


def test_a_note_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"note\.json cannot be written: "):
        write_json(tmp_path / "file" / NOTE, {})
