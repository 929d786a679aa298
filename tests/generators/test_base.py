from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from labels4free.generators.base import sample_z


def test_sample_z_is_a_standard_normal_vector_on_the_cpu():
    z = torch.stack([sample_z(16, seed=3, index=i) for i in range(1000)])
    assert z.dtype == torch.float32
    assert z.device.type == "cpu"
    assert abs(z.mean()) < 0.03
    assert abs(z.std() - 1) < 0.03


@given(seed=st.integers(0, 2**40), index=st.integers(0, 2**31))
def test_sample_z_depends_on_seed_and_index_alone(seed, index):
    torch.manual_seed(1)
    first = sample_z(4, seed, index)
    state = torch.get_rng_state()
    sample_z(4, seed + 1, index)
    torch.manual_seed(1)
    assert torch.equal(sample_z(4, seed, index), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_sample_z_differs_between_indices_and_between_seeds():
    seen = {tuple(sample_z(4, seed, index).tolist()) for seed in range(30) for index in range(30)}
    assert len(seen) == 900


def test_sample_z_keeps_its_values_so_that_old_seeds_give_old_images():
    expected = [-1.511812, -0.235436, 1.793484, 0.602174]
    torch.testing.assert_close(sample_z(4, seed=0, index=1), torch.tensor(expected))
