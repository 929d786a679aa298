"""Checks that a call is refused in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


def refuses(kind: type[Exception], said: str, call: Callable[..., object], *arguments: Any, **named: Any) -> None:
    """See that ``call(*arguments, **named)`` raises an error of that kind, whose sentence matches ``said``."""
    with pytest.raises(kind, match=said):
        call(*arguments, **named)
