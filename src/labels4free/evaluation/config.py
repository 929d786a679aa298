"""The settings of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from labels4free.metrics.masks import BOUNDARY_TOLERANCE
from labels4free.settings_fields import check_types, within

TRUTH_THRESHOLD = 0.5
"""A pixel of the ground truth is foreground where its value, in [0, 1], exceeds this."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What is compared, and how.

    Attributes:
        threshold: A predicted pixel is foreground where its alpha exceeds this; 0 to below 1. The truth's own threshold
            is 0.5.
        void: Grey value 0 .. 255 (or label, in a map of labels) of ground truth pixels that do not count; None: all do.
        foreground: Labels that are the object, none for all but 0: the true masks are maps of labels, and so are
            predicted ones that are none of 0 and 255; None: masks are black and white.
        resize: Resize predictions of another size to the truth's: hard ones by the nearest pixel, soft ones bilinearly.
        bootstrap: Resamplings of the images for the 95 % intervals; 0 means no intervals.
        seed: Of the resampling.
        boundary_tolerance: How far contours may lie apart, as a fraction of the diagonal.

    Raises:
        ConfigError: If a value is out of range.
    """

    threshold: float = 0.5
    void: int | None = None
    foreground: tuple[int, ...] | None = None
    resize: bool = False
    bootstrap: int = 2000
    seed: int = 0
    boundary_tolerance: float = BOUNDARY_TOLERANCE

    def __post_init__(self) -> None:
        check_types(self)
        within(self, "[0, 1)", "threshold")
        within(self, "[0, 255]", "void")
        within(self, "[0, 100000]", "bootstrap")
        within(self, "[0, inf)", "seed")
        within(self, "(0, 0.1]", "boundary_tolerance")
