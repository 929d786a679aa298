from __future__ import annotations

import json
import math

import pytest

from labels4free.errors import RunError
from labels4free.training.log_tail import LogTail


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


def line(iteration: int, **more: object) -> str:
    return json.dumps({"attempt": 0, "iteration": iteration, "step": iteration - 2, **more}) + "\n"


def read(tail: LogTail) -> list[int]:
    return [entry.iteration for entry in tail.entries()]


def test_a_log_that_is_not_there_has_no_entries_yet(path):
    tail = LogTail(path)
    assert not tail.cut_back()
    assert read(tail) == []
    path.write_text(line(1))
    assert not tail.cut_back()
    assert read(tail) == [1]


def test_only_what_is_new_is_read_and_half_a_line_waits(path):
    tail = LogTail(path)
    whole = line(3)
    path.write_text(line(1) + line(2) + whole[:9])
    assert read(tail) == [1, 2]
    assert read(tail) == []
    path.write_text(line(1) + line(2) + whole)
    assert not tail.cut_back()
    assert read(tail) == [3]


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


def test_a_log_that_was_cut_back_and_has_grown_again_the_same_is_not_read_twice(path):
    tail = LogTail(path)
    path.write_text(line(1) + line(2))
    read(tail)
    path.write_text(line(1) + line(2) + line(3))
    assert not tail.cut_back()
    assert read(tail) == [3]


def test_what_an_entry_holds(path):
    path.write_text(line(7, loss=None, accuracy=1, word="x", flag=True, problem="empty"))
    (entry,) = LogTail(path).entries()
    assert (entry.member, entry.attempt, entry.iteration, entry.step) == (0, 0, 7, 5)
    assert entry.numbers.keys() == {"loss", "accuracy"}
    assert math.isnan(entry.numbers["loss"])
    assert (entry.problem, entry.lost) == ("empty", None)


def test_the_entry_of_a_lost_attempt(path):
    path.write_text('{"attempt": 1, "iteration": 9, "lost": "full", "member": 2}\n')
    (entry,) = LogTail(path).entries()
    assert entry == (2, 1, 9, None, {}, None, "full")


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ("{\n", "is no entry of a training log"),
        ("[1]\n", "is no entry of a training log"),
        ("\0\0\0\n", "is no entry of a training log"),
        ('{"step": 1, "iteration": 2}\n', "it lacks 'attempt'"),
        ('{"attempt": 0, "iteration": 1.5, "step": 1}\n', "its position is no whole number"),
        (line(2, x=10**400), "is no entry of a training log"),
        ("[" * 100_000 + "\n", "is no entry of a training log"),
    ],
)
def test_a_damaged_line_is_named(path, damaged, said):
    path.write_text(line(1) + damaged + line(3))
    with pytest.raises(RunError, match=f"Line 2 of .*{said}"):
        list(LogTail(path).entries())


def test_a_log_that_cannot_be_read(path):
    path.mkdir()
    with pytest.raises(RunError, match=r"log\.jsonl cannot be read: "):
        LogTail(path).cut_back()
    with pytest.raises(RunError, match=r"log\.jsonl cannot be read: "):
        list(LogTail(path).entries())
