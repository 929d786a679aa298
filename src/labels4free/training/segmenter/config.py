"""Every knob of a segmenter's training, with its unit; each section refuses bad values when it is built."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from labels4free.errors import ConfigError
from labels4free.settings_fields import at_least, check_types, fraction, positive
from labels4free.training.segmenter.augmentation.config import PairAugmentationConfig

SIZE_MULTIPLE = 32
"""Sides of the network's images are multiples of this: five halvings."""


@dataclass(frozen=True)
class PairsConfig:
    """The pairs that are rendered where none are given, and how far pairs are trusted."""

    num: int = 4000
    """Candidates to render; a few of them the filters of data sets drop."""
    seed: int | None = None
    """Decides their latents; None: the run's seed."""
    min_truncation_psi: float = 0.5
    """Their truncation is drawn evenly from here ..."""
    max_truncation_psi: float = 1.0
    """... to here, at most 2."""
    background_pictures: str | None = None
    """Pictures to lay objects over: a folder, zip file, LMDB or shards; None: other pairs' surroundings, textures and
    procedural backgrounds alone."""

    def __post_init__(self) -> None:
        check_types(self, "pairs.")
        at_least("pairs.num", self.num, 1)
        if not 0 <= self.min_truncation_psi <= self.max_truncation_psi <= 2:
            raise ConfigError(
                "pairs.min_truncation_psi and pairs.max_truncation_psi must satisfy 0 <= min <= max <= 2, got "
                f"{self.min_truncation_psi} and {self.max_truncation_psi}."
            )


@dataclass(frozen=True)
class NetworkConfig:
    """The size of the segmenter."""

    width: int = 16
    """Channels of the finest map; the coarser ones have 2, 4, 8 and 10 times as many."""
    detail_width: int = 12
    """Channels of the branch at full resolution."""
    head_width: int = 16
    """Channels before the last convolution."""

    def __post_init__(self) -> None:
        check_types(self, "network.")
        for name in ("width", "detail_width", "head_width"):
            at_least(f"network.{name}", getattr(self, name), 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the encoder's maps."""
        return tuple(self.width * factor for factor in (1, 2, 4, 8, 10))

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        """Channels of the decoder's maps."""
        return tuple(max(1, self.width * factor // 2) for factor in (2, 3, 6, 12))


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with betas 0.9 and 0.99, a warm-up and a cosine; and the average of the weights."""

    learning_rate: float = 2e-3
    """The highest, reached after the warm-up; half a cosine takes it to 0."""
    warmup_steps: int = 200
    """Steps over which it rises from 0 along a line."""
    weight_decay: float = 0.01
    """Of the weights, in units of the learning rate."""
    max_gradient_norm: float = 2.0
    """A gradient longer than this is shortened to it."""
    ema_half_life: float = 350.0
    """Half life of the weights' running average, in steps; the average is what is kept."""

    def __post_init__(self) -> None:
        check_types(self, "optimizer.")
        positive("optimizer.learning_rate", self.learning_rate)
        positive("optimizer.max_gradient_norm", self.max_gradient_norm)
        for name in ("warmup_steps", "weight_decay", "ema_half_life"):
            at_least(f"optimizer.{name}", getattr(self, name), 0)


@dataclass(frozen=True)
class SegmenterLossConfig:
    """Weights of the terms, and of the pixels in them."""

    cross_entropy: float = 1.0
    """Weight of the cross entropy with the pair's soft alpha."""
    iou: float = 1.0
    """Weight of 1 - soft IoU of each image."""
    absolute: float = 1.0
    """Weight of the mean absolute difference of the alphas."""
    border: float = 2.0
    """Pixels near the object's border count so much more."""
    border_width: int = 7
    """How wide the border is, in pixels of the training image; an odd number."""
    uncertainty: float = 4.0
    """Pairs with an uncertainty u (see ``sample --uncertainty``) weigh (1 - u) to this power; 0: all the same."""

    def __post_init__(self) -> None:
        check_types(self, "loss.")
        for name in ("cross_entropy", "iou", "absolute", "border", "uncertainty"):
            at_least(f"loss.{name}", getattr(self, name), 0)
        if self.cross_entropy + self.iou + self.absolute == 0:
            raise ConfigError("One of loss.cross_entropy, loss.iou and loss.absolute must be above 0, got 0 for all.")
        if self.border_width < 1 or self.border_width % 2 == 0:
            raise ConfigError(f"loss.border_width must be an odd number of at least 1 pixel, got {self.border_width}.")


@dataclass(frozen=True)
class SelfTrainingConfig:
    """Self-training on pseudo-labels: learning on from one's own masks of unlabelled photos."""

    unlabelled: str | None = None
    """Photos: a folder, zip file, LMDB or shards; None: no self-training."""
    rounds: int = 1
    """Times that the average of the weights labels the photos anew. The steps are cut into rounds + 1 equal parts; the
    first learns from pairs alone."""
    photo_fraction: float = 0.3
    """Fraction of the examples that are photos, in [0, 1]; those that are not labelled reliably make room for pairs."""
    min_agreement: float = 0.9
    """A photo counts only if its masks from several test-time augmentations (mirrored, smaller) agree with their mean
    by this much, as soft mean IoU in [0, 1]."""
    min_foreground_ratio: float = 0.02
    """And if the mean alpha is at least this ..."""
    max_foreground_ratio: float = 0.98
    """... and at most this."""

    def __post_init__(self) -> None:
        check_types(self, "self_training.")
        at_least("self_training.rounds", self.rounds, 1)
        for name in ("photo_fraction", "min_agreement", "min_foreground_ratio", "max_foreground_ratio"):
            fraction(f"self_training.{name}", getattr(self, name))
        if self.min_foreground_ratio >= self.max_foreground_ratio:
            raise ConfigError(
                "self_training.min_foreground_ratio must be below self_training.max_foreground_ratio, got "
                f"{self.min_foreground_ratio} and {self.max_foreground_ratio}."
            )


@dataclass(frozen=True)
class SegmenterMonitorConfig:
    """The live check of a run, on pairs that are kept apart."""

    interval: int = 500
    """Steps from one check to the next."""
    samples: int = 32
    """Pairs that are checked and never trained on: the last ones of the data set."""
    photos: int = 16
    """Unlabelled photos that the masks' agreement is measured on, where there are any."""
    grace_steps: int = 1500
    """Steps after which a lost run is started again; before, it is only warned of."""
    max_restarts: int = 2
    """Fresh starts after which the run is given up; each has half the learning rate of the one before."""
    keep: Literal["best", "last"] = "best"
    """Which network the run leaves: that of the best check, from grace_steps on, or the last step's."""
    margin: float = 0.01
    """A check is better than a later one only if its score is higher by this fraction."""
    patience: int = 0
    """Steps without a better score (by the margin) after which training ends early; 0: never."""

    def __post_init__(self) -> None:
        check_types(self, "monitor.")
        at_least("monitor.interval", self.interval, 1)
        at_least("monitor.samples", self.samples, 1)
        for name in ("photos", "grace_steps", "max_restarts", "patience"):
            at_least(f"monitor.{name}", getattr(self, name), 0)
        fraction("monitor.margin", self.margin)


@dataclass(frozen=True)
class SegmenterConfig:
    """Everything that decides a run, but the pairs."""

    recipe: ClassVar[str] = "segmenter"
    length: ClassVar[str | None] = None

    steps: int = 6000
    """Steps of the optimiser."""
    batch_size: int = 8
    """Images a step, at least 2: batch normalisation compares them."""
    size: int = 256
    """Side of the training images in pixels, a multiple of 32."""
    working_size: int | None = None
    """Longer side that photos are scaled to when they are segmented, a multiple of 32; None: up to an eighth more than
    size, which serves a little better (docs/experiments.md)."""
    seed: int = 0
    """Decides the first weights, every draw and, unless pairs.seed does, the latents."""
    pretrained: str | None = None
    """The segmenter to begin with: ``faces``, which ships, a file or a run's folder; None: random weights."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the network computes in; auto: bfloat16 or float16 on CUDA devices, float32 on all others."""
    checkpoint_interval: int = 250
    """Steps between checkpoints."""
    picture_interval: int = 500
    """Steps between pictures."""
    pairs: PairsConfig = field(default_factory=PairsConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: SegmenterLossConfig = field(default_factory=SegmenterLossConfig)
    augmentation: PairAugmentationConfig = field(default_factory=PairAugmentationConfig)
    self_training: SelfTrainingConfig = field(default_factory=SelfTrainingConfig)
    monitor: SegmenterMonitorConfig = field(default_factory=SegmenterMonitorConfig)

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("steps", "checkpoint_interval", "picture_interval"):
            at_least(name, getattr(self, name), 1)
        at_least("batch_size", self.batch_size, 2)
        for name, side in (("size", self.size), ("working_size", self.photo_size)):
            if side < SIZE_MULTIPLE or side % SIZE_MULTIPLE:
                raise ConfigError(f"{name} must be a multiple of {SIZE_MULTIPLE} pixels, at least that, got {side}.")
        parts = self.self_training.rounds + 1
        if self.self_training.unlabelled is not None and self.steps < parts:
            raise ConfigError(
                f"{self.self_training.rounds} rounds of self-training need at least {parts} steps, got steps="
                f"{self.steps}."
            )

    @property
    def keeps_best(self) -> bool:
        """Whether the best check's network is kept, and not the last step's."""
        return self.monitor.keep == "best"

    @property
    def photo_size(self) -> int:
        """Longer side in pixels that the segmenter scales photos to."""
        if self.working_size is not None:
            return self.working_size
        return self.size * 9 // 8 // SIZE_MULTIPLE * SIZE_MULTIPLE

    @property
    def pairs_seed(self) -> int:
        """Seed of the rendered pairs."""
        return self.seed if self.pairs.seed is None else self.pairs.seed

    def total_steps(self, restart: int) -> int:  # noqa: ARG002  all are the same
        """Steps of a whole training."""
        return self.steps

    def hardened(self, restart: int) -> SegmenterConfig:
        """The settings of a restart: each restart has half the learning rate of the one before."""
        optimizer = dataclasses.replace(self.optimizer, learning_rate=self.optimizer.learning_rate * 0.5**restart)
        return dataclasses.replace(self, optimizer=optimizer)

    def hardening(self, restart: int) -> str:
        """What a restart does more carefully than the settings say, in words for the log."""
        return f"a learning rate of {self.hardened(restart).optimizer.learning_rate:g}"

    def round_starts(self) -> tuple[int, ...]:
        """Steps at which the photos are labelled; none without photos."""
        parts = self.self_training.rounds + 1
        if self.self_training.unlabelled is None:
            return ()
        return tuple(self.steps * part // parts for part in range(1, parts))

    def to_json(self) -> dict[str, Any]:
        """All fields as nested JSON values."""
        return dataclasses.asdict(self)
