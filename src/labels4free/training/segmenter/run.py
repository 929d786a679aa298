"""Train a segmenter in a run's folder: pairs, settings, recipe, and the loop over the steps."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from labels4free.data.pairs.formats import open_pairs
from labels4free.errors import ConfigError
from labels4free.training.segmenter.config import SegmenterConfig
from labels4free.training.segmenter.recipe import PAIRS_FOLDER, SegmenterRecipe
from labels4free.training_loop.contracts import SEGMENTER, RecipeEntry
from labels4free.training_loop.loop import Loop
from labels4free.training_loop.resume import begin, to_run_json
from labels4free.training_loop.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from labels4free.data.pairs.base import PairSet
    from labels4free.training_loop.contracts import TrainProgress, TrainResult
    from labels4free.training_loop.resume import Resume

_log = logging.getLogger(__name__)

RECIPES = {SegmenterConfig.recipe: RecipeEntry(SegmenterConfig, SegmenterRecipe, SEGMENTER, "distill")}
"""The recipe that makes a segmenter; it begins with (settings, device)."""


def train_segmenter(
    out: str | Path,
    pairs: str | Path | Callable[[Path, SegmenterConfig], None],
    config: SegmenterConfig | None = None,
    *,
    resume: Resume = False,
    source: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    progress: TrainProgress | None = None,
) -> TrainResult:
    """Train a segmenter for photos on pairs of images and masks.

    ``out`` then holds ``config.json``, ``log.jsonl``, ``pictures/``, ``checkpoints/`` and, in the end,
    ``segmenter.safetensors`` (the running average). SIGINT (Ctrl-C) and SIGTERM end the current step, write a
    checkpoint and return; a run killed in any other way goes on from its last checkpoint. Resumed, it ends in the same
    bits.

    Args:
        out: The run's folder: new or empty, or with ``resume`` that of an earlier run.
        pairs: A data set of pairs (:func:`labels4free.data.pairs.formats.open_pairs`); or what makes one: it is called
            with the folder to make it in, ``pairs`` in the run's, and the settings, and goes on with what is there.
        config: Settings; None means the defaults or, with ``resume``, what the earlier run has.
        resume: Go on with the run in ``out``; ``"auto"``: if there is one, and start it otherwise.
        source: What makes the pairs, as JSON values, with a ``name`` and a ``state_hash`` that a resumed run must have
            again; None for a data set, whose own is taken.
        device: Where to train.
        progress: Told about every pair that is decoded, and every step.

    Returns:
        How it ended.

    Raises:
        ConfigError: If the settings or the source are not those of the run to resume, or the device cannot serve.
        DataError: If pairs, photos or background pictures cannot be read, or are too few.
        RunError: If the folder cannot be used, or the run was lost more often than ``monitor.max_restarts``.
    """
    path = Path(out)
    made = None if callable(pairs) else open_pairs(pairs)
    noted = dict(source) if source is not None else _describe(made)
    begun = begin(path, resume, config, RECIPES, "source")
    if begun.source and begun.source["state_hash"] != noted["state_hash"]:
        raise ConfigError(
            f"{path} was started on {begun.source['name']} as it was then, not on {noted['name']} as it is now: give "
            "that, or start a new run."
        )
    if begun.result:
        _log.info("The run in %s is finished: nothing is left to do.", path)
        return begun.result
    own = begun.config
    recipe = RECIPES[own.recipe].start(own, device)
    if made is not None:
        recipe.use(made)
    info = {"source": noted, **to_run_json(own)}
    run = begun.run or RunDir.create(path, info)
    if callable(pairs):
        folder = run.path / PAIRS_FOLDER
        pairs(folder, own)
        recipe.use(open_pairs(folder))
    try:
        with Loop(run, recipe, info, progress) as loop:
            for trainer in recipe.trainers(loop):
                try:
                    loop.record(trainer.step())
                except FloatingPointError as error:
                    loop.lost(str(error))
            loop.finish()
    finally:
        recipe.close()
    return loop.result


def _describe(pairs: PairSet | None) -> dict[str, Any]:
    """A data set as the run notes it: by its manifest where it has one, else by its pairs' names."""
    if pairs is None:
        raise ConfigError("Pairs that are made need a source that says what makes them.")
    manifest = pairs.path / "manifest.json"
    digest = hashlib.sha256(manifest.read_bytes() if manifest.is_file() else os.fsencode("\n".join(pairs.names)))
    return {"name": str(pairs.path.resolve()), "state_hash": digest.hexdigest(), "count": len(pairs)}
