"""StyleGAN2's activation: bias, leaky ReLU, a gain that keeps the variance, and sometimes a clamp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

LEAKY_SLOPE = 0.2
GAIN = 2**0.5


def bias_act(x: Tensor, bias: Tensor, clamp: float | None = None) -> Tensor:
    """Add a bias to each channel, then leaky ReLU (slope 0.2) times sqrt(2), then clamp.

    Args:
        x: [N, C, ...].
        bias: [C].
        clamp: Limit on the absolute value of the result; None for none.

    Returns:
        [N, C, ...].
    """
    x = F.leaky_relu(x + bias.view(-1, *[1] * (x.ndim - 2)), LEAKY_SLOPE) * GAIN
    return x if clamp is None else x.clamp(-clamp, clamp)
