from __future__ import annotations

import json
import math

import pytest

from labels4free.errors import RunError
from labels4free.training_loop.log import LogEntry, LogTail, read_log


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


def line(iteration: int, **more: object) -> str:
    return json.dumps({"restart": 0, "iteration": iteration, "step": iteration - 2, **more}) + "\n"


def read(tail: LogTail) -> list[int]:
    return [entry.iteration for entry in tail.entries()]


def test_only_what_is_new_is_read_and_half_a_line_waits(path):
    tail, whole = LogTail(path), line(3)
    assert not tail.cut_back()
    assert read(tail) == []  # there is no log yet
    for text, new in (
        (line(1), [1]),
        (line(1) + line(2) + whole[:9], [2]),
        (line(1) + line(2) + whole[:9], []),
        (line(1) + line(2) + whole, [3]),  # also where it was cut back and has grown again the same
    ):
        path.write_text(text)
        assert not tail.cut_back()
        assert read(tail) == new


def test_a_log_longer_than_a_block(path):
    path.write_text("".join(line(i, padding="x" * 1000) for i in range(3000)))
    assert read(LogTail(path)) == list(range(3000))


@pytest.mark.parametrize("after", ["", line(1), line(1) + line(5) + line(6) + line(7)])
def test_a_log_that_was_cut_back_is_read_from_its_start(path, after):
    tail = LogTail(path)
    path.write_text(line(1) + line(2))
    read(tail)
    path.write_text(after)
    assert tail.cut_back()
    assert not tail.cut_back()
    assert read(tail) == ([1, 5, 6, 7] if "5" in after else [1] if after else [])


def test_values_as_they_are_from_any_line_on(path):
    first, second = line(1, word="größer", loss=None), line(2)
    path.write_text(first + second + "{", encoding="utf-8")
    found = list(read_log(path))
    assert [values for _, values in found] == [json.loads(first), json.loads(second)]
    assert list(read_log(path, len(found[0][0]))) == found[1:]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            {
                "restart": 0,
                "iteration": 7,
                "step": 5,
                "loss": 2,
                "accuracy": 1.5,
                "word": "x",
                "flag": True,
                "problem": "empty",
            },
            (0, 0, 7, 5, {"loss": 2.0, "accuracy": 1.5}, "empty", None),
        ),
        ({"restart": 1, "iteration": 9, "lost": "full", "member": 2}, (2, 1, 9, None, {}, None, "full")),
        (
            {"restart": 1, "iteration": 9, "step": 4, "member": 2},
            (2, 1, 9, 4, {}, None, None),
        ),
    ],
)
def test_what_an_entry_holds(path, entry, expected):
    path.write_text(json.dumps(entry) + "\n")
    (found,) = LogTail(path).entries()
    assert found == expected


def test_what_json_lacks_is_not_a_number():
    assert math.isnan(LogEntry.of({"restart": 0, "iteration": 1, "loss": None}).numbers["loss"])


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ("{\n", "is no entry of a training log"),
        ("[1]\n", "is no entry of a training log"),
        ("\0\0\0\n", "is no entry of a training log"),
        ('{"step": 1, "iteration": 2}\n', "it lacks 'restart'"),
        ('{"restart": 0, "iteration": 1.5, "step": 1}\n', "its position is no whole number"),
        (line(2, x=10**400), "is no entry of a training log"),
        ("[" * 100_000 + "\n", "is no entry of a training log"),
    ],
)
def test_a_damaged_line_is_named(path, damaged, said):
    path.write_text(line(1) + damaged + line(3))
    with pytest.raises(RunError, match=f"Line 2 of .*{said}"):
        list(LogTail(path).entries())


@pytest.mark.parametrize("look", [LogTail.cut_back, lambda tail: list(tail.entries())])
def test_a_log_that_cannot_be_read(path, look):
    path.mkdir()
    with pytest.raises(RunError, match=r"log\.jsonl cannot be read: "):
        look(LogTail(path))
