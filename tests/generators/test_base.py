from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import tiny_stylegan2

from labels4free.errors import ConfigError
from labels4free.generators.base import mix_styles, noise_of_sample, sample_label, sample_z


def test_sample_z_is_a_standard_normal_vector_on_the_cpu():
    z = torch.stack([sample_z(16, seed=3, index=i) for i in range(1000)])
    assert z.dtype == torch.float32
    assert z.device.type == "cpu"
    assert abs(z.mean()) < 0.03
    assert abs(z.std() - 1) < 0.03


@given(seed=st.integers(0, 2**40), index=st.integers(0, 2**31), size=st.integers(1, 1000))
def test_samples_depend_on_seed_and_index_alone(seed, index, size):
    for draw in (sample_z, sample_label):
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = draw(size, seed, index)
        draw(size, seed + 1, index)
        assert torch.equal(torch.as_tensor(draw(size, seed, index)), torch.as_tensor(first))
        assert torch.equal(torch.get_rng_state(), state)
    assert 0 <= first < size


def test_sample_z_differs_between_indices_and_between_seeds():
    seen = {tuple(sample_z(4, seed, index).tolist()) for seed in range(30) for index in range(30)}
    assert len(seen) == 900


def test_sample_z_keeps_its_values_so_that_old_seeds_give_old_images():
    expected = [-1.511812, -0.235436, 1.793484, 0.602174]
    torch.testing.assert_close(sample_z(4, seed=0, index=1), torch.tensor(expected))


# Classes


def test_sample_label_gives_every_class_about_as_often():
    labels = [sample_label(5, seed=3, index=i) for i in range(2000)]
    assert all(isinstance(label, int) for label in labels)
    counts = [labels.count(label) for label in range(5)]
    assert sum(counts) == 2000
    assert min(counts) > 340
    assert sample_label(1, 0, 0) == 0


def test_the_class_of_a_sample_says_nothing_about_its_latent():
    z = torch.tensor([[sample_z(1, 0, i).item(), sample_label(2, 0, i)] for i in range(4000)])
    assert torch.corrcoef(z.T)[0, 1].abs() < 0.05


def test_sample_label_keeps_its_values_so_that_old_seeds_give_old_images():
    assert [sample_label(10, seed, index) for seed in (0, 1) for index in range(5)] == [4, 1, 5, 1, 2, 3, 7, 8, 3, 2]


# Style mixing


@pytest.mark.parametrize("crossover", [0, 1, 3, 5])
def test_mixed_styles_are_coarse_rows_then_fine_rows(crossover):
    coarse = torch.arange(20.0).view(2, 5, 2)
    fine = coarse + 100
    mixed = mix_styles(coarse, fine, crossover)
    assert mixed.shape == coarse.shape
    assert torch.equal(mixed[:, :crossover], coarse[:, :crossover])
    assert torch.equal(mixed[:, crossover:], fine[:, crossover:])


@pytest.mark.parametrize(
    ("coarse", "fine", "crossover"),
    [
        ((2, 5, 3), (2, 5, 3), -1),
        ((2, 5, 3), (2, 5, 3), 6),
        ((2, 5, 3), (1, 5, 3), 2),
        ((2, 5, 3), (2, 4, 3), 2),
        ((2, 5, 3), (2, 5, 4), 2),
        ((5, 3), (5, 3), 2),
    ],
)
def test_styles_that_cannot_be_mixed_are_refused(coarse, fine, crossover):
    got = f"got {list(coarse)}, {list(fine)} and {crossover}".replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(ConfigError, match=f"two ws of one shape and a crossover in it, {got}"):
        mix_styles(torch.zeros(coarse), torch.zeros(fine), crossover)


# Noise


def test_noise_of_a_sample_is_its_own_map_or_the_one_for_all():
    shared, own = torch.randn(1, 1, 4, 4), torch.randn(3, 1, 8, 8)
    assert noise_of_sample("random", 2) == "random"
    first, second = noise_of_sample([shared, own], 2)
    assert torch.equal(first, shared)
    assert torch.equal(second, own[2:])


def test_noise_is_handed_out_layer_by_layer_coarse_to_fine():
    generator = tiny_stylegan2(channels={4: 4, 8: 4})
    assert list(generator.noise_by_layer("none")) == ["none"] * 3
    maps = [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)]
    assert all(a is b for a, b in zip(generator.noise_by_layer(maps), maps, strict=True))
