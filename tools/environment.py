"""Makes the virtual environment that the Makefile works in: ``python tools/environment.py FOLDER [EXTRA ...]``.

Needs nothing but Python. A PyTorch that the calling Python already has is used, not downloaded again; only a PyTorch
that has to be installed is held to ``constraints.txt``. Extra pip options come from the variable PIP_OPTIONS.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PYTHON_NEEDED = (3, 11)
TORCH_NEEDED = (2, 6)

TORCH_FOLDER = f"""
import importlib.metadata, importlib.util, pathlib
try:
    release = importlib.metadata.version("torch").split("+")[0].split(".")
    found = importlib.util.find_spec("torch").origin
except (ImportError, AttributeError):
    release = found = None
if found and tuple(map(int, release[:2])) >= {TORCH_NEEDED}:
    print(pathlib.Path(found).parents[1])
"""


def main(folder: str, extras: list[str]) -> None:
    """Create the environment where it is missing, and install the package with its extras, editable.

    Args:
        folder: The environment; one that exists is reused, with the PyTorch it has.
        extras: Extras of the package, as in pyproject.toml.

    Raises:
        SystemExit: If this Python is too old or a command fails; says so.
    """
    if sys.version_info < PYTHON_NEEDED:
        have, need = (".".join(map(str, version[:2])) for version in (sys.version_info, PYTHON_NEEDED))
        sys.exit(f"Python {need} or newer is needed, {sys.executable} is {have}. Name one: make PYTHON=python{need}")
    scripts = Path(folder) / ("Scripts" if os.name == "nt" else "bin")
    python = str(scripts / "python")
    if not list(scripts.glob("pip*")):
        run(sys.executable, "-m", "venv", folder)
        found = output(sys.executable, "-c", TORCH_FOLDER)
        if found:
            packages = output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
            (Path(packages) / "outer_torch.pth").write_text(found + "\n")
            print(f"Using the PyTorch in {found}", flush=True)
    constraint = [] if output(python, "-c", TORCH_FOLDER) else ["-c", "constraints.txt"]
    if constraint:
        print("Installing PyTorch and the other dependencies; this can take minutes.", flush=True)
    options = os.environ.get("PIP_OPTIONS", "").split()
    package = f".[{','.join(extras)}]" if extras else "."
    run(python, "-m", "pip", "install", *options, *constraint, "-e", package)


def run(*command: str) -> None:
    """Run a command; where it fails, end with its exit code."""
    code = subprocess.run(command, check=False).returncode
    if code:
        print(f"Failed with exit code {code}: {' '.join(command)}", file=sys.stderr)
        sys.exit(code)


def output(*command: str) -> str:
    """Return the stripped standard output of a command that must succeed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
