"""Train an alpha network in a run's folder: settings, the default recipe, and the loop over the steps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from labels4free.checkpoints.loading import load_alpha_network, load_generator
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import ConfigError
from labels4free.layered import composite
from labels4free.networks.discriminator import STDDEV_GROUP, group_size
from labels4free.networks.merge_network import MergeNetwork
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.training.alpha.agreement import build_augmented
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.alpha.feature_cache import (
    build_cache,
    calibration_features,
    check_resolution,
    claim_folder,
    rendered_samples,
    sample_truncation_psi,
)
from labels4free.training.alpha.members import Members
from labels4free.training.alpha.paper_config import PaperConfig
from labels4free.training.alpha.paper_recipe import paper_recipe
from labels4free.training.alpha.projection import project_network
from labels4free.training.alpha.trainer import AlphaTrainer
from labels4free.training.discriminator_inputs.reals import open_reals
from labels4free.training_loop.contracts import ALPHA, RecipeEntry, TrainProgress, TrainResult
from labels4free.training_loop.distributed import device_of, process_group
from labels4free.training_loop.loop import Loop
from labels4free.training_loop.precision import Precision
from labels4free.training_loop.resume import begin, to_run_json
from labels4free.training_loop.run_dir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.generators.base import Generator
    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.training_loop.resume import Resume

__all__ = ["RECIPES", "CachedRecipe", "TrainProgress", "TrainResult", "load_shared", "train_alpha_network"]

_log = logging.getLogger(__name__)


def load_shared(generator: str, device: str = "cpu") -> Generator:
    """Load a generator in every process of a run; what is fetched or converted once serves all of a machine.

    Args:
        generator: Zoo name or file.
        device: As the command line has it; of ``cuda`` each process takes its own.

    Raises:
        Labels4FreeError: As :func:`labels4free.checkpoints.loading.load_generator`.
    """
    return process_group().local_main_first(lambda: load_generator(generator, device_of(device)))


def train_alpha_network(
    generator: Generator,
    out: str | Path,
    config: TrainConfig | PaperConfig | None = None,
    *,
    resume: Resume = False,
    generator_name: str | None = None,
    progress: TrainProgress | None = None,
) -> TrainResult:
    """Train an alpha network on a frozen generator.

    ``out`` then holds ``config.json``, ``log.jsonl``, ``pictures/``, ``checkpoints/`` and, in the end,
    ``alpha.safetensors`` (the running average). SIGINT (Ctrl-C) and SIGTERM end the current step, write a checkpoint
    and return; a run killed in any other way goes on from its last checkpoint. Resumed, it ends in the same bits.

    Where several processes train together (:func:`labels4free.training_loop.distributed.joined_processes`), each calls
    this with the same arguments. The main process alone writes into ``out`` and reports progress, but rendered samples
    pass through the folder: it should be one that all of them see.

    Args:
        generator: The generator, on the device to train on.
        out: The run's folder: new or empty, or with ``resume`` that of an earlier run.
        config: Settings, which name the recipe; None means the default recipe as it is or, with
            ``resume``, what the earlier run has.
        resume: Go on with the run in ``out``; ``"auto"``: if there is one, and start it otherwise.
        generator_name: Zoo name or file of the generator, noted in the results so that they find it again.
        progress: Told about every sample and step.

    Returns:
        How it ended.

    Raises:
        ConfigError: If the settings do not fit the generator, or are not those of the run to resume, or the processes
            cannot share them.
        DataError: If the folder of real images cannot serve.
        CheckpointError: If the discriminator to begin with cannot be loaded.
        RunError: If the folder cannot be used, the run was lost more often than ``monitor.max_restarts``, or another
            process of the run has ended.
    """
    group = process_group()
    generator_hash = state_hash(generator)
    group.check_same("generator", generator_hash)
    begun = group.on_main(lambda: begin(out, resume, config, RECIPES, "generator"))
    if begun.source and begun.source["state_hash"] != generator_hash:
        started_on = begun.source["name"] or begun.source["state_hash"]
        raise ConfigError(f"{out} was started on the generator {started_on}, not on the one given.")
    if begun.result:
        _log.info("The run in %s is finished: nothing is left to do.", out)
        return begun.result
    own = begun.config
    Precision(own.precision, generator.w_avg.device)  # refuses what the device lacks
    name = generator_name or (begun.source["name"] if begun.source else None)
    source = {"generator": {"name": name, "family": generator.family, "state_hash": generator_hash}}
    recipe = RECIPES[own.recipe].start(generator, own, {**begun.stored, **source, "folder": out})
    info = {**source, **to_run_json(own), **recipe.notes}
    run = begun.run or group.on_main(lambda: RunDir.create(out, info))
    with Loop(run, recipe, info, progress) as loop:
        for trainer in recipe.trainers(loop):
            try:
                loop.record(trainer.step())
            except FloatingPointError as error:
                loop.lost(str(error))
        recipe.finish(loop)
    return loop.result


class CachedRecipe:
    """The default recipe: a cache of samples that are rendered once, and :class:`AlphaTrainer` on it.

    Args:
        generator: The generator.
        config: Settings.

    Attributes:
        notes: What a run notes of it beside its settings: nothing.

    Raises:
        ConfigError: If the generator or the processes cannot serve the settings; better now than when the cache is
            rendered.
        DataError: If the folder of real images cannot serve.
    """

    product = ALPHA
    advice = (
        "try another --seed, more discriminator.warmup_steps, or other bounds loss.min_foreground_coverage and "
        "loss.min_background_coverage."
    )

    def __init__(self, generator: Generator, config: TrainConfig) -> None:
        self.notes: dict[str, Any] = {}
        self.generator, self.config = generator, config
        _check_sharding(config)
        self._full_network = _network_for(generator, config)
        self._reals = open_reals(config.data, config.resolution)
        self._parent = _pretrained(config, self._full_network)
        if config.cache.folder:
            claim_folder(generator, self._full_network.levels, config, Path(config.cache.folder))

    def prepare(self, scratch: Path, rendered: Callable[[int, int], None]) -> None:
        """Render the cached features, in the scratch folder if they have none of their own.

        Args:
            scratch: Folder for what can be made again; it need not exist.
            rendered: Called with (done, total); it may raise :class:`Stopped`, in any process: all stop then.
        """
        folder = Path(self.config.cache.folder) if self.config.cache.folder else scratch
        levels, more, group = (
            self._full_network.levels,
            sum(self.config.monitor.augmented_samples.values()),
            process_group(),
        )

        def rendered_of_all(done: int, total: int) -> None:
            rendered(done, total + more)

        self.cache, self.previews = build_cache(self.generator, levels, self.config, folder, rendered_of_all)
        self.network = self.cache.projection.network_like(self._full_network)
        self._pretrained = self._transferred()
        self.augmentations = group.in_all(lambda: self._build_augmented(folder, rendered) if group.is_main else {})

    def _transferred(self) -> MergeNetwork | None:
        """The network to begin with, on the cache's maps."""
        if self._parent is None:
            return None
        features = calibration_features(self.generator, self.config)
        parent = self._parent.to(self.generator.w_avg.device)
        return project_network(parent, self.cache.projection, features, self.config.resolution)

    def trainers(self, loop: Loop[AlphaTrainer]) -> Iterator[AlphaTrainer]:
        """The trainers of a run's members, one after the other, each before each of its steps."""
        self.members = Members(self.config, loop)
        self.prepare(loop.scratch, loop.rendered)
        return self.members.trainers(self.trainer)

    def finish(self, loop: Loop[AlphaTrainer]) -> None:
        """Write the network of the one member, or the consensus of several."""
        loop.finish(self.members.joined if self.config.trainings > 1 else None)

    def _build_augmented(self, folder: Path, rendered: Callable[[int, int], None]) -> dict[str, list[Tensor]]:
        """Render samples that are only checked on again, by the process that checks."""
        config, generator = self.config, self.generator
        done, augmentations = rendered_samples(config), config.monitor.augmented_samples
        total, first = done + sum(augmentations.values()), config.cache.size - config.monitor.samples

        def advance() -> None:
            nonlocal done
            done += 1
            rendered(done, total)

        samples = []
        for index in range(first, first + max(augmentations.values(), default=0)):
            psi = sample_truncation_psi(config, index)
            samples.append((index, generator.draw_ws(config.cache_seed, index, psi), psi))
        project = (self.cache.projection, self._full_network.levels, config.resolution)
        return {
            augmentation: build_augmented(
                generator, augmentation, samples[:count], project, config.cache_seed, folder, advance
            )
            for augmentation, count in augmentations.items()
        }

    def trainer(self, config: TrainConfig | None = None, restart: int = 0) -> AlphaTrainer:
        """Begin to train a member on the cached features, by its settings; None for the first member's."""
        return AlphaTrainer(
            self.cache,
            self.network,
            config or self.config.of_member(0),
            restart=restart,
            reals=self._reals,
            pretrained=self._pretrained,
            augmentations=self.augmentations,
        )

    @torch.no_grad()
    def picture(self, trainer: AlphaTrainer) -> NDArray[np.uint8]:
        """Draw the previews; the composite is over the next preview's background."""
        batch = self.previews.take(torch.arange(len(self.previews)))
        logits = trainer.average.module.merge(batch.levels)
        size = batch.images.shape[-1]
        alpha = F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False).sigmoid()
        behind = self.previews.backgrounds.float().roll(1, 0)
        together = composite(batch.images, behind, alpha)
        rows = [[batch.images[i], alpha[i], together[i], behind[i]] for i in range(len(alpha))]
        return contact_sheet(rows, ("image", "alpha", "composite", "background"), cell=size)

    def finished(self, trainer: AlphaTrainer) -> AlphaNetwork:
        """The average, as a network for the generator's own feature maps."""
        return self.cache.projection.fold(trainer.average.module, self.generator.feature_specs)


_REPLAY = RecipeEntry(TrainConfig, lambda generator, config, _: CachedRecipe(generator, config), ALPHA, "train")
_PUBLISHED = RecipeEntry(PaperConfig, paper_recipe, ALPHA, "train")
RECIPES = {entry.config.recipe: entry for entry in (_REPLAY, _PUBLISHED)}
"""Recipes that make an alpha network; each begins with (generator, settings, what the run notes of itself)."""


def _check_sharding(config: TrainConfig) -> None:
    """Raise :class:`ConfigError` unless the processes can share a batch; warn where sharing changes what D compares."""
    batch, group = config.batch_size, process_group()
    if batch % group.size:
        raise ConfigError(
            f"A batch of {batch} images cannot be shared evenly by {group.size} processes; set batch_size to a "
            f"multiple of {group.size}, or start another number of processes."
        )
    one, several = (group_size(count, STDDEV_GROUP) for count in (batch, batch // group.size))
    if group.is_main and one != several:
        _log.warning(
            "With %d images a process the discriminator compares %d at a time, and in a single process %d: the run "
            "will differ from one of a single process; with a batch_size of %d it would not.",
            batch // group.size,
            several,
            one,
            STDDEV_GROUP * group.size,
        )


def _network_for(generator: Generator, config: TrainConfig) -> MergeNetwork:
    """The alpha network that the settings ask for, untrained.

    Raises:
        ConfigError: If the generator cannot serve the settings.
    """
    check_resolution(generator, config.resolution)
    mode = config.background.mode
    if mode is not None and mode not in generator.background_modes:
        raise ConfigError(
            f"background.mode must be none or one of {', '.join(generator.background_modes)}, got {mode}."
        )
    network = MergeNetwork(
        generator.feature_specs,
        generator.resolution,
        width=config.alpha.width,
        min_resolution=config.alpha.min_resolution,
        max_resolution=config.alpha.max_resolution,
    )
    finest = generator.feature_specs[network.levels[-1][0]].resolution
    if finest < config.resolution:
        raise ConfigError(
            f"Training at a resolution of {config.resolution} needs feature maps as fine, but the alpha network reads "
            f"maps of up to {finest}; choose a resolution of at most {finest}, or raise alpha.max_resolution (now "
            f"{config.alpha.max_resolution}) where the generator has finer ones."
        )
    return network


def _pretrained(config: TrainConfig, wanted: MergeNetwork) -> MergeNetwork | None:
    """The alpha network to begin with, on the generator's own maps.

    Raises:
        CheckpointError: If it cannot be read.
        ConfigError: If it is of another family or size, or reads maps that the generator has not.
    """
    if config.alpha.pretrained is None:
        return None
    parent = load_alpha_network(config.alpha.pretrained)
    if not isinstance(parent, MergeNetwork):
        raise ConfigError(
            f"{config.alpha.pretrained} is of the family {parent.family}; the default recipe begins with one of the "
            f"family {MergeNetwork.family}."
        )
    parent.check_fits(wanted.feature_specs)
    if parent.config() != wanted.config():
        raise ConfigError(
            f"{config.alpha.pretrained} has alpha.width {parent.width}, alpha.min_resolution {parent.min_resolution} "
            f"and alpha.max_resolution {parent.max_resolution}: give these settings, or begin with random weights."
        )
    return parent
