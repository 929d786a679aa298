"""What a trainer's checkpoint holds: the state of its networks, averages and optimisers, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from torch import nn

from labels4free.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.optim import Optimizer

    from labels4free.networks.discriminator import Discriminator
    from labels4free.training.augmentation import Augmenter
    from labels4free.training.ema import Ema

N = TypeVar("N", bound=nn.Module)


class Part(Protocol):
    """A network, an average or an optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Restore it."""


class Attempt(Generic[N]):
    """What an attempt at training carries from step to step; each recipe's trainer adds the step.

    Attributes:
        attempt: 0 at first; each automatic restart adds 1.
        iteration: Steps done, a warm-up included.
        network: The alpha network.
        average: Its running average.
        discriminator: Its judge.
        alpha_optimizer: Of the network.
        discriminator_optimizer: Of the judge.
        augmenter: Changes what the judge is shown.
    """

    attempt: int
    iteration: int
    network: N
    average: Ema[N]
    discriminator: Discriminator
    alpha_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    augmenter: Augmenter

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, but the generator, its samples, the images and the settings."""
        return {"attempt": self.attempt, "iteration": self.iteration, **states_of(self._parts())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            CheckpointError: If it is the state of another network.
        """
        restore(self._parts(), state)
        self.iteration = state["iteration"]

    def _parts(self) -> dict[str, Part]:
        parts: dict[str, Part] = {
            "network": self.network,
            "average": self.average,
            "discriminator": self.discriminator,
            "alpha_optimizer": self.alpha_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }
        return parts | self.augmenter.parts()


def states_of(parts: Mapping[str, Part]) -> dict[str, Any]:
    """The state of each part, sharing memory with it."""
    return {name: part.state_dict() for name, part in parts.items()}


def restore(parts: Mapping[str, Part], state: Mapping[str, Any]) -> None:
    """Restore each part from what :func:`states_of` gave.

    Raises:
        CheckpointError: If a part is missing, or is the state of something else.
    """
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"The checkpoint does not fit this run: {' '.join(str(error).split())}") from error
