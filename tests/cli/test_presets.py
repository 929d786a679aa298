from __future__ import annotations

import tomllib

import pytest

from labels4free import cli
from labels4free.training.presets import PRESETS


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)


def test_list_as_plain_text(capsys):
    assert cli.main(["presets"]) == cli.SUCCESS
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split("\t") == ["name", "recipe", "generator", "source"]
    rows = [line.split("\t") for line in lines]
    assert [row[0] for row in rows] == list(PRESETS)
    assert rows[0][1:3] == ["paper", "1024x1024"]
    kinds = {row[0]: row[1:3] for row in rows}
    assert kinds["auto"] == ["replay", "any"]
    assert kinds["tiny"] == ["stylegan2", "any"]
    assert [row[3] for row in rows] == [preset.source for preset in PRESETS.values()]


def test_list_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["presets"]) == cli.SUCCESS
    out = capsys.readouterr().out
    assert "\t" not in out
    assert all(name in out for name in PRESETS)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_one_in_full(capsys, name):
    assert cli.main(["presets", name]) == cli.SUCCESS
    text = capsys.readouterr().out
    assert text.startswith(f"# {name}: {PRESETS[name].source}")
    values = tomllib.loads(text)
    assert values.pop("recipe") == PRESETS[name].recipe
    expected = PRESETS[name].config.to_json()
    assert values["loss"] == {field: value for field, value in expected["loss"].items() if value is not None}
    clock = "images" if PRESETS[name].recipe == "stylegan2" else "steps"
    assert values[clock] == expected[clock]


def test_unknown_name(capsys):
    assert cli.main(["presets", "dogs"]) == cli.FAILURE
    assert capsys.readouterr().err == (f"labels4free: Unknown preset 'dogs'; the presets are {', '.join(PRESETS)}.\n")
