"""Weights from a seed for networks with batch normalisation, so that every activation stays in its lively range."""

from __future__ import annotations

import torch


def fill(network, seed=0):
    """Fill a network in place, tensor by tensor in the order of its state dict; returns it in evaluation mode."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        normal = torch.randn(value.shape, generator=rng)
        if name.endswith("running_var"):
            value.copy_(normal.abs() + 0.5)
        elif value.ndim > 1:
            value.copy_(normal * (2 / value[0].numel()) ** 0.5)
        else:
            value.copy_(normal * 0.1 + (1.0 if name.endswith("weight") else 0.0))
    return network.eval().requires_grad_(False)
