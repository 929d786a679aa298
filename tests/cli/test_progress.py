from __future__ import annotations

import pytest

from labels4free.cli.progress import progress_bar


def test_last_state_is_shown_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Counting") as update:
        update(1, 5)
        update(4, 5, {"loss": 0.123456, "coverage": 0.5})
    said = capsys.readouterr()
    assert said.out == ""
    line = " ".join(said.err.split())
    assert line.startswith("Counting ")
    assert " 4/5 " in line
    assert "loss 0.123 coverage 0.5" in line


def test_nothing_is_shown_before_the_first_update(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="wrong"), progress_bar("Counting"):
        raise ValueError("wrong")
    assert capsys.readouterr().err == ""


def test_an_error_ends_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    def fail_at_two() -> None:
        with progress_bar("Counting") as update:
            update(2, 5)
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail_at_two()
    assert " 2/5 " in capsys.readouterr().err
