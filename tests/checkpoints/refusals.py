"""What a refusal must say, in one line."""

from __future__ import annotations

import re

import pytest

from labels4free.errors import CheckpointError


def says(*texts, error=CheckpointError):
    """Expect an error with exactly these texts in it, in this order."""
    return pytest.raises(error, match=".*".join(map(re.escape, texts)))
