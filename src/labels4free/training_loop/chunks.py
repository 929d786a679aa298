"""Files of tensors that are whole or not there: what a run renders once and reads again after it was killed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from labels4free.errors import RunError
from labels4free.files import utf8_path, write_atomically, write_failure
from labels4free.training_loop.run_dir import state_digest

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_log = logging.getLogger(__name__)
_DIGEST = "sha256"  # key in the metadata of a chunk: safetensors does not notice flipped bits


def read_chunk(path: Path) -> dict[str, Tensor] | None:
    """Read a chunk, on the CPU; None if it is not there or damaged (then it is rendered again)."""
    if not path.exists():
        return None
    try:
        with utf8_path(path) as name, safe_open(name, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in sorted(file.keys())}
            digest = (file.metadata() or {}).get(_DIGEST)
        if state_digest(state) != digest:
            raise ValueError("its content does not have the checksum that was stored with it")
        return state
    except (SafetensorError, OSError, ValueError) as error:
        _log.warning("%s is damaged (%s) and is rendered again.", path, error)
        return None


def write_chunk(path: Path, state: dict[str, Tensor]) -> None:
    """Write a chunk, complete or not at all.

    Raises:
        RunError: If it cannot be written.
    """
    try:
        state = {name: x.cpu() for name, x in sorted(state.items())}
        write_atomically(path, save(state, {_DIGEST: state_digest(state)}))
    except OSError as error:
        raise RunError(write_failure(path, error)) from error
