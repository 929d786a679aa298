"""Train an alpha network in a run's folder: from settings to the recipe that they belong to, and to the loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from labels4free.checkpoints.loading import generator_fingerprint, load_discriminator
from labels4free.data.contact_sheet import contact_sheet
from labels4free.errors import ConfigError, RunError
from labels4free.layered import composite
from labels4free.networks.alpha_network import MergeNetwork
from labels4free.training.alpha_trainer import AlphaTrainer
from labels4free.training.bank import build_bank, check_resolution, claim_folder
from labels4free.training.config import TrainConfig
from labels4free.training.published_config import OWN_DISCRIMINATOR, PublishedConfig
from labels4free.training.published_run import PublishedRecipe
from labels4free.training.reals import open_reals
from labels4free.training.recipes import from_run_json, recipe_of, to_run_json
from labels4free.training.run_dir import RunDir
from labels4free.training.run_loop import ALPHA_FILE, TrainProgress, TrainResult, finished_run, run_loop
from labels4free.training.settings import flat

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from labels4free.generators.base import Generator
    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.networks.discriminator import Discriminator
    from labels4free.training.recipes import AnyConfig

__all__ = ["ALPHA_FILE", "TrainProgress", "TrainResult", "train_alpha_network"]


def train_alpha_network(
    generator: Generator,
    out: str | Path,
    config: AnyConfig | None = None,
    *,
    resume: bool = False,
    generator_name: str | None = None,
    progress: TrainProgress | None = None,
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
        resume: Go on with the run in ``out``.
        generator_name: Zoo name or file of the generator, noted in the results so that they find it again.
        progress: Told about every sample and step.

    Returns:
        How it ended.

    Raises:
        ConfigError: If the settings do not fit the generator, or are not those of the run to resume.
        DataError: If the folder of real images cannot serve.
        CheckpointError: If the discriminator to begin with cannot be loaded.
        RunError: If the folder cannot be used, or the run was lost more often than ``monitor.max_restarts``.
    """
    source = {"name": generator_name, "family": generator.family, "fingerprint": generator_fingerprint(generator)}
    run = RunDir.open(out) if resume else None
    if run is not None:
        config = _resumed_config(run, config, source)
        finished = finished_run(run, config)
        if finished:
            return finished
    config = config or TrainConfig()
    notes = {"generator": source, **to_run_json(config)}
    if isinstance(config, TrainConfig):
        replay = ReplayRecipe(generator, config)
        return run_loop(run or RunDir.create(out, notes), replay, notes, progress)
    pretrained = _pretrained(config, source["name"])
    if pretrained is not None:
        notes["discriminator"] = {"fingerprint": generator_fingerprint(pretrained)}
        if run is not None and run.config().get("discriminator") != notes["discriminator"]:
            raise ConfigError(
                f"{run.path} was started with another discriminator than the one that "
                f"{config.discriminator.pretrained} holds now; put it back, or start a new run."
            )
        pretrained.to(generator.w_avg.device)
    published = PublishedRecipe(generator, config, pretrained)
    return run_loop(run or RunDir.create(out, notes), published, notes, progress)


class ReplayRecipe:
    """The default recipe: a bank of samples that are rendered once, and :class:`AlphaTrainer` on it.

    Args:
        generator: The generator.
        config: Settings.

    Raises:
        ConfigError: If the generator cannot serve the settings; better now than when the bank is rendered.
        DataError: If the folder of real images cannot serve.
    """

    advice = (
        "try another --seed, more discriminator.warmup_steps, or other bounds loss.min_foreground_coverage and "
        "loss.min_background_coverage."
    )

    def __init__(self, generator: Generator, config: TrainConfig) -> None:
        self.generator, self.config = generator, config
        self._full_network = _network_for(generator, config)
        self._reals = open_reals(config.data, config.resolution)
        if config.bank.folder:
            claim_folder(generator, self._full_network.levels, config, Path(config.bank.folder))

    def prepare(self, scratch: Path, rendered: Callable[[int, int], None]) -> None:
        """Render the bank, in the scratch folder if it has none of its own."""
        folder = Path(self.config.bank.folder) if self.config.bank.folder else scratch
        levels = self._full_network.levels
        self.bank, self.previews = build_bank(self.generator, levels, self.config, folder, rendered)
        self.network = self.bank.projection.network_like(self._full_network)

    def attempt(self, number: int) -> AlphaTrainer:
        """Start an attempt on the bank."""
        return AlphaTrainer(self.bank, self.network, self.config, attempt=number, reals=self._reals)

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

    def finished(self, trainer: AlphaTrainer) -> AlphaNetwork:
        """The average, as a network for the generator's own feature maps."""
        return self.bank.projection.fold(trainer.average.module, self.generator.feature_specs)


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


def _resumed_config(run: RunDir, config: AnyConfig | None, source: dict[str, Any]) -> AnyConfig:
    """The run's own settings, which are the only ones that it can go on with.

    Where ``source`` does not name the generator, the run's name for it is put in.

    Raises:
        ConfigError: If the generator or one of the settings asked for is another one.
        RunError: If the run's config.json is damaged.
    """
    stored = run.config()
    try:
        own = from_run_json(stored)
        trained_on = stored["generator"]
        if trained_on["fingerprint"] != source["fingerprint"]:
            name = trained_on["name"] or trained_on["fingerprint"]
            raise ConfigError(f"{run.path} was started on the generator {name}, not on the one given.")
        source["name"] = source["name"] or trained_on["name"]
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.path / 'config.json'} lacks {error}; restore it, or start a new run.") from error
    if config is not None and config != own:
        ours, theirs = flat(own.to_json()), flat(config.to_json())
        if recipe_of(own) != recipe_of(config):
            ours, theirs = {"recipe": recipe_of(own)}, {"recipe": recipe_of(config)}
        changed = ", ".join(f"{k}={ours[k]} (asked for: {theirs[k]})" for k in ours if ours[k] != theirs[k])
        raise ConfigError(
            f"A resumed run keeps its settings; {run.path} has {changed}. Start a new run to change them."
        )
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
