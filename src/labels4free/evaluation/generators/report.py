"""What is to be measured of a generator, and what was found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from labels4free.errors import ConfigError
from labels4free.evaluation.generators.path_length import EPSILON
from labels4free.evaluation.generators.recipes import Recipe, parse_recipe
from labels4free.settings_fields import check_types, within


@dataclass(frozen=True)
class MetricsConfig:
    """What is measured of a generator, and how.

    Attributes:
        metrics: Names, see :func:`labels4free.evaluation.generators.recipes.parse_recipe`.
        truncation_psi: Of the generator; published figures have 1.
        noise: Of the generator's images: random (other noise for each, as published), fixed or none.
        seed: First seed.
        seeds: How many, one after the other; the spread is over them.
        epsilon: Step of path lengths.
        batch_size: Images at once.
        workers: Processes, for CPUs.

    Raises:
        ConfigError: If a name is unknown or a value out of range.
    """

    metrics: tuple[str, ...]
    truncation_psi: float = 1.0
    noise: Literal["random", "fixed", "none"] = "random"
    seed: int = 0
    seeds: int = 1
    epsilon: float = EPSILON
    batch_size: int = 8
    workers: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        within(self, "[-2, 2]", "truncation_psi", hint="published figures have 1")
        within(self, "[0, 4294967295]", "seed")
        within(self, "[1, 1000]", "seeds", "batch_size")
        within(self, "(0, 0.1]", "epsilon")
        within(self, "[1, 256]", "workers")
        if not self.recipes:
            raise ConfigError("Name at least one metric, such as fid5k or kid5k.")

    @property
    def recipes(self) -> list[Recipe]:
        """The metrics, each once."""
        return [parse_recipe(name) for name in dict.fromkeys(self.metrics)]


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        name: With its network: ``FD-EffLite0``.
        metric: The metric that it is of: ``fid5k``.
        values: For each seed.
        within: For each seed, the standard deviation over kid's subsets or is's parts; empty for others.
        generated: Images of the generator, or pairs of them.
        real: Real images, 0 where none were looked at.
    """

    name: str
    metric: str
    values: tuple[float, ...]
    within: tuple[float, ...]
    generated: int
    real: int

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float | None:
        """Standard deviation of the seeds' values (with n - 1); None for one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    def __str__(self) -> str:
        """The value in words: ``12.3 ± 0.2 (3 seeds)``."""
        digits = 5 if self.name.startswith("KID") else 4
        text = f"{self.mean:.{digits}f}" if abs(self.mean) < 1 else f"{self.mean:.3f}"
        if (spread := self.spread) is not None:
            text += f" ± {spread:.2g} ({len(self.values)} seeds)"
        elif self.within and self.within[0]:
            text += f" (deviation within: {self.within[0]:.2g})"
        return text


@dataclass(frozen=True)
class MetricsReport:
    """What was found.

    Attributes:
        config: The settings.
        figures: In the order of the metrics, then of the networks.
        notes: What must be known to read them, one sentence each.
    """

    config: MetricsConfig
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        figures = [asdict(figure) | {"mean": figure.mean, "spread": figure.spread} for figure in self.figures]
        return {"settings": asdict(self.config), "figures": figures, "notes": list(self.notes)}
