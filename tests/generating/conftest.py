"""Fixtures of sampling that serve here too."""

from __future__ import annotations

from tests.sampling.conftest import any_generator

__all__ = ["any_generator"]
