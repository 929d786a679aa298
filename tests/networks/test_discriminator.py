from __future__ import annotations

import json
import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from labels4free.errors import ConfigError
from labels4free.losses import r1_penalty
from labels4free.networks.discriminator import Discriminator, channels_by_resolution, minibatch_stddev


def small(resolution: int = 16, **options) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(resolution, channel_base=64, channel_max=8, **options)


def strengthen(network: Discriminator) -> Discriminator:
    """Let every convolution reach its limit, although limited maps are what it reads."""
    with torch.no_grad():
        for value in network.parameters():
            value *= 6.0 if value.ndim == 4 else 1.0
    return network


# Minibatch standard deviation


def test_stddev_by_hand():
    x = torch.tensor([0.0, 10.0, 2.0, 16.0]).view(4, 1, 1, 1).expand(4, 2, 3, 3)
    # groups of two are {0, 2} and {1, 3}: deviations 1 and 3
    torch.testing.assert_close(minibatch_stddev(x, group=2), torch.tensor([1.0, 3.0, 1.0, 3.0]))
    torch.testing.assert_close(minibatch_stddev(x, group=1), torch.full((4,), 1e-4))
    torch.testing.assert_close(minibatch_stddev(x, group=4), x[:, 0, 0, 0].std(correction=0).expand(4))


@pytest.mark.parametrize("n", [1, 5, 12])
def test_group_0_is_the_whole_batch(n):
    x = torch.randn(n, 2, 4, 4)
    expected = (x.var(0, correction=0) + 1e-8).sqrt().mean().expand(n)
    torch.testing.assert_close(minibatch_stddev(x, group=0), expected)
    network = small(stddev_group=0)
    images = torch.randn(n, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(network(images), small(stddev_group=n)(images))


@pytest.mark.parametrize(("n", "members"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 1), (6, 3), (7, 1), (8, 4), (10, 2)])
def test_group_is_the_largest_divisor(n, members):
    x = torch.randn(n, 2, 4, 4)
    groups = [x[k :: n // members] for k in range(n // members)]
    expected = [(g.var(0, correction=0) + 1e-8).sqrt().mean() for g in groups]
    torch.testing.assert_close(minibatch_stddev(x), torch.stack(expected).repeat(members))


def test_stddev_of_equal_samples_has_finite_gradients():
    x = torch.ones(4, 1, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(minibatch_stddev(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert torch.equal(gradient, torch.zeros_like(x))
    assert x.grad is not None
    assert x.grad.isfinite().all()


# The network


@pytest.mark.parametrize("resolution", [8, 16, 64])
def test_shapes_at_every_resolution(resolution):
    network = small(resolution)
    assert network(torch.randn(3, 3, resolution, resolution)).shape == (3, 1)
    assert len(network.convs) == 1 + resolution.bit_length() - 3


def test_channels():
    assert channels_by_resolution(64, 1024, 100) == {64: 16, 32: 32, 16: 64, 8: 100, 4: 100}
    assert Discriminator(16, channel_base=64, channel_max=8).channels == {16: 4, 8: 8, 4: 8}
    network = Discriminator(16, {4: 7, 8: 5, 16: 3})
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes["convs.0.0.weight"] == (3, 3, 1, 1)
    assert shapes["convs.1.conv2.1.weight"] == (5, 3, 3, 3)
    assert shapes["convs.2.skip.1.weight"] == (7, 5, 1, 1)
    assert shapes["final_conv.0.weight"] == (7, 8, 3, 3)
    assert shapes["final_linear.0.weight"] == (7, 112)
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 1)


def test_config_survives_json():
    network = small(stddev_group=2, c_dim=3, mapping_layers=1, conv_clamp=2)
    again = Discriminator.from_config(json.loads(json.dumps(network.config())))
    again.load_state_dict(network.state_dict())
    images, labels = torch.randn(4, 3, 16, 16), torch.randn(4, 3)
    assert torch.equal(network(images, labels), again(images, labels))
    assert again.config() == network.config()
    assert {name.split(".")[0] for name in small().state_dict()} == {"convs", "final_conv", "final_linear"}


def test_every_layer_has_an_equalised_learning_rate():
    """Weights start with deviation 1 whatever the fan-in, and the logits' scale does not depend on the width."""
    network = Discriminator(16, channel_base=2048, channel_max=128)
    for key, value in network.named_parameters():
        if key.endswith("weight") and value.numel() > 200:
            assert 0.85 < value.std() < 1.15, key
        elif key.endswith("bias"):
            assert (value == 0).all(), key
    with torch.no_grad():
        assert network(torch.randn(16, 3, 16, 16)).abs().max() < 10


def test_memory_format_and_requires_grad_do_not_matter():
    network = small()
    images = torch.randn(4, 3, 16, 16)
    expected = network(images)
    torch.testing.assert_close(network(images.to(memory_format=torch.channels_last)), expected, rtol=0, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(network(images), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_second_order_gradients_with_labels_and_limits():
    torch.manual_seed(0)
    network = strengthen(Discriminator(8, {8: 2, 4: 3}, c_dim=2, mapping_layers=2, conv_clamp=0.8)).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    labels = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    reached = []
    for layer in (network.convs[0], network.convs[1].conv1, network.convs[1].conv2, network.final_conv):
        layer.register_forward_hook(lambda layer, _, out: reached.append((out.abs() == layer.limit).double().mean()))
    network(images, labels)
    assert all(0.02 < fraction < 0.98 for fraction in reached), (
        "a limit that nothing or everything reaches tests nothing"
    )
    assert gradcheck(network, (images, labels), atol=1e-5)
    assert gradgradcheck(network, (images, labels), atol=1e-4)


@pytest.mark.slow
def test_r1_with_labels_and_limits():
    """Its gradient in every weight, against finite differences."""
    torch.manual_seed(0)
    network = strengthen(Discriminator(8, {8: 2, 4: 2}, c_dim=2, mapping_layers=1, conv_clamp=0.8)).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    labels = torch.eye(2, dtype=torch.float64)
    names, values = zip(*network.named_parameters(), strict=True)

    def penalty(*weights):
        logits = functional_call(network, dict(zip(names, weights, strict=True)), (images, labels))
        return r1_penalty(logits, images)

    assert gradcheck(penalty, values, atol=1e-5)
    gradients = torch.autograd.grad(penalty(*values), values, allow_unused=True, materialize_grads=True)
    reached = {name for name, gradient in zip(names, gradients, strict=True) if gradient.any()}
    assert {name for name in names if name.endswith("weight")} <= reached


# Labels and limits


def test_logit_is_the_projection_on_the_label():
    network = small(c_dim=3, mapping_layers=2)
    for value in network.parameters():  # biases too
        torch.nn.init.normal_(value, std=50.0 if value.shape == (8, 8) else 1.0)
    images, labels = torch.randn(4, 3, 16, 16), torch.eye(3)[[0, 2, 1, 0]]
    head = small()
    head.final_linear[1] = network.final_linear[1]
    head.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("mapping.")})
    state = network.state_dict()
    with torch.no_grad():
        m = labels @ state["mapping.embed.weight"].T / math.sqrt(3) + state["mapping.embed.bias"]
        m = m / m.square().mean(dim=1, keepdim=True).sqrt()
        for i in range(2):
            m = 0.01 * (m @ state[f"mapping.fc{i}.weight"].T / math.sqrt(8) + state[f"mapping.fc{i}.bias"])
            m = math.sqrt(2) * torch.where(m > 0, m, 0.2 * m)
        x = head(images)
        assert x.shape == (4, 8)
        torch.testing.assert_close(network(images, labels), (x * m).sum(dim=1, keepdim=True) / math.sqrt(8))


def test_tensors_of_the_label():
    network = small(c_dim=3)
    assert network.state_dict()["final_linear.1.weight"].shape == (8, 8)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items() if name.startswith("mapping.")}
    expected = {"mapping.embed.weight": (8, 3), "mapping.embed.bias": (8,)}
    for i in range(8):
        expected |= {f"mapping.fc{i}.weight": (8, 8), f"mapping.fc{i}.bias": (8,)}
    assert shapes == expected
    assert 80 < torch.stack([network.mapping.get_submodule(f"fc{i}").weight for i in range(8)]).std() < 120


def test_without_layers_the_embedded_label_is_projected_on():
    network = small(c_dim=5, mapping_layers=0)
    assert [name for name in network.state_dict() if "mapping" in name] == [
        "mapping.embed.weight",
        "mapping.embed.bias",
    ]
    with torch.no_grad():
        m = network.mapping(torch.eye(5))
    torch.testing.assert_close(m.square().mean(dim=1), torch.ones(5))


def test_labels_of_any_dtype():
    network = small(c_dim=3)
    images, labels = torch.randn(2, 3, 16, 16), torch.nn.functional.one_hot(torch.tensor([2, 0]), 3)
    assert torch.equal(network(images, labels), network(images, labels.float()))
    assert torch.equal(network(images, labels), network(images, labels.bool()))
    assert not torch.allclose(network(images, labels), network(images, labels.flip(0)), atol=1e-3)


def test_limit_of_every_activated_layer():
    """Each gives what the same layer without a limit gives, limited; the skip and all linear layers have none."""
    network, free = strengthen(small(conv_clamp=0.1)), small()
    layers = {name: layer for name, layer in network.named_modules() if hasattr(layer, "limit")}
    inputs = {}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, args, out, name=name: inputs.update({name: (args[0], out.clone())}))
    with torch.no_grad():
        free.load_state_dict(network.state_dict())
        network(torch.randn(4, 3, 16, 16))
        for name, (x, out) in inputs.items():
            expected = free.get_submodule(name)(x)
            limit = {"conv2": 0.1 / math.sqrt(2), "skip": math.inf}.get(name.rsplit(".", 1)[-1], 0.1)
            assert expected.max() > 0.1, name  # or the limit, or its absence, would not show
            torch.testing.assert_close(out, expected.clamp(-limit, limit), rtol=0, atol=1e-6)
    assert len(layers) == len(inputs) == 2 + 3 * 2


def test_a_limit_out_of_reach_changes_nothing():
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(small(conv_clamp=256)(images), small()(images))


def test_sees_missing_variety():
    network = small()
    image = torch.randn(1, 3, 16, 16)
    others = torch.cat([image, torch.randn(3, 3, 16, 16)])
    assert not torch.allclose(network(image.expand(4, -1, -1, -1))[0], network(others)[0], atol=1e-5)


@pytest.mark.slow
def test_learns_to_tell_noise_from_grey():
    network = small()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.0, 0.99))
    rng = torch.Generator().manual_seed(0)
    for _ in range(25):
        noise, grey = (
            torch.randn(4, 3, 16, 16, generator=rng),
            torch.randn(4, 3, 1, 1, generator=rng).expand(4, 3, 16, 16),
        )
        loss = torch.nn.functional.softplus(-network(noise)).mean() + torch.nn.functional.softplus(network(grey)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.5


TWO = {8: 1, 4: 2}


@pytest.mark.parametrize(
    ("resolution", "channels", "options", "message"),
    [(r, None, {}, f"power of two of at least 8, got {r}") for r in (0, 4, 12, 100, -8)]
    + [
        (16, {16: 3, 8: 5}, {}, r"resolutions \[16, 8, 4\].*got \{16: 3, 8: 5\}"),
        (8, {8: 0, 4: 1}, {}, "each at least 1"),
    ]
    + [(8, TWO, {name: -1}, f"of at least 0, got {name}=-1") for name in ("stddev_group", "c_dim", "mapping_layers")]
    + [(8, TWO, {"conv_clamp": x}, f"None for no limit, got {x}") for x in (0, -1.0, math.inf, math.nan)],
)
def test_numbers_that_make_no_network_are_refused(resolution, channels, options, message):
    with pytest.raises(ConfigError, match=message):
        Discriminator(resolution, channels, **options)


@pytest.mark.parametrize(
    ("c_dim", "size", "labels", "message"),
    [
        (0, 16, None, r"\[N, 3, 8, 8\], got \[2, 3, 16, 16\]"),
        (0, 8, torch.zeros(2, 3), r"built without labels \(c_dim=0\): leave `labels` out"),
        (3, 8, None, r"needs labels of shape \[2, 3\], one row an image, got none"),
        (3, 8, torch.zeros(2, 4), r"shape \[2, 3\].*got \[2, 4]; .*one_hot\(numbers, 3\)"),
        (3, 8, torch.zeros(3), r"shape \[2, 3\].*got \[3]; .*one_hot\(numbers, 3\)"),
        (3, 8, torch.zeros(1, 3), r"shape \[2, 3\].*got \[1, 3]; .*one_hot\(numbers, 3\)"),
        (3, 8, torch.tensor([0, 2]), r"got \[2\]; class numbers become rows"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(c_dim, size, labels, message):
    with pytest.raises(ConfigError, match=message):
        Discriminator(8, TWO, c_dim=c_dim)(torch.zeros(2, 3, size, size), labels)
