from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from labels4free.errors import ConfigError
from labels4free.settings_fields import as_json, build, change, check_types, flat, merged, unknown_names, within


@dataclass(frozen=True)
class Section:
    rate: float = 0.5
    kind: Literal["round", "square"] = "round"

    def __post_init__(self):
        check_types(self, "section.")


@dataclass(frozen=True)
class Config:
    count: int = 3
    name: str | None = None
    on: bool = False
    section: Section = field(default_factory=Section)

    def __post_init__(self):
        check_types(self)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Config(count="3"), "count must be int, got '3'."),
        (lambda: Config(count=3.0), "count must be int, got 3.0."),
        (lambda: Config(count=True), "count must be int, got True."),
        (lambda: Config(count=None), "count must be int, got None."),
        (lambda: Config(name=3), "name must be str or none, got 3."),
        (lambda: Config(on=1), "on must be bool, got 1."),
        (lambda: Config(section={}), "section must be a Section, got {}."),
        (lambda: Section(rate="fast"), "section.rate must be float, got 'fast'."),
        (lambda: Section(rate=float("nan")), "section.rate must be float, got nan."),
        (lambda: Section(rate=float("inf")), "section.rate must be float, got inf."),
        (lambda: Section(kind="oval"), "section.kind must be one of round, square, got 'oval'."),
        (lambda: Section(kind=None), "section.kind must be one of round, square, got None."),
    ],
)
def test_values_of_the_wrong_type(make, sentence):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == sentence


def test_values_of_the_right_type():
    assert Section(rate=2).rate == 2
    assert Config(name="x", on=True).name == "x"
    assert build(Config, {"section": {"kind": "square"}}).section.kind == "square"
    assert change(Config(), settings=["section.kind=square"]).section.kind == "square"


def test_infinite_numbers_where_they_are_allowed():
    section = object.__new__(Section)
    object.__setattr__(section, "rate", float("inf"))
    object.__setattr__(section, "kind", "round")
    check_types(section, finite=False)
    with pytest.raises(ConfigError):
        check_types(section)


def test_settings_win_over_a_table_and_a_table_over_the_configuration():
    base = Config(count=1, name="base")
    table = {"count": 2, "section": {"rate": 2}}
    changed = change(base, table, ["section.rate=3"])
    assert (changed.count, changed.name, changed.section) == (2, "base", Section(rate=3.0))
    assert base == Config(count=1, name="base")
    assert table == {"count": 2, "section": {"rate": 2}}


def test_merged_tables():
    assert merged({"a": 1, "b": {"c": 1, "d": 1}}, {"b": {"c": 2}, "e": 3}) == {"a": 1, "b": {"c": 2, "d": 1}, "e": 3}
    assert merged({"a": {"b": 1}}, {"a": 2}) == {"a": 2}
    assert merged({"a": 2}, {"a": {"b": 1}}) == {"a": {"b": 1}}


def test_flat_tables():
    assert flat({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "b.c": 2, "b.d.e": 3}


def test_unknown_names():
    values = {"count": "any value", "colour": 1, "section": {"rate": 1, "hue": 2}, "name": {"first": "x"}}
    assert unknown_names(Config, values) == {
        "colour": "count, name, on, section",
        "section.hue": "section.rate, section.kind",
    }
    assert unknown_names(Config, {}) == {}


@dataclass(frozen=True)
class Ranges:
    a: float | None = 0.5
    words: tuple[str, ...] = ()
    shape: Literal["round", "square"] | None = None

    def __post_init__(self):
        check_types(self)


def test_tuples_and_words_that_may_be_none():
    made = build(Ranges, {"words": ["x", "y"], "shape": "round"})
    assert made == Ranges(words=("x", "y"), shape="round")
    assert build(Ranges, as_json(made)) == made
    assert as_json(made) == {"a": 0.5, "words": ["x", "y"], "shape": "round"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"words": "x"}, "words must be a list, got 'x'."),
        ({"words": ["x", 1]}, "an entry of words must be str, got 1."),
        ({"shape": "oval"}, "shape must be none or one of round, square, got 'oval'."),
    ],
)
def test_wrong_tuples_and_words(values, sentence):
    with pytest.raises(ConfigError) as caught:
        build(Ranges, values)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("interval", "inside", "outside", "sentence"),
    [
        ("[0, 1]", (0.0, 1.0, None), (-0.1, 1.1), "a must lie in [0, 1], got -0.1."),
        ("(0, 1)", (0.1, 0.9, None), (0.0, 1.0), "a must lie in (0, 1), got 0.0."),
        ("[1, inf)", (1.0, 1e9), (0.9,), "a must be at least 1, got 0.9."),
        ("(1, inf)", (1.1, 1e9), (1.0,), "a must be above 1, got 1.0."),
    ],
)
def test_intervals(interval, inside, outside, sentence):
    for value in inside:
        within(Ranges(value), interval, "a")
    for value in outside:
        with pytest.raises(ConfigError):
            within(Ranges(value), interval, "a")
    with pytest.raises(ConfigError) as caught:
        within(Ranges(outside[0]), interval, "a", prefix="loss.", hint="1 is usual")
    assert str(caught.value) == f"loss.{sentence[:-1]}; 1 is usual."
