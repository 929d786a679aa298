"""Fixtures of cli that serve here too."""

from __future__ import annotations

from tests.cli.conftest import generator_file, quick, said, words

__all__ = ["generator_file", "quick", "said", "words"]
