"""Train a generator in a run's folder: images, settings, recipe, and the loop over the steps."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from labels4free.checkpoints.loading import resolve_device
from labels4free.data.images.dataset import open_images
from labels4free.errors import ConfigError
from labels4free.training.generator.config import GeneratorConfig
from labels4free.training.generator.recipe import GeneratorRecipe
from labels4free.training_loop.contracts import GENERATOR, RecipeEntry
from labels4free.training_loop.distributed import device_of, process_group
from labels4free.training_loop.loop import Loop
from labels4free.training_loop.precision import cpu_has_bfloat16
from labels4free.training_loop.resume import begin, to_run_json
from labels4free.training_loop.run_dir import RunDir

if TYPE_CHECKING:
    from pathlib import Path

    from labels4free.data.images.dataset import ImageStore
    from labels4free.training_loop.contracts import TrainProgress, TrainResult
    from labels4free.training_loop.resume import Resume

_log = logging.getLogger(__name__)

RECIPES = {GeneratorConfig.recipe: RecipeEntry(GeneratorConfig, GeneratorRecipe, GENERATOR, "train-generator")}
"""The recipe that makes a generator; it begins with (images, settings, device)."""


def train_generator(
    images: str | Path,
    out: str | Path,
    config: GeneratorConfig | None = None,
    *,
    resume: Resume = False,
    device: str = "cpu",
    progress: TrainProgress | None = None,
) -> TrainResult:
    """Train a StyleGAN2 generator on images of one kind, from nothing or from a checkpoint.

    ``out`` then holds ``config.json``, ``log.jsonl``, ``pictures/``, ``checkpoints/``, while it goes on
    ``snapshot.safetensors`` and in the end ``generator.safetensors`` (the running average) with
    ``generator.discriminator.safetensors`` beside it. SIGINT (Ctrl-C) and SIGTERM end the current step, write a
    checkpoint and return; a run killed in any other way goes on from its last checkpoint. Resumed, it ends in the same
    bits. Several processes (:func:`labels4free.training_loop.distributed.joined_processes`) share the micro-batches.

    Args:
        images: A folder of images, a zip file, an LMDB or WebDataset shards.
        out: The run's folder: new or empty, or with ``resume`` that of an earlier run.
        config: Settings; None means the defaults or, with ``resume``, what the earlier run has.
        resume: Go on with the run in ``out``; ``"auto"``: if there is one, and start it otherwise.
        device: cpu, cuda, cuda:N or mps; of ``cuda`` each process takes its own.
        progress: Told about every step.

    Returns:
        How it ended.

    Raises:
        CheckpointError: If the checkpoint to begin with cannot be read or holds no StyleGAN2.
        ConfigError: If the settings or the images are not those of the run to resume, or do not fit each other, or the
            device cannot be used.
        DataError: If the images cannot be read, or are too few.
        RunError: If the folder cannot be used, or the generator collapsed.
    """
    group = process_group()
    begun = group.on_main(lambda: begin(out, resume, config, RECIPES, "source"))
    if begun.result:
        _log.info("The run in %s is finished: nothing is left to do.", out)
        return begun.result
    own: GeneratorConfig = begun.config
    store = open_images(images, own.resolution)
    noted = _describe(store)
    group.check_same("images", noted["state_hash"])
    if begun.source and begun.source["state_hash"] != noted["state_hash"]:
        raise ConfigError(
            f"{out} was started on {begun.source['name']} as it was then, not on {noted['name']} as it is now: give "
            "those images, or start a new run."
        )
    recipe = RECIPES[own.recipe].start(store, own, resolve_device(device_of(device)))
    info = {"source": noted, **to_run_json(own)}
    if group.is_main and begun.run is None:
        _log.info("%s", explained(own))
        if recipe.device.type == "cpu" and own.precision == "auto" and cpu_has_bfloat16():
            _log.info("This CPU computes in bfloat16, which is faster: --set precision=bfloat16")
    run = begun.run or group.on_main(lambda: RunDir.create(out, info))
    with Loop(run, recipe, info, progress) as loop:
        for trainer in recipe.trainers(loop):
            try:
                loop.record(trainer.step())
            except FloatingPointError as error:
                loop.lost(str(error))
        recipe.finish(loop)
    return loop.result


def explained(config: GeneratorConfig) -> str:
    """What the formulas made of the settings, in a sentence."""
    own = config.resolved
    return (
        f"{config.images:,} images of {config.resolution}x{config.resolution} in batches of {own.batch_size}: "
        f"discriminator.r1_gamma={own.r1_gamma:g}, generator.learning_rate={own.generator_learning_rate:g}, "
        f"generator.ema_half_life={own.ema_half_life:g} images."
    )


def _describe(store: ImageStore) -> dict[str, Any]:
    """Images as the run notes them."""
    return {"name": str(store.path.resolve()), "state_hash": store.source.content_hash(), "count": len(store)}
