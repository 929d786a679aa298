"""The manifest of a data set of pairs: what it is made of and with which settings, so that it can be gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labels4free.data.names import KIND, MANIFEST
from labels4free.errors import RunError
from labels4free.folders import read_json

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 2
"""What it says under "format"; 1 was the folder of numbered PNG files without shards."""


def read_manifest(out: Path) -> dict[str, Any]:
    """Read the manifest of a data set of this version.

    Raises:
        RunError: If there is none, it is damaged, or it is that of something else or of another version.
    """
    path = out / MANIFEST
    if not path.exists():
        raise RunError(f"{out} is no data set: it has no {MANIFEST}. Give the folder that `labels4free sample` wrote.")
    manifest = read_json(path, "samples")
    wanted = {"generator": dict, "alpha_network": dict, "settings": dict, "num": int}
    if manifest.get("kind") != KIND or any(not isinstance(manifest.get(name), kind) for name, kind in wanted.items()):
        raise RunError(f"{path} is not a manifest of samples: choose another folder.")
    if manifest.get("format") != FORMAT:
        raise RunError(
            f"{out} was written by another version of labels4free (format {manifest.get('format')}, this one writes "
            f"{FORMAT}): its pictures can be used as they are, but to add to it choose another output folder."
        )
    return manifest
