"""What a trainer's checkpoint holds: the state of its networks, averages and optimisers, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from labels4free.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Part(Protocol):
    """A network, an average or an optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Restore it."""


def states_of(parts: Mapping[str, Part]) -> dict[str, Any]:
    """The state of each part, sharing memory with it."""
    return {name: part.state_dict() for name, part in parts.items()}


def restore(parts: Mapping[str, Part], state: Mapping[str, Any]) -> None:
    """Restore each part from what :func:`states_of` gave.

    Raises:
        CheckpointError: If a part is missing, or is the state of something else.
    """
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"The checkpoint does not fit this run: {' '.join(str(error).split())}") from error
