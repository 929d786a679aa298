from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch

from labels4free.training.rng_state import rng_state, set_rng_state
from labels4free.training.run_dir import state_digest


@pytest.fixture(autouse=True)
def unchanged_generators():
    before = rng_state()
    yield
    set_rng_state(before)


def draw() -> list[float]:
    """Normal draws, an odd number of them: the generators keep the second of each pair."""
    return [
        *torch.randn(3).tolist(),
        random.gauss(),
        *np.random.standard_normal(3).tolist(),  # noqa: NPY002
        random.random(),
        torch.rand(()).item(),
    ]


@pytest.mark.parametrize("drawn_before", [0, 1])
def test_continues_where_it_was_captured(drawn_before):
    for _ in range(drawn_before):
        draw()
    file = io.BytesIO()
    torch.save(rng_state(), file)
    expected = draw() + draw()
    file.seek(0)
    set_rng_state(torch.load(file, weights_only=True))
    assert draw() + draw() == expected


def test_is_a_checkpoint_value():
    first = state_digest(rng_state())
    assert state_digest(rng_state()) == first
    random.random()
    assert state_digest(rng_state()) != first


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu():
    torch.randn(3, device="cuda")
    state = rng_state()
    expected = torch.randn(3, device="cuda")
    set_rng_state(state)
    assert torch.equal(torch.randn(3, device="cuda"), expected)
