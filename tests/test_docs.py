"""What the guides tell people to type must work, as what the README does."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

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


@pytest.mark.slow
def test_a_loader_of_pairs_works_as_the_guide_says(tmp_path, monkeypatch):
    for name, colour in (("images", (200, 10, 30)), ("masks", 255)):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for number in range(12):
            mode = "RGB" if name == "images" else "L"
            Image.new(mode, (16, 16), colour).save(tmp_path / "faces" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    (code,) = [code for code in blocks("data_sets.md", "python") if "DataLoader" in code]
    found: dict[str, Any] = {"__name__": "guide"}
    exec(compile(code.replace("num_workers=2", "num_workers=0"), "data_sets.md", "exec"), found)
    batches = list(found["loader"])
    assert [len(batch["image"]) for batch in batches] == [8, 4]
    assert batches[0]["image"][0, 0, 0].tolist() == [200, 10, 30]
    assert batches[0]["mask"].shape == (8, 16, 16)
    assert int(batches[0]["mask"].min()) == 255


@pytest.mark.parametrize("guide", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_linked_files_exist(guide):
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not Path(ROOT / "docs" / link).exists()] == []
