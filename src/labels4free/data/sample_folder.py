"""The folder of a sampled data set, its reader and its writer: numbered PNG files, their measurements, a manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from labels4free.data.images import write_png
from labels4free.errors import RunError
from labels4free.files import TEMPORARY_SUFFIX, write_atomically, write_failure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

FOLDERS = ("images", "alpha", "masks", "composites", "backgrounds")
"""Sub-folders of a data set; each holds one PNG file a sample."""

MANIFEST = "manifest.json"
KIND = "labels4free_samples"
"""What the manifest says under "kind"."""


@dataclass(frozen=True)
class SampleRecord:
    """Measurements of one sample, in [0, 1] but for polarity, from its 8-bit files: writing and reading back agree.

    Attributes:
        index: The sample's number.
        coverage: Share of the pixels that are foreground in the mask.
        alpha_mean: Mean alpha.
        binarity: 1 where every alpha is 0 or 1, 0 where all are 0.5: ``1 - 2 mean min(alpha, 1 - alpha)``.
        polarity: Mean alpha of the middle (the disc of half the width) minus that of the border (the frame of an eighth
            of the width), in [-1, 1]; objects sit in the middle.
    """

    index: int
    coverage: float
    alpha_mean: float
    binarity: float
    polarity: float


def sample_path(out: Path, folder: str, index: int) -> Path:
    """The file of one sample in one of the :data:`FOLDERS`."""
    return out / folder / f"{index:05d}.png"


def write_sample(out: Path, index: int, pictures: Mapping[str, NDArray[np.uint8]]) -> SampleRecord:
    """Write one sample; each file appears whole or not at all.

    Args:
        out: The data set's folder, made by :func:`open_sample_folder`.
        index: The sample's number.
        pictures: uint8 [H, W, 3] RGB, and [H, W] for ``alpha`` and ``masks`` (0 or 255), by folder name.

    Raises:
        DataError: If a file cannot be written.
    """
    for folder in FOLDERS:
        write_png(sample_path(out, folder, index), pictures[folder])
    return _measure(index, pictures["alpha"], pictures["masks"])


def read_record(out: Path, index: int, size: int) -> SampleRecord | None:
    """The measurements of a sample of size x size pixels if it lies complete on disk, else None."""
    if not all(sample_path(out, folder, index).is_file() for folder in FOLDERS):
        return None
    grey: list[NDArray[np.uint8]] = []
    for folder in ("alpha", "masks"):
        try:
            with Image.open(sample_path(out, folder, index)) as picture:
                grey.append(np.asarray(picture.convert("L")))
        except OSError:  # damaged by something else: worth no more than a missing one
            return None
    if any(values.shape != (size, size) for values in grey):
        return None
    return _measure(index, *grey)


def _measure(index: int, alpha: NDArray[np.uint8], mask: NDArray[np.uint8]) -> SampleRecord:
    y, x = (np.abs((np.arange(side) + 0.5) / side - 0.5) for side in alpha.shape)
    middle = y[:, None] ** 2 + x[None, :] ** 2 < 0.25**2
    border = (y[:, None] > 0.375) | (x[None, :] > 0.375)
    values = alpha / 255
    numbers = {
        "coverage": (mask > 127).mean(),
        "alpha_mean": values.mean(),
        "binarity": 1 - 2 * np.minimum(values, 1 - values).mean(),
        "polarity": values[middle].mean() - values[border].mean() if middle.any() else 0.0,
    }
    return SampleRecord(index, **{name: round(float(number), 6) for name, number in numbers.items()})


def open_sample_folder(out: Path, manifest: Mapping[str, Any]) -> None:
    """Make the folder, or accept it as an earlier part of the same data set; then write the manifest.

    Args:
        out: The data set's folder.
        manifest: Holds at least ``kind``, ``settings`` (name -> JSON value), ``generator`` and ``alpha_network`` (each
            with a ``fingerprint``) and ``num``. A data set is the same if all of these but ``num`` are equal.

    Raises:
        RunError: If the folder holds something else, or more than ``num`` samples, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file, a folder was expected: choose another output folder.")
    if (out / MANIFEST).exists():
        _check_same(out, _read_manifest(out / MANIFEST), manifest)
    elif out.exists() and any(path.suffix != TEMPORARY_SUFFIX for path in out.iterdir()):
        raise RunError(f"{out} is not empty and holds no earlier samples: choose a new or empty output folder.")
    write_manifest(out, manifest)  # first: its presence says that the folder is a data set
    try:
        for folder in FOLDERS:
            (out / folder).mkdir(exist_ok=True)
        for leftover in out.glob(f"**/.*{TEMPORARY_SUFFIX}"):  # half-written by a killed process
            leftover.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(write_failure(out, error)) from error


def write_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, JSON values by name, whole or not at all.

    Raises:
        RunError: If it cannot be written.
    """
    try:
        write_atomically(out / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    except OSError as error:
        raise RunError(write_failure(out / MANIFEST, error)) from error


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read as a manifest of samples ({error}): choose another output folder."
        ) from error
    wanted = {"generator": dict, "alpha_network": dict, "settings": dict, "num": int}
    if (
        not isinstance(manifest, dict)
        or manifest.get("kind") != KIND
        or any(not isinstance(manifest.get(name), kind) for name, kind in wanted.items())
    ):
        raise RunError(f"{path} is not a manifest of samples: choose another output folder.")
    return manifest


def _check_same(out: Path, earlier: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    for part in ("generator", "alpha_network"):
        if earlier[part].get("fingerprint") != manifest[part]["fingerprint"]:
            raise RunError(f"{out} holds samples of another {part.replace('_', ' ')}: choose another output folder.")
    for name, value in manifest["settings"].items():
        if (was := earlier["settings"].get(name)) != value:
            raise RunError(
                f"{out} holds samples made with {name} {was}, asked for was {value}: choose another output folder."
            )
    if earlier["num"] > manifest["num"]:
        raise RunError(
            f"{out} is for {earlier['num']} samples of the same settings, asked for were {manifest['num']}: "
            f"ask for {earlier['num']} or more, or choose another output folder."
        )
