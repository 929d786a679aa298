"""Train an alpha network in a run's folder: from settings to the recipe that they belong to, and to the loop."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from labels4free.checkpoints.loading import generator_fingerprint, load_discriminator
from labels4free.data.contact_sheet import contact_sheet
from labels4free.errors import ConfigError, RunError
from labels4free.layered import composite
from labels4free.networks.discriminator import STDDEV_GROUP, group_size
from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.agreement import build_view
from labels4free.training.alpha_trainer import AlphaTrainer
from labels4free.training.bank import (
    build_bank,
    check_resolution,
    claim_folder,
    rendered_samples,
    sample_truncation_psi,
)
from labels4free.training.config import TrainConfig
from labels4free.training.consensus import Consensus, distil, find_consensus
from labels4free.training.contracts import ALPHA, Member, TrainProgress, TrainResult
from labels4free.training.distributed import World
from labels4free.training.precision import Precision
from labels4free.training.published_config import OWN_DISCRIMINATOR, PublishedConfig
from labels4free.training.published_run import PublishedRecipe
from labels4free.training.reals import open_reals
from labels4free.training.recipes import alpha_config, check_same_settings, from_run_json, to_run_json
from labels4free.training.run_dir import RunDir
from labels4free.training.run_loop import ALPHA_FILE, finished_run, run_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.generators.base import Generator
    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.networks.discriminator import Discriminator
    from labels4free.training.recipes import AlphaTrainConfig

__all__ = ["ALPHA_FILE", "TrainProgress", "TrainResult", "train_alpha_network"]

_log = logging.getLogger(__name__)
_ALONE = World.single()


def train_alpha_network(
    generator: Generator,
    out: str | Path,
    config: AlphaTrainConfig | None = None,
    *,
    resume: bool | Literal["auto"] = False,
    generator_name: str | None = None,
    progress: TrainProgress | None = None,
    world: World = _ALONE,
) -> TrainResult:
    """Train an alpha network on a frozen generator.

    ``out`` then holds ``config.json``, ``log.jsonl``, ``pictures/``, ``checkpoints/`` and, in the end,
    ``alpha.safetensors`` (the running average). SIGINT (Ctrl-C) and SIGTERM end the current step, write a checkpoint
    and return; a run killed in any other way goes on from its last checkpoint. Resumed, it ends in the same bits.

    Args:
        generator: The generator, on the device to train on.
        out: The run's folder: new or empty, or with ``resume`` that of an earlier run.
        config: Settings, whose type says by which recipe to train; None means the default recipe as it is or, with
            ``resume``, what the earlier run has.
        resume: Go on with the run in ``out``; ``"auto"``: if there is one, and start it otherwise.
        generator_name: Zoo name or file of the generator, noted in the results so that they find it again.
        progress: Told about every sample and step.
        world: The processes that train together (:func:`labels4free.training.distributed.joined_world`), each of which
            calls this with the same arguments. Process 0 alone writes into ``out`` and reports progress, but rendered
            samples pass through the folder: it should be one that all of them see.

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
    fingerprint = generator_fingerprint(generator)
    world.check_same("generator", fingerprint)
    source = {"name": generator_name, "family": generator.family, "fingerprint": fingerprint}
    begun = world.from_lead(lambda: _begin(Path(out), config, resume, source))
    if begun.finished:
        _log.info("The run in %s is finished: nothing is left to do.", begun.path)
        return begun.finished
    Precision(begun.config.precision, generator.w_avg.device)  # refuses what the device lacks
    notes = {"generator": begun.source, **to_run_json(begun.config)}
    recipe: ReplayRecipe | PublishedRecipe
    if isinstance(begun.config, TrainConfig):
        recipe = ReplayRecipe(generator, begun.config, world)
    else:
        pretrained = _pretrained(begun.config, begun.source["name"])
        if pretrained is not None:
            notes["discriminator"] = {"fingerprint": generator_fingerprint(pretrained)}
            if begun.run is not None and begun.stored.get("discriminator") != notes["discriminator"]:
                raise ConfigError(
                    f"{begun.path} was started with another discriminator than the one that "
                    f"{begun.config.discriminator.pretrained} holds now; put it back, or start a new run."
                )
            pretrained.to(generator.w_avg.device)
        recipe = PublishedRecipe(generator, begun.config, pretrained, world)
    run = begun.run or world.from_lead(lambda: RunDir.create(out, notes))
    progress = progress if world.leads else None
    if isinstance(recipe, ReplayRecipe):
        return run_loop(run, recipe, notes, progress)
    return run_loop(run, recipe, notes, progress)


class _Begun(NamedTuple):
    """What a training finds where it is to go: the earlier run, its settings and notes, its result if it has one."""

    path: Path
    run: RunDir | None
    config: AlphaTrainConfig
    source: dict[str, Any]
    stored: dict[str, Any]
    finished: TrainResult | None


def _begin(
    path: Path, config: AlphaTrainConfig | None, resume: bool | Literal["auto"], source: dict[str, Any]
) -> _Begun:
    if not resume or (resume == "auto" and not RunDir.is_at(path)):
        return _Begun(path, None, config or TrainConfig(), source, {}, None)
    run = RunDir.open(path)
    own = _resumed_config(run, config, source)
    return _Begun(path, run, own, source, run.config(), finished_run(run, own))


class ReplayRecipe:
    """The default recipe: a bank of samples that are rendered once, and :class:`AlphaTrainer` on it.

    Args:
        generator: The generator.
        config: Settings.
        world: The processes that share every batch.

    Raises:
        ConfigError: If the generator or the processes cannot serve the settings; better now than when the bank is
            rendered.
        DataError: If the folder of real images cannot serve.
    """

    product = ALPHA
    advice = (
        "try another --seed, more discriminator.warmup_steps, or other bounds loss.min_foreground_coverage and "
        "loss.min_background_coverage."
    )

    def __init__(self, generator: Generator, config: TrainConfig, world: World = _ALONE) -> None:
        self.generator, self.config, self.world = generator, config, world
        _check_shares(config, world)
        self._full_network = _network_for(generator, config)
        self._reals = open_reals(config.data, config.resolution)
        if config.bank.folder:
            claim_folder(generator, self._full_network.levels, config, Path(config.bank.folder))

    def prepare(self, scratch: Path, rendered: Callable[[int, int], None]) -> None:
        """Render the bank, in the scratch folder if it has none of its own."""
        folder = Path(self.config.bank.folder) if self.config.bank.folder else scratch
        levels, more = self._full_network.levels, sum(self.config.monitor.views.values())

        def rendered_of_all(done: int, total: int) -> None:
            rendered(done, total + more)

        self.bank, self.previews = build_bank(self.generator, levels, self.config, folder, rendered_of_all, self.world)
        self.network = self.bank.projection.network_like(self._full_network)
        self.views = self.world.together(lambda: self._build_views(folder, rendered) if self.world.leads else {})

    def _build_views(self, folder: Path, rendered: Callable[[int, int], None]) -> dict[str, list[Tensor]]:
        """Render samples that are only checked on again, by the process that checks."""
        config, generator = self.config, self.generator
        done, views = rendered_samples(config), config.monitor.views
        total, first = done + sum(views.values()), config.bank.size - config.monitor.samples

        def advance() -> None:
            nonlocal done
            done += 1
            rendered(done, total)

        samples = []
        for index in range(first, first + max(views.values(), default=0)):
            psi = sample_truncation_psi(config, index)
            samples.append((index, generator.draw_ws(config.bank_seed, index, psi), psi))
        project = (self.bank.projection, self._full_network.levels, config.resolution)
        return {
            view: build_view(generator, view, samples[:count], project, config.bank_seed, folder, advance)
            for view, count in views.items()
        }

    def attempt(self, number: int, member: int = 0) -> AlphaTrainer:
        """Start an attempt at a member on the bank."""
        config = self.config.of_member(member)
        return AlphaTrainer(
            self.bank, self.network, config, attempt=number, reals=self._reals, views=self.views, world=self.world
        )

    @torch.no_grad()
    def picture(self, trainer: AlphaTrainer) -> NDArray[np.uint8]:
        """Draw the previews; the composite is over the next preview's background."""
        batch = self.previews.take(torch.arange(len(self.previews)))
        logits = trainer.average.module.merge(batch.levels)
        size = batch.images.shape[-1]
        alpha = torch.nn.functional.interpolate(
            logits, size=(size, size), mode="bilinear", align_corners=False
        ).sigmoid()
        behind = self.previews.backgrounds.float().roll(1, 0)
        together = composite(batch.images, behind, alpha)
        rows = [[batch.images[i], alpha[i], together[i], behind[i]] for i in range(len(alpha))]
        return contact_sheet(rows, ("image", "alpha", "composite", "background"), cell=size)

    def join(self, trainer: AlphaTrainer, members: Sequence[Member]) -> Consensus:
        """Put the consensus of the members in the place of the trainer's average."""
        networks = []
        for member in members:
            networks.append(copy.deepcopy(trainer.kept))
            networks[-1].load_state_dict(member.network)
        alphas = [trainer.held_out_alpha(network) for network in networks]
        consensus = find_consensus(alphas, [member.problem is None for member in members])
        agreed = sorted(consensus.kept, key=lambda k: -consensus.agreements[k])  # the first one is what it begins as
        trainer.average.module = distil([networks[k] for k in agreed], self.bank, self.config)
        return consensus

    def finished(self, trainer: AlphaTrainer) -> AlphaNetwork:
        """The average, as a network for the generator's own feature maps."""
        return self.bank.projection.fold(trainer.average.module, self.generator.feature_specs)


def _check_shares(config: TrainConfig, world: World) -> None:
    """Raise :class:`ConfigError` unless the processes can share a batch; warn where sharing changes what D compares."""
    batch, size = config.batch_size, world.size
    if batch % size:
        raise ConfigError(
            f"A batch of {batch} images cannot be shared evenly by {size} processes; set batch_size to a multiple of "
            f"{size}, or start another number of processes."
        )
    one, several = (group_size(count, STDDEV_GROUP) for count in (batch, batch // size))
    if world.leads and one != several:
        _log.warning(
            "With %d images a process the discriminator compares %d at a time, and in a single process %d: the run "
            "will differ from one of a single process; with a batch_size of %d it would not.",
            batch // size,
            several,
            one,
            STDDEV_GROUP * size,
        )


def _pretrained(config: PublishedConfig, generator_name: str | None) -> Discriminator | None:
    """The discriminator that the settings ask for.

    Raises:
        ConfigError: If it should come from the generator's file, which is not known.
        CheckpointError: If it cannot be loaded.
    """
    source = config.discriminator.pretrained
    if source is None:
        return None
    if source != OWN_DISCRIMINATOR:
        return load_discriminator(source)
    if generator_name is None:
        raise ConfigError(
            f"discriminator.pretrained={OWN_DISCRIMINATOR} means the generator's own file, but no generator_name says "
            "which one that is; give the discriminator's file."
        )
    return load_discriminator(generator_name)


def _resumed_config(run: RunDir, config: AlphaTrainConfig | None, source: dict[str, Any]) -> AlphaTrainConfig:
    """The run's own settings, which are the only ones that it can go on with.

    Where ``source`` does not name the generator, the run's name for it is put in.

    Raises:
        ConfigError: If the generator or one of the settings asked for is another one.
        RunError: If the run's config.json is damaged.
    """
    stored = run.config()
    try:
        own = alpha_config(from_run_json(stored))
        trained_on = stored["generator"]
        if trained_on["fingerprint"] != source["fingerprint"]:
            name = trained_on["name"] or trained_on["fingerprint"]
            raise ConfigError(f"{run.path} was started on the generator {name}, not on the one given.")
        source["name"] = source["name"] or trained_on["name"]
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.path / 'config.json'} lacks {error}; restore it, or start a new run.") from error
    check_same_settings(run.path, own, config)
    return own


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
