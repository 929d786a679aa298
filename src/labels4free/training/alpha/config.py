"""Every knob of alpha training, with its unit; each section refuses bad values when it is built."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from labels4free.errors import ConfigError
from labels4free.seeds import derive_seed
from labels4free.settings_fields import at_least, check_types, fraction, positive
from labels4free.training.discriminator_inputs.augmentation import AugmentationConfig

_SECONDS_PER_STEP = 0.16
"""What a step of the default settings takes on two CPU cores; a warm-up step takes a third of it."""
_MEMBER = 0x3E3B  # keeps the seeds of members apart from other draws of the run

COVERAGE_BOUNDS = ((0.25, 0.3), (0.15, 0.7))
"""Pairs of loss.min_foreground_coverage and loss.min_background_coverage that are tried where neither is chosen: for
objects that fill most of a picture, as portraits do, and for smaller ones."""


@dataclass(frozen=True)
class CacheConfig:
    """The feature cache: samples of the generator that are rendered once and used again and again."""

    size: int = 1024
    """Samples. More variety trains a better discriminator; each costs two renderings."""
    min_truncation_psi: float = 0.5
    """Truncation is spread evenly over the samples, from here ..."""
    max_truncation_psi: float = 1.0
    """... to here."""
    calibration_samples: int = 32
    """Samples from which the principal channels of each feature map are computed."""
    seed: int | None = None
    """Decides the latents; None: the run's seed."""
    folder: str | None = None
    """Where rendered samples are kept, for several runs to share; None: in the run's folder, until it is finished."""

    def __post_init__(self) -> None:
        check_types(self, "cache.")
        at_least("cache.size", self.size, 8)
        at_least("cache.calibration_samples", self.calibration_samples, 1)
        if not 0 <= self.min_truncation_psi <= self.max_truncation_psi <= 2:
            raise ConfigError(
                "cache.min_truncation_psi and cache.max_truncation_psi must satisfy 0 <= min <= max <= 2, got "
                f"{self.min_truncation_psi} and {self.max_truncation_psi}."
            )


@dataclass(frozen=True)
class AlphaConfig:
    """The alpha network and its optimiser."""

    width: int = 16
    """Channels inside the network."""
    min_resolution: int = 8
    """Coarser feature maps are not read."""
    max_resolution: int = 256
    """Finer feature maps are not read."""
    learning_rate: float = 5e-4
    """Adam, constant for the first half of the steps, then down to 0 along a line."""
    ema_half_life: float = 60.0
    """Half life of the weights' running average, in steps."""
    pretrained: str | None = None
    """Alpha network to begin with: that of the generator which this one was fine-tuned from, as a file, a run's folder
    or the name of a generator that one ships for; none: random weights."""

    def __post_init__(self) -> None:
        check_types(self, "alpha.")
        at_least("alpha.width", self.width, 1)
        positive("alpha.learning_rate", self.learning_rate)
        at_least("alpha.ema_half_life", self.ema_half_life, 0)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator, its optimiser and what it is shown."""

    channel_base: int = 1024
    """Channels at resolution R are channel_base / R, ..."""
    channel_max: int = 128
    """... but never more than this."""
    learning_rate: float = 2e-3
    """Adam, constant."""
    warmup_steps: int = 600
    """Steps before the alpha network moves, on composites with random smooth masks: without them the discriminator
    would believe whichever way round the alpha network happens to try first."""
    steps_per_alpha_step: int = 2
    """Discriminator steps for each step of the alpha network."""
    r1_gamma: float = 0.1
    """Weight of the R1 penalty, gamma of gamma / 2 * |grad D|^2."""
    r1_interval: int = 16
    """Discriminator steps from one R1 penalty to the next (lazy regularisation)."""
    random_mask_fraction: float = 0.25
    """Fraction of the composites that keep a random smooth mask after the warm-up, in [0, 1]."""
    perturbed_mask_fraction: float = 0.5
    """Fraction of the other composites whose mask is disturbed, so that the neighbours of the current masks are
    known."""

    def __post_init__(self) -> None:
        check_types(self, "discriminator.")
        for name in ("channel_base", "channel_max", "steps_per_alpha_step", "r1_interval"):
            at_least(f"discriminator.{name}", getattr(self, name), 1)
        at_least("discriminator.warmup_steps", self.warmup_steps, 0)
        positive("discriminator.learning_rate", self.learning_rate)
        at_least("discriminator.r1_gamma", self.r1_gamma, 0)
        fraction("discriminator.random_mask_fraction", self.random_mask_fraction)
        fraction("discriminator.perturbed_mask_fraction", self.perturbed_mask_fraction)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the alpha network's loss; the adversarial term has weight 1."""

    binarization: float = 1.0
    """Weight of mean min(alpha, 1 - alpha), ..."""
    binarization_steps: int = 600
    """... reached along a line from 0 after so many steps: binarised too early, a wrong mask stays."""
    inpainting_error: float = 2.0
    """Weight of the reward for masks whose two sides do not predict each other at the first step, ..."""
    final_inpainting_error: float = 1.0
    """... and at the last; along a line between them."""
    coverage: float = 5.0
    """Weight of each coverage term."""
    min_foreground_coverage: float | None = None
    """A batch's mean alpha may not fall below this, in [0, 1]; none: 0.25, or tried."""
    min_background_coverage: float | None = None
    """A batch's mean 1 - alpha may not fall below this, in [0, 1]; none: 0.3, or tried. Masks tend to grow to it.
    Where both are none, a network is trained with 0.25 and 0.3, another one with 0.15 and 0.7, for smaller objects, and
    the bounds whose masks score higher are the run's. (The paper's recipes ask for 0.35 to 0.75 of background.)"""
    min_image_coverage: float = 0.05
    """Neither side of any single image may fall below this, in [0, 1]."""

    def __post_init__(self) -> None:
        check_types(self, "loss.", finite=False)
        at_least("loss.binarization", self.binarization, 0)
        at_least("loss.binarization_steps", self.binarization_steps, 1)
        for name in ("inpainting_error", "final_inpainting_error", "coverage"):
            at_least(f"loss.{name}", getattr(self, name), 0)
        foreground, background = self.bounds[0]
        fraction("loss.min_foreground_coverage", foreground)
        fraction("loss.min_background_coverage", background)
        fraction("loss.min_image_coverage", self.min_image_coverage)
        if foreground + background >= 1:
            raise ConfigError(
                "loss.min_foreground_coverage and loss.min_background_coverage must leave room between them, got "
                f"{foreground} + {background} >= 1."
            )

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """The pairs of (min_foreground_coverage, min_background_coverage) to try: one where any was chosen."""
        chosen = self.min_foreground_coverage, self.min_background_coverage
        if chosen == (None, None):
            return COVERAGE_BOUNDS
        foreground, background = (
            default if own is None else own for own, default in zip(chosen, COVERAGE_BOUNDS[0], strict=True)
        )
        return ((foreground, background),)


@dataclass(frozen=True)
class BackgroundConfig:
    """What stands behind the foreground in a composite."""

    mode: str | None = None
    """Background mode of the generator; None means its default."""
    same_latent: bool = False
    """Use the background of the same latent, as the original does, instead of another sample's."""
    blur: int = 4
    """The generated background is averaged over blocks of so many training pixels: out of focus."""
    jitter: float = 0.3
    """The generated background's contrast and colour are changed by up to this, in units of the image range [-1, 1]."""
    filled_fraction: float = 1.0
    """Final fraction of composites whose background is another sample's own surroundings, the object filled in from
    around it, in [0, 1]: they look like real backgrounds, which the generated ones do not."""
    filled_from_step: int = 150
    """Alpha step at which that fraction begins to rise from 0 ..."""
    filled_full_step: int = 350
    """... and at which it is reached."""

    def __post_init__(self) -> None:
        check_types(self, "background.")
        at_least("background.blur", self.blur, 1)
        at_least("background.jitter", self.jitter, 0)
        fraction("background.filled_fraction", self.filled_fraction)
        if not 0 <= self.filled_from_step < self.filled_full_step:
            raise ConfigError(
                "background.filled_from_step and background.filled_full_step must satisfy 0 <= from < full, got "
                f"{self.filled_from_step} and {self.filled_full_step}."
            )


@dataclass(frozen=True)
class MonitorConfig:
    """The live check of a run, on samples that are kept apart."""

    interval: int = 100
    """Alpha steps from one check to the next."""
    samples: int = 32
    """Samples that are checked and never trained on; with a cache, the last ones in it."""
    grace_steps: int = 300
    """Alpha steps after which a lost run is started again; before, it is only warned of."""
    max_restarts: int = 3
    """Fresh starts after which the run is given up; each hardens the settings further than the one before."""
    noise_samples: int = 16
    """Of those samples so many (or all, if they are fewer) are rendered again with other noise, to see whether alpha
    stays; 0: none."""
    mixing_samples: int = 16
    """The same with another sample's fine styles; 0: none, and inpainting error alone is the score."""
    keep: Literal["best", "last"] = "best"
    """Which network the run leaves: that of the best check by the score, from grace_steps on, or the last step's."""
    margin: float = 0.01
    """A check is better than a later one only if its score is higher by this fraction."""
    patience: int = 0
    """Alpha steps without a better score (by the margin) after which training ends early; 0: never. The default
    recipe's learning rate falls to 0 over all steps, so its last steps are worth waiting for."""

    def __post_init__(self) -> None:
        check_types(self, "monitor.")
        at_least("monitor.interval", self.interval, 1)
        at_least("monitor.samples", self.samples, 1)
        for name in ("grace_steps", "max_restarts", "noise_samples", "mixing_samples", "patience"):
            at_least(f"monitor.{name}", getattr(self, name), 0)
        fraction("monitor.margin", self.margin)

    @property
    def augmented_samples(self) -> dict[str, int]:
        """How many samples are rendered again, by the way in which they are; ways without samples are left out."""
        counts = {"noise": self.noise_samples, "mixing": self.mixing_samples}
        return {augmentation: min(count, self.samples) for augmentation, count in counts.items() if count}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, but the generator."""

    recipe: ClassVar[str] = "replay"
    length: ClassVar[str | None] = None

    steps: int = 1000
    """Steps of the alpha network; the discriminator's warm-up comes before them."""
    batch_size: int = 8
    """Images a step."""
    resolution: int = 32
    """Side of the composites that the discriminator judges, in pixels; masks come at full size all the same."""
    seed: int = 0
    """Decides the latents, the first weights and every draw."""
    members: int = 3
    """Networks that are trained one after the other on the same samples; the run leaves their consensus, a network that
    has learned the mean of their alphas. One is as good as its seed; with several, luck matters less. Where bounds of
    coverage are tried, one more is trained."""
    consensus_steps: int = 800
    """Steps of learning that mean, once all members are trained."""
    data: str | None = None
    """Real images for the discriminator: a folder, zip file, LMDB or shards; None: the generator's own samples are
    the real ones."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the trained networks compute in; auto: bfloat16 or float16 on CUDA devices, float32 on all others."""
    checkpoint_interval: int = 200
    """Steps (warm-up included) between checkpoints."""
    picture_interval: int = 200
    """Alpha steps between pictures."""
    cache: CacheConfig = field(default_factory=CacheConfig)
    alpha: AlphaConfig = field(default_factory=AlphaConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("steps", "batch_size", "members", "consensus_steps", "checkpoint_interval", "picture_interval"):
            at_least(name, getattr(self, name), 1)
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ConfigError(f"resolution must be a power of two of at least 8, got {self.resolution}.")
        if self.discriminator.channel_base < self.resolution:
            raise ConfigError(
                f"discriminator.channel_base must be at least the training resolution {self.resolution}, got "
                f"{self.discriminator.channel_base}."
            )
        if self.background.blur > self.resolution:
            raise ConfigError(
                f"background.blur may be at most the training resolution {self.resolution}, got {self.background.blur}."
            )
        if self.cache.size <= self.monitor.samples:
            raise ConfigError(
                f"cache.size must exceed monitor.samples, which are kept apart, got {self.cache.size} and "
                f"{self.monitor.samples}."
            )

    def total_steps(self, restart: int) -> int:
        """Steps of a whole training; each restart warms the discriminator up for longer."""
        return self.hardened(restart).discriminator.warmup_steps + self.steps

    @property
    def trainings(self) -> int:
        """Networks that are trained, those of bounds that are tried and left included."""
        return self.members + len(self.loss.bounds) - 1

    @property
    def keeps_best(self) -> bool:
        """Whether the best check's network is kept, and not the last step's."""
        return self.monitor.keep == "best"

    def hardened(self, restart: int) -> TrainConfig:
        """The settings of a restart: restart 0 has these, each restart is more careful than the one before.

        The discriminator warms up for 2, 3, 4 ... times as many steps, since a weak judge is what loses a run;
        binarization takes as many times the steps to reach its weight (at most all steps), since a wrong mask that is
        binary stays; and the coverage terms have 2, 4, 8 ... times their weight, against empty and full masks.
        """
        if restart == 0:
            return self
        warmup, ramp = self.discriminator.warmup_steps * (1 + restart), self.loss.binarization_steps
        later = min(ramp * (1 + restart), max(ramp, self.steps))
        loss = dataclasses.replace(self.loss, coverage=self.loss.coverage * 2**restart, binarization_steps=later)
        return dataclasses.replace(
            self, loss=loss, discriminator=dataclasses.replace(self.discriminator, warmup_steps=warmup)
        )

    def hardening(self, restart: int) -> str:
        """What a restart does more carefully than the settings say, in words for the log."""
        own = self.hardened(restart)
        return (
            f"{own.discriminator.warmup_steps} warm-up steps, coverage weight {own.loss.coverage:g}, binarization over "
            f"{own.loss.binarization_steps} steps"
        )

    def of_member(self, member: int, bounds: tuple[float, float] | None = None) -> TrainConfig:
        """The settings of one of the members: their seeds differ, that of member 0 is the run's.

        Args:
            member: Which one, from 0.
            bounds: What it has of ``loss.bounds``; None for the first.
        """
        foreground, background = bounds or self.loss.bounds[0]
        loss = dataclasses.replace(self.loss, min_foreground_coverage=foreground, min_background_coverage=background)
        seed = self.seed if member == 0 else derive_seed(self.seed, _MEMBER, member)
        return dataclasses.replace(self, seed=seed, loss=loss)

    @property
    def cache_seed(self) -> int:
        """Seed of the cache's latents."""
        return self.seed if self.cache.seed is None else self.cache.seed

    def to_json(self) -> dict[str, Any]:
        """All fields as nested JSON values; :func:`labels4free.settings_fields.build` is the inverse."""
        return dataclasses.asdict(self)


def config_for_minutes(minutes: float, seconds_per_image: float, *, seed: int = 0) -> TrainConfig:
    """Default settings for portraits, cut down to fit a time budget on a CPU; no bounds of coverage are tried.

    Fewer samples and steps, but never fewer than work at all.

    Args:
        minutes: For rendering the cache and training.
        seconds_per_image: What one rendering takes on this machine.
        seed: Seed of the run.

    Returns:
        The defaults where these fit. The members come last: each costs a training, and more samples and steps are worth
        more.
    """
    default = TrainConfig().of_member(0)
    size = int(0.55 * 60 * minutes / (2 * seconds_per_image))
    size = min(default.cache.size, max(128, size))
    rest = 60 * minutes - (2 * size + sum(default.monitor.augmented_samples.values())) * seconds_per_image
    warmup = default.discriminator.warmup_steps // 3
    steps = min(default.steps, max(600, int(rest / _SECONDS_PER_STEP) - warmup))
    whole = size == default.cache.size and rest >= default.members * (warmup + default.steps) * _SECONDS_PER_STEP
    members = default.members if whole else 1
    cache = dataclasses.replace(default.cache, size=size)
    return dataclasses.replace(default, seed=seed, steps=steps, members=members, cache=cache)
