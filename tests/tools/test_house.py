"""The measurements of tools/house.py, on a tiny package with everything wrong that it looks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tools import house

FILES = {
    "__init__": '"""The house."""\n\nfrom small.low import helper\n',
    "top": "def run(a, b, *, c):\n    from small.steps import train\n\n    return train(a, b, c)\n",
    "steps": (
        "from small import losses as cost\n"
        "from small.base import Network\n\n\n"
        "def train(a, b, c):\n    network: Network = c\n    return cost.hinge(network(a))\n"
    ),
    "base": "class Network:\n    def __call__(self, x):\n        raise NotImplementedError\n",
    "nets/__init__": "",
    "nets/merge": "import small.base\n\n\nclass Merge(small.base.Network):\n    scale = 2\n",
    "nets/other": "",
    "losses": "def hinge(x):\n    return x\n",
    "low": (
        "from typing import TYPE_CHECKING\n\n"
        "if TYPE_CHECKING:\n    from small.circle.a import First\n\n\n"
        "def helper(first: First):\n    return first\n"
    ),
    "circle/__init__": "",
    "circle/a": "from small.circle import b\n\nFirst = b.Second\n",
    "circle/b": "def back():\n    import small.circle.c\n\n\nclass Second: ...\n",
    "circle/c": "from small.circle.a import First\nfrom small.low import helper\n",
}
PATH = ("top", "steps", "nets.merge", "losses")


@pytest.fixture
def small(tmp_path):
    """A package named ``small``."""
    for name, text in FILES.items():
        path = tmp_path / "small" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "small"


def test_cycles_are_found_with_and_without_those_of_types(small):
    at_run_time = [["circle.a", "circle.b", "circle.c"]]
    assert house.cycles(small, typing=False) == at_run_time
    assert house.cycles(small, typing=True) == [[*at_run_time[0], "low"]]


def test_a_path_is_followed_by_calls_and_by_the_networks_that_are_held(small):
    assert house.hops(small, PATH) == [
        "top calls train -> steps",
        "steps holds Network -> nets.merge",
        "steps calls cost -> losses",
    ]


@pytest.mark.parametrize("aside", ["base", "low", "nets.other"])
def test_a_hop_that_is_not_there_is_said(small, aside):
    """``base`` is imported and never called, ``low`` by the package alone, ``nets.other`` by none."""
    assert house.hops(small, ("top", "steps", aside))[-1] == f"nothing before leads -> {aside}"


def test_what_a_path_takes_on_trust(small):
    assert house.beside(small, PATH) == {"small.base"}
    assert house.beside(small, ("circle.c", "low")) == {"small.circle.a"}  # at run time, `low` imports nothing


def test_folders_are_counted_by_level(small):
    assert house.full_folders(small) == {".": 5, "circle": 3, "nets": 2}


def test_lines_of_code_are_neither_blank_nor_documentation(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        '"""Module,\nof two lines."""\n\n# why\nX = 1  # one\n"""The constant."""\n\n\n'
        'class A:\n    """Class."""\n\n    def f(self, a, *, b=2):\n        """Function."""\n'
        '        text = """two\n        lines"""\n        return (\n            text\n        )\n'
    )
    assert house.code_lines(path) == 1 + 2 + 2 + 3
    (function,) = house.functions(path)
    assert (house.function_lines(function), house.parameters(function)) == (6, 2)


def test_a_long_function_is_measured_without_its_docstring(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('def long():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * 60)
    assert [house.function_lines(f) for f in house.functions(path)] == [61]


def test_the_spread_of_numbers():
    assert house.spread([4, 1, 3, 2, 100]) == "3 / 4 / 100"


@pytest.mark.slow
def test_the_table_of_this_repository():
    table = house.measure(Path(house.__file__).parents[1])
    assert table["import cycles at run time"] == "none"
    files, lines, code = (int(n.replace(",", "")) for n in table["src: files / lines / code lines"].split(" / "))
    assert files < code < lines


def test_an_earlier_revision_stands_beside_the_checkout(tmp_path, monkeypatch, capsys):
    source = tmp_path / "src" / "labels4free" / "losses.py"
    for path in (source, tmp_path / "tests" / "test_losses.py"):
        path.parent.mkdir(parents=True)
        path.write_text("def hinge(x):\n    return x\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "First"]):
        subprocess.run([*git, *words], check=True)
    source.write_text("def hinge(x):\n    y = x\n    return y\n")
    monkeypatch.setattr(house, "__file__", str(tmp_path / "tools" / "house.py"))
    monkeypatch.setattr(sys, "argv", ["house.py", "--since", "HEAD"])
    house.main()
    assert "src: files / lines / code lines: 1 / 3 / 3    (was 1 / 2 / 2)\n" in capsys.readouterr().out
