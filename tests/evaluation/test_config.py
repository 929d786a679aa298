from __future__ import annotations

import pytest
from tests.refusals import refuses

from labels4free.errors import ConfigError
from labels4free.evaluation.config import EvaluationConfig


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"threshold": 1.0}, r"threshold must lie in \[0, 1\), got 1\.0"),
        ({"threshold": float("nan")}, "threshold must be"),
        ({"void": 256}, r"void must lie in \[0, 255\], got 256"),
        ({"void": -1}, "void must lie"),
        ({"foreground": 3}, "foreground must be none or a list, got 3"),
        ({"foreground": (1, "a")}, "an entry of foreground must be int, got 'a'"),
        ({"bootstrap": -1}, r"bootstrap must lie in \[0, 100000\], got -1"),
        ({"bootstrap": 100_001}, "bootstrap must lie"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"boundary_tolerance": 0.0}, r"boundary_tolerance must lie in \(0, 0\.1\], got 0\.0"),
        ({"boundary_tolerance": 0.2}, "boundary_tolerance must lie"),
    ],
)
def test_wrong_values_are_refused(setting, words):
    refuses(ConfigError, words, EvaluationConfig, **setting)


def test_the_ends_of_the_ranges():
    EvaluationConfig(threshold=0.0, void=0, bootstrap=0, seed=0, boundary_tolerance=0.1)
    EvaluationConfig(threshold=0.999, void=255, bootstrap=100_000)
