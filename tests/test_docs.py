"""What the guides tell people to type must work, as what the README does."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from tests.test_readme import ROOT, parses

GUIDES = ("data_sets.md", "scaling.md", "evaluation.md", "metrics.md", "data.md", "from_the_original.md")


def blocks(guide: str, language: str) -> list[str]:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def command_lines(guide: str) -> list[list[str]]:
    """The words behind ``labels4free`` of every command, however it is launched."""
    lines = "\n".join(blocks(guide, "sh")).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        words = shlex.split(re.sub(r"\[(.*?)\]", r"\1", line), comments=True)  # what is in brackets may be left out
        if "labels4free" in words:
            found.append(words[words.index("labels4free") + 1 :])
    return found


COMMANDS = [(guide, words) for guide in GUIDES for words in command_lines(guide)]


def test_every_guide_has_commands():
    assert {guide for guide, _ in COMMANDS} == set(GUIDES)


@pytest.mark.parametrize(("guide", "words"), COMMANDS, ids=[f"{guide}:{' '.join(w)}" for guide, w in COMMANDS])
def test_command_line_parses(guide, words, monkeypatch):
    assert parses(words, monkeypatch), guide


@pytest.mark.parametrize("guide", GUIDES)
def test_python_compiles(guide):
    for code in blocks(guide, "python"):
        ast.parse(code)


@pytest.mark.parametrize("guide", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_linked_files_exist(guide):
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not Path(ROOT / "docs" / link).exists()] == []
