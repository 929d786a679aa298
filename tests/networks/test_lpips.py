from __future__ import annotations

import pytest
import torch
from tests.networks.seeded_weights import fill

from labels4free.networks.lpips import Lpips

# Of the package lpips 0.1.4, LPIPS(net="vgg"), for the same weights and two pairs of images.
PUBLISHED = {64: [0.17392490804195404, 0.17244881391525269], 50: [0.17303672432899475, 0.17704103887081146]}


@pytest.fixture(scope="module")
def network():
    found = fill(Lpips())
    for k in range(5):
        found.get_submodule(f"lin{k}").weight.abs_()  # the learned ones are not negative
    return found


@pytest.mark.parametrize("side", PUBLISHED)
def test_equal_to_the_published_code(network, side):
    x = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(7)) * 2 - 1
    torch.testing.assert_close(network(x[:2], x[2:]), torch.tensor(PUBLISHED[side]), atol=1e-5, rtol=0)


def test_extremes(network):
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(7)) * 2 - 1
    assert network(x, x).tolist() == [0, 0]
    assert network(x, -x).min() > 0
    assert network(x, -x).shape == (2,)


def test_gradients_where_maps_are_zero(network):
    dark = torch.full((1, 3, 32, 32), -1.0, requires_grad=True)
    with torch.no_grad():
        for conv in network.net.slice1.children():
            conv.bias.sub_(100)
    network(dark, torch.ones(1, 3, 32, 32)).sum().backward()
    assert bool(dark.grad.isfinite().all())
