"""What torchrun tells the processes that it starts, by environment variables."""

from __future__ import annotations

import os
from typing import Any

from labels4free.errors import RunError


def process_of_launcher() -> dict[str, Any]:
    """Which process this is, by what the launcher says: fields of a process group; none of them without a launcher.

    Raises:
        RunError: If the variables are not what a launcher sets.
    """
    if "WORLD_SIZE" not in os.environ:
        return {}
    size = _number("WORLD_SIZE", at_least=1)
    if size == 1:
        return {"launched": True}
    rank = _number("RANK")
    local_rank = _number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else rank
    if rank >= size:
        raise RunError(f"RANK must be below WORLD_SIZE, got RANK={rank} and WORLD_SIZE={size}; {_START}.")
    _number("MASTER_PORT", at_least=1, at_most=65535)
    if not os.environ.get("MASTER_ADDR"):
        raise RunError(f"WORLD_SIZE={size} asks for {size} processes, but MASTER_ADDR is not set; {_START}.")
    return {"rank": rank, "size": size, "local_rank": local_rank, "launched": True}


_START = "start the processes with torchrun, which sets it, or unset WORLD_SIZE to train in one"


def _number(name: str, at_least: int = 0, at_most: int = 1_000_000) -> int:
    text = os.environ.get(name, "")
    if not text:
        raise RunError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} asks for several processes, but {name} is not set; {_START}."
        )
    if not text.isascii() or not text.isdecimal() or not at_least <= int(text) <= at_most:
        raise RunError(f"{name} must be a whole number from {at_least} to {at_most}, got {text!r}; {_START}.")
    return int(text)
