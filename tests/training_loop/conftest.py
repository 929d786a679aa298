"""Fixtures of training that serve here too."""

from __future__ import annotations

from tests.training.conftest import pair, train

__all__ = ["pair", "train"]
