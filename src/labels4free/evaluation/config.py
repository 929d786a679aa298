"""The settings of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from labels4free.errors import ConfigError
from labels4free.metrics import BOUNDARY_TOLERANCE

TRUTH_THRESHOLD = 0.5
"""A pixel of the ground truth is foreground where its value, in [0, 1], exceeds this."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What is compared, and how.

    Attributes:
        threshold: A predicted pixel is foreground where its alpha exceeds this; 0 to below 1. The truth's own threshold
            is 0.5.
        void: Grey value 0 .. 255 (or label, in a map of labels) of ground truth pixels that do not count; None: all do.
        resize: Resize predictions of another size to the truth's: hard ones by the nearest pixel, soft ones bilinearly.
        bootstrap: Resamplings of the images for the 95 % intervals; 0 means no intervals.
        seed: Of the resampling.
        boundary_tolerance: How far contours may lie apart, as a share of the diagonal.

    Raises:
        ConfigError: If a value is out of range.
    """

    threshold: float = 0.5
    void: int | None = None
    resize: bool = False
    bootstrap: int = 2000
    seed: int = 0
    boundary_tolerance: float = BOUNDARY_TOLERANCE

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"threshold must be from 0 to below 1, such as 0.5; got {self.threshold}.")
        if self.void is not None and not 0 <= self.void <= 255:
            raise ConfigError(f"void must be a grey value from 0 to 255, got {self.void}.")
        if not 0 <= self.bootstrap <= 100_000:
            raise ConfigError(f"bootstrap must be from 0 (no intervals) to 100000 resamplings, got {self.bootstrap}.")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}.")
        if not 0 < self.boundary_tolerance <= 0.1:
            raise ConfigError(
                f"boundary_tolerance must be above 0 and at most 0.1 of the diagonal, got {self.boundary_tolerance}."
            )
