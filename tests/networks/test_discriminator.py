from __future__ import annotations

import json
import runpy

import numpy as np
import pytest
import torch
from torch.autograd import gradgradcheck

from labels4free.errors import ConfigError
from labels4free.losses import r1_penalty
from labels4free.networks.discriminator import Discriminator, channels_by_resolution, minibatch_stddev


def small(resolution: int = 16, **options) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(resolution, channel_base=64, channel_max=8, **options)


# Parity with the original implementation


@pytest.fixture(scope="module")
def parity(shared):
    """Network, logits of the eight images, the outputs of its layers, the expected arrays."""
    folder = shared / "fixtures"
    fill = runpy.run_path(str(folder / "fill.py"))
    stem = folder / "rosinality" / "discriminator_256_m2"
    state = fill["state"](str(stem.with_suffix(".describe.json")))
    network = Discriminator(256)
    assert list(network.state_dict()) == list(state)  # the names and the order of rosinality
    network.load_state_dict({key: torch.from_numpy(np.asarray(value)) for key, value in state.items()})
    outputs = []
    handles = [layer.register_forward_hook(lambda *args: outputs.append(args[2].clone())) for layer in network.convs]
    with torch.no_grad():
        logits = network(torch.from_numpy(fill["images"]("discriminator", 8, 256)))
    for handle in handles:
        handle.remove()
    with np.load(stem.with_suffix(".npz")) as arrays:
        return network, logits, outputs, dict(arrays)


def test_logits_of_the_original(parity):
    network, logits, outputs, expected = parity
    np.testing.assert_allclose(logits, expected["logits_batch8"], rtol=0, atol=2e-5)
    with torch.no_grad():
        for name, part in (("batch1", slice(0, 1)), ("batch4", slice(0, 4)), ("batch4_second", slice(4, 8))):
            head = network._head(outputs[-1][part])
            np.testing.assert_allclose(head, expected[f"logits_{name}"], rtol=0, atol=2e-5, err_msg=name)


def test_minibatch_statistic_of_the_original(parity):
    """On its own, because a wrong grouping changes the logits by 1e-4 only."""
    outputs, expected = parity[2:]
    for n in (1, 4, 8):
        statistic = minibatch_stddev(outputs[-1][:n])
        np.testing.assert_allclose(statistic, expected[f"minibatch_std_batch{n}"], rtol=1e-5, atol=0)


def test_block_outputs_of_the_original(parity):
    outputs, expected = parity[2:]
    for block, output in enumerate(outputs):
        channels, size = (output.shape[1] // 16) | 1, (output.shape[2] // 8) | 1  # the fixture's odd strides
        name = f"batch4/block_{block}"
        part = output[:4, ::channels]
        np.testing.assert_allclose(part[:, :, ::size, ::size], expected[name], rtol=0, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(part[:, :, -4:, -4:], expected[f"{name}_corner"], rtol=0, atol=1e-4, err_msg=name)
    assert len(outputs) == 7


# Minibatch standard deviation


def test_stddev_by_hand():
    x = torch.tensor([0.0, 10.0, 2.0, 16.0]).view(4, 1, 1, 1).expand(4, 2, 3, 3)
    # groups of two are {0, 2} and {1, 3}: deviations 1 and 3
    torch.testing.assert_close(minibatch_stddev(x, group=2), torch.tensor([1.0, 3.0, 1.0, 3.0]))
    torch.testing.assert_close(minibatch_stddev(x, group=1), torch.full((4,), 1e-4))
    torch.testing.assert_close(minibatch_stddev(x, group=4), x[:, 0, 0, 0].std(correction=0).expand(4))


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
    network = small(stddev_group=2)
    again = Discriminator.from_config(json.loads(json.dumps(network.config())))
    again.load_state_dict(network.state_dict())
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(network(images), again(images))
    assert again.config() == network.config()


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


def test_r1_reaches_every_weight():
    network = small()
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    r1_penalty(network(images), images).backward()
    for key, value in network.named_parameters():
        if key == "final_linear.1.bias":  # adds to the logit: its slope knows nothing of it
            assert value.grad is None
        elif key.endswith("weight"):
            assert value.grad is not None, key
            assert value.grad.abs().max() > 0, key


def test_second_order_gradients():
    network = Discriminator(8, {8: 2, 4: 2}).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(network, (images,), atol=1e-4)


def test_sees_missing_variety():
    network = small()
    image = torch.randn(1, 3, 16, 16)
    others = torch.cat([image, torch.randn(3, 3, 16, 16)])
    assert not torch.allclose(network(image.expand(4, -1, -1, -1))[0], network(others)[0], atol=1e-5)


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


@pytest.mark.parametrize("resolution", [0, 4, 12, 100, -8])
def test_resolution_must_be_a_power_of_two(resolution):
    with pytest.raises(ConfigError, match=f"power of two of at least 8, got {resolution}"):
        Discriminator(resolution)


def test_errors():
    with pytest.raises(ConfigError, match=r"resolutions \[16, 8, 4\].*got \{16: 3, 8: 5\}"):
        Discriminator(16, {16: 3, 8: 5})
    with pytest.raises(ConfigError, match="each at least 1"):
        Discriminator(8, {8: 0, 4: 1})
    with pytest.raises(ConfigError, match="stddev_group=0"):
        Discriminator(8, {8: 1, 4: 1}, stddev_group=0)
    with pytest.raises(ConfigError, match=r"\[N, 3, 8, 8\], got \[2, 3, 16, 16\]"):
        Discriminator(8, {8: 1, 4: 1})(torch.zeros(2, 3, 16, 16))
