"""How sure a mask is: whether alpha stays the same where the object does.

A mask that follows re-drawn noise or another sample's fine styles (:mod:`labels4free.generators.views`) is not to be
trusted. Other alpha networks, trained with other seeds, look at the very same features. Each such augmentation gives
one more alpha; the uncertainty is how far they are from the pair's own alpha.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from labels4free.checkpoints.loading import load_alpha_network
from labels4free.errors import ConfigError
from labels4free.generators.views import COARSE_SHARE, with_other_noise, with_other_styles
from labels4free.metrics.masks import soft_agreement
from labels4free.seeds import hashed_seed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from labels4free.layered import LayeredGenerator
    from labels4free.networks.alpha_network import AlphaNetwork


@dataclass(frozen=True)
class UncertaintyConfig:
    """Which augmentations an uncertainty is made of; all off: none is measured.

    Attributes:
        noise: Augmentations by re-drawn noise. Each costs one more rendering.
        mixing: Augmentations whose finer rows of ws are another sample's. Each costs one more rendering.
        ensemble: Files of other alpha networks for the same generator, zoo names or folders of runs. They read the
            features that are there already, which costs next to nothing.
        mixing_from: Fraction of the rows of ws, from the coarsest, that a mixing augmentation leaves as they are, in
            [0, 1).
        mixing_psi: Truncation of the other samples, in [-2, 2]; the same for all pairs, so that their uncertainties
            can be compared.

    Raises:
        ConfigError: If a value is out of range.
    """

    noise: int = 0
    mixing: int = 0
    ensemble: tuple[str, ...] = ()
    mixing_from: float = COARSE_SHARE
    mixing_psi: float = 0.7

    def __post_init__(self) -> None:
        for name in ("noise", "mixing"):
            if getattr(self, name) < 0:
                raise ConfigError(f"The number of {name} augmentations must be at least 0, got {getattr(self, name)}.")
        if not 0.0 <= self.mixing_from < 1.0:
            raise ConfigError(
                f"mixing_from must lie in [0, 1), got {self.mixing_from}; 0.6 changes the fine rows only."
            )
        if not -2.0 <= self.mixing_psi <= 2.0:
            raise ConfigError(f"mixing_psi must lie in [-2, 2], got {self.mixing_psi}; 0.7 is usual.")

    @property
    def enabled(self) -> bool:
        """Whether an uncertainty is measured at all."""
        return bool(self.noise or self.mixing or self.ensemble)


class UncertaintyMeter:
    """Measures the uncertainty of pairs, each from its own latents alone.

    Args:
        layered: Generator and alpha network of the pairs.
        config: Which augmentations.
        seed: Seed of the data set: a pair's augmentations depend on (seed, index) alone.
        members: The networks of ``config.ensemble``, see :func:`load_members`.

    Raises:
        ConfigError: If there is no augmentation, or members are missing or do not fit the generator.
    """

    def __init__(
        self, layered: LayeredGenerator, config: UncertaintyConfig, seed: int, members: Sequence[AlphaNetwork] = ()
    ) -> None:
        if not config.enabled:
            raise ConfigError("An uncertainty needs augmentations: ask for noise or mixing, or give an ensemble.")
        if len(members) != len(config.ensemble):
            raise ConfigError(f"The ensemble has {len(config.ensemble)} files, got {len(members)} alpha networks.")
        for member in members:
            member.check_fits(layered.generator.feature_specs)
        self.layered = layered
        self.config = config
        self.seed = seed
        self.members = tuple(members)

    def measure(
        self, ws: Tensor, features: Sequence[Tensor], alpha: Tensor, index: int, *, label: int | None = None
    ) -> float:
        """The uncertainty of one pair: the mean over its augmentations of :func:`disagreement`.

        Args:
            ws: [1, num_ws, w_dim], the styles of its image.
            features: The generator's maps for it, [1, C, R, R] each.
            alpha: [1, 1, R, R], in [0, 1], as the alpha network gave it, before any refinement.
            index: Its number in the data set.
            label: Its class, for class-conditional generators: styles are mixed with another sample of it.

        Returns:
            In [0, 1]; 0 where all augmentations agree to the last bit.
        """
        return disagreement(alpha, self.augmentations(ws, features, index, label=label))

    @torch.inference_mode()
    def augmentations(
        self, ws: Tensor, features: Sequence[Tensor], index: int, *, label: int | None = None
    ) -> Iterator[Tensor]:
        """Alpha by augmentation, [1, 1, R, R] each: noise first, then mixing, then the ensemble. Arguments as above."""
        generator, network = self.layered.generator, self.layered.alpha_network
        for augmentation in range(self.config.noise):
            seed = hashed_seed(self.seed, index, "noise", augmentation)
            yield network(with_other_noise(generator, ws, seed).features)
        for augmentation in range(self.config.mixing):
            seed = hashed_seed(self.seed, index, "mixing", augmentation)
            other = generator.draw_ws(seed, 0, self.config.mixing_psi, label=label)
            row = round(self.config.mixing_from * generator.num_ws)
            yield network(with_other_styles(generator, ws, other, row).features)
        for member in self.members:
            yield member(features)


def load_members(config: UncertaintyConfig, device: str | torch.device = "cpu") -> tuple[AlphaNetwork, ...]:
    """Load the alpha networks of an ensemble.

    Raises:
        CheckpointError: If one cannot be read.
        ConfigError: If the device cannot be used.
    """
    return tuple(load_alpha_network(source, device) for source in config.ensemble)


def disagreement(alpha: Tensor, augmentations: Iterable[Tensor]) -> float:
    """How far alpha maps are from one of them: the mean over the augmentations of 1 - soft mIoU.

    Soft mIoU is the mean of the intersection over union of foreground and background, with minimum and maximum in the
    place of intersection and union::

        ( sum min(a, v) / sum max(a, v)  +  sum min(1 - a, 1 - v) / sum max(1 - a, 1 - v) ) / 2

    where 0 / 0, a side that neither has, is 1.

    Args:
        alpha: [1, 1, R, R], in [0, 1].
        augmentations: Others of that shape, at least one.

    Returns:
        In [0, 1].

    Raises:
        ConfigError: If there is no augmentation.
    """
    values = [1 - soft_agreement(alpha, augmentation) for augmentation in augmentations]
    if not values:
        raise ConfigError("An uncertainty needs augmentations: ask for noise or mixing, or give an ensemble.")
    return sum(values) / len(values)
