"""The optimizer's step on a loss, over micro-batches and processes, and the state of a training's parts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import torch

from labels4free.errors import CheckpointError
from labels4free.training_loop.distributed import process_group

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor
    from torch.optim import Optimizer

    from labels4free.training_loop.precision import Precision

_LOSS = ""  # name of the loss itself among the numbers that go with it


class Part(Protocol):
    """A network, an average or an optimizer."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Restore it."""


class Update:
    """The optimizer of one network: backward pass, gradients averaged over the processes, a step.

    Args:
        optimizer: Of the network's parameters.
        precision: What the network computes in: decides how gradients are scaled.
        max_gradient_norm: Gradients are scaled down to this norm; None for as they are.

    Attributes:
        optimizer: The same.
        scaler: Keeps the gradients within float16's range; does nothing for other types.
    """

    def __init__(self, optimizer: Optimizer, precision: Precision, max_gradient_norm: float | None = None) -> None:
        self.optimizer, self.max_gradient_norm = optimizer, max_gradient_norm
        self.scaler = precision.scaler()

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def apply(
        self, what: str, losses: Iterable[tuple[Tensor, Mapping[str, float]]], count: int = 1
    ) -> dict[str, float]:
        """Do a step on the mean loss of all micro-batches of all processes.

        Args:
            what: The loss's name, for an error.
            losses: This process's micro-batches, one at a time: loss, and numbers to log of it.
            count: How many they are.

        Returns:
            The numbers' means over all micro-batches of all processes.

        Raises:
            FloatingPointError: If the loss is not finite, in any process; nothing has moved then.
        """
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        sums: dict[str, float] = {}
        self.optimizer.zero_grad(set_to_none=True)
        for loss, numbers in losses:
            self.scaler.scale(loss / count).backward()
            for name, value in {_LOSS: loss.item(), **numbers}.items():
                sums[name] = sums.get(name, 0.0) + value / count
        means = process_group().average_gradients(parameters, sums)
        value = means.pop(_LOSS)
        if not math.isfinite(value):
            raise FloatingPointError(f"{what} is not finite ({value})")
        if self.max_gradient_norm is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, self.max_gradient_norm)
        self.scaler.step(
            self.optimizer
        )  # skipped where scaled gradients left float16's range; a smaller scale comes next
        self.scaler.update()
        return means

    def parts(self, prefix: str = "") -> dict[str, Part]:
        """What of it a checkpoint holds, by name: the optimizer, and the scaler where it does something."""
        scaler: dict[str, Part] = {f"{prefix}scaler": self.scaler} if self.scaler.is_enabled() else {}
        return {f"{prefix}optimizer": self.optimizer} | scaler


class Stateful(Protocol):
    """A trainer, as far as its state goes."""

    restart: int
    iteration: int

    def parts(self) -> Mapping[str, Part]:
        """What a checkpoint holds of it, by name."""


def state_of(trainer: Stateful) -> dict[str, Any]:
    """The state of a trainer, sharing memory with its parts."""
    state = {name: part.state_dict() for name, part in trainer.parts().items()}
    return {"restart": trainer.restart, "iteration": trainer.iteration, **state}


def restore(trainer: Stateful, state: Mapping[str, Any]) -> None:
    """Restore a trainer from what :func:`state_of` gave.

    A run that began on a device of another type has no scalers in its checkpoint: they begin anew.

    Raises:
        CheckpointError: If a part is missing, or is the state of something else.
    """
    try:
        for name, part in trainer.parts().items():
            if name in state or not isinstance(part, torch.amp.GradScaler):
                part.load_state_dict(state[name])
        trainer.iteration = state["iteration"]
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"The checkpoint does not fit this run: {' '.join(str(error).split())}") from error
