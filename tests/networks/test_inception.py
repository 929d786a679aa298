from __future__ import annotations

import pytest
import torch
from tests.networks.seeded_weights import fill
from torch.nn import functional as F

from labels4free.networks.inception import FEATURES, InceptionV3, resized_like_tensorflow

# Of torch-fidelity 0.4.0 for the same weights and images: every 256th feature, and logits 0 to 3 without bias.
PUBLISHED = {
    64: (
        [0.0, 0.32231, 0.0, 0.0, 0.40986, 0.12793, 0.03147, 0.06625],
        [-0.0453, -0.9363, -0.4026, -0.3735],
    ),
    128: (
        [0.0, 0.30783, 0.0, 0.0, 0.4223, 0.1179, 0.03119, 0.06497],
        [-0.0364, -0.9364, -0.4343, -0.3827],
    ),
}


@pytest.fixture(scope="module")
def network():
    return fill(InceptionV3())


@pytest.mark.parametrize("side", PUBLISHED)
def test_equal_to_torch_fidelity(network, side):
    rng = torch.Generator().manual_seed(7)
    image = torch.randint(0, 256, (2, 3, side, side), generator=rng, dtype=torch.uint8)[:1] / 127.5 - 1
    features, logits = PUBLISHED[side]
    found = network.features(image)
    assert found.shape == (1, FEATURES)
    torch.testing.assert_close(found[0, ::256], torch.tensor(features), atol=2e-5, rtol=0)
    torch.testing.assert_close(network.classify(found)[0, :4], torch.tensor(logits), atol=1e-4, rtol=0)
    torch.testing.assert_close(network(image), network.classify(found))


def test_size_of_the_published_network():
    state = InceptionV3().state_dict()
    assert len(state) == 566
    assert {"Mixed_7c.branch3x3dbl_3b.bn.running_var", "Mixed_6a.branch3x3.conv.weight", "fc.bias"} <= state.keys()


def test_resizing_by_hand():
    image = torch.tensor([0.0, 10.0]).expand(1, 1, 2, 2)
    assert resized_like_tensorflow(image, 4)[0, 0, 0].tolist() == [0, 5, 10, 10]
    assert resized_like_tensorflow(image.mT, 4)[0, 0, :, 0].tolist() == [0, 5, 10, 10]
    shrunk = resized_like_tensorflow(torch.arange(8.0).expand(1, 1, 8, 8), 4)
    assert shrunk[0, 0, 0].tolist() == [0, 2, 4, 6]  # every second pixel, and no mean
    assert not torch.allclose(shrunk, F.interpolate(torch.arange(8.0).expand(1, 1, 8, 8), size=4, mode="bilinear"))
