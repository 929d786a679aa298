"""The script that makes the Makefile's environment, without installing anything."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PACKAGES = Path(torch.__file__).parents[1]


@pytest.fixture
def environment(monkeypatch):
    """The script as a module, with a `run` that keeps the commands instead of running them."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools" / "environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.commands = []
    monkeypatch.setattr(module, "run", lambda *command: module.commands.append(command))
    return module


def bare_environment(folder: Path) -> Path:
    """Make an environment without pip (fast), and a pip in name so that the script takes it for complete."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (folder / "bin" / "pip").touch()
    return folder


def test_an_old_python_is_told_what_is_needed(environment, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed, .* is 3\.9\. .* make PYTHON=python3\.11"):
        environment.main("anywhere", [])
    assert environment.commands == []


def test_a_torch_that_has_to_be_installed_is_held_to_the_constraint(environment, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PIP_OPTIONS", "--extra-index-url https://example.org/simple")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    folder = bare_environment(tmp_path / "venv")
    environment.main(str(folder), ["test"])
    (command,) = environment.commands
    assert command[:4] == (str(folder / "bin" / "python"), "-m", "pip", "install")
    assert command[4:] == ("--extra-index-url", "https://example.org/simple", "-c", "constraints.txt", "-e", ".[test]")
    assert "this can take minutes" in capsys.readouterr().out


def test_a_torch_that_is_there_is_kept_and_not_constrained(environment, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_OPTIONS", raising=False)
    folder = bare_environment(tmp_path / "venv")
    (next(folder.glob("lib/python*/site-packages")) / "there.pth").write_text(f"{PACKAGES}\n")
    environment.main(str(folder), [])
    (command,) = environment.commands
    assert command[4:] == ("-e", ".")


@pytest.mark.slow
def test_a_new_environment_sees_the_torch_of_the_python_that_makes_it(environment, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "venv"

    def run(*command):
        if command[1:3] == ("-m", "venv"):
            bare_environment(Path(command[3]))
        environment.commands.append(command)

    monkeypatch.setattr(environment, "run", run)
    environment.main(str(folder), ["lint"])
    assert environment.commands[0] == (sys.executable, "-m", "venv", str(folder))
    assert environment.commands[1][-2:] == ("-e", ".[lint]")
    assert "constraints.txt" not in environment.commands[1]
    assert f"Using the PyTorch in {PACKAGES}" in capsys.readouterr().out
    where = [str(folder / "bin" / "python"), "-c", environment.TORCH_FOLDER]
    assert subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip() == str(PACKAGES)


def test_a_command_that_fails_ends_the_script_with_its_code():
    program = "import sys, environment; environment.run(sys.executable, '-c', 'exit(7)')"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT / "tools", capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert "Failed with exit code 7" in done.stderr


def test_constraint_and_dependency_name_the_same_torch(environment):
    assert (ROOT / "constraints.txt").read_text() == "torch==2.13.0\n"
    needed = ".".join(map(str, environment.TORCH_NEEDED))
    assert f'"torch>={needed}"' in (ROOT / "pyproject.toml").read_text()
