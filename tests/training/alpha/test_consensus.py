from __future__ import annotations

import dataclasses

import pytest
import torch

from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha.config import AlphaConfig, CacheConfig, MonitorConfig, TrainConfig
from labels4free.training.alpha.consensus import distill, find_consensus, sharpened_mean
from labels4free.training.alpha.feature_cache import FeatureCache
from labels4free.training.alpha.projection import Projection
from labels4free.types import FeatureSpec

SPECS = [FeatureSpec("a", 5, 4), FeatureSpec("b", 3, 8), FeatureSpec("c", 2, 8), FeatureSpec("d", 4, 16)]


def networks(count: int) -> list[MergeNetwork]:
    """Networks of one configuration that have little in common."""
    out = []
    for k in range(count):
        torch.manual_seed(k)
        network = MergeNetwork(SPECS, 32, width=4, min_resolution=4)
        for parameter in network.parameters():  # biases, too
            torch.nn.init.normal_(parameter, std=0.5)
        out.append(network)
    return out


def cache(samples: int = 40) -> FeatureCache:
    rng = torch.Generator().manual_seed(0)
    levels = [torch.randn(samples, channels, size, size, generator=rng) for channels, size in ((5, 4), (5, 8), (4, 16))]
    images = torch.zeros(samples, 3, 16, 16)
    return FeatureCache(images, images, levels, Projection([], []))


CONFIG = TrainConfig(
    resolution=16,
    consensus_steps=150,
    cache=CacheConfig(size=40),
    alpha=AlphaConfig(learning_rate=5e-3),
    monitor=MonitorConfig(samples=8),
)


def error(network: MergeNetwork, members: list[MergeNetwork], indices: torch.Tensor) -> float:
    """Mean distance of a network's alpha from the sharpened mean alpha of the members."""
    levels = cache().take(indices).levels
    with torch.no_grad():
        mean = sharpened_mean([member.merge(levels).sigmoid() for member in members])
        return float((network.merge(levels).sigmoid() - mean).abs().mean())


def test_the_mean_is_sharpened_about_one_half():
    one, other = torch.tensor([0.0, 1.0, 0.5, 0.0, 0.7, 0.3]), torch.tensor([0.0, 1.0, 0.5, 1.0, 0.8, 0.2])
    mean = sharpened_mean([one, other])
    odds = (0.75 / 0.25) ** 4
    expected = torch.tensor([0.0, 1.0, 0.5, 0.5, odds / (1 + odds), 1 / (1 + odds)])
    torch.testing.assert_close(mean, expected, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_the_student_comes_close_to_the_mean_also_where_it_has_not_learned():
    members = networks(3)
    student = distill(members, cache(), CONFIG)
    for indices in (torch.arange(32), torch.arange(32, 40)):
        alone = min(error(member, members, indices) for member in members)
        assert error(student, members, indices) < 0.5 * alone


@pytest.mark.slow
def test_the_held_out_samples_are_not_learned_from():
    spoiled = cache()
    for maps in spoiled.levels:
        maps[32:] = torch.nan
    student = distill(networks(2), spoiled, CONFIG)
    assert all(torch.isfinite(parameter).all() for parameter in student.parameters())


@pytest.mark.slow
def test_it_depends_on_the_seed_and_repeats_itself():
    one, again, other = (
        distill(networks(2), cache(), dataclasses.replace(CONFIG, consensus_steps=3, seed=seed)).state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_of_a_single_network_it_is_a_copy():
    (member,) = networks(1)
    student = distill([member], cache(), CONFIG)
    assert student is not member
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in member.state_dict().items())


def test_it_is_finished_and_as_small_as_a_member():
    members = networks(2)
    student = distill(members, cache(), dataclasses.replace(CONFIG, consensus_steps=1))
    assert student.config() == members[0].config()
    assert not student.training
    assert not any(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.slow
def test_the_members_are_left_alone():
    members = networks(2)
    before = [{k: v.clone() for k, v in member.state_dict().items()} for member in members]
    distill(members, cache(), dataclasses.replace(CONFIG, consensus_steps=3))
    for member, state in zip(members, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in member.state_dict().items())
        assert all(parameter.requires_grad for parameter in member.parameters())


def disc(radius: float) -> torch.Tensor:
    at = (torch.arange(32) + 0.5) / 16 - 1
    return (at.square()[:, None] + at.square() < radius**2).float().expand(2, 1, 32, 32)


def test_members_that_agree_are_all_kept():
    found = find_consensus([disc(0.70), disc(0.71), disc(0.69)])
    assert found.kept == (0, 1, 2)
    assert min(found.agreements) > 0.9
    assert found.agreement == pytest.approx(sum(found.agreements) / 3)


@pytest.mark.parametrize("bad", [1 - disc(0.7), torch.zeros(2, 1, 32, 32), disc(0.3)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_one_that_is_far_off_is_left_out(bad, place):
    alphas = [disc(0.70), disc(0.71)]
    alphas.insert(place, bad)
    found = find_consensus(alphas)
    assert found.kept == tuple(k for k in range(3) if k != place)
    assert found.agreements[place] == min(found.agreements)
    assert found.agreement == pytest.approx(find_consensus([disc(0.70), disc(0.71)]).agreement)


def test_one_that_is_a_little_off_is_kept():
    assert find_consensus([disc(0.70), disc(0.71), disc(0.69), disc(0.72), disc(0.68)]).kept == (0, 1, 2, 3, 4)


def test_of_two_neither_can_be_the_odd_one():
    found = find_consensus([disc(0.7), disc(0.3)])
    assert found.kept == (0, 1)
    assert found.agreements[0] == pytest.approx(found.agreements[1])


def test_one_with_a_problem_is_left_out_however_much_it_agrees():
    alphas = [disc(0.70), disc(0.71), disc(0.69)]
    assert find_consensus(alphas, [True, False, True]).kept == (0, 2)
    assert find_consensus(alphas, [False, True, False]).kept == (1,)
    assert find_consensus(alphas, [False, False, False]).kept == (0, 1, 2)  # there are no others


def test_a_single_member():
    assert find_consensus([disc(0.5)]) == ((0,), (1.0,), 1.0)


def test_agreement_by_hand():
    """Alpha 1, 0.5 and 0 everywhere: the mean of the others is 0.25, 0.5 and 0.75."""
    found = find_consensus([torch.full((1, 1, 2, 2), value) for value in (1.0, 0.5, 0.0)])
    assert found.agreements == pytest.approx((0.125, 1.0, 0.125))
