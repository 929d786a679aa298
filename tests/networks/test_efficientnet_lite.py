from __future__ import annotations

import copy

import pytest
import torch
from tests.networks.seeded_weights import fill
from torch import nn

from labels4free.errors import ConfigError
from labels4free.networks.efficientnet_lite import FEATURES, EfficientNetLite0

# Of efficientnet-lite-pytorch 0.1.0 for the same weights and images: logits 0 to 5 and features 100 to 103.
PUBLISHED = {
    64: (
        [
            [1.16201, -0.77266, 0.02502, -2.5729, 0.26324, 3.16946],
            [0.71556, -0.78861, 0.41347, -2.56294, 0.48854, 1.36414],
        ],
        [[0.5234, 0.0, 0.62488, 0.0], [0.29057, 0.0, 1.06599, 0.0]],
    ),
    75: (
        [
            [2.00091, 0.87051, 1.02243, -2.4808, -0.34523, 2.50153],
            [2.7837, 1.26804, 0.95995, -2.47676, -0.03591, 1.57122],
        ],
        [[0.9055, 0.0, 1.35036, 0.45807], [0.90922, 0.0, 0.82788, 0.46661]],
    ),
}


@pytest.fixture(scope="module")
def network():
    return fill(EfficientNetLite0())


def images(side, count=2):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(7)) * 2 - 1


@pytest.mark.parametrize("fused", [False, True], ids=["", "fused"])
@pytest.mark.parametrize("side", PUBLISHED, ids=["even sides", "odd sides"])
def test_equal_to_the_published_code(network, side, fused):
    network = copy.deepcopy(network).fuse() if fused else network
    assert any(isinstance(part, nn.BatchNorm2d) for part in network.modules()) is not fused
    logits, features = PUBLISHED[side]
    torch.testing.assert_close(network(images(side))[:, :6], torch.tensor(logits), atol=1e-4, rtol=0)
    torch.testing.assert_close(network.features(images(side))[:, 100:104], torch.tensor(features), atol=1e-4, rtol=0)


def test_shapes(network):
    x = images(64)
    assert network(x).shape == (2, 1000)
    assert network.features(x).shape == (2, FEATURES)
    assert [list(m.shape[1:]) for m in network.maps(x)] == [
        [16, 32, 32], [24, 16, 16], [40, 8, 8], [112, 4, 4], [320, 2, 2]
    ]  # fmt: skip


def test_size_of_the_published_network():
    state = EfficientNetLite0().state_dict()
    assert len(state) == 296
    assert {"_conv_stem.weight", "_blocks.15._bn2.running_var", "_conv_head.weight", "_fc.bias"} <= state.keys()
    assert sum(value.numel() for value in state.values() if value.is_floating_point()) == 4_694_024


def test_features_do_not_depend_on_the_batch(network):
    x = images(64, 5)
    torch.testing.assert_close(network.features(x)[3:4], network.features(x[3:4]), atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_image(network):
    x = images(32).requires_grad_()
    network.maps(x)[2].square().sum().backward()
    assert x.grad.abs().max() > 0


def test_config(network):
    assert EfficientNetLite0.from_config(network.config()).state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("shape", [(2, 3, 31, 64), (2, 1, 64, 64), (3, 64, 64)])
def test_bad_shapes(network, shape):
    with pytest.raises(ConfigError, match=r"takes images \[N, 3, H, W\] of at least 32 pixels, got \["):
        network(torch.zeros(shape))
