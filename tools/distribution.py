"""Build what is released, and try it as whoever installs it will: ``python tools/distribution.py DIST``.

The source distribution is built from the tree, the wheel from that; the wheel goes into a new environment with
the dependencies of this one, and cuts out a picture there, in a folder from which the tree is not seen.
"""

from __future__ import annotations

import contextlib
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from pathlib import Path

from environment import output, run

ROOT = Path(__file__).parents[1]
NEEDED = ("labels4free/py.typed", "labels4free/weights/faces.segmenter.safetensors")


def main(out: Path) -> None:
    """Build into ``out``, and try.

    Raises:
        SystemExit: If a command fails, or something is missing; says what.
    """
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    run(sys.executable, "-m", "build", "--outdir", str(out), str(ROOT))
    wheel = out / f"labels4free-{version}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    if missing := [name for name in NEEDED if name not in names]:
        sys.exit(f"{wheel} lacks {', '.join(missing)}.")
    if strays := sorted(name for name in names if not name.startswith(("labels4free/", f"labels4free-{version}"))):
        sys.exit(f"{wheel} holds {', '.join(strays[:5])}.")
    wheel = wheel.resolve()
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        _try(wheel, version)


def _try(wheel: Path, version: str) -> None:
    """Install a wheel into a new environment in this folder, and use it."""
    run(sys.executable, "-m", "venv", "env")
    python, script = (str(Path("env", "bin", name).absolute()) for name in ("python", "labels4free"))
    packages = output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel))
    # Behind the wheel's own files, so that these are taken.
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    said = output(script, "--version")
    if said != f"labels4free {version}":
        sys.exit(f"{wheel} says that it is {said}.")
    place = output(python, "-c", "import labels4free; print(labels4free.__file__)")
    if not place.startswith(packages):
        sys.exit(f"The package was taken from {place}, not from the wheel.")
    run(python, "-c", "from PIL import Image; Image.new('RGB', (96, 96), 'grey').save('photo.png')")
    run(script, "segment", "photo.png", "--out", "cut")
    if not Path("cut", "photo.png").is_file():
        sys.exit(f"{wheel} cut out nothing: {[path.name for path in Path('cut').rglob('*.png')]}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
