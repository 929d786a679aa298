"""Where a checkpoint is: files, folders of runs, models of the zoo, and the networks that ship with this package."""

from __future__ import annotations

import logging
from pathlib import Path

from labels4free.checkpoints import model_zoo
from labels4free.checkpoints.native import SNAPSHOT
from labels4free.errors import CheckpointError

_log = logging.getLogger(__name__)

SHIPPED_SEGMENTER = "faces"
"""Name of the segmenter that ships with the package."""


def beside(path: str | Path, part: str) -> Path:
    """The file that a conversion writes beside the generator's: ``g.safetensors`` -> ``g.<part>.safetensors``."""
    return Path(path).with_suffix(f".{part}.safetensors")


def checkpoint_file(source: str | Path) -> Path:
    """The file or folder that a zoo name, a path or the run of a generator means; a model of the zoo is fetched.

    Raises:
        CheckpointError: If there is no such file, and no model of that name.
        ModelZooError: If a named model cannot be fetched.
    """
    if isinstance(source, str) and source in model_zoo.MODELS:
        if not model_zoo.is_fetched(source):
            _log.info("%s is not in the cache yet: fetching it", source)
        return model_zoo.fetch(source)
    path = Path(source)
    if trained := _file_of_run(path, "generator.safetensors"):
        return trained
    if not path.exists():
        raise CheckpointError(
            f"{source} is neither a file nor a model of the zoo; the models are {model_zoo.generator_names()}."
        )
    return path


def alpha_network_file(source: str | Path) -> Path:
    """Find the file of an alpha network.

    Args:
        source: A file, the folder of a training run, or the zoo name of a generator that a trained alpha network ships
            for with this package.

    Raises:
        CheckpointError: If the source is none of these.
    """
    shipped = Path(__file__).parent.parent / "weights" / f"{source}.alpha.safetensors"
    if str(source) in model_zoo.MODELS:
        if not shipped.exists():
            raise CheckpointError(
                f"No alpha network ships for {source}; train one: labels4free train {source} --out RUN"
            )
        return shipped
    path = Path(source)
    if path.is_dir():
        if found := _file_of_run(path, "alpha.safetensors"):
            return found
        begun = (path / "config.json").exists()
        hint = "its run has no good check yet; go on with --resume" if begun else "it is no training run"
        raise CheckpointError(f"{path} holds no alpha.safetensors: {hint}.")
    if not path.exists():
        names = model_zoo.generator_names()
        raise CheckpointError(f"{source} is no alpha network file, no training run and no name of the zoo ({names}).")
    return path


def segmenter_file(source: str | Path = SHIPPED_SEGMENTER) -> Path:
    """Find the file of a segmenter.

    Args:
        source: A file, the folder of a run of ``distill``, or ``faces``, which ships with this package; a folder of
            that name is ``./faces``.

    Raises:
        CheckpointError: If the source is none of these.
    """
    if str(source) == SHIPPED_SEGMENTER:
        return Path(__file__).parent.parent / "weights" / f"{source}.segmenter.safetensors"
    path = Path(source)
    if path.is_dir():
        if found := _file_of_run(path, "segmenter.safetensors"):
            return found
        raise CheckpointError(f"{path} holds no segmenter.safetensors: it is no run of a segmenter with a good check.")
    if not path.exists():
        raise CheckpointError(
            f"There is no segmenter at {source}: give a file, the folder of a finished run, or {SHIPPED_SEGMENTER}."
        )
    return path


def _file_of_run(run: Path, name: str) -> Path | None:
    """The network that a run left, or while it goes on that of its last good check; None where neither is there."""
    if not (run / name).is_file() and (run / SNAPSHOT).is_file():
        _log.info("%s is not finished: its network of the last good check is taken", run)
        name = SNAPSHOT
    return run / name if (run / name).is_file() else None


def file_of(source: str | Path, part: str | None) -> Path:
    """The file or folder that a source means, by the part of it that is wanted; None: whatever is there.

    Raises:
        CheckpointError, ModelZooError: As the functions for each part.
    """
    if part == "segmenter":
        return segmenter_file(source)
    if part == "alpha_network":
        return alpha_network_file(source)
    path = checkpoint_file(source)
    if part is None and path.is_dir():
        if (path / "segmenter.safetensors").exists():
            return segmenter_file(path)
        if any((path / name).exists() for name in ("alpha.safetensors", "config.json")):
            return alpha_network_file(path)
    return path
