from __future__ import annotations

import pytest
import torch

from labels4free.training.draws import Draws, generator_for


def test_they_depend_on_the_numbers_alone():
    draws = [Draws(*numbers).uniform(0, 1) for numbers in ((1, 2), (1, 2), (2, 1), (1, 3))]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3
    assert torch.equal(Draws(5).normal(2, 3), torch.randn(2, 3, generator=generator_for(5)))


def test_ranges():
    draws = Draws(0)
    uniform = [draws.uniform(-2, 3) for _ in range(500)]
    assert -2 <= min(uniform) < -1.9 < 2.9 < max(uniform) <= 3
    assert {draws.below(3) for _ in range(50)} == {0, 1, 2}
    assert sum(draws.chance(0.2) for _ in range(2000)) == pytest.approx(400, abs=80)
    assert not any(draws.chance(0.0) for _ in range(100))
    assert all(draws.chance(1.0) for _ in range(100))
    colours = torch.cat([draws.colour() for _ in range(200)])
    assert colours.shape == (200, 3, 1, 1)
    assert -1 <= colours.min() < -0.9 < 0.9 < colours.max() <= 1
