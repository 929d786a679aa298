"""The manifest of a data set of pairs: what it is made of and with which settings, so that it can be gone on with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from labels4free.data.names import KIND, MANIFEST
from labels4free.errors import RunError
from labels4free.files import TEMPORARY_SUFFIX, write_atomically, write_failure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = 2
"""What it says under "format"; 1 was the folder of numbered PNG files without shards."""


def open_data_set(out: Path, manifest: Mapping[str, Any]) -> None:
    """Make the folder, or accept it as an earlier part of the same data set; then write the manifest, if it is new.

    Args:
        out: The data set's folder.
        manifest: Holds at least ``kind``, ``format``, ``settings`` (name -> JSON value), ``generator`` and
            ``alpha_network`` (each with a ``fingerprint``) and ``num``. A data set is the same if all of these but
            ``num`` are equal.

    Raises:
        RunError: If the folder holds something else, or more than ``num`` candidates, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file, a folder was expected: choose another output folder.")
    earlier = None
    if (out / MANIFEST).exists():
        earlier = read_manifest(out)
        _check_same(out, earlier, manifest)
    elif out.exists() and any(path.suffix != TEMPORARY_SUFFIX for path in out.iterdir()):
        raise RunError(f"{out} is not empty and holds no earlier samples: choose a new or empty output folder.")
    if earlier is None or earlier["num"] != manifest["num"]:
        write_manifest(out, manifest)  # first of all files: its presence says that the folder is a data set


def write_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, JSON values by name, whole or not at all.

    Raises:
        RunError: If it cannot be written.
    """
    try:
        write_atomically(out / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    except OSError as error:
        raise RunError(write_failure(out / MANIFEST, error)) from error


def read_manifest(out: Path) -> dict[str, Any]:
    """Read the manifest of a data set of this version.

    Raises:
        RunError: If there is none, it is damaged, or it is that of something else or of another version.
    """
    path = out / MANIFEST
    if not path.exists():
        raise RunError(f"{out} is no data set: it has no {MANIFEST}. Give the folder that `labels4free sample` wrote.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as a manifest of samples ({error}): choose another folder.") from error
    wanted = {"generator": dict, "alpha_network": dict, "settings": dict, "num": int}
    if (
        not isinstance(manifest, dict)
        or manifest.get("kind") != KIND
        or any(not isinstance(manifest.get(name), kind) for name, kind in wanted.items())
    ):
        raise RunError(f"{path} is not a manifest of samples: choose another folder.")
    if manifest.get("format") != FORMAT:
        raise RunError(
            f"{out} was written by another version of labels4free (format {manifest.get('format')}, this one writes "
            f"{FORMAT}): its pictures can be used as they are, but to add to it choose another output folder."
        )
    return manifest


def _check_same(out: Path, earlier: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    for part in ("generator", "alpha_network"):
        if earlier[part].get("fingerprint") != manifest[part]["fingerprint"]:
            raise RunError(f"{out} holds samples of another {part.replace('_', ' ')}: choose another output folder.")
    was, asked = _flat(earlier["settings"]), _flat(manifest["settings"])
    for name in sorted(was.keys() | asked.keys()):
        if was.get(name) != asked.get(name):
            raise RunError(
                f"{out} holds samples made with {name} {was.get(name)}, asked for was {asked.get(name)}: "
                f"choose another output folder."
            )
    if earlier["num"] > manifest["num"]:
        raise RunError(
            f"{out} is for {earlier['num']} samples of the same settings, asked for were {manifest['num']}: "
            f"ask for {earlier['num']} or more, or choose another output folder."
        )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of sections under the names of both: ``filters.min_coverage``."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat
