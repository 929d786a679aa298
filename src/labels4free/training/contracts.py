"""What the loop of a run, its recipes and its users expect of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from labels4free.training.consensus import Consensus
    from labels4free.training.distributed import World
    from labels4free.training.monitor import Health


class TrainProgress(Protocol):
    """Told how far a run is."""

    def __call__(self, done: int, total: int, numbers: Mapping[str, float] | None = None, /) -> None:
        """``done`` of ``total`` samples are rendered, or steps are done; then with the numbers that matter."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        alpha_file: The finished network, which is an alpha network or a segmenter; None if the run was interrupted.
        interrupted: Name of the signal that stopped it, or None.
        steps: Steps done, warm-ups included; of each member the last attempt counts.
        total: Steps of the whole run.
        restarts: How often it was started over by itself.
        health: The check of the network that is kept, or the last one if it was interrupted; None if there was none.
        kept_step: Alpha step of the network that is kept; None where there is none, or it is of several members.
    """

    alpha_file: Path | None
    interrupted: str | None
    steps: int
    total: int
    restarts: int
    health: Health | None
    kept_step: int | None = None


class Member(NamedTuple):
    """A member whose training has ended; in a checkpoint as a dict.

    Attributes:
        network: State of the network to keep of it, on the CPU.
        step: Alpha step that it is of.
        steps: Steps done in its last attempt, the warm-up included.
        restarts: How often it was started over.
        numbers: Its health, as :meth:`Health.numbers` gives it.
        problem: What is wrong with it; None if nothing is.
    """

    network: dict[str, Tensor]
    step: int
    steps: int
    restarts: int
    numbers: dict[str, float]
    problem: str | None


class Trainer(Protocol):
    """The state of one attempt, and the step that changes it; the same in every process of a run.

    Attributes:
        attempt: 0 at first; each automatic restart adds 1.
        iteration: Steps done, a warm-up included.
    """

    attempt: int
    iteration: int

    @property
    def warmup(self) -> int:
        """Steps before the alpha network moves."""

    @property
    def total(self) -> int:
        """Steps of the whole attempt."""

    @property
    def alpha_step(self) -> int:
        """Steps of the alpha network done; negative during the warm-up."""

    @property
    def kept(self) -> nn.Module:
        """The network that would be kept now."""

    def step(self) -> dict[str, float]:
        """Do one step, in all processes; returns its losses, over all of them.

        Raises:
            FloatingPointError: If a loss is not finite, in any process; the network that it was for is then untouched.
        """

    def check(self) -> Health:
        """Examine the network that would be kept; process 0 does it alone."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, with the keys ``attempt`` and ``iteration``."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""


class Product(NamedTuple):
    """What a recipe makes.

    Attributes:
        kind: Kind of the native checkpoint.
        file: Its name in the run's folder.
    """

    kind: str
    file: str


ALPHA = Product("alpha_network", "alpha.safetensors")
SEGMENTER = Product("segmenter", "segmenter.safetensors")


class FinishedNetwork(Protocol):
    """A network that a native checkpoint can hold."""

    family: str

    def config(self) -> dict[str, Any]:
        """How it is built, as JSON values."""

    def state_dict(self) -> dict[str, Any]:
        """Its weights."""


class LoopMonitor(Protocol):
    """When the loop checks, and what it does about it; :class:`labels4free.training.config.MonitorConfig` says more."""

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
        """Share by which a score must be higher to be better."""

    @property
    def patience(self) -> int:
        """Steps without a better score after which training ends early; 0: never."""


class LoopConfig(Protocol):
    """Settings that the loop itself reads."""

    @property
    def steps(self) -> int:
        """Steps of the alpha network."""

    @property
    def checkpoint_interval(self) -> int:
        """Steps between checkpoints."""

    @property
    def picture_interval(self) -> int:
        """Steps of the alpha network between pictures."""

    @property
    def monitor(self) -> LoopMonitor:
        """When to check, and what to do about it."""

    @property
    def members(self) -> int:
        """Networks that are trained, one after the other."""

    @property
    def keeps_best(self) -> bool:
        """Whether the best check's network is kept, and not the last step's."""

    def total_steps(self, attempt: int, /) -> int:
        """Steps of a whole attempt."""

    def guards(self, attempt: int, /) -> str:
        """What an attempt does more carefully than the first, in words."""


T = TypeVar("T", bound=Trainer)


class Recipe(Protocol[T]):
    """What a way of training gives the loop.

    Attributes:
        advice: What to try where it is lost again and again, as the end of a sentence.
        world: The processes that follow it together.
        product: What it makes.
    """

    advice: str
    product: Product
    world: World

    @property
    def config(self) -> LoopConfig:
        """Its settings."""

    def prepare(self, scratch: Path, rendered: Callable[[int, int], None]) -> None:
        """Do what comes before the first step.

        Args:
            scratch: Folder for what can be made again; it need not exist, and goes when the run is finished.
            rendered: To be called with (done, total); it may raise :class:`Stopped`, in any process: all stop then.
        """

    def attempt(self, number: int, member: int) -> T:
        """Start an attempt at a member."""

    def picture(self, trainer: T) -> NDArray[np.uint8]:
        """Show what the network that would be kept does, [H, W, 3]."""

    def join(self, trainer: T, members: Sequence[Member]) -> Consensus:
        """Have the trainer keep the consensus of several members, in the place of its own network."""

    def finished(self, trainer: T) -> FinishedNetwork:
        """The network to keep; an alpha network is one for the generator's own feature maps."""
