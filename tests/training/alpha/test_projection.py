from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha.projection import MIN_COMPONENTS, Projection, components, fit_projection
from labels4free.types import FeatureSpec

SPECS = (FeatureSpec("a", 3, 4), FeatureSpec("b", 12, 8), FeatureSpec("c", 9, 8), FeatureSpec("d", 40, 16))


def maps(index: int, specs=SPECS) -> list[torch.Tensor]:
    """Maps whose channels have different means and scales, and depend on each other."""
    out = []
    for k, spec in enumerate(specs):
        fixed = torch.Generator().manual_seed(100 + k)
        mixing = torch.randn(spec.channels, spec.channels, generator=fixed) * torch.logspace(-1, 1, spec.channels)
        mean = 5 * torch.randn(spec.channels, generator=fixed)
        rng = torch.Generator().manual_seed(1000 * index + k)
        x = torch.randn(1, spec.channels, spec.resolution, spec.resolution, generator=rng)
        out.append(torch.einsum("ij,njhw->nihw", mixing, x) + mean[None, :, None, None])
    return out


@pytest.fixture(scope="module")
def projection():
    return fit_projection(SPECS, (maps(i) for i in range(20)))


def projected(projection, index):
    """Each map on its own, at full size."""
    return projection.levels(maps(index), [[i] for i in range(len(SPECS))], 1024)


@pytest.mark.slow
def test_components_of_the_fitted_samples_have_mean_0_and_variance_1(projection):
    samples = [projected(projection, i) for i in range(20)]
    for k, spec in enumerate(SPECS):
        flat = torch.cat([s[k] for s in samples]).transpose(0, 1).flatten(1).double()
        assert len(flat) == components(spec.channels)
        torch.testing.assert_close(flat.mean(dim=1), torch.zeros(len(flat)).double(), rtol=0, atol=1e-3)
        torch.testing.assert_close(flat @ flat.T / flat.shape[1], torch.eye(len(flat)).double(), rtol=0, atol=5e-3)


def test_the_strongest_components_are_kept():
    """Channel k has standard deviation 10^-k and stands alone: the first eight come out, the strongest first."""
    spec = FeatureSpec("a", 12, 16)
    rng = torch.Generator().manual_seed(0)
    samples = [[torch.randn(1, 12, 16, 16, generator=rng) * (2.0 ** -torch.arange(12))[:, None, None]] for _ in "123"]
    fitted = fit_projection([spec], samples)
    weight = fitted.weights[0]
    assert weight.shape == (MIN_COMPONENTS, 12)
    strongest = (weight * 2.0 ** -torch.arange(12)).abs().argmax(dim=1)  # in units of what a channel varies
    assert strongest.tolist() == list(range(8))


@pytest.mark.parametrize(("channels", "kept"), [(1, 1), (8, 8), (9, 8), (128, 8), (144, 9), (512, 32)])
def test_how_many_are_kept(channels, kept):
    assert components(channels) == kept


def test_specs_after_projection(projection):
    assert projection.specs(SPECS) == [
        FeatureSpec("a", 3, 4),
        FeatureSpec("b", 8, 8),
        FeatureSpec("c", 8, 8),
        FeatureSpec("d", 8, 16),
    ]


def test_levels_join_maps_and_pool_the_finer_ones(projection):
    features = maps(3)
    coarse, fine = projection.levels(features, [[1, 2], [3]], 4)
    assert coarse.shape == (1, 16, 4, 4)
    assert fine.shape == (1, 8, 4, 4)
    alone = projected(projection, 3)
    torch.testing.assert_close(coarse, F.avg_pool2d(torch.cat(alone[1:3], dim=1), 2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fine, F.avg_pool2d(alone[3], 4), rtol=1e-4, atol=1e-4)


def test_progress_is_told_after_every_sample():
    seen = []

    def samples():
        for i in range(3):
            yield maps(i)
            seen.append("next")

    fit_projection(SPECS, samples(), lambda: seen.append("told"))
    assert seen == ["told", "next"] * 3


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_dead_map_does_no_harm(value):
    spec = FeatureSpec("a", 4, 8)
    fitted = fit_projection([spec], [[torch.full((1, 4, 8, 8), value)]] * 2)
    level = fitted.levels([torch.full((1, 4, 8, 8), value)], [[0]], 8)[0]
    assert torch.isfinite(level).all()
    assert torch.isfinite(level.half()).all()


# Folding


@pytest.fixture(scope="module")
def networks(projection):
    """A network on the projected maps, and the same function of the generator's own."""
    torch.manual_seed(0)
    network = MergeNetwork(projection.specs(SPECS), 32, width=6, min_resolution=4, max_resolution=16)
    with torch.no_grad():
        network.head.weight.mul_(30)
    return network, projection.fold(network, SPECS)


def test_folded_network_is_the_same_function_of_the_unprojected_maps(projection, networks):
    network, folded = networks
    folded.check_fits(SPECS)
    for index in (0, 50):  # fitted on, and not
        features = maps(index)
        alpha = folded(features)
        assert alpha.shape == (1, 1, 32, 32)
        assert alpha.std() > 0.05
        torch.testing.assert_close(alpha, network(projected(projection, index)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("cap", [2, 4, 8])
def test_folded_network_is_the_same_function_of_pooled_maps(projection, networks, cap):
    network, folded = networks
    features = maps(7)
    pooled = [F.avg_pool2d(x, x.shape[-1] // cap) if x.shape[-1] > cap else x for x in features]
    levels = [torch.cat([pooled[i] for i in level], dim=1) for level in folded.levels]
    expected = network.merge(projection.levels(features, network.levels, cap))
    assert expected.shape == (1, 1, cap, cap)
    torch.testing.assert_close(folded.merge(levels).sigmoid(), expected.sigmoid(), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_folding_on_a_generator(tiny_generator):
    specs = tiny_generator.feature_specs
    rng = torch.Generator().manual_seed(0)
    features = tiny_generator.synthesize(tiny_generator.map(torch.randn(6, 8, generator=rng))).features
    fitted = fit_projection(specs, [features])
    torch.manual_seed(0)
    network = MergeNetwork(fitted.specs(specs), 64, width=6)
    with torch.no_grad():
        network.head.weight.mul_(30)
    expected = network(fitted.levels(features, [[i] for i in range(len(specs))], 64))
    assert expected.std() > 0.05
    torch.testing.assert_close(fitted.fold(network, specs)(features), expected, rtol=0, atol=1e-4)


def test_folding_keeps_the_settings_and_leaves_the_network_alone(projection, networks):
    network, folded = networks
    before = {name: value.clone() for name, value in network.state_dict().items()}
    again = projection.fold(network, SPECS)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(value, folded.state_dict()[name]) for name, value in again.state_dict().items())
    assert {**folded.config(), "feature_specs": None} == {**network.config(), "feature_specs": None}
    assert not folded.training
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_folding_by_hand():
    spec = FeatureSpec("a", 2, 8)
    projection = Projection([torch.tensor([[2.0, -1.0]])], [torch.tensor([3.0])])
    network = MergeNetwork(projection.specs([spec]), 8, width=1)
    network.stems[0].weight.data.fill_(5)
    network.stems[0].bias.data.fill_(7)
    stem = projection.fold(network, [spec]).stems[0]
    assert stem.weight.flatten().tolist() == [10, -5]
    assert stem.bias.tolist() == [22]
