"""Every knob of a generator's training, with its unit; each section refuses bad values when it is built.

The clock is images seen, so that settings mean the same whatever the batch. What is none is found by the formulas of
:meth:`GeneratorConfig.resolved`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

from labels4free.errors import ConfigError
from labels4free.settings_fields import at_least, check_types, fraction, positive
from labels4free.training.discriminator_inputs.augmentation import AugmentationConfig

MIN_RESOLUTION = 8


def _adaptive() -> AugmentationConfig:
    """Adaptive augmentation as StyleGAN2-ADA has it (its "bgc"), but for mirroring, which is the data's matter."""
    every = dict.fromkeys(("scale", "rotate", "stretch", "subpixel_shift", "flip_luma", "hue", "saturation"), True)
    return AugmentationConfig(mode="adaptive", length=500_000, **every)


@dataclass(frozen=True)
class NetworkConfig:
    """The sizes of generator and discriminator. With ``pretrained`` the file's count, where these are none."""

    channel_base: int | None = None
    """Channels at resolution R are channel_base / R, ...; none: 16384, from 512 pixels on 32768 (config-f)."""
    channel_max: int | None = None
    """... but never more than this; none: 512."""
    z_dim: int | None = None
    """Length of z; none: 512."""
    w_dim: int | None = None
    """Length of w; none: 512."""
    mapping_layers: int | None = None
    """Fully connected layers from z to w; none: 2, with the images of this kind that ADA's authors train on."""
    stddev_group: int = 4
    """Images that the discriminator's minibatch statistic compares; 0: all of a micro-batch."""
    conv_clamp: float | None = None
    """Limit on the absolute value of every layer's output; none: 256 where float16 is computed in, else no limit."""

    def __post_init__(self) -> None:
        check_types(self, "network.")
        for name in ("channel_base", "channel_max", "z_dim", "w_dim", "mapping_layers"):
            if getattr(self, name) is not None:
                at_least(f"network.{name}", getattr(self, name), 1)
        at_least("network.stddev_group", self.stddev_group, 0)
        if self.conv_clamp is not None:
            positive("network.conv_clamp", self.conv_clamp)


@dataclass(frozen=True)
class LossConfig:
    """The game that is played."""

    adversarial: Literal["nonsaturating", "relativistic"] = "nonsaturating"
    """nonsaturating: each image is real or not; relativistic: real ones are more real than generated ones (RpGAN)."""
    r2: bool = False
    """The R1 penalty on generated images, too (R2); with a relativistic loss it is what keeps the game stable."""

    def __post_init__(self) -> None:
        check_types(self, "loss.")


@dataclass(frozen=True)
class GeneratorSection:
    """The generator's optimiser, its regularisation, and the average of its weights, which is what is kept."""

    learning_rate: float | None = None
    """Adam, constant; none: 0.0025, from 1024 pixels on 0.002."""
    style_mixing: float = 0.9
    """Fraction of the samples whose fine layers get the styles of another latent."""
    path_length: float = 2.0
    """Weight of path-length regularisation; 0: none."""
    path_length_interval: int = 4
    """Steps from one path-length penalty to the next (lazy regularisation)."""
    path_length_shrink: int = 2
    """It is taken on a micro-batch divided by this."""
    path_length_decay: float = 0.01
    """How fast the mean path length follows that of a batch, in [0, 1]."""
    ema_half_life: float | None = None
    """Half life of the weights' running average, in images; none: 312.5 times the batch."""
    ema_ramp: float = 0.05
    """The half life is never more than this fraction of the images seen; 0: no such limit."""

    def __post_init__(self) -> None:
        check_types(self, "generator.")
        if self.learning_rate is not None:
            positive("generator.learning_rate", self.learning_rate)
        fraction("generator.style_mixing", self.style_mixing)
        fraction("generator.path_length_decay", self.path_length_decay)
        at_least("generator.path_length", self.path_length, 0)
        at_least("generator.ema_ramp", self.ema_ramp, 0)
        for name in ("path_length_interval", "path_length_shrink"):
            at_least(f"generator.{name}", getattr(self, name), 1)
        if self.ema_half_life is not None:
            at_least("generator.ema_half_life", self.ema_half_life, 0)


@dataclass(frozen=True)
class DiscriminatorSection:
    """The discriminator's optimiser and its regularisation."""

    learning_rate: float | None = None
    """Adam, constant; none: as the generator's."""
    r1_gamma: float | None = None
    """Weight of the R1 penalty, gamma of gamma / 2 * |grad D|^2; none: 0.0002 R^2 / batch_size."""
    r1_interval: int = 16
    """Steps from one R1 penalty to the next (lazy regularisation)."""
    frozen_blocks: int = 0
    """So many blocks, counted from the image, keep the weights that they begin with (FreezeD); of use with
    pretrained."""
    pseudo_reals: bool = False
    """Adaptive pseudo augmentation (APA, Jiang et al. 2021, arXiv 2111.06849): images are not changed; with
    augmentation's probability a generated image is shown as a real one."""

    def __post_init__(self) -> None:
        check_types(self, "discriminator.")
        if self.learning_rate is not None:
            positive("discriminator.learning_rate", self.learning_rate)
        if self.r1_gamma is not None:
            at_least("discriminator.r1_gamma", self.r1_gamma, 0)
        at_least("discriminator.r1_interval", self.r1_interval, 1)
        at_least("discriminator.frozen_blocks", self.frozen_blocks, 0)


@dataclass(frozen=True)
class ChecksConfig:
    """The live check of a run: diversity and distance of generated images to real ones."""

    interval: int = 20_000
    """Images from one check to the next."""
    samples: int = 256
    """Generated and real images that are compared, each."""
    grace: int = 50_000
    """Images after which a collapse ends the run; before, it is only warned of."""
    min_diversity: float = 0.2
    """Generated images that differ by less than this fraction of what real ones differ by have collapsed ..."""
    max_diversity: float = 5.0
    """... and those that differ by more than this have blown up."""
    max_restarts: int = 0
    """Fresh starts after a collapse, each with twice the R1 penalty of the one before; 0: the run ends, since starting
    over by itself might throw days away."""
    keep: Literal["best", "last"] = "last"
    """Which average the run leaves: that of the best check, or the last step's."""

    def __post_init__(self) -> None:
        check_types(self, "checks.")
        at_least("checks.interval", self.interval, 1)
        at_least("checks.samples", self.samples, 2)
        at_least("checks.grace", self.grace, 0)
        at_least("checks.max_restarts", self.max_restarts, 0)
        fraction("checks.min_diversity", self.min_diversity)
        at_least("checks.max_diversity", self.max_diversity, 1)


class Resolved(NamedTuple):
    """The numbers that formulas give where the settings have none, and what the settings have elsewhere.

    The formulas are those of StyleGAN2-ADA's "auto" (Karras et al. 2020; ``NVlabs/stylegan2-ada-pytorch`` train.py).

    Attributes:
        batch_size: Images a step.
        generator_learning_rate: Before the correction for lazy regularisation.
        discriminator_learning_rate: The same.
        r1_gamma: Weight of R1.
        ema_half_life: In images.
    """

    batch_size: int
    generator_learning_rate: float
    discriminator_learning_rate: float
    r1_gamma: float
    ema_half_life: float


class StepsMonitor(NamedTuple):
    """The checks in steps, as the loop counts; a :class:`labels4free.training_loop.contracts.LoopMonitor`."""

    interval: int
    grace_steps: int
    max_restarts: int
    margin: float = 0.0
    patience: int = 0


@dataclass(frozen=True)
class GeneratorConfig:
    """Everything that decides a run, but the images."""

    recipe: ClassVar[str] = "stylegan2"
    length: ClassVar[str | None] = "images"

    images: int = 5_000_000
    """Images seen in all. (ADA's authors: good at 5 million, better until 25; a fine-tuning is often done after 1.)"""
    resolution: int = 64
    """Side of the images in pixels, a power of two; larger ones are cropped to their central square and shrunk."""
    batch_size: int | None = None
    """Images a step; none: 4096 / resolution, at most 32 and at least 4."""
    accumulation: int = 1
    """Micro-batches that the images of a step are cut into: less memory. Several processes share them."""
    classes: bool = False
    """Train a class-conditional generator: classes by NVIDIA's dataset.json, or by sub-folder."""
    mirror: bool = False
    """Mirror every second real image by chance: twice the images where left and right are alike."""
    seed: int = 0
    """Decides the first weights and every draw."""
    pretrained: str | None = None
    """Generator to begin with, and its discriminator if there is one: a file or a zoo name; none: random weights."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the networks compute in; auto: bfloat16 or float16 on CUDA devices, float32 on all others."""
    checkpoint_images: int = 10_000
    """Images between checkpoints."""
    picture_images: int = 10_000
    """Images between pictures."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    generator: GeneratorSection = field(default_factory=GeneratorSection)
    discriminator: DiscriminatorSection = field(default_factory=DiscriminatorSection)
    augmentation: AugmentationConfig = field(default_factory=_adaptive)
    checks: ChecksConfig = field(default_factory=ChecksConfig)

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("images", "accumulation", "checkpoint_images", "picture_images"):
            at_least(name, getattr(self, name), 1)
        if self.resolution < MIN_RESOLUTION or self.resolution & (self.resolution - 1):
            raise ConfigError(f"resolution must be a power of two of at least {MIN_RESOLUTION}, got {self.resolution}.")
        if self.batch_size is not None:
            at_least("batch_size", self.batch_size, 1)
        if self.resolved.batch_size % self.accumulation:
            raise ConfigError(
                f"accumulation must divide the batch of {self.resolved.batch_size} images, got {self.accumulation}."
            )

    @cached_property
    def resolved(self) -> Resolved:
        """What the settings come to."""
        side, batch = self.resolution, self.batch_size or max(4, min(4096 // self.resolution, 32))
        of_generator, of_discriminator = self.generator, self.discriminator
        rate = of_generator.learning_rate or (0.002 if side >= 1024 else 0.0025)
        gamma, half_life = of_discriminator.r1_gamma, of_generator.ema_half_life
        return Resolved(
            batch_size=batch,
            generator_learning_rate=rate,
            discriminator_learning_rate=of_discriminator.learning_rate or rate,
            r1_gamma=0.0002 * side**2 / batch if gamma is None else gamma,
            ema_half_life=312.5 * batch if half_life is None else half_life,
        )

    @property
    def steps(self) -> int:
        """Steps of the generator."""
        return self._steps(self.images)

    @property
    def checkpoint_interval(self) -> int:
        """Steps between checkpoints."""
        return self._steps(self.checkpoint_images)

    @property
    def picture_interval(self) -> int:
        """Steps between pictures."""
        return self._steps(self.picture_images)

    @property
    def monitor(self) -> StepsMonitor:
        """When the loop checks."""
        own = self.checks
        return StepsMonitor(self._steps(own.interval), self._steps(own.grace), own.max_restarts)

    @property
    def keeps_best(self) -> bool:
        """Whether the best check's average is kept, and not the last step's."""
        return self.checks.keep == "best"

    def total_steps(self, restart: int) -> int:  # noqa: ARG002  all are the same
        """Steps of a whole training."""
        return self.steps

    def hardened(self, restart: int) -> GeneratorConfig:
        """The settings of a restart: each restart has twice the R1 penalty of the one before."""
        if not restart:
            return self
        own = dataclasses.replace(self.discriminator, r1_gamma=self.resolved.r1_gamma * 2**restart)
        return dataclasses.replace(self, discriminator=own)

    def hardening(self, restart: int) -> str:
        """What a restart does more carefully than the settings say, in words for the log."""
        return f"a discriminator.r1_gamma of {self.hardened(restart).resolved.r1_gamma:g}"

    def _steps(self, images: int) -> int:
        return max(1, round(images / self.resolved.batch_size))

    def to_json(self) -> dict[str, Any]:
        """All fields as nested JSON values."""
        return dataclasses.asdict(self)
