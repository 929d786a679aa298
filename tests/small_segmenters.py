"""Segmenters small enough for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from labels4free.checkpoints.native import write_native
from labels4free.networks.segmenter import SegmenterNetwork

if TYPE_CHECKING:
    from pathlib import Path


def tiny_segmenter(seed: int = 0, working_size: int = 32) -> SegmenterNetwork:
    """Build a segmenter with random weights and statistics whose sides are multiples of 8."""
    network = SegmenterNetwork((4, 6, 8), (4, 5), detail_width=3, head_width=4, working_size=working_size)
    rng = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            normal = torch.randn(value.shape, generator=rng)
            value.copy_(normal.abs() + 0.5 if name.endswith("running_var") else 0.5 * normal)
    return network.eval().requires_grad_(False)


def red_segmenter(working_size: int = 32) -> SegmenterNetwork:
    """Build a segmenter that takes for foreground what has much red (white, too): logits 20, and -20 without any."""
    network = SegmenterNetwork((4, 6, 8), (4, 5), detail_width=1, head_width=1, working_size=working_size).eval()
    network.requires_grad_(False)
    for layer in (network.detail, network.head[0], network.head[2]):
        layer.weight.zero_()
        layer.bias.zero_()
    network.detail.weight[0, 0, 1, 1] = 1  # red, where it is above its middle
    network.head[0].weight[0, -1, 1, 1] = 1
    network.head[2].weight[0, 0, 1, 1] = 40
    network.head[2].bias.fill_(-20)
    return network


def write_segmenter(path: Path, network: SegmenterNetwork, **options: Any) -> Path:
    """Write a segmenter's native file."""
    state, config = network.state_dict(), network.config()
    write_native(path, kind="segmenter", family=network.family, config=config, state=state, **options)
    return path
