from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from labels4free.errors import ConfigError
from labels4free.training.settings import build, change, check_types, flat, merged, unknown_names


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
