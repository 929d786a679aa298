"""Build what is released, and try it as whoever installs it will: ``python tools/distribution.py DIST``.

The source distribution is built from the tree, the wheel from that; the wheel goes into a new environment with
the dependencies of this one, and cuts out a picture there, in a folder from which the tree is not seen.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDED = ("labels4free/py.typed", "labels4free/weights/faces.segmenter.safetensors")


def main(out: Path) -> None:
    """Build into ``out``, and try.

    Raises:
        SystemExit: If a command fails, or something is missing; says what.
    """
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    _run(sys.executable, "-m", "build", "--outdir", out, ROOT)
    wheel = out / f"labels4free-{version}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    if missing := [name for name in NEEDED if name not in names]:
        sys.exit(f"{wheel} lacks {', '.join(missing)}.")
    if strays := sorted(name for name in names if not name.startswith(("labels4free/", f"labels4free-{version}"))):
        sys.exit(f"{wheel} holds {', '.join(strays[:5])}.")
    with tempfile.TemporaryDirectory() as scratch:
        _try(wheel, Path(scratch), version)


def _try(wheel: Path, scratch: Path, version: str) -> None:
    """Install a wheel into a new environment, and use it."""
    _run(sys.executable, "-m", "venv", scratch / "env")
    python, script = (scratch / "env" / "bin" / name for name in ("python", "labels4free"))
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    _run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel.resolve())
    # Behind the wheel's own files, so that these are taken.
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    said = subprocess.run([script, "--version"], check=True, capture_output=True, text=True, cwd=scratch).stdout
    if said.strip() != f"labels4free {version}":
        sys.exit(f"{wheel} says that it is {said.strip()}.")
    place = subprocess.run(
        [python, "-c", "import labels4free; print(labels4free.__file__)"],
        check=True,
        capture_output=True,
        text=True,
        cwd=scratch,
    ).stdout
    if not place.startswith(packages):
        sys.exit(f"The package was taken from {place.strip()}, not from the wheel.")
    _run(python, "-c", "from PIL import Image; Image.new('RGB', (96, 96), 'grey').save('photo.png')", cwd=scratch)
    _run(script, "segment", "photo.png", "--out", "cut", cwd=scratch)
    if not (scratch / "cut" / "photo.png").is_file():
        sys.exit(f"{wheel} cut out nothing: {[path.name for path in scratch.rglob('*.png')]}.")


def _run(*command: object, cwd: Path | None = None) -> None:
    code = subprocess.run([str(word) for word in command], cwd=cwd, check=False).returncode
    if code:
        sys.exit(f"{' '.join(map(str, command[:4]))} ... failed.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
