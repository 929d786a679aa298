from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from tests.data.picture_files import save
from tests.refusals import refuses

import labels4free
from labels4free import cli
from labels4free.errors import ConfigError

HELP_PAGES = [["--help"], ["--version"], *([verb, "--help"] for verb in cli.VERBS)]


@pytest.fixture
def verb(monkeypatch):
    """Put the verb `stub` into the table, and return the list of what it was called with."""
    calls = []

    def run(name: str, /, count: int = 1, exit_code: int | None = None) -> int | None:
        """Do nothing.

        Args:
            name: Of the error to raise, or any other.
            count: How often.
            exit_code: What to return.
        """
        calls.append((name, count))
        error = ERRORS.get(name)
        if error is not None:
            raise error
        return exit_code

    module = types.ModuleType("stub_verb")
    module.run = run
    monkeypatch.setitem(sys.modules, "stub_verb", module)
    monkeypatch.setitem(cli.VERBS, "stub", cli.Verb("stub_verb", "does nothing"))
    return calls


ERRORS = {
    "config": ConfigError("steps must be positive, got -1."),
    "disk": OSError(errno.ENOSPC, "No space left on device", "/a/b"),
    "nameless": OSError("the socket is closed"),
    "interrupt": KeyboardInterrupt(),
    "bug": ZeroDivisionError("a bug"),
}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", HELP_PAGES, ids=" ".join)
def test_help_imports_no_torch(arguments):
    program = """
import sys
from labels4free.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
assert not code, code
heavy = {"torch", "numpy", "PIL", "safetensors"} & set(sys.modules)
assert not heavy, f"imported {heavy}"
"""
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_names_every_verb_with_its_line(capsys, arguments):
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: labels4free VERB")
    for name, verb in cli.VERBS.items():
        assert f"  {name} " in out
        assert verb.help in out


def test_help_fits_into_100_columns():
    assert max(map(len, cli.overview().splitlines())) <= 100


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"labels4free {labels4free.__version__}\n"


def test_unknown_verb_lists_the_verbs(capsys):
    assert cli.main(["trian", "x"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    said, _, listed = err.partition("; the verbs are ")
    assert said == "labels4free: Unknown verb 'trian'"
    assert listed == f"{', '.join(cli.VERBS)}. See labels4free --help.\n"
    assert {"demo", "train", "sample", "verify"} <= set(listed.split(". See")[0].split(", "))


def test_arguments_reach_the_function(verb):
    assert cli.main(["stub", "x", "--count", "3"]) == 0
    assert verb == [("x", 3)]


def test_arguments_come_from_the_process_where_none_are_given(verb, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["labels4free", "stub", "y"])
    assert cli.main() == 0
    assert verb == [("y", 1)]


def test_a_verb_may_choose_its_exit_code(verb):
    assert cli.main(["stub", "x", "--exit-code", "143"]) == 143


def test_help_of_a_verb_is_its_docstring(verb, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["stub", "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "usage: labels4free stub" in out
    assert "Do nothing." in out
    assert "How often. (default: 1)" in out
    assert verb == []


@pytest.mark.parametrize("arguments", [[], ["x", "--count", "many"], ["x", "--colour", "red"]])
def test_a_usage_error_exits_with_2_and_runs_nothing(verb, capsys, arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(["stub", *arguments])
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert verb == []


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        ("config", 2, "labels4free: steps must be positive, got -1.\n"),
        ("disk", 2, "labels4free: No space left on device: /a/b\n"),
        ("nameless", 2, "labels4free: the socket is closed\n"),
        ("interrupt", 130, "labels4free: Interrupted.\n"),
    ],
)
def test_an_expected_error_is_one_sentence_and_an_exit_code(verb, capsys, name, code, sentence):
    assert cli.main(["stub", name]) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", sentence)
    assert verb == [(name, 1)]


def test_a_bug_keeps_its_traceback(verb):
    refuses(ZeroDivisionError, "a bug", cli.main, ["stub", "bug"])
    assert verb == [("bug", 1)]


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "labels4free"]
    done = subprocess.run([*command, "fly"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("labels4free: Unknown verb 'fly'")
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout == f"labels4free {labels4free.__version__}\n"


def test_a_reader_that_closes_the_pipe_is_no_error():
    program = """
import sys, types
from labels4free import cli
module = types.ModuleType("stub_verb")
def run() -> None:
    for _ in range(100_000):
        print("a long line, so that the pipe fills")
module.run = run
sys.modules["stub_verb"] = module
cli.VERBS["stub"] = cli.Verb("stub_verb", "")
sys.exit(cli.main(["stub"]))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
    process.stderr.close()


def test_log_lines_of_the_package_go_to_stderr_once(verb, capsys):
    for _ in range(2):
        cli.main(["stub", "x"])
    logging.getLogger("labels4free.training").info("step 1 of 3")
    assert capsys.readouterr().err == "step 1 of 3\n"


@pytest.mark.slow
def test_help_page_on_disk_is_what_the_command_prints():
    command = [sys.executable, "-m", "labels4free.cli.help_page"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    kept = Path(__file__).parents[2] / "docs" / "cli-help.txt"
    assert words(kept.read_text(encoding="utf-8")) == words(made.stdout), "docs/cli-help.txt is old: run `make docs`"


def words(page):
    """Everything but boxes and line breaks, which differ from one version of the parser to the next."""
    return [word for word in page.split() if not set(word) <= set("╭╮╰╯│─|+-")]


# What the command prints to


def command(words, **options):
    program = [sys.executable, "-m", "labels4free", *words]
    return subprocess.run(program, check=False, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_a_terminal_cannot_show_is_escaped(encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = command(["presets", "\u590f\udce9"], env=environment, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    done = command(["--help"], env=environment, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding).startswith("usage: labels4free VERB")


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["presets"], ["segment", "--help"]], ids=" ".join)
def test_a_pipe_that_nobody_reads(words):
    reader, writer = os.pipe()
    os.close(reader)
    done = command(words, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
@pytest.mark.parametrize("closed", [(1,), (0, 1), (0, 1, 2)], ids=str)
def test_without_streams(closed, tmp_path):
    """As behind `>&-`; what the command writes must not end up where they were."""
    words = ["prepare", "in", "out", "--sizes", "8", "--workers", "1", "--format", "folder"]
    save(tmp_path / "in" / "a.png")
    program = "import os, sys\nfor n in map(int, sys.argv[1]): os.close(n)\nos.execv(sys.executable, sys.argv[2:])"
    inner = [sys.executable, "-m", "labels4free", *words]
    numbers = "".join(map(str, closed))
    done = subprocess.run(
        [sys.executable, "-c", program, numbers, *inner], check=False, cwd=tmp_path, stderr=subprocess.PIPE
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00000.jpg", "labels4free-images.json"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_has_no_space():
    with Path("/dev/full").open("wb") as full:
        done = command(["presets"], stdout=full)
    assert done.returncode == 2
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
