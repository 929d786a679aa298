"""Every knob of the paper's recipe, with its unit; each section refuses bad values when it is built.

The defaults are those of the original code (``RameenAbdal/Labels4Free`` ``train.py``) wherever it has such a knob;
the name that it has there stands in brackets. ``presets.py`` has the settings that it was published with.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from labels4free.errors import ConfigError
from labels4free.settings_fields import at_least, check_types, fraction, positive
from labels4free.training.alpha.config import MonitorConfig
from labels4free.training.discriminator_inputs.augmentation import AugmentationConfig

GENERATORS_DISCRIMINATOR = "generator"
"""Value of ``discriminator.pretrained`` that means the one in, or beside, the generator's own file."""


@dataclass(frozen=True)
class SamplesConfig:
    """What is rendered: foregrounds, and what stands behind them."""

    truncation_psi: float = 1.0
    """Truncation of the foreground [trunc], in [0, 2]; 1 is the generator's full variety."""
    background_truncation_psi: float = 1.0
    """Truncation of the background, in [0, 2]; 1 in the original code, whatever that of the foreground."""
    style_mixing: float = 0.0
    """Fraction of the samples whose fine layers follow another latent, from a random layer on [mixing], in [0, 1]."""
    background_mode: str | None = None
    """Background mode of the generator; None means its default, which is the original code's."""
    same_latent: bool = False
    """Render the background from the foreground's latent (with noise of its own), as `faithful` does."""
    mirror: bool = True
    """Mirror every second real image, by chance."""

    def __post_init__(self) -> None:
        check_types(self, "samples.")
        for name in ("truncation_psi", "background_truncation_psi"):
            if not 0 <= getattr(self, name) <= 2:
                raise ConfigError(f"samples.{name} must lie in [0, 2], got {getattr(self, name)}.")
        fraction("samples.style_mixing", self.style_mixing)


@dataclass(frozen=True)
class PaperAlphaConfig:
    """The alpha network and its optimiser."""

    network: Literal["paper", "merge"] = "paper"
    """The paper's network (its two variants are one function), or this package's."""
    width: int = 16
    """Channels inside a `merge` network; the paper's has its own."""
    min_resolution: int = 8
    """Coarser feature maps are not read by a `merge` network."""
    max_resolution: int = 256
    """Finer feature maps are not read by a `merge` network."""
    learning_rate: float = 2e-4
    """Adam, constant [lr]; multiplied by the lazy ratio."""
    lazy_interval: int = 4
    """Lazy ratio n / (n + 1) on the learning rate and as exponent of beta2 [g_reg_every]: the original code keeps it
    though it has no such penalty here. 0: no ratio."""
    beta1: float = 0.0
    """Adam's first decay rate, in [0, 1)."""
    beta2: float = 0.99
    """Adam's second decay rate, in [0, 1), before the lazy ratio."""
    ema_half_life: float = 312.5
    """Half life of the weights' running average, in steps (the original decay is 0.5^(32 / 10000) a step) ..."""
    ema_ramp: float = 0.25
    """... but at most this fraction of the steps done: an average of 50 steps must not be one of the first weights."""

    def __post_init__(self) -> None:
        check_types(self, "alpha.")
        for name in ("width", "min_resolution", "max_resolution"):
            at_least(f"alpha.{name}", getattr(self, name), 1)
        _check_adam("alpha", self)
        at_least("alpha.lazy_interval", self.lazy_interval, 0)
        at_least("alpha.ema_half_life", self.ema_half_life, 0)
        positive("alpha.ema_ramp", self.ema_ramp)

    @property
    def lazy_ratio(self) -> float:
        """Factor on the learning rate, and exponent of beta2."""
        return self.lazy_interval / (self.lazy_interval + 1) if self.lazy_interval else 1.0


@dataclass(frozen=True)
class PaperDiscriminatorConfig:
    """The discriminator, its optimiser and its penalty."""

    pretrained: str | None = None
    """File or folder with the discriminator to begin with, or `generator`: the one in, or beside, the generator's own
    file [use_disc]. None: random weights."""
    channel_multiplier: int = 2
    """Channels at resolutions above 32, in units of StyleGAN2's smaller network; 2 is config-f [channel_multiplier]."""
    channel_max: int = 512
    """No resolution has more channels than this."""
    learning_rate: float = 2e-4
    """Adam, constant [lr]; multiplied by r1_interval / (r1_interval + 1)."""
    beta1: float = 0.0
    """Adam's first decay rate, in [0, 1)."""
    beta2: float = 0.99
    """Adam's second decay rate, in [0, 1), before the exponent r1_interval / (r1_interval + 1)."""
    r1_gamma: float = 10.0
    """Weight of the R1 penalty, gamma of gamma / 2 * |grad D|^2 [r1]."""
    r1_interval: int = 16
    """Steps from one R1 penalty to the next, the first step included; it then has so many times the weight
    [d_reg_every]."""

    def __post_init__(self) -> None:
        check_types(self, "discriminator.")
        for name in ("channel_multiplier", "channel_max", "r1_interval"):
            at_least(f"discriminator.{name}", getattr(self, name), 1)
        _check_adam("discriminator", self)
        at_least("discriminator.r1_gamma", self.r1_gamma, 0)

    @property
    def lazy_ratio(self) -> float:
        """Factor on the learning rate, and exponent of beta2."""
        return self.r1_interval / (self.r1_interval + 1)


@dataclass(frozen=True)
class PaperLossConfig:
    """Weights of the alpha network's loss.

    The original loss_multiplier is two of them: `binarization` and `foreground_coverage`.
    """

    adversarial: float = 1.0
    """Weight of softplus(-D(composite)) [sat_weight]."""
    binarization: float = 1.2
    """Weight of mean min(alpha, 1 - alpha) [loss_multiplier]."""
    foreground_coverage: float = 1.2
    """Weight of relu(min_foreground_coverage - mean alpha), image by image [loss_multiplier]."""
    min_foreground_coverage: float = 0.25
    """Mean alpha of an image below which that costs, in [0, 1] [fg_coverage_value]."""
    background_coverage: float = 0.0
    """Weight of relu(min_background_coverage - mean (1 - alpha)), image by image [bg_coverage_wt]."""
    min_background_coverage: float = 0.75
    """Mean 1 - alpha of an image below which that costs, in [0, 1] [bg_coverage_value]."""

    def __post_init__(self) -> None:
        check_types(self, "loss.")
        for name in ("adversarial", "binarization", "foreground_coverage", "background_coverage"):
            at_least(f"loss.{name}", getattr(self, name), 0)
        fraction("loss.min_foreground_coverage", self.min_foreground_coverage)
        fraction("loss.min_background_coverage", self.min_background_coverage)


@dataclass(frozen=True)
class PaperConfig:
    """Everything that decides a run of the paper's recipe, but the generator."""

    recipe: ClassVar[str] = "paper"
    length: ClassVar[str | None] = "steps"

    steps: int = 1001
    """Steps; each moves the discriminator and then the alpha network [iter]."""
    batch_size: int = 16
    """Images a micro-batch: what is in memory at a time, and what the discriminator's minibatch statistic sees; the
    original `batch`, which is that of one GPU [batch]."""
    accumulation: int = 1
    """Micro-batches a step, whose gradients are averaged: as many GPUs in the original code."""
    resolution: int | None = None
    """Side of the composites that the discriminator judges, in pixels (averaged down to it); None: the generator's."""
    seed: int = 0
    """Decides the first weights and every draw."""
    data: str | None = None
    """Real images for the discriminator: a folder, zip file, LMDB or shards; None: the generator's own samples are
    the real ones."""
    faithful: bool = False
    """Reproduce what the original code does by mistake: one latent for both layers, the logit of a real image added
    to the R1 penalty, and the last step's network saved in place of the average."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the trained networks compute in; auto: bfloat16 or float16 on CUDA devices, float32 on all others."""
    checkpoint_interval: int = 200
    """Steps between checkpoints."""
    picture_interval: int = 200
    """Steps between pictures."""
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    alpha: PaperAlphaConfig = field(default_factory=PaperAlphaConfig)
    discriminator: PaperDiscriminatorConfig = field(default_factory=PaperDiscriminatorConfig)
    loss: PaperLossConfig = field(default_factory=PaperLossConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    monitor: MonitorConfig = field(default_factory=lambda: MonitorConfig(samples=8))

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("steps", "batch_size", "accumulation", "checkpoint_interval", "picture_interval"):
            at_least(name, getattr(self, name), 1)
        if self.resolution is not None and (self.resolution < 8 or self.resolution & (self.resolution - 1)):
            raise ConfigError(f"resolution must be none or a power of two of at least 8, got {self.resolution}.")

    @property
    def one_latent(self) -> bool:
        """Whether both layers of a composite come from one latent."""
        return self.samples.same_latent or self.faithful

    def total_steps(self, restart: int) -> int:  # noqa: ARG002  the other recipe's restarts are longer
        """Steps of a whole training."""
        return self.steps

    @property
    def keeps_best(self) -> bool:
        """Whether the best check's network is kept, and not the last step's."""
        return self.monitor.keep == "best" and not self.faithful

    def hardened(self, restart: int) -> PaperConfig:
        """The settings of a restart: restart 0 has these, with each restart both coverage weights double."""
        if restart == 0:
            return self
        foreground, background = (
            weight * 2**restart for weight in (self.loss.foreground_coverage, self.loss.background_coverage)
        )
        loss = dataclasses.replace(self.loss, foreground_coverage=foreground, background_coverage=background)
        return dataclasses.replace(self, loss=loss)

    def hardening(self, restart: int) -> str:
        """What a restart does more carefully than the settings say, in words for the log."""
        loss = self.hardened(restart).loss
        return f"foreground coverage weight {loss.foreground_coverage:g}, background {loss.background_coverage:g}"

    def to_json(self) -> dict[str, Any]:
        """All fields as nested JSON values."""
        return dataclasses.asdict(self)


def _check_adam(section: str, config: PaperAlphaConfig | PaperDiscriminatorConfig) -> None:
    positive(f"{section}.learning_rate", config.learning_rate)
    for name in ("beta1", "beta2"):
        if not 0 <= getattr(config, name) < 1:
            raise ConfigError(f"{section}.{name} must lie in [0, 1), got {getattr(config, name)}.")
