"""What the README tells people to type must work: make targets, `labels4free` command lines, Python imports."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import labels4free
from labels4free import cli
from labels4free.networks.merge_network import MergeNetwork

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(*languages: str) -> list[str]:
    """Return the fenced code blocks in one of these languages."""
    fenced = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    return [body for language, body in fenced if language in languages]


def command_lines() -> list[list[str]]:
    """Return the words of every command in the shell blocks, without prompt, comment and variables set for it."""
    lines = "\n".join(blocks("", "sh", "bash", "shell", "console")).replace("\\\n", " ").splitlines()
    commands = []
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words and re.fullmatch(r"[A-Z_0-9]+=.*", words[0]):
            words = words[1:]
        commands.append(words)
    return [words for words in commands if words]


COMMANDS = command_lines()
OURS = [words[1:] for words in COMMANDS if words[0] == "labels4free"]
MADE = [words[1:] for words in COMMANDS if words[0] == "make"]


def parses(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the command takes these arguments: the verb's function is replaced by one of its signature."""
    if arguments[:1] in (["--help"], ["--version"]):
        return True
    module = importlib.import_module(cli.VERBS[arguments[0]].module)
    reached = []
    stub = functools.wraps(module.run)(lambda *args, **kwargs: reached.append((args, kwargs)))
    monkeypatch.setattr(module, "run", stub)
    try:
        return cli.main(arguments) == 0 and len(reached) == 1
    except SystemExit as end:
        return end.code == 0 and "--help" in arguments


def test_the_two_commands_are_there():
    assert ["demo"] in MADE
    assert ["test"] in MADE


@pytest.mark.parametrize("arguments", MADE, ids=" ".join)
def test_make_target_exists(arguments):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in (word for word in arguments if "=" not in word):
        assert re.search(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE), f"no make target {target}"
    for variable in (word.partition("=")[0] for word in arguments if "=" in word):
        assert f"$({variable})" in makefile, f"the Makefile does not use {variable}"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", OURS, ids=" ".join)
def test_command_line_parses(arguments, monkeypatch):
    assert parses(arguments, monkeypatch)


@pytest.mark.slow
def test_a_wrong_command_line_would_be_noticed(monkeypatch):
    assert not parses(["train", "a-generator", "--colour", "red"], monkeypatch)


def test_python_compiles_and_imports_public_names():
    nodes = (node for code in blocks("python") for node in ast.walk(ast.parse(code)))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == "labels4free":
            assert {name.name for name in node.names} <= set(labels4free.__all__)


def test_python_runs(monkeypatch, tiny_generator):
    alpha = MergeNetwork(tiny_generator.feature_specs, tiny_generator.resolution)
    monkeypatch.setattr(labels4free, "load_generator", lambda name: tiny_generator, raising=False)
    monkeypatch.setattr(labels4free, "load_alpha_network", lambda name: alpha, raising=False)
    for code in blocks("python"):
        found: dict[str, Any] = {}
        exec(compile(code, "README.md", "exec"), found)
        side = tiny_generator.resolution
        assert found["foreground"].shape == found["background"].shape == (1, 3, side, side)
        assert found["alpha"].shape == (1, 1, side, side)


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r"src=\"([^\":]+)\"", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
