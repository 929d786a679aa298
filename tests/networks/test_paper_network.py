"""The network of Labels4Free. Its numbers are compared with the original's in ``tests/checkpoints``."""

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
from labels4free.networks import ALPHA_NETWORKS
from labels4free.networks.alpha_network import AlphaNetwork
from labels4free.networks.merge_network import MergeNetwork
from labels4free.networks.paper_network import PaperNetwork
from labels4free.types import FeatureSpec


def stylegan2_specs(channels) -> list[FeatureSpec]:
    """The maps of a StyleGAN2 generator with these channels by resolution, 4x4 first."""
    specs = [FeatureSpec("b4.conv1", channels[4], 4)]
    return specs + [FeatureSpec(f"b{r}.conv{k}", c, r) for r, c in channels.items() if r > 4 for k in (0, 1)]


def pairs(*sizes: int, channels: int = 1) -> list[FeatureSpec]:
    return [FeatureSpec(f"b{r}.conv{k}", channels, r) for r in sizes for k in (0, 1)]


def network(specs, resolution: int) -> PaperNetwork:
    torch.manual_seed(0)
    return PaperNetwork(specs, resolution)


def with_weights(made: PaperNetwork, **weights: tuple[object, object]) -> PaperNetwork:
    """Weight and bias of the layers named (``first_0`` is ``first.0``), numbers or one row a channel; 0 elsewhere."""
    for parameter in made.parameters():
        parameter.data.zero_()
    for name, (weight, bias) in weights.items():
        layer = made.get_submodule(name.replace("_", "."))
        layer.weight.data[:, :, 0, 0] = torch.tensor(weight)
        layer.bias.data[:] = torch.tensor(bias)
    return made


def u(x: torch.Tensor, size: int) -> torch.Tensor:
    return F.interpolate(x, size=(size, size), mode="bicubic", align_corners=True)


def by_the_equations(made: PaperNetwork, features) -> torch.Tensor:
    """The logits, each line as the class documents it."""

    def conv(layer, x):
        return F.conv2d(x, layer.weight, layer.bias)

    read = features[-2 * len(made.first) :]
    p = [torch.cat((conv(a, read[2 * k]), conv(b, read[2 * k + 1])), 1) for k, (a, b) in enumerate(_ab(made))]
    if len(p) == 1:
        return conv(made.head, p[0])
    t = u(p[0], p[1].shape[-1])
    for k in range(1, len(p) - 1):
        t = u(F.leaky_relu(conv(made.merges[k - 1], torch.cat((p[k], t), 1)), 0.2), p[k + 1].shape[-1])
    return conv(made.head, p[-1] + t)


def _ab(made):
    return zip(made.first, made.second, strict=True)


class TestPaperNetwork(AlphaNetworkContract):
    specs, resolution = pairs(8, 16, 32, channels=5), 32
    weights: ClassVar = (
        {f"{part}.{k}.weight": (3, 5, 1, 1) for part in ("first", "second") for k in range(3)}
        | {f"{part}.{k}.bias": (3,) for part in ("first", "second") for k in range(3)}
        | {"merges.0.weight": (6, 12, 1, 1), "merges.0.bias": (6,), "head.weight": (1, 6, 1, 1), "head.bias": (1,)}
    )

    @pytest.fixture
    def made(self):
        return network(self.specs, self.resolution)


# Values


def test_one_resolution_by_hand():
    made = with_weights(
        network(pairs(8), 8),
        first_0=([[1.0], [2.0], [0.0]], [0.0, 0.0, 0.5]),
        second_0=([[0.0], [0.0], [3.0]], [1.0, 0.0, 0.0]),
        head=([[1.0, 10.0, 100.0, 2.0, 0.0, 4.0]], [-0.5]),
    )
    f, g = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    f[..., 0, 0], g[..., 0, 1] = -1, 0.25
    # p = (f, 2f, 0.5, 1, 0, 3g), so the logit is f + 20f + 50 + 2 + 12g - 0.5, and no ReLU stands in between
    logits = made.logits([f, g])[0, 0]
    assert logits[0, 0].item() == pytest.approx(30.5)
    assert logits[0, 1].item() == pytest.approx(54.5)
    assert logits[5, 5].item() == pytest.approx(51.5)
    assert made([f - 2.5, g])[0, 0, 5, 5].item() == pytest.approx(1 / (1 + math.exp(1)))


def test_up_sampling_is_bicubic_with_aligned_corners():
    made = with_weights(
        network(pairs(8, 16), 16),
        first_0=([[1.0], [0.0], [0.0]], [0.0, 0.0, 0.0]),
        head=([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]], [0.0]),
    )
    row = torch.tensor([3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0, -6.0])
    f = row.expand(1, 1, 8, 8)
    logits = made.logits([f, torch.zeros(1, 1, 8, 8), *torch.zeros(2, 1, 1, 16, 16)])[0, 0]
    assert logits[7, 0].item() == pytest.approx(3)
    assert logits[7, 15].item() == pytest.approx(-6)
    # output 6 lies at 6 * 7 / 15 = 2.8: Keys' kernel with a = -0.75 at distances 1.8, 0.8, 0.2, 1.2
    a = -0.75
    far = [a * (d**3 - 5 * d**2 + 8 * d - 4) for d in (1.8, 1.2)]
    near = [(a + 2) * d**3 - (a + 3) * d**2 + 1 for d in (0.8, 0.2)]
    expected = far[0] * -1 + near[0] * 4 + near[1] * 1 + far[1] * -5
    assert logits[7, 6].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@given(
    channels=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=5),
    larger=st.integers(0, 1),
    n=st.integers(0, 2),
    last=st.booleans(),
)
def test_it_is_the_documented_function(channels, larger, n, last):
    specs = [FeatureSpec("a", 3, 4)]
    specs += [FeatureSpec(f"m{k}{i}", c, 8 << k) for k, pair in enumerate(channels) for i, c in enumerate(pair)]
    resolution = specs[-1].resolution << larger
    made = network(specs, resolution)
    features = maps(specs, n)
    if last:
        features = [x.contiguous(memory_format=torch.channels_last) for x in features]
    expected = by_the_equations(made, features) if n else None
    logits = made.logits(features)
    if larger and n:
        expected = u(expected, resolution)
    assert logits.shape == (n, 1, resolution, resolution)
    if n:
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=2e-6)
    assert torch.equal(made(features), logits.sigmoid())


def test_it_starts_with_the_default_weights_of_pytorch():
    made = network(pairs(8, 16, 32, channels=100), 32)
    for name, layer in made.named_modules():
        if isinstance(layer, torch.nn.Conv2d):
            bound = layer.in_channels**-0.5
            assert layer.weight.abs().max() <= bound, name
            assert layer.bias.abs().max() <= bound, name
    assert made.first[0].weight.abs().max() > 0.09


# Sizes


@pytest.mark.parametrize(
    ("resolution", "read"),
    [(8, [8]), (16, [8, 16]), (64, [8, 16, 32, 64]), (128, [8, 16, 32, 64, 128])]
    + [(256 << k, [8 << k, 16 << k, 32 << k, 64 << k, 128 << k, 256 << k]) for k in range(5)],
)
def test_reads_up_to_six_resolutions(resolution, read):
    specs = stylegan2_specs({4 << k: 3 + k for k in range(resolution.bit_length() - 2)})
    with torch.device("meta"):
        made = PaperNetwork(specs, resolution)
    assert [s.resolution for s in made.feature_specs] == [size for size in read for _ in range(2)]
    assert made.feature_specs == tuple(specs)[-2 * len(read) :]
    assert [a.in_channels for pair in _ab(made) for a in pair] == [s.channels for s in made.feature_specs]
    assert len(made.merges) == max(0, len(read) - 2)
    made.check_fits(specs)


@pytest.mark.parametrize(("resolution", "parameters"), [(256, 14947), (512, 12259), (1024, 9379)])
def test_has_as_many_weights_as_the_original(resolution, parameters):
    channels = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
    made = PaperNetwork(stylegan2_specs({r: c for r, c in channels.items() if r <= resolution}), resolution)
    assert sum(p.numel() for p in made.parameters()) == parameters


@pytest.mark.slow
def test_reads_the_last_maps_alone():
    specs = stylegan2_specs({4: 2, 8: 3, 16: 2, 32: 1, 64: 1, 128: 1, 256: 1, 512: 1})
    made, features = network(specs, 512), maps(specs, n=1)
    expected = made(features)
    unread = [torch.full_like(x, torch.nan) for x in features[:3]]  # 4x4 and 8x8
    assert torch.equal(made([*unread, *features[3:]]), expected)
    assert torch.equal(made(features[3:]), expected)
    for i in range(3, len(features)):
        assert not torch.equal(made([x + (k == i) for k, x in enumerate(features)]), expected), specs[i].name


def test_fits_a_generator_whose_maps_end_before_its_image(tiny_generator):
    made = network(tiny_generator.feature_specs, 64)
    made.check_fits(tiny_generator.feature_specs)
    assert [s.resolution for s in made.feature_specs] == [8, 8, 16, 16, 32, 32]
    features = tiny_generator.synthesize(tiny_generator.map(torch.randn(2, 8))).features
    logits = made.logits(features)
    assert logits.shape == (2, 1, 64, 64)
    torch.testing.assert_close(logits, u(by_the_equations(made, features), 64), rtol=1e-5, atol=1e-5)


# Generators that do not fit


@pytest.mark.parametrize(
    "specs",
    [
        [],
        [FeatureSpec("a", 1, 4), FeatureSpec("b", 1, 4)],  # too coarse
        [FeatureSpec("a", 1, 8)],
        [*pairs(8, 16), FeatureSpec("c", 1, 16)],
        [FeatureSpec("a", 1, 8), *pairs(16)],
        [*pairs(8), FeatureSpec("c", 1, 16)],
        pairs(8, 32),
        pairs(8, 12),
        pairs(16, 8),
        [FeatureSpec("a", 1, 8), *pairs(16), FeatureSpec("b", 1, 8)],
        pairs(8, 16, 32, 64, 128),  # finer than the image
    ],
)
def test_refuses_maps_that_do_not_come_in_doubling_pairs(specs):
    with pytest.raises(ConfigError, match="reads two feature maps of each resolution"):
        PaperNetwork(specs, 64)


def test_says_which_maps_it_needs():
    with pytest.raises(ConfigError) as caught:
        PaperNetwork([FeatureSpec("a", 7, 8), FeatureSpec("b", 5, 16)], 16)
    assert str(caught.value) == (
        "The paper's alpha network reads two feature maps of each resolution, from 8² or the last 6 resolutions up to "
        "at most the image's size, each twice the one before; a generator of 16x16 pixels with these maps does not fit "
        "it: a 7x8², b 5x16². Use an alpha network of family merge."
    )
    with pytest.raises(ConfigError, match=r"does not fit it: none\. Use"):
        PaperNetwork([], 16)


def test_fits_what_agrees_in_the_maps_it_reads():
    made = network(stylegan2_specs({4: 5, 8: 3, 16: 2}), 16)
    made.check_fits(stylegan2_specs({4: 9, 8: 3, 16: 2}))
    made.check_fits(pairs(8, channels=3) + pairs(16, channels=2))
    for other in (
        stylegan2_specs({4: 5, 8: 3, 16: 4}),
        stylegan2_specs({4: 5, 8: 3, 16: 2, 32: 2}),
        stylegan2_specs({4: 5, 8: 3}),
        [FeatureSpec(s.name.replace("conv1", "conv2"), s.channels, s.resolution) for s in made.feature_specs],
        [],
    ):
        with pytest.raises(ConfigError, match="fits generators of 16x16 pixels"):
            made.check_fits(other)


def test_says_what_it_fits_and_what_it_got():
    with pytest.raises(ConfigError) as caught:
        network(stylegan2_specs({4: 5, 8: 3}), 8).check_fits(stylegan2_specs({4: 5, 8: 3, 16: 2}))
    assert str(caught.value) == (
        "This alpha network fits generators of 8x8 pixels whose last 2 feature maps are: b8.conv0 3x8², b8.conv1 3x8². "
        "The generator has 5 maps of up to 16², the last: b16.conv0 2x16², b16.conv1 2x16²."
    )


def test_the_families():
    assert {"merge": MergeNetwork, "paper": PaperNetwork} == ALPHA_NETWORKS
    with pytest.raises(TypeError, match="abstract"):
        AlphaNetwork()
