from __future__ import annotations

import numpy as np

from labels4free.data.drawn.draws import Draws
from labels4free.seeds import generator_for


def test_numbers_depend_on_the_seed_alone():
    first, second = Draws(1, 2), Draws(1, 2)
    assert [first.uniform(0, 1) for _ in range(600)] == [second.uniform(0, 1) for _ in range(600)]
    assert Draws(1, 2).uniform(0, 1) != Draws(2, 1).uniform(0, 1)
    assert Draws(1).uniform(0, 1) == 0.457378673055584  # old seeds give old pictures
    assert generator_for(1).initial_seed() == Draws(1)._rng.initial_seed()


def test_ranges():
    draws = Draws(0)
    numbers = [draws.uniform(-2, 3) for _ in range(2000)]
    assert -2 <= min(numbers) < -1.9
    assert 2.9 < max(numbers) < 3
    assert {draws.below(3) for _ in range(100)} == {0, 1, 2}
    assert 0.25 < np.mean([draws.chance(0.3) for _ in range(2000)]) < 0.35


def test_many_never_repeats():
    draws = Draws(0)
    numbers = np.concatenate([draws.many(count) for count in (512, 500, 100, 1, 512)])
    assert len(np.unique(numbers)) == len(numbers) == 1625
