from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from labels4free.errors import ConfigError
from labels4free.generators.base import sample_z
from labels4free.layered import LayeredGenerator, composite
from labels4free.networks.merge_network import MergeNetwork
from labels4free.types import FeatureSpec


@pytest.fixture(scope="module")
def layered(tiny_generator):
    torch.manual_seed(0)
    network = MergeNetwork(tiny_generator.feature_specs, tiny_generator.resolution, width=4)
    with torch.no_grad():
        network.head.weight.mul_(30)
    return LayeredGenerator(tiny_generator, network.requires_grad_(False))


@pytest.fixture(scope="module")
def ws(tiny_generator):
    return tiny_generator.map(torch.stack([sample_z(8, 0, i) for i in range(2)]))


@pytest.fixture(scope="module")
def other_ws(tiny_generator):
    return tiny_generator.map(torch.stack([sample_z(8, 1, i) for i in range(2)]))


# composite


def test_composite_by_hand():
    foreground = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    background = torch.tensor([-1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    alpha = torch.tensor([0.25, 0.5]).view(1, 1, 1, 2)
    together = composite(foreground, background, alpha)
    assert together[0, :, 0, 0].tolist() == [-0.5, 0.375, -0.25]
    assert together[0, :, 0, 1].tolist() == [0.0, 0.25, -0.5]


def test_composite_is_exactly_one_layer_where_alpha_is_0_or_1():
    foreground, background = torch.randn(2, 3, 8, 8), 1e6 * torch.randn(2, 3, 8, 8)
    alpha = (torch.rand(2, 1, 8, 8) < 0.5).float()
    together = composite(foreground, background, alpha)
    assert torch.equal(together, torch.where(alpha.bool(), foreground, background))
    assert torch.equal(composite(foreground, background, torch.ones(2, 1, 8, 8)), foreground)
    assert torch.equal(composite(foreground, background, torch.zeros(2, 1, 8, 8)), background)


def test_gradients_of_the_composite():
    layers = [torch.rand(2, c, 3, 3, dtype=torch.float64, requires_grad=True) for c in (3, 3, 1)]
    assert gradcheck(composite, layers)


# LayeredGenerator


def test_layers_are_those_of_the_generator_and_the_network(layered, ws, tiny_generator):
    image = layered(ws)
    output = tiny_generator.synthesize(ws)
    assert torch.equal(image.foreground, output.image)
    assert torch.equal(image.background, tiny_generator.synthesize(ws, background="zero_first_conv").image)
    assert torch.equal(image.alpha, layered.alpha_network(output.features))
    assert image.alpha.shape == (2, 1, 64, 64)
    assert image.alpha.std() > 0.05
    assert not torch.equal(image.foreground, image.background)


@pytest.mark.slow
def test_background_ws_are_those_of_the_background_alone(layered, ws, other_ws, tiny_generator):
    alone, mixed = layered(ws), layered(ws, other_ws)
    assert torch.equal(mixed.foreground, alone.foreground)
    assert torch.equal(mixed.alpha, alone.alpha)
    assert torch.equal(mixed.background, layered(other_ws).background)
    assert not torch.equal(mixed.background, alone.background)


@pytest.mark.slow
def test_background_mode_is_handed_on(layered, ws, tiny_generator):
    pictures = {mode: layered(ws, background=mode).background for mode in tiny_generator.background_modes}
    for mode, picture in pictures.items():
        assert torch.equal(picture, tiny_generator.synthesize(ws, background=mode).image)
    assert torch.equal(pictures[tiny_generator.default_background], layered(ws).background)
    assert not torch.equal(pictures["zero_first_conv"], pictures["zero_first_block"])
    with pytest.raises(ConfigError, match="Unknown background mode 'black'"):
        layered(ws, background="black")


@pytest.mark.slow
def test_noise_is_handed_on(layered, ws):
    fixed, none = layered(ws), layered(ws, noise="none")
    drawn = [layered(ws, noise="random", rng=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    for layer in ("foreground", "background", "alpha"):
        first, same, other = (getattr(image, layer) for image in drawn)
        assert torch.equal(first, same)
        assert not torch.equal(first, other)
        assert not torch.equal(getattr(fixed, layer), getattr(none, layer))


def test_refuses_a_network_for_another_generator(tiny_generator):
    specs = [*tiny_generator.feature_specs[:-1], FeatureSpec("b32.conv2", 9, 32)]
    with pytest.raises(ConfigError, match=r"trained for other feature maps\. It reads: .*9x32².*has: .*8x32²"):
        LayeredGenerator(tiny_generator, MergeNetwork(specs, 64))


@pytest.mark.slow
def test_only_the_alpha_network_can_be_trained(tiny_generator, ws):
    network = MergeNetwork(tiny_generator.feature_specs, 64, width=2)
    layered = LayeredGenerator(tiny_generator, network)
    assert {name.split(".")[0] for name, _ in layered.named_parameters()} == {"alpha_network"}
    image = layered(ws)
    composite(image.foreground, image.background, image.alpha).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
