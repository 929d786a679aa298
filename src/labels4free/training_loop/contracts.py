"""What the loop of a run, its recipes and its users expect of each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn


class TrainProgress(Protocol):
    """A progress callback of training."""

    def __call__(self, done: int, total: int, numbers: Mapping[str, float] | None = None, /) -> None:
        """``done`` of ``total`` samples are rendered, or steps are done; then with the numbers that matter."""


@dataclass(frozen=True)
class Check:
    """The quality metrics of masks without labels: what a check found.

    Attributes:
        numbers: All that was measured, by name; what the recipe's ``check`` says they mean. ``score`` is among them: to
            compare networks of one run, in [0, 1].
        problem: What is wrong with the network, in a sentence; None if nothing is.
    """

    numbers: dict[str, float]
    problem: str | None = None

    @property
    def score(self) -> float:
        """How good the network is, in [0, 1]."""
        return self.numbers["score"]

    @property
    def hopeless(self) -> bool:
        """Whether the networks hold numbers that no further step can mend."""
        return not all(math.isfinite(value) for value in self.numbers.values())


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run.

    Attributes:
        file: The finished network, as the recipe's :class:`Product` has it; None if the run was interrupted.
        interrupted: Name of the signal that stopped it, or None.
        steps: Steps done, warm-ups included; of what was started over the last restart counts.
        total: Steps of the whole run.
        restarts: How often it was started over by itself.
        check: The check of the network that is kept, or the last one if it was interrupted; None if there was none.
        kept_step: Step of the network that is kept; None where there is none, or it is of several members.
    """

    file: Path | None
    interrupted: str | None
    steps: int
    total: int
    restarts: int
    check: Check | None
    kept_step: int | None = None


class Trainer(Protocol):
    """What every trainer does: training steps, checks, a state dict; the same in every process of a run.

    Attributes:
        restart: 0 at first; each automatic restart adds 1.
        iteration: Steps done, a warm-up included.
    """

    restart: int
    iteration: int

    @property
    def warmup(self) -> int:
        """Steps before the network that is kept moves; checks and pictures count from there."""

    @property
    def total(self) -> int:
        """Steps of the whole training, the warm-up included."""

    @property
    def kept(self) -> nn.Module:
        """The network that would be kept now."""

    def step(self) -> dict[str, float]:
        """Do one step, in all processes; returns its losses, over all of them.

        Raises:
            FloatingPointError: If a loss is not finite, in any process; the network that it was for is then untouched.
        """

    def check(self) -> Check:
        """Examine the network that would be kept; the main process does it alone."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, with the keys ``restart`` and ``iteration``."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""


class Product(NamedTuple):
    """What a recipe makes.

    Attributes:
        kind: Kind of the native checkpoint.
        file: Its name in the run's folder.
        name: What it is, in words.
    """

    kind: str
    file: str
    name: str


ALPHA = Product("alpha_network", "alpha.safetensors", "an alpha network")
SEGMENTER = Product("segmenter", "segmenter.safetensors", "a segmenter")
GENERATOR = Product("generator", "generator.safetensors", "a generator")


class FinishedNetwork(Protocol):
    """A network that a native checkpoint can hold."""

    family: str

    def config(self) -> dict[str, Any]:
        """How it is built, as JSON values."""

    def state_dict(self) -> dict[str, Any]:
        """Its weights."""


class LoopMonitor(Protocol):
    """When the loop checks, and what it does about it; :class:`MonitorConfig` says more."""

    @property
    def interval(self) -> int:
        """Steps from one check to the next."""

    @property
    def grace_steps(self) -> int:
        """Steps after which a lost run is started again."""

    @property
    def max_restarts(self) -> int:
        """Fresh starts after which the run is given up."""

    @property
    def margin(self) -> float:
        """Fraction by which a score must be higher to be better."""

    @property
    def patience(self) -> int:
        """Steps without a better score after which training ends early; 0: never."""


class LoopConfig(Protocol):
    """The configuration that the training loop itself reads.

    Attributes:
        length: Field that says how long a training is and that nothing else depends on, so that a run may be
            lengthened; None where the learning rate falls over the steps.
    """

    length: ClassVar[str | None]

    @property
    def recipe(self) -> str:
        """Name of the recipe that they are of."""

    @property
    def steps(self) -> int:
        """Steps of the network that is kept."""

    @property
    def checkpoint_interval(self) -> int:
        """Steps between checkpoints."""

    @property
    def picture_interval(self) -> int:
        """Steps of the network that is kept between pictures."""

    @property
    def monitor(self) -> LoopMonitor:
        """When to check, and what to do about it."""

    @property
    def keeps_best(self) -> bool:
        """Whether the best check's network is kept, and not the last step's."""

    def total_steps(self, restart: int, /) -> int:
        """Steps of a whole training, by how often it was started over."""

    def hardening(self, restart: int, /) -> str:
        """What a training that was started over does more carefully than the first, in words."""

    def to_json(self) -> dict[str, Any]:
        """All fields as nested JSON values."""


T = TypeVar("T", bound=Trainer)
_T_contra = TypeVar("_T_contra", bound=Trainer, contravariant=True)


class Recipe(Protocol[_T_contra]):
    """A training recipe: what the training loop needs of a way of training.

    Attributes:
        product: What it makes.
        advice: What to try where it is lost again and again, as the end of a sentence.
    """

    product: Product
    advice: str

    @property
    def config(self) -> LoopConfig:
        """Its settings."""

    def finished(self, trainer: _T_contra) -> FinishedNetwork:
        """The network that would be kept now, as its file holds it."""

    def picture(self, trainer: _T_contra) -> NDArray[np.uint8]:
        """Show what the network that would be kept does, [H, W, 3]."""


class RecipeEntry(NamedTuple):
    """A recipe in the table of recipes: all that others need to know of it.

    Attributes:
        config: Its settings, a frozen dataclass that names the recipe (``recipe``) and is a :class:`LoopConfig`.
        start: Makes the :class:`Recipe` of a run.
        product: What it makes.
        verb: The command that runs it.
    """

    config: type[Any]
    start: Callable[..., Any]
    product: Product
    verb: str
