from __future__ import annotations

import pytest
import torch

from labels4free.networks.merge_network import MergeNetwork
from labels4free.types import FeatureSpec


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_equals_the_plain_way(channels_last: bool, count: int) -> None:
    sizes = [(5, 4), (7, 8), (3, 8), (6, 16), (4, 64)]
    specs = [FeatureSpec(f"f{k}", channels, size) for k, (channels, size) in enumerate(sizes)]
    torch.manual_seed(0)
    network = MergeNetwork(specs, 64, width=6, max_resolution=32)
    assert [len(members) for members in network.levels] == [2, 1]
    features = [torch.randn(count, channels, size, size) for channels, size in sizes]
    if channels_last:
        features = [maps.to(memory_format=torch.channels_last) for maps in features]
    plain = network(features)
    assert plain.requires_grad
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            fast = network(features)
        assert fast.shape == (count, 1, 64, 64)
        assert (fast - plain).abs().max() < 1e-6
    assert plain.std() > 1e-3
