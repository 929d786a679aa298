from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from labels4free.checkpoints import model_zoo
from labels4free.checkpoints.native import write_native
from labels4free.cli import main

NAME = "mobilestylegan-ffhq-1024"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache, no process, and the log as it was."""
    logger = logging.getLogger("labels4free")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logger.level)
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):  # these make rich see a terminal
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("LABELS4FREE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(model_zoo, "_pip_command", lambda: None)
    return tmp_path / "cache"


@pytest.fixture
def fetched():
    """Put something that passes for the model into the cache."""
    model, path = model_zoo.MODELS[NAME], model_zoo.model_path(NAME)
    info = {"source_sha256": model.sha256, "conversion": model_zoo._CONVERSION}
    write_native(path, kind="generator", family=model.family, config={}, state={}, info=info)
    return path


def test_list_as_plain_text(capsys, cache):
    assert main(["models", "list"]) == 0
    heading, model, other = capsys.readouterr().out.splitlines()
    assert heading.split("\t") == ["name", "makes", "size", "download", "licence", "fetched"]
    assert model.split("\t") == [NAME, "faces", "1024x1024", "38 MB", "Apache-2.0", ""]
    assert other.split("\t")[:3] == ["efficientnet-lite0", "features", "224x224"]
    assert not cache.exists()


def test_list_says_where_a_fetched_model_is(capsys, fetched):
    assert main(["models", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split("\t")[-1] == str(fetched)


@pytest.mark.parametrize("width", ["80", "200"])
def test_list_on_a_terminal(capsys, fetched, monkeypatch, width):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", width)
    assert main(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if NAME in line)
    assert row.split() == [NAME, "faces", "1024x1024", "38", "MB", "Apache-2.0", "yes"]
    assert f"Fetched models are kept in {fetched.parent}" in lines


def test_fetch_prints_the_path_alone(capsys, fetched):
    assert main(["models", "fetch", NAME]) == 0
    assert capsys.readouterr() == (f"{fetched}\n", "")


def test_fetch_passes_its_options(capsys, fetched, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(model_zoo, "fetch", lambda name, **options: calls.append((name, options)) or fetched)
    assert main(["models", "fetch", NAME, "--wheel", str(tmp_path / "a.whl"), "--force"]) == 0
    assert calls == [(NAME, {"wheel": tmp_path / "a.whl", "force": True})]


def test_fetch_on_a_terminal_shows_its_stages(capsys, fetched, monkeypatch):
    def fetch(name, *, progress, **_):
        progress("Converting it")
        return fetched

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(model_zoo, "fetch", fetch)
    assert main(["models", "fetch", NAME]) == 0
    out, err = capsys.readouterr()
    assert out == f"{fetched}\n"
    assert "Converting it" in err


def test_path(capsys, cache):
    assert main(["models", "path", NAME]) == 0
    assert capsys.readouterr().out == f"{cache / 'models' / NAME}.safetensors\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "mobilestylegan"], f"Unknown model 'mobilestylegan'; the models are {NAME}, "),
        (["path", "x"], f"Unknown model 'x'; the models are {NAME}, efficientnet-lite0."),
        (["fetch", NAME], "has no pip to get random-face==2021.7.21.1 with; install pip, or"),
        (["fetch", NAME, "--wheel", "gone.whl"], "gone.whl cannot be read: No such file or directory."),
    ],
)
def test_errors_are_one_sentence(capsys, arguments, message):
    assert main(["models", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("labels4free: ")
    assert message in last


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["list"], ["path", NAME], ["fetch", NAME], ["fetch", "--help"]], ids=" ".join)
def test_imports_no_torch(arguments, fetched):
    program = """
import sys
from labels4free.cli import main
try:
    code = main(["models", *sys.argv[1:]])
except SystemExit as end:
    code = end.code
assert not code, code
assert not {"torch", "numpy", "safetensors"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, stdout=subprocess.DEVNULL)
