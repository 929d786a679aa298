from __future__ import annotations

import json
import math

import pytest

from labels4free.errors import RunError
from labels4free.training.log_tail import LogTail, Series


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


# Series


def test_an_empty_series():
    series = Series()
    assert math.isnan(series.last)
    assert math.isnan(series.recent())
    assert series.points() == ()


def test_a_series_by_hand():
    series = Series()
    for iteration, value in enumerate((1.0, 4.0, math.nan, 2.0), start=1):
        series.add(iteration, value, step=10 * iteration)
    assert (series.last, series.last_at) == (2.0, 4)
    assert (series.best, series.best_step) == (4.0, 20)
    assert series.recent() == pytest.approx(7 / 3)
    assert series.points() == (1.0, 4.0, 2.0)
    series.add(5, math.inf)
    assert series.last == math.inf
    assert series.points() == (1.0, 4.0, 2.0)


@pytest.mark.parametrize("count", [255, 256, 257, 1000, 12345])
def test_a_long_series_keeps_its_shape_in_little_memory(count):
    series = Series()
    for i in range(count):
        series.add(i, float(i))
    points = series.points()
    assert 100 < len(points) <= Series.CAPACITY
    assert list(points) == sorted(points)
    assert points[0] < count / 100
    assert points[-1] > count * 0.98
    assert series.recent() == pytest.approx(count - 16.5)
