"""The paper's recipe as a run: what it checks before it begins, its pictures, the network it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labels4free.checkpoints.loading import load_discriminator
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import ConfigError
from labels4free.layered import composite
from labels4free.networks.alpha_network import AlphaNetwork
from labels4free.networks.merge_network import MergeNetwork
from labels4free.networks.paper_network import PaperNetwork
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.training.alpha.feature_cache import check_resolution
from labels4free.training.alpha.paper_config import GENERATORS_DISCRIMINATOR
from labels4free.training.alpha.paper_trainer import PaperTrainer
from labels4free.training.discriminator_inputs.reals import ShuffledReals, open_reals
from labels4free.training_loop.contracts import ALPHA
from labels4free.training_loop.distributed import process_group

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from labels4free.generators.base import Generator
    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.networks.discriminator import Discriminator
    from labels4free.training.alpha.paper_config import PaperConfig
    from labels4free.training_loop.loop import Loop

_PREVIEWS = 8
_PREVIEW_SIDE = 256  # pixels, at most


def paper_recipe(generator: Generator, config: PaperConfig, noted: Mapping[str, Any]) -> PaperRecipe:
    """The paper's recipe of a run, with the discriminator that its settings ask for.

    Args:
        generator: The generator.
        config: Settings.
        noted: What the run notes of itself: ``generator`` with its ``name``, whose discriminator may be asked for;
            where it goes on, the ``discriminator`` that it began with; and its ``folder``, for the message.

    Raises:
        ConfigError: If the name is not known, the discriminator is another one, or as :class:`PaperRecipe`.
        CheckpointError: If the discriminator cannot be loaded.
    """
    recipe = PaperRecipe(generator, config, _pretrained(config, noted["generator"]["name"]))
    if "discriminator" in noted and noted["discriminator"] != recipe.notes["discriminator"]:
        raise ConfigError(
            f"{noted['folder']} was started with another discriminator than the one that "
            f"{config.discriminator.pretrained} holds now; put it back, or start a new run."
        )
    return recipe


class PaperRecipe:
    """The paper's recipe: :class:`PaperTrainer`, which renders as it goes.

    Args:
        generator: The generator.
        config: Settings.
        pretrained: The discriminator to begin with; None for random weights.

    Attributes:
        notes: What a run notes of it beside its settings.

    Raises:
        ConfigError: If generator, discriminator or the processes cannot serve the settings.
        DataError: If the folder of real images cannot serve.
    """

    product = ALPHA
    advice = (
        "try another --seed, other coverage weights and values (loss.foreground_coverage, loss.background_coverage), "
        "or the default recipe (--preset auto)."
    )

    def __init__(
        self,
        generator: Generator,
        config: PaperConfig,
        pretrained: Discriminator | None = None,
    ) -> None:
        resolution = config.resolution or generator.resolution
        check_resolution(generator, resolution)
        mode = config.samples.background_mode
        if mode is not None and mode not in generator.background_modes:
            raise ConfigError(
                f"samples.background_mode must be none or one of {', '.join(generator.background_modes)}, got {mode}."
            )
        self.notes: dict[str, Any] = {}
        if pretrained is not None:
            _check_discriminator(pretrained, resolution)
            self.notes["discriminator"] = {"state_hash": state_hash(pretrained)}
            pretrained.to(generator.w_avg.device)
        processes = process_group().size
        if config.accumulation % processes:
            raise ConfigError(
                f"The {config.accumulation} micro-batches of a step cannot be shared evenly by {processes} processes; "
                f"set accumulation to a multiple of {processes} (a step has batch_size * accumulation images), or "
                "start another number of processes."
            )
        self.generator, self.config, self.pretrained = generator, config, pretrained
        self.network = _network_for(generator, config)
        images = open_reals(config.data, resolution)
        self.reals = None
        if images is not None:
            needed = config.batch_size * config.accumulation
            self.reals = ShuffledReals(images, config.seed, mirror=config.samples.mirror, at_least=needed)

    def trainers(self, loop: Loop[PaperTrainer]) -> Iterator[PaperTrainer]:
        """The trainer of a run, before each of its steps."""
        return loop.trainers(self.trainer)

    def finish(self, loop: Loop[PaperTrainer]) -> None:
        """Write the network to keep."""
        loop.finish()

    def finished(self, trainer: PaperTrainer) -> AlphaNetwork:
        """The network to keep."""
        return trainer.kept

    def trainer(self, restart: int = 0) -> PaperTrainer:
        """Begin to train."""
        return PaperTrainer(
            self.generator,
            self.network,
            self.config,
            restart=restart,
            reals=self.reals,
            pretrained=self.pretrained,
        )

    def picture(self, trainer: PaperTrainer) -> NDArray[np.uint8]:
        """Draw a few samples: image, alpha, composite, background."""
        layers = trainer.show(range(_PREVIEWS))
        together = composite(*layers)
        rows = [[layers.foreground[i], layers.alpha[i], together[i], layers.background[i]] for i in range(_PREVIEWS)]
        cell = min(_PREVIEW_SIDE, together.shape[-1])
        return contact_sheet(rows, ("image", "alpha", "composite", "background"), cell=cell)


def _network_for(generator: Generator, config: PaperConfig) -> AlphaNetwork:
    """The alpha network that the settings ask for, untrained."""
    if config.alpha.network == PaperNetwork.family:
        return PaperNetwork(generator.feature_specs, generator.resolution)
    return MergeNetwork(
        generator.feature_specs,
        generator.resolution,
        width=config.alpha.width,
        min_resolution=config.alpha.min_resolution,
        max_resolution=config.alpha.max_resolution,
    )


def _check_discriminator(discriminator: Discriminator, resolution: int) -> None:
    if discriminator.c_dim:
        raise ConfigError(
            f"The discriminator to begin with judges images by class ({discriminator.c_dim} classes), and real images "
            "come without; begin with one that has no classes, or with random weights (discriminator.pretrained=none)."
        )
    if discriminator.resolution != resolution:
        raise ConfigError(
            f"The discriminator to begin with judges images of {discriminator.resolution} pixels, but composites have "
            f"{resolution}; set resolution={discriminator.resolution}, or begin with another one."
        )


def _pretrained(config: PaperConfig, generator_name: str | None) -> Discriminator | None:
    """The discriminator that the settings ask for.

    Raises:
        ConfigError: If it should come from the generator's file, which is not known.
        CheckpointError: If it cannot be loaded.
    """
    source = config.discriminator.pretrained
    if source is None:
        return None
    if source != GENERATORS_DISCRIMINATOR:
        return load_discriminator(source)
    if generator_name is None:
        raise ConfigError(
            f"discriminator.pretrained={GENERATORS_DISCRIMINATOR} means the generator's own file, but no "
            "generator_name says which one that is; give the discriminator's file."
        )
    return load_discriminator(generator_name)
