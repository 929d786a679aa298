from __future__ import annotations

import re
import time

import pytest
from tests.refusals import refuses

from labels4free.cli.progress import progress_bar


def test_last_state_is_shown_on_stderr(capsys):
    with progress_bar("Counting") as update:
        update(1, 5)
        update(4, 5, {"loss_red": 0.128, "foreground_ratio": 0.5})
    said = capsys.readouterr()
    assert said.out == ""
    line = " ".join(said.err.split())
    assert line.startswith("Counting ")
    assert " 4/5 " in line
    assert "red 0.13 fg ratio 0.50" in line


def test_a_log_gets_a_line_a_minute(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress_bar("Counting") as update:
        for done in range(1, 11):
            now[0] += 25.0
            update(done, 10)
    said = [re.search(r"(\d+)/10", line)[1] for line in capsys.readouterr().err.splitlines()]
    assert said == ["3", "6", "9", "10"]


def test_too_many_numbers_leave_the_rest_readable(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with progress_bar("Training", before="Rendering") as update:
        update(1234, 5678, {f"loss_number_{k}": 1.0 for k in range(9)})
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    assert line.startswith("Training ")
    assert " 1234/5678 " in line
    assert "number_0 1.00" in line


def test_a_stage_without_numbers_can_have_its_own_word(capsys):
    with progress_bar("Training", before="Rendering") as update:
        update(3, 4)
    with progress_bar("Training", before="Rendering") as update:
        update(3, 4)
        update(1, 9, {"loss": 1.0})
    first, second = capsys.readouterr().err.strip().splitlines()
    assert first.startswith("Rendering ")
    assert second.startswith("Training ")
    assert " 1/9 " in second


def test_nothing_is_shown_before_the_first_update(capsys):
    with pytest.raises(ValueError, match="wrong"), progress_bar("Counting"):
        raise ValueError("wrong")
    assert capsys.readouterr().err == ""


def test_an_error_ends_the_bar(capsys):
    def fail_at_two():
        with progress_bar("Counting") as update:
            update(2, 5)
            raise ValueError("wrong")

    refuses(ValueError, "wrong", fail_at_two)
    assert " 2/5 " in capsys.readouterr().err
