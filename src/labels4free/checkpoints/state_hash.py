"""A network's state hash: whether two have the same weights."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


def state_hash(module: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of a network's weights, in hexadecimal.

    The same weights give the same value on every machine and device. A generator's ``w_avg`` is left out: it follows
    from the other weights, and where it is computed its last bits may depend on the machine.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if name != "w_avg":
            digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
