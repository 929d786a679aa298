from __future__ import annotations

import pytest
import torch
from tests.refusals import refuses
from tests.tiny import tiny_generator, tiny_stylegan2

from labels4free.checkpoints.native import write_native
from labels4free.errors import ConfigError
from labels4free.generators.base import mix_styles
from labels4free.layered import LayeredGenerator
from labels4free.networks.merge_network import MergeNetwork
from labels4free.sampling.uncertainty import (
    UncertaintyConfig,
    UncertaintyMeter,
    disagreement,
    load_members,
)


def _network(generator, seed):
    torch.manual_seed(seed)
    network = MergeNetwork(generator.feature_specs, generator.resolution, width=4)
    with torch.no_grad():
        network.head.weight *= 10
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def layered():
    generator = tiny_generator()
    return LayeredGenerator(generator, _network(generator, 0))


def _pair(layered, index, label=None):
    ws = layered.generator.draw_ws(0, index, 0.7, label=label)
    with torch.inference_mode():
        features = layered.generator.synthesize(ws).features
        return ws, features, layered.alpha_network(features)


def test_disagreement_by_hand():
    alpha = torch.zeros(1, 1, 4, 4)
    alpha[..., :2] = 1
    wider = alpha.clone()
    wider[..., 2] = 0.5
    # foreground 8 / 10, background 6 / 8
    assert disagreement(alpha, [wider]) == pytest.approx(1 - (0.8 + 0.75) / 2)
    assert disagreement(wider, [alpha]) == pytest.approx(1 - (0.8 + 0.75) / 2)
    assert disagreement(alpha, [wider, alpha]) == pytest.approx((1 - (0.8 + 0.75) / 2) / 2)
    assert disagreement(alpha, [1 - alpha]) == 1
    soft = torch.full((1, 1, 4, 4), 0.3)
    assert disagreement(soft, [soft]) == 0


def test_disagreement_about_nothing():
    empty, full = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    assert disagreement(empty, [empty]) == 0
    assert disagreement(full, [full]) == 0
    assert disagreement(empty, [full]) == 1
    refuses(ConfigError, "needs augmentations", disagreement, empty, [])


def test_views_are_what_they_are_called(layered):
    generator, network = layered.generator, layered.alpha_network
    member = _network(generator, 1)
    config = UncertaintyConfig(noise=1, mixing=1, ensemble=("other",), mixing_psi=0.3)
    ws, features, alpha = _pair(layered, 5)
    noise, mixing, other = UncertaintyMeter(layered, config, 0, [member]).augmentations(ws, features, 5)
    torch.testing.assert_close(other, member(features))
    assert not torch.equal(noise, alpha)
    assert not torch.equal(mixing, alpha)
    still = UncertaintyMeter(layered, UncertaintyConfig(mixing=1, mixing_psi=0.0), 0)
    # at psi 0 the other sample is the average one, whatever was drawn
    (averaged,) = still.augmentations(ws, features, 5)
    average = generator.w_avg.expand(1, generator.num_ws, -1)
    expected = network(generator.synthesize(mix_styles(ws, average, 7)).features)  # 0.6 of 11 rows
    torch.testing.assert_close(averaged, expected)


def test_noise_is_drawn_anew(layered):
    ws, features, _ = _pair(layered, 0)
    meter = UncertaintyMeter(layered, UncertaintyConfig(noise=3), 0)
    augmentations = list(meter.augmentations(ws, features, 0))
    assert not torch.equal(augmentations[0], augmentations[1])
    assert not torch.equal(augmentations[1], augmentations[2])


def test_mixing_from_chooses_the_rows(layered):
    ws, features, alpha = _pair(layered, 0)
    values = [
        UncertaintyMeter(layered, UncertaintyConfig(mixing=2, mixing_from=fraction), 0).measure(ws, features, alpha, 0)
        for fraction in (0.99, 0.6, 0.0)
    ]
    assert 0 == values[0] < values[1] < values[2]  # row 11 of 11: nothing is mixed; row 0: another image


@pytest.mark.parametrize("config", [UncertaintyConfig(noise=2), UncertaintyConfig(mixing=2)])
def test_a_pairs_uncertainty_depends_on_seed_and_index_alone(layered, config):
    ws, features, alpha = _pair(layered, 3)
    meter = UncertaintyMeter(layered, config, 7)
    first = meter.measure(ws, features, alpha, 3)
    torch.manual_seed(99)
    torch.rand(5)
    meter.measure(ws, features, alpha, 4)
    assert meter.measure(ws, features, alpha, 3) == first
    assert UncertaintyMeter(layered, config, 7).measure(ws, features, alpha, 3) == first
    assert meter.measure(ws, features, alpha, 4) != first
    assert UncertaintyMeter(layered, config, 8).measure(ws, features, alpha, 3) != first
    assert 0 < first < 1


def test_more_views_of_a_kind_keep_the_first_ones(layered):
    ws, features, _ = _pair(layered, 0)
    few = list(UncertaintyMeter(layered, UncertaintyConfig(mixing=1), 0).augmentations(ws, features, 0))
    many = list(UncertaintyMeter(layered, UncertaintyConfig(noise=1, mixing=2), 0).augmentations(ws, features, 0))
    assert torch.equal(few[0], many[1])


def test_an_ensemble_of_itself_is_certain(layered):
    ws, features, alpha = _pair(layered, 0)
    config = UncertaintyConfig(ensemble=("a", "b"))
    itself = [layered.alpha_network] * 2
    assert UncertaintyMeter(layered, config, 0, itself).measure(ws, features, alpha, 0) == 0
    mixed = [layered.alpha_network, _network(layered.generator, 1)]
    alone = UncertaintyMeter(layered, UncertaintyConfig(ensemble=("b",)), 0, mixed[1:])
    half = UncertaintyMeter(layered, config, 0, mixed).measure(ws, features, alpha, 0)
    assert half == pytest.approx(alone.measure(ws, features, alpha, 0) / 2)
    assert half > 0


def test_mirrored_features_agree_by_construction(layered):
    _, features, alpha = _pair(layered, 0)
    mirrored = layered.alpha_network([x.flip(-1) for x in features]).flip(-1)
    assert disagreement(alpha, [mirrored]) < 1e-5


@pytest.mark.slow
def test_a_labelled_pair_is_mixed_with_its_class():
    generator = tiny_stylegan2(c_dim=2)
    layered = LayeredGenerator(generator, _network(generator, 0))
    ws, features, alpha = _pair(layered, 0, label=1)
    meter = UncertaintyMeter(layered, UncertaintyConfig(mixing=1), 0)
    by_class = [meter.measure(ws, features, alpha, 0, label=label) for label in (0, 1)]
    assert by_class[0] != by_class[1]
    assert meter.measure(ws, features, alpha, 0) in by_class  # without a class, one is drawn


@pytest.mark.slow
def test_members_are_loaded_and_must_fit(layered, tmp_path):
    member = _network(layered.generator, 1)
    path = tmp_path / "other.safetensors"
    write_native(path, kind="alpha_network", family="merge", config=member.config(), state=member.state_dict())
    config = UncertaintyConfig(ensemble=(str(path),))
    (loaded,) = load_members(config)
    _, features, _ = _pair(layered, 0)
    torch.testing.assert_close(loaded(features), member(features))
    refuses(ConfigError, "has 1 files, got 0", UncertaintyMeter, layered, config, 0)
    refuses(ConfigError, "other feature maps", UncertaintyMeter, layered, config, 0, [_network(tiny_stylegan2(), 0)])


def test_bad_settings_are_refused(layered):
    assert not UncertaintyConfig().enabled
    refuses(ConfigError, "needs augmentations", UncertaintyMeter, layered, UncertaintyConfig(), 0)
    for settings, message in (
        ({"noise": -1}, "noise augmentations must be at least 0"),
        ({"mixing": -1}, "mixing augmentations must be at least 0"),
        ({"mixing_psi": 2.5}, "mixing_psi must lie in"),
        ({"mixing_from": 1.0}, "mixing_from must lie in"),
    ):
        refuses(ConfigError, message, UncertaintyConfig, **settings)
