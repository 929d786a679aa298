from __future__ import annotations

import pytest

from labels4free.errors import ConfigError
from labels4free.evaluation.config import EvaluationConfig


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"threshold": 1.0}, r"threshold must be from 0 to below 1, such as 0\.5; got 1\.0"),
        ({"threshold": float("nan")}, "threshold must be"),
        ({"void": 256}, "void must be a grey value from 0 to 255, got 256"),
        ({"void": -1}, "void must be"),
        ({"bootstrap": -1}, r"bootstrap must be from 0 \(no intervals\) to 100000 resamplings, got -1"),
        ({"bootstrap": 100_001}, "bootstrap must be"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"boundary_tolerance": 0.0}, r"boundary_tolerance must be above 0 and at most 0\.1 of the diagonal, got 0\.0"),
        ({"boundary_tolerance": 0.2}, "boundary_tolerance must be"),
    ],
)
def test_wrong_values_are_refused(setting, words):
    with pytest.raises(ConfigError, match=words):
        EvaluationConfig(**setting)


def test_the_ends_of_the_ranges():
    EvaluationConfig(threshold=0.0, void=0, bootstrap=0, seed=0, boundary_tolerance=0.1)
    EvaluationConfig(threshold=0.999, void=255, bootstrap=100_000)
