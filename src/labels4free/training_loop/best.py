"""The best network of an attempt so far, by the monitor's score: what is kept in the end, and when to stop.

Masks mostly get better to the last step, whose learning rate is 0. Where a run drifts (a discriminator that has found a
texture to object to drives masks off what they had right), the score falls well before the end, and the network from
before is the one to keep. Small differences say nothing: an earlier network is preferred only if its score is higher by
a margin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labels4free.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from labels4free.training_loop.contracts import Check, LoopMonitor


class Best:
    """Keeps the best checkpoint: the latest whose score is within a margin of the highest. Early stopping.

    Args:
        config: Margin, grace and patience.

    Attributes:
        step: Step of the network that is remembered; None if no check has counted yet.
        numbers: What its check measured.
    """

    def __init__(self, config: LoopMonitor) -> None:
        self.config = config
        self.step: int | None = None
        self.numbers: dict[str, float] = {}
        self._network: dict[str, Tensor] = {}
        self._highest = 0.0
        self._improved = 0
        self._checked = 0

    def offer(self, network: nn.Module, step: int, check: Check) -> bool:
        """Take a check in; returns whether its network is now the one that is remembered.

        A check does not count before ``grace_steps``, nor where it found something wrong.
        """
        self._checked = step
        if check.problem or step < self.config.grace_steps:
            return False
        if check.score > self._highest * (1 + self.config.margin) or self.step is None:
            self._improved = step
        self._highest = max(self._highest, check.score)
        if check.score < self._highest * (1 - self.config.margin):
            return False
        self.step, self.numbers = step, dict(check.numbers)
        self._network = {name: value.detach().clone() for name, value in network.state_dict().items()}
        return True

    @property
    def exhausted(self) -> bool:
        """Whether no check of the last ``patience`` steps had a score that is higher by the margin."""
        patience = self.config.patience
        return patience > 0 and self.step is not None and self._checked - self._improved >= patience

    def put_back(self, network: nn.Module) -> None:
        """Give a network the weights that are remembered; it stays as it is where there are none."""
        if self.step is not None:
            network.load_state_dict(self._network)

    def state_dict(self) -> dict[str, Any]:
        """Everything, for a checkpoint."""
        return {
            "step": self.step,
            "numbers": dict(self.numbers),
            "network": dict(self._network),
            "highest": self._highest,
            "improved": self._improved,
            "checked": self._checked,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            CheckpointError: If it is something else.
        """
        try:
            self.step, self.numbers, self._network = state["step"], dict(state["numbers"]), dict(state["network"])
            self._highest, self._improved, self._checked = state["highest"], state["improved"], state["checked"]
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"The checkpoint does not fit this run: its best network lacks {error}.") from error
