"""The published recipe as a run: what it checks before it begins, its pictures, the network it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labels4free.data.contact_sheet import contact_sheet
from labels4free.errors import ConfigError
from labels4free.layered import composite
from labels4free.networks.merge_network import MergeNetwork
from labels4free.networks.paper_network import PaperNetwork
from labels4free.training.bank import check_resolution
from labels4free.training.consensus import Consensus
from labels4free.training.contracts import ALPHA
from labels4free.training.distributed import World
from labels4free.training.published_trainer import PublishedTrainer
from labels4free.training.reals import ShuffledReals, open_reals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from labels4free.generators.base import Generator
    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.networks.discriminator import Discriminator
    from labels4free.training.contracts import Member
    from labels4free.training.published_config import PublishedConfig

_ALONE = World.single()
_PREVIEWS = 8
_PREVIEW_SIDE = 256  # pixels, at most


class PublishedRecipe:
    """The published recipe: :class:`PublishedTrainer`, which renders as it goes.

    Args:
        generator: The generator.
        config: Settings.
        pretrained: The discriminator to begin with; None for random weights.
        world: The processes that share the micro-batches of every step.

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
        config: PublishedConfig,
        pretrained: Discriminator | None = None,
        world: World = _ALONE,
    ) -> None:
        resolution = config.resolution or generator.resolution
        check_resolution(generator, resolution)
        mode = config.samples.background_mode
        if mode is not None and mode not in generator.background_modes:
            raise ConfigError(
                f"samples.background_mode must be none or one of {', '.join(generator.background_modes)}, got {mode}."
            )
        if pretrained is not None:
            _check_discriminator(pretrained, resolution)
        if config.accumulation % world.size:
            raise ConfigError(
                f"The {config.accumulation} micro-batches of a step cannot be shared evenly by {world.size} processes; "
                f"set accumulation to a multiple of {world.size} (a step has batch_size * accumulation images), or "
                "start another number of processes."
            )
        self.world = world
        self.generator, self.config, self.pretrained = generator, config, pretrained
        self.network = _network_for(generator, config)
        images = open_reals(config.data, resolution)
        self.reals = None
        if images is not None:
            needed = config.batch_size * config.accumulation
            self.reals = ShuffledReals(images, config.seed, mirror=config.samples.mirror, at_least=needed)

    def prepare(self, scratch: Path, rendered: Callable[[int, int], None]) -> None:
        """Do nothing: all is rendered as it is needed."""

    def attempt(self, number: int, member: int = 0) -> PublishedTrainer:  # noqa: ARG002  there is one member
        """Start an attempt."""
        return PublishedTrainer(
            self.generator,
            self.network,
            self.config,
            attempt=number,
            reals=self.reals,
            pretrained=self.pretrained,
            world=self.world,
        )

    def picture(self, trainer: PublishedTrainer) -> NDArray[np.uint8]:
        """Draw a few samples: image, alpha, composite, background."""
        layers = trainer.show(range(_PREVIEWS))
        together = composite(*layers)
        rows = [[layers.foreground[i], layers.alpha[i], together[i], layers.background[i]] for i in range(_PREVIEWS)]
        cell = min(_PREVIEW_SIDE, together.shape[-1])
        return contact_sheet(rows, ("image", "alpha", "composite", "background"), cell=cell)

    def join(self, trainer: PublishedTrainer, members: Sequence[Member]) -> Consensus:  # noqa: ARG002
        """Do nothing: the one member is the consensus."""
        return Consensus((0,), (1.0,), 1.0)

    def finished(self, trainer: PublishedTrainer) -> AlphaNetwork:
        """The network to keep."""
        return trainer.kept


def _network_for(generator: Generator, config: PublishedConfig) -> AlphaNetwork:
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
