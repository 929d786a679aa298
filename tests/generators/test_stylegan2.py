from __future__ import annotations

import pytest
import torch
from tests.generators.contract import ACCURACY, GeneratorContract, assert_same, some_noise, some_ws
from tests.generators.trainable_contract import TrainableContract
from tests.tiny import tiny_stylegan2
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.ops.upfirdn2d import fir_kernel, upfirdn2d
from labels4free.types import FeatureSpec

CONFIG_F = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
CLAMP = 0.8  # most maps of the tiny generators reach it


def layers_of(generator: StyleGAN2) -> list[torch.nn.Module]:
    return [layer for block in generator.styled_blocks() for layer in block.convs()]


class TestStyleGAN2(GeneratorContract):
    @pytest.fixture(
        params=[
            {},
            {"c_dim": 3, "channels": {4: 9, 8: 7, 16: 5, 32: 5}, "w_dim": 10, "mapping_lr_multiplier": 0.1},
            {"conv_clamp": CLAMP, "mapping_widths": [16, 8, 8]},
        ],
        ids=["plain", "conditioned", "clamped"],
    )
    def generator(self, request):
        return tiny_stylegan2(**request.param)

    def own_noise(self, generator):
        return [layer.noise for layer in layers_of(generator)]


class TestTrainableStyleGAN2(TrainableContract):
    @pytest.fixture(params=[{}, {"c_dim": 3, "w_dim": 7, "mapping_lr_multiplier": 0.1}, {"conv_clamp": 3.0}])
    def frozen(self, request):
        return tiny_stylegan2(channels={4: 5, 8: 4, 16: 3}, **request.param)


@pytest.fixture(scope="module")
def generator() -> StyleGAN2:
    return tiny_stylegan2()


def plain(generator: StyleGAN2, ws: torch.Tensor, **options):
    """What the path for gradients gives."""
    return generator.synthesize(ws.clone().requires_grad_(), **options)


# Layout


@pytest.mark.parametrize(
    ("resolution", "background"),
    [(4, "zero_first_conv"), (256, "zero_first_conv"), (512, "zero_constant"), (1024, "zero_first_conv")],
)
def test_layout_of_every_size(resolution, background):
    """Which background mode is the default is a fact of Labels4Free, for its three sizes."""
    with torch.device("meta"):
        generator = StyleGAN2({size: count for size, count in CONFIG_F.items() if size <= resolution})
    levels = resolution.bit_length() - 2
    assert generator.resolution == resolution
    assert generator.num_ws == 2 * levels
    assert len(generator.feature_specs) == 2 * levels - 1
    assert generator.feature_specs[0] == FeatureSpec("b4.conv1", 512, 4)
    assert [spec.name for spec in generator.feature_specs[1:3]] == ["b8.conv0", "b8.conv1"][: 2 * levels - 2]
    assert generator.feature_specs[-1].resolution == resolution
    assert generator.default_background == background
    assert (generator.z_dim, generator.c_dim, generator.w_dim, len(generator.mapping)) == (512, 0, 512, 8)


def test_the_published_generator_has_the_published_number_of_weights():
    with torch.device("meta"):
        state = StyleGAN2(CONFIG_F).state_dict()
    assert sum(v.numel() for k, v in state.items() if not k.endswith(".noise") and k != "w_avg") == 30_370_060


def test_names_and_shapes_of_the_state():
    state = StyleGAN2({4: 5, 8: 3}, z_dim=4, w_dim=6, c_dim=2, mapping_widths=[7, 6]).state_dict()

    def conv(c_in, c_out, size):
        noise = {"noise": [1, 1, size, size], "noise_strength": []}
        return {"weight": [c_out, c_in, 3, 3], "bias": [c_out]} | affine(c_in) | noise

    def to_rgb(c_in):
        return {"weight": [3, c_in, 1, 1], "bias": [3]} | affine(c_in)

    def affine(c_in):
        return {"affine.weight": [c_in, 6], "affine.bias": [c_in]}

    expected = {"w_avg": [6], "embed.weight": [6, 2], "embed.bias": [6], "constant": [1, 5, 4, 4]}
    expected |= {"mapping.0.weight": [7, 10], "mapping.0.bias": [7], "mapping.1.weight": [6, 7], "mapping.1.bias": [6]}
    layers = {"b4.conv1": conv(5, 5, 4), "b4.to_rgb": to_rgb(5), "b8.to_rgb": to_rgb(3)}
    layers |= {"b8.conv0": conv(5, 3, 8), "b8.conv1": conv(3, 3, 8)}
    expected |= {f"blocks.{layer}.{key}": shape for layer, shapes in layers.items() for key, shape in shapes.items()}
    assert {key: list(value.shape) for key, value in state.items()} == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": {}}, r"for the resolutions 4, 8, 16, \.\.\., got \[\]"),
        ({"channels": {8: 4}}, r"for the resolutions 4, 8, 16, \.\.\., got \[8\]"),
        ({"channels": {4: 4, 16: 4}}, r"got \[4, 16\]"),
        ({"channels": {4: 4, 8: 4, 12: 4}}, r"got \[4, 8, 12\]"),
        ({"channels": {2: 4, 4: 4, 8: 4}}, r"got \[2, 4, 8\]"),
        ({"channels": {4: 8, 8: 0}}, "widths of at least 1"),
        ({"z_dim": 0}, "widths of at least 1"),
        ({"w_dim": -1}, "widths of at least 1"),
        ({"c_dim": -1}, "widths of at least 1"),
        ({"conv_clamp": 0}, "positive limit or None"),
        ({"conv_clamp": -1.0}, "positive limit or None"),
        ({"conv_clamp": float("nan")}, "positive limit or None"),
        ({"mapping_widths": []}, r"last mapping layer must give w_dim=8 values, got .*\[\]"),
        ({"mapping_widths": [4]}, r"last mapping layer must give w_dim=8 values, got .*\[4\]"),
        ({"mapping_widths": [8, 4]}, r"last mapping layer must give w_dim=8 values, got .*\[8, 4\]"),
    ],
)
def test_numbers_that_make_no_network_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        StyleGAN2(**({"channels": {4: 8}, "w_dim": 8} | options))


def test_the_order_in_which_channels_are_given_does_not_matter():
    given = StyleGAN2({16: 3, 4: 5, 8: 4}, w_dim=4)
    assert list(given.channels.items()) == [(4, 5), (8, 4), (16, 3)]
    assert [spec.resolution for spec in given.feature_specs] == [4, 8, 8, 16, 16]


def test_the_config_says_everything():
    options = {"z_dim": 5, "w_dim": 6, "c_dim": 2, "mapping_widths": [9, 6], "mapping_lr_multiplier": 0.5}
    generator = StyleGAN2({4: 3, 8: 2}, conv_clamp=1.5, **options)
    config = generator.config()
    assert config == {"channels": {"4": 3, "8": 2}, "conv_clamp": 1.5, **options}
    assert StyleGAN2.from_config(config).config() == config
    assert StyleGAN2({4: 3}).config()["mapping_widths"] == [512] * 8


def test_first_weights_are_stylegan2s():
    generator = StyleGAN2({4: 64, 8: 32, 16: 16}, z_dim=64, w_dim=64, c_dim=8, mapping_widths=[64] * 3)
    generator.w_avg.fill_(1)
    for name, value in generator.reset_parameters(1).state_dict().items():
        if name.endswith("affine.bias"):
            assert (value == 1).all(), name
        elif name.endswith(("bias", "noise_strength", "w_avg")):
            assert (value == 0).all(), name
        else:  # equalised learning rate: of deviation 1 whatever the fan-in, but for what is stored divided
            deviation = value.std() * (0.01 if name.startswith("mapping") else 1)
            assert 0.6 < deviation < 1.4, name
            assert value.numel() < 1000 or 0.95 < deviation < 1.05, name
    image, features = generator.synthesize(generator.map(torch.randn(16, 64), labels=torch.eye(8).repeat(2, 1)))
    assert all(0.3 < f.square().mean().sqrt() < 1.2 for f in features)  # nothing fades, nothing grows, layer by layer
    assert 0.3 < image.std() < 3


# Mapping


def test_mapping_by_hand():
    generator = StyleGAN2({4: 1}, z_dim=2, w_dim=2, mapping_widths=[2], mapping_lr_multiplier=0.1)
    generator.mapping[0].weight.copy_(torch.tensor([[10.0, 0.0], [0.0, -10.0]]))
    generator.mapping[0].bias.copy_(torch.tensor([0.0, 5.0]))
    # (3, 4) divided by sqrt(12.5); weights by 1 / 0.1 and sqrt(2), biases by 1 / 0.1; leaky ReLU 0.2, times sqrt(2)
    w0, w1 = 3 / 12.5**0.5 / 2**0.5, -4 / 12.5**0.5 / 2**0.5 + 0.5
    expected = torch.tensor([w0, 0.2 * w1]) * 2**0.5
    assert w1 < 0
    torch.testing.assert_close(generator.map(torch.tensor([[3.0, 4.0]]))[0, 0], expected)


def test_mapping_of_labels_by_hand():
    generator = StyleGAN2({4: 1}, z_dim=1, w_dim=2, c_dim=4, mapping_widths=[2], mapping_lr_multiplier=1.0)
    generator.embed.weight.copy_(torch.tensor([[0.0, 4.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]]))
    generator.embed.bias.copy_(torch.tensor([1.0, 0.0]))
    generator.mapping[0].weight.copy_(torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 2.0]]) * 3**0.5)
    labels = torch.eye(4)[[1, 2]]
    # z is normalised to 1; the embeddings are [1 + 4 / 2, 0] and [1, 2 / 2], and then have mean square 1
    expected = torch.tensor([[3.0, 2**0.5], [3.0, 3.0]]) * 2**0.5
    torch.testing.assert_close(generator.map(torch.tensor([[0.5], [7.0]]), labels=labels)[:, 0], expected)


# Rows, layers, background


@pytest.mark.slow
def test_each_layer_reads_its_row(generator):
    """Layer k reads row k; the row behind a block's layers serves its to-RGB layer and the next block's first one."""
    ws = some_ws(generator, 1)
    before = generator.synthesize(ws)
    for row in range(generator.num_ws):
        changed = ws.clone()
        changed[:, row] += 1.0
        after = generator.synthesize(changed)
        same = [torch.allclose(a, b, **ACCURACY) for a, b in zip(before.features, after.features, strict=True)]
        assert same == [layer < row for layer in range(len(same))]
        assert not torch.allclose(after.image, before.image, **ACCURACY)


def test_the_image_is_the_sum_of_the_resolutions(generator):
    ws = some_ws(generator, 2)
    image, features = generator.synthesize(ws)
    expected = torch.zeros(2, 3, 2, 2)
    for index, block in enumerate(generator.styled_blocks()):
        layer, row = block.to_rgb, ws[:, 2 * index + 1]
        style = row @ layer.affine.weight.T / generator.w_dim**0.5 + layer.affine.bias
        weight = layer.weight[None, :, :, 0, 0] * style[:, None] / style.shape[1] ** 0.5
        rgb = torch.einsum("noc,nchw->nohw", weight, features[2 * index]) + layer.bias[:, None, None]
        expected = upfirdn2d(expected, fir_kernel(gain=4.0), up=2, pad=(2, 1)) + rgb
    torch.testing.assert_close(image, expected, **ACCURACY)


def test_zero_first_conv_leaves_nothing_of_the_first_convolution(generator):
    for ws in (some_ws(generator, 2), some_ws(generator, 2).requires_grad_()):
        features = generator.synthesize(ws, background="zero_first_conv").features
        assert not features[0].any()
        assert all(f.any() for f in features[1:])


@pytest.mark.parametrize("noise", ["fixed", "none", "given"])
def test_zero_constant_leaves_noise_and_bias_of_the_first_convolution(generator, noise):
    conv = layers_of(generator)[0]
    maps = some_noise(generator, 2)
    added = {"fixed": conv.noise, "none": torch.zeros(1, 1, 4, 4), "given": maps[0]}[noise]
    expected = F.leaky_relu(conv.noise_strength * added + conv.bias[:, None, None], 0.2) * 2**0.5
    for ws in (some_ws(generator, 2), some_ws(generator, 2).requires_grad_()):
        options = {"noise": maps if noise == "given" else noise, "background": "zero_constant"}
        first = generator.synthesize(ws, **options).features[0]
        torch.testing.assert_close(first, expected.expand(2, -1, -1, -1))


# Noise and limits


def test_noise_has_the_strength_of_each_layer():
    generator = tiny_stylegan2()
    ws = some_ws(generator, 1)
    for layer in layers_of(generator):
        layer.noise_strength.zero_()
    none = generator.synthesize(ws, noise="none")
    for noise in ("random", "fixed", some_noise(generator)):
        assert_same(generator.synthesize(ws, noise=noise), none)
    layers_of(generator)[2].noise_strength.fill_(1.0)
    for noise in ("random", "fixed", some_noise(generator)):
        features = generator.synthesize(ws, noise=noise).features
        same = [torch.allclose(a, b, **ACCURACY) for a, b in zip(features, none.features, strict=True)]
        assert same == [True, True] + [False] * (len(same) - 2)


def test_random_noise_is_normal_and_fresh_in_every_layer():
    generator = tiny_stylegan2()
    for layer in layers_of(generator):
        layer.weight.zero_()  # so that only noise is left
        layer.bias.zero_()
        layer.noise_strength.fill_(3.0)
    features = generator.synthesize(
        some_ws(generator, 2), noise="random", rng=torch.Generator().manual_seed(0)
    ).features
    maps = [torch.where(f > 0, f, f * 5)[:, 0] / 2**0.5 / 3 for f in features]
    assert all(torch.equal(f[:, :1].expand_as(f), f) for f in features)  # one map for all channels
    values = torch.cat([m.flatten() for m in maps])
    assert abs(values.mean()) < 0.03
    assert abs(values.std() - 1) < 0.03
    assert len(values.unique()) > 0.99 * len(values)


def test_a_clamp_limits_every_layer_and_every_part_of_the_image():
    clamped, free = tiny_stylegan2(conv_clamp=CLAMP), tiny_stylegan2()
    free.load_state_dict(clamped.state_dict())
    ws = some_ws(clamped, 2)
    image, features = clamped.synthesize(ws)
    for f, without in zip(features, free.synthesize(ws).features, strict=True):
        assert f.abs().max() == torch.tensor(CLAMP)
        assert without.abs().max() > CLAMP
    first = free.synthesize(ws).features[0].clamp(-CLAMP, CLAMP)  # behind activation and gain
    torch.testing.assert_close(features[0], first)
    for block in clamped.styled_blocks():  # the parts are limited, their sum is not
        block.to_rgb.weight.mul_(100)
    image = clamped.synthesize(ws).image
    parts = torch.full((1, 3, 4, 4), CLAMP)
    for _ in range(4):
        parts = upfirdn2d(parts, fir_kernel(gain=4.0), up=2, pad=(2, 1)) + CLAMP
    assert CLAMP < image.abs().max() <= parts.max() * 1.0001
    assert image[:, :, ::7].abs().max() > 2 * CLAMP
    one = tiny_stylegan2(channels={4: 4}, conv_clamp=CLAMP)
    one.blocks["b4"].to_rgb.weight.mul_(100)
    assert one.synthesize(some_ws(one)).image.abs().max() == torch.tensor(CLAMP)


# Memory, gradients


@pytest.mark.parametrize("trainable", [False, True])
def test_under_autocast_maps_are_of_16_bits_and_the_image_is_of_32(trainable):
    generator = tiny_stylegan2()
    ws, noise = some_ws(generator, 2), some_noise(generator, 2)
    expected = generator.synthesize(ws, noise=noise).image
    if trainable:
        generator.unfreeze()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = generator.synthesize(ws, noise=noise)
    assert {feature.dtype for feature in output.features} == {torch.bfloat16}
    assert output.image.dtype == torch.float32
    assert (output.image - expected).abs().max() < 0.02 * expected.abs().max()
    if trainable:
        output.image.sum().backward()
        assert {weight.grad.dtype for weight in generator.blocks.parameters()} == {torch.float32}


def test_memory_formats_do_not_matter():
    generator, other = tiny_stylegan2(), tiny_stylegan2().to(memory_format=torch.channels_last)
    ws, noise = some_ws(generator, 2), some_noise(generator, 2)
    expected = generator.synthesize(ws, noise=noise)
    strided = ws.transpose(0, 1).contiguous().transpose(0, 1)
    maps = [torch.cat((m, m), dim=1)[:, :1].transpose(2, 3).contiguous().transpose(2, 3) for m in noise]
    for given in (strided, strided.clone().requires_grad_()):
        for candidate in (generator, other):
            assert_same(candidate.synthesize(given, noise=maps), expected)
    row = generator.map(torch.ones(1, 8))  # one row, expanded: no memory of its own
    assert_same(generator.synthesize(row), generator.synthesize(row.contiguous()))


@pytest.mark.slow
def test_gradients_of_first_and_second_order():
    generator = tiny_stylegan2(channels={4: 3, 8: 2}, z_dim=3, w_dim=3)
    ws = some_ws(generator, 1).double().requires_grad_()
    generator.double()
    assert gradcheck(lambda ws: generator.synthesize(ws).image, (ws,))
    assert gradgradcheck(lambda ws: generator.synthesize(ws).image, (ws,))
    assert gradcheck(lambda ws: generator.synthesize(ws, background="zero_first_conv").features[1:], (ws,))
