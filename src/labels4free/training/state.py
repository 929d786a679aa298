"""What the trainers of both recipes have in common: the state of an attempt, and how an optimiser's step is taken."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from torch import nn

from labels4free.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch
    from torch import Tensor
    from torch.optim import Optimizer

    from labels4free.networks.discriminator import Discriminator
    from labels4free.training.augmentation import Augmenter
    from labels4free.training.distributed import World
    from labels4free.training.ema import Ema
    from labels4free.training.precision import Precision

N = TypeVar("N", bound=nn.Module)

_LOSS = ""  # name of the loss itself among the numbers that go with it


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
        world: The processes that take each step together.
        precision: What the networks compute in.
        scalers: Keeps the gradients in range, one an optimiser, by the optimiser's name.
    """

    attempt: int
    iteration: int
    network: N
    average: Ema[N]
    discriminator: Discriminator
    alpha_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    augmenter: Augmenter
    world: World
    precision: Precision
    scalers: dict[str, torch.amp.GradScaler]

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, but the generator, its samples, the images and the settings."""
        return {"attempt": self.attempt, "iteration": self.iteration, **states_of(self._parts())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            CheckpointError: If it is the state of another network.
        """
        # A run that began on a device of another type has no scalers in its checkpoint: they begin anew.
        restore({name: part for name, part in self._parts().items() if name in state or name not in _SCALERS}, state)
        self.iteration = state["iteration"]

    def _parts(self) -> dict[str, Part]:
        parts: dict[str, Part] = {
            "network": self.network,
            "average": self.average,
            "discriminator": self.discriminator,
            "alpha_optimizer": self.alpha_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }
        scalers = {name: scaler for name, scaler in self.scalers.items() if scaler.is_enabled()}
        return parts | self.augmenter.parts() | scalers

    def _judge(self, images: Tensor, *, exact: bool = False) -> Tensor:
        """The discriminator's logits [N, 1], float32; computed in it, too, where they are ``exact``."""
        with self.precision.autocast(enabled=not exact):
            logits: Tensor = self.discriminator(images)
        return logits

    def _take_step(
        self, who: str, losses: Iterable[tuple[Tensor, Mapping[str, float]]], what: str, count: int = 1
    ) -> dict[str, float]:
        """Move the discriminator or the alpha network by one step on the mean loss of all micro-batches.

        Args:
            who: ``"discriminator"`` or ``"alpha"``.
            losses: This process's micro-batches, one at a time: loss, and numbers to log of it.
            what: The loss's name, for an error.
            count: How many they are.

        Returns:
            The numbers' means over all micro-batches of all processes.

        Raises:
            FloatingPointError: If the loss is not finite, in any process; nothing has moved then.
        """
        optimizer: Optimizer = getattr(self, f"{who}_optimizer")
        scaler = self.scalers[f"{who}_scaler"]
        sums: dict[str, float] = {}
        optimizer.zero_grad(set_to_none=True)
        for loss, numbers in losses:
            scaler.scale(loss / count).backward()
            for name, value in {_LOSS: loss.item(), **numbers}.items():
                sums[name] = sums.get(name, 0.0) + value / count
        means = self.world.average_gradients(optimizer.param_groups[0]["params"], sums)
        value = means.pop(_LOSS)
        if not math.isfinite(value):
            raise FloatingPointError(f"{what} is not finite ({value})")
        scaler.step(optimizer)  # skipped where scaled gradients left float16's range; a smaller scale comes next
        scaler.update()
        return means


_SCALERS = ("discriminator_scaler", "alpha_scaler")


def new_scalers(precision: Precision) -> dict[str, torch.amp.GradScaler]:
    """A scaler for each optimiser, by name."""
    return {name: precision.scaler() for name in _SCALERS}


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
