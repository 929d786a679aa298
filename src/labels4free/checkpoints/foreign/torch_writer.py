"""Writing ``.pt`` files for others' code to read."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import torch

from labels4free.errors import CheckpointError
from labels4free.files import failing_as, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write_torch_file(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a ``.pt`` file as ``torch.save`` does; it appears complete or not at all, and replaces an older one.

    Raises:
        CheckpointError: If it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with failing_as(CheckpointError, path):
        write_atomically(path, buffer.getbuffer())
