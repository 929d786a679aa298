from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.networks.contract import AlphaNetworkContract, maps
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.networks.merge_network import MergeNetwork
from labels4free.types import FeatureSpec

SPECS = (
    FeatureSpec("a", 5, 4),
    FeatureSpec("b", 3, 8),
    FeatureSpec("c", 2, 8),
    FeatureSpec("d", 4, 16),
    FeatureSpec("e", 1, 32),
)


def network(specs=SPECS, resolution: int = 64, **options) -> MergeNetwork:
    torch.manual_seed(0)
    made = MergeNetwork(specs, resolution, **{"width": 3, **options})
    with torch.no_grad():
        made.head.weight.mul_(10)  # decided enough for differences to show
    return made


class TestMergeNetwork(AlphaNetworkContract):
    specs, resolution = SPECS[1:4], 64
    weights: ClassVar = {
        "stems.0.weight": (3, 5, 1, 1),
        "stems.0.bias": (3,),
        "stems.1.weight": (3, 4, 1, 1),
        "stems.1.bias": (3,),
        "merges.0.weight": (3, 3, 1, 1),
        "merges.0.bias": (3,),
        "merges.1.weight": (3, 6, 1, 1),
        "merges.1.bias": (3,),
        "head.weight": (1, 3, 1, 1),
        "head.bias": (1,),
    }

    @pytest.fixture
    def made(self):
        return network(self.specs)


# Shapes and values


@pytest.mark.slow
@given(
    layout=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), min_size=1, max_size=6),
    larger=st.integers(0, 2),
    n=st.integers(0, 3),
)
def test_sizes_itself_from_any_feature_maps(layout, larger, n):
    specs = [FeatureSpec(f"m{i}", c, 4 * 2**k) for i, (k, c) in enumerate(sorted(layout))]
    resolution = specs[-1].resolution * 2**larger
    made = MergeNetwork(specs, resolution, width=2, min_resolution=4)
    alpha = made(maps(specs, n))
    assert alpha.shape == (n, 1, resolution, resolution)
    assert ((alpha >= 0) & (alpha <= 1)).all()
    assert sorted(i for level in made.levels for i in level) == list(range(len(specs)))
    for level, stem in zip(made.levels, made.stems, strict=True):
        assert len({specs[i].resolution for i in level}) == 1
        assert stem.in_channels == sum(specs[i].channels for i in level)


def test_fits_the_generator(tiny_generator):
    made = MergeNetwork(tiny_generator.feature_specs, tiny_generator.resolution)
    output = tiny_generator.synthesize(tiny_generator.map(torch.randn(2, 8)))
    assert made(output.features).shape == (2, 1, 64, 64)


def test_one_level_by_hand():
    made = MergeNetwork([FeatureSpec("a", 1, 8)], 8, width=1)
    weights = {"stems.0": (2, 0), "merges.0": (3, 1), "head": (0.5, -1)}
    for name, (weight, bias) in weights.items():
        layer = made.get_submodule(name)
        layer.weight.data.fill_(weight)
        layer.bias.data.fill_(bias)
    x = torch.zeros(1, 1, 8, 8)
    x[..., 0, 0], x[..., 0, 1] = 1, -1
    alpha = made([x])[0, 0]
    # 1 -> stem 2 -> merge 7 -> head 2.5;  -1 -> -2 -> leaky -0.4 -> -0.2 -> leaky -0.04 -> -1.02;  0 -> 0 -> 1 -> -0.5
    for at, logit in (((0, 0), 2.5), ((0, 1), -1.02), ((5, 5), -0.5)):
        assert alpha[at].item() == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-6)


def test_two_levels_by_hand():
    made = MergeNetwork([FeatureSpec("a", 1, 8), FeatureSpec("b", 1, 16)], 32, width=1)
    for layer in (*made.stems, *made.merges, made.head):
        layer.weight.data.fill_(1)
        layer.bias.data.zero_()
    made.merges[1].weight.data[0, :, 0, 0] = torch.tensor([10.0, 1.0])  # the level's own map, then the coarser one
    alpha = made([torch.full((1, 1, 8, 8), 0.5), torch.full((1, 1, 16, 16), 0.25)])
    torch.testing.assert_close(alpha, torch.full((1, 1, 32, 32), 3.0).sigmoid())


def test_up_sampling_between_levels_is_bilinear():
    made = MergeNetwork([FeatureSpec("a", 1, 8), FeatureSpec("b", 1, 16)], 16, width=1)
    for layer in (*made.stems, *made.merges, made.head):
        layer.weight.data.fill_(1)
        layer.bias.data.zero_()
    coarse = torch.rand(1, 1, 8, 8)
    logits = made.merge([coarse, torch.zeros(1, 1, 16, 16)])
    torch.testing.assert_close(logits, F.interpolate(coarse, size=16, mode="bilinear"))


def test_untrained_it_is_undecided():
    torch.manual_seed(0)
    alpha = MergeNetwork(SPECS, 64)(maps(SPECS))
    assert (alpha - 0.5).abs().max() < 0.25
    assert alpha.std() > 1e-4


# Size


def test_it_has_no_notion_of_size():
    """Maps of constant content give the same answer at full size and pooled to any smaller one."""
    made = network()
    constant = [torch.randn(2, s.channels, 1, 1).expand(-1, -1, s.resolution, s.resolution) for s in SPECS]
    levels = [torch.cat([constant[i] for i in level], dim=1) for level in made.levels]
    full = made.merge(levels)
    assert full.shape[-1] == 32
    for cap in (16, 8, 4):
        pooled = [F.avg_pool2d(x, x.shape[-1] // cap) if x.shape[-1] > cap else x for x in levels]
        small = made.merge(pooled)
        assert small.shape[-1] == cap
        torch.testing.assert_close(small, full[..., :1, :1].expand_as(small))
    assert full.std() > 1e-3  # the samples differ, so the comparison could have failed


def test_every_pixel_is_on_its_own():
    made = network(SPECS[3:4], 16)
    (x,) = maps(SPECS[3:4])
    order = torch.randperm(256, generator=torch.Generator().manual_seed(1))
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    expected = made([x]).flatten(2)[:, :, order].view(2, 1, 16, 16)
    torch.testing.assert_close(made([shuffled]), expected)


# Which maps are read


@pytest.mark.parametrize(
    ("low", "high", "read"),
    [(4, 32, "abcde"), (8, 32, "bcde"), (8, 16, "bcd"), (9, 31, "d"), (16, 16, "d"), (5, 8, "bc"), (17, 1000, "e")],
)
def test_reads_the_maps_between_the_two_resolutions(low, high, read):
    made = network(min_resolution=low, max_resolution=high)
    assert "".join(SPECS[i].name for level in made.levels for i in level) == read
    features = maps(SPECS)
    expected = made(features)
    assert expected.shape == (2, 1, 64, 64)
    unread = [x if s.name in read else torch.full_like(x, torch.nan) for s, x in zip(SPECS, features, strict=True)]
    assert torch.equal(made(unread), expected)
    for s, x in zip(SPECS, features, strict=True):
        if s.name in read:
            changed = [y + 1 if y is x else y for y in features]
            assert not torch.equal(made(changed), expected), f"{s.name} is not read"


@pytest.mark.parametrize(("low", "high"), [(64, 256), (1, 3), (9, 15), (16, 8)])
def test_no_map_between_the_two_resolutions(low, high):
    with pytest.raises(ConfigError) as caught:
        MergeNetwork(SPECS, 64, min_resolution=low, max_resolution=high)
    assert str(caught.value) == (
        f"No feature map lies between min_resolution={low} and max_resolution={high}; the generator has maps at "
        "4, 8, 16, 32."
    )


def test_refuses_other_feature_maps():
    made = network(SPECS[:2])
    made.check_fits(list(SPECS[:2]))
    with pytest.raises(ConfigError) as caught:
        made.check_fits([SPECS[0], FeatureSpec("b", 7, 8)])
    assert str(caught.value) == (
        "This alpha network was trained for other feature maps. It reads: a 5x4², b 3x8². The generator has: a 5x4², "
        "b 7x8²."
    )


# The fast path of a CPU


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_without_gradients_the_result_is_the_same(channels_last, count):
    sizes = [(5, 4), (7, 8), (3, 8), (6, 16), (4, 64)]
    specs = [FeatureSpec(f"f{k}", channels, size) for k, (channels, size) in enumerate(sizes)]
    made = network(specs, width=6, max_resolution=32)
    assert [len(members) for members in made.levels] == [2, 1]
    features = maps(specs, count)
    if channels_last:
        features = [x.to(memory_format=torch.channels_last) for x in features]
    plain = made(features)
    assert plain.requires_grad
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            fast = made(features)
        assert fast.shape == (count, 1, 64, 64)
        assert (fast - plain).abs().max() < 1e-6
    assert plain.std() > 1e-3
