"""What the verbs that train have in common: how a run is asked to go on, and what is said when it ends."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Literal

from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from labels4free.training_loop.contracts import TrainResult

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}
"""Signal that stopped a training -> what the command ends with."""


def resume_of(flag: tuple[Literal["auto"], ...] | None) -> bool | Literal["auto"]:
    """Whether to go on with a run, by ``--resume`` or ``--resume auto``."""
    return False if flag is None else "auto" if flag else True


def check_alone(verb: str) -> None:
    """Refuse a launcher's several processes, for a verb that trains in one.

    Raises:
        ConfigError: If there are several.
    """
    if os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        raise ConfigError(f"{verb} trains in one process; start it without torchrun.")


def as_settings(flags: Mapping[str, object]) -> list[str]:
    """Flags that were given, as ``section.field=value``."""
    return [f"{name}={value}" for name, value in flags.items() if value is not None]


def report_end(result: TrainResult, out: Path, again: Sequence[str] | None, found: str) -> None:
    """Say how a run ended.

    Args:
        result: How it did.
        out: Its folder.
        again: The command that goes on, where it is known in full.
        found: What the check of its network found, in words; "" where there was none.
    """
    if result.interrupted:
        how = f"Go on with:\n  {shlex.join(again)}" if again else "Go on as it was started, with --resume."
        print(f"Stopped at step {result.steps} of {result.total}. {how}", file=sys.stderr)
        return
    restarts = f", after {result.restarts} restarts" if result.restarts else ""
    print(f"{result.file}: {result.steps} steps{restarts}{found}")
    if result.check and result.check.problem:
        print(f"Something is wrong, though: {result.check.problem}. Look at {out / 'pictures'}.", file=sys.stderr)


def exit_code(result: TrainResult) -> int | None:
    """What the command ends with."""
    return EXIT_CODES[result.interrupted] if result.interrupted else None
