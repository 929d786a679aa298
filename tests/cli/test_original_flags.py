"""Flags of the original repositories: each is answered with what it is here, and the page says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.test_readme import parses

from labels4free import cli
from labels4free.cli.original_flags import ORIGINAL_FLAGS
from labels4free.settings_fields import flat
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.alpha.paper_config import PaperConfig
from labels4free.training.generator.config import GeneratorConfig

PAGE = (Path(__file__).parents[2] / "docs" / "from_the_original.md").read_text(encoding="utf-8")
FLAGS = [(verb, flag, now) for verb, flags in ORIGINAL_FLAGS.items() for flag, now in flags.items()]
NAMED = [(verb, flag, name) for verb, flag, now in FLAGS for name in re.findall(r"(?<![-\w])--?[a-z][-a-z]*", now)]
TYPED = ("--size", "--ckpt", "--reproduce_model")
SETTINGS = {"train": (TrainConfig, PaperConfig), "train-generator": (GeneratorConfig,)}


@pytest.mark.parametrize(("verb", "flag", "now"), FLAGS, ids=[f"{verb} {flag}" for verb, flag, _ in FLAGS])
def test_a_flag_of_the_originals_is_answered(verb, flag, now, capsys):
    for words in ([flag, "1"], [f"{flag}=1"]):
        assert cli.main([verb, *words]) == cli.FAILURE
        assert capsys.readouterr().err == f"labels4free: {flag} of the original code {now}.\n"


def test_several_are_answered_at_once(capsys):
    assert cli.main(["train", "--size", "64", "--ckpt", "g.pt", "--reproduce_model", "--size", "64"]) == cli.FAILURE
    answers = (f"{flag} of the original code {ORIGINAL_FLAGS['train'][flag]}" for flag in TYPED)
    assert capsys.readouterr().err == f"labels4free: {'; '.join(answers)}.\n"


@pytest.mark.parametrize(("verb", "flag", "name"), NAMED, ids=[" ".join(words) for words in NAMED])
def test_what_is_named_exists(verb, flag, name, capsys):
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    said = capsys.readouterr().out
    assert re.search(rf"{name}\b", said), name
    assert not re.search(rf"^│ {flag}\b(?!-)", said, flags=re.MULTILINE), f"{flag} is a flag of its own"


@pytest.mark.parametrize(("verb", "flag", "now"), FLAGS, ids=[f"{verb} {flag}" for verb, flag, _ in FLAGS])
def test_settings_that_are_named_exist(verb, flag, now):
    known = {field for kind in SETTINGS.get(verb, ()) for field in flat(kind().to_json())}
    named = re.findall(r"[a-z0-9]+\.[a-z0-9_]+", now) if verb in SETTINGS else []
    assert set(named) <= known, flag


def test_the_page_has_the_same_flags():
    rows: dict[str, dict[str, str]] = {}
    for section in PAGE.split("\n### ")[1:]:
        verb = section.split("`")[1]
        rows[verb] = dict(re.findall(r"^\| `(-[^`]+)` \| (.+) \|$", section, flags=re.MULTILINE))
    assert rows == ORIGINAL_FLAGS


def test_the_rank_that_an_old_launcher_adds_is_passed_over(monkeypatch):
    assert parses(["train", "--local-rank=3", "a-generator", "--out", "run"], monkeypatch)
    assert parses(["train", "--local_rank=0", "a-generator", "--out", "run"], monkeypatch)
