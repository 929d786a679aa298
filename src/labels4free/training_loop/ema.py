"""A running average of a module's weights, which is steadier and better than the weights of the last step."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import nn

from labels4free.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from torch import Tensor

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """Exponential moving average: ``average = d * average + (1 - d) * weight``, with ``d = 0.5 ** (1 / half_life)``.

    Parameters are averaged, buffers copied unless asked otherwise. The average depends on the weights and on the step
    number that :meth:`update` is given, on nothing else, so a resumed run continues exactly.

    Args:
        module: Where the average starts; it is copied, never changed.
        half_life_steps: Optimiser steps after which an old weight counts half; 0 keeps no average, only the newest
            weights. For a half life of S samples divide by the batch size.
        ramp: Cap the half life at this fraction of the steps since ``start_step``, so that the random first weights are
            soon forgotten (StyleGAN2-ADA, Karras et al. 2020, arXiv 2006.06676, uses 0.05); None caps nothing.
        start_step: Steps before which the average just follows the weights.
        average_buffers: Average buffers of floating point, too: statistics of batch normalisation belong to the weights
            that they were taken with.

    Attributes:
        module: The averaged module: evaluation mode, no gradients.

    Raises:
        ConfigError: If a number is negative or the ramp is not above 0.
    """

    module: M

    def __init__(
        self,
        module: M,
        half_life_steps: float,
        *,
        ramp: float | None = None,
        start_step: int = 0,
        average_buffers: bool = False,
    ) -> None:
        if not half_life_steps >= 0 or start_step < 0:
            raise ConfigError(
                f"An average needs a half life and a start of at least 0 steps, got {half_life_steps} and {start_step}."
            )
        if ramp is not None and not ramp > 0:
            raise ConfigError(f"The ramp of an average must be above 0, or None for no ramp, got {ramp}.")
        self.half_life_steps = half_life_steps
        self.ramp = ramp
        self.start_step = start_step
        self.average_buffers = average_buffers
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    def decay(self, step: int) -> float:
        """The factor d on the old average at a step, in [0, 1)."""
        half_life = self.half_life_steps
        if self.ramp is not None:
            half_life = min(half_life, self.ramp * (step - self.start_step))
        if step < self.start_step or half_life <= 0:
            return 0.0
        return float(0.5 ** (1.0 / half_life))

    @torch.no_grad()
    def update(self, module: M, step: int) -> None:
        """Take the weights in that an optimiser step has just made.

        Args:
            module: Of the same layout as the averaged one.
            step: Number of that step, from 0.
        """
        decay = self.decay(step)
        for average, weight in zip(self.module.parameters(), module.parameters(), strict=True):
            average.lerp_(weight, 1.0 - decay)
        for copied, value in zip(self.module.buffers(), module.buffers(), strict=True):
            if self.average_buffers and copied.is_floating_point():
                copied.lerp_(value, 1.0 - decay)
            else:
                copied.copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights and buffers; detached, sharing memory with :attr:`module`."""
        return dict(self.module.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, exactly.

        Raises:
            CheckpointError: If names or shapes differ from the module's.
        """
        try:
            self.module.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"The averaged weights do not fit the network that was built: {reason}") from error
