"""Healthy generators pass; of broken ones each that numbers can tell is told. The rest needs eyes: the picture."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests.tiny import tiny_stylegan2

from labels4free.checkpoints.self_check import SAMPLES, self_check
from labels4free.errors import CheckpointError
from labels4free.networks.discriminator import Discriminator
from labels4free.networks.merge_network import MergeNetwork

pytestmark = pytest.mark.slow


def fresh_stylegan2(channels=None, **options):
    """A StyleGAN2 with the weights that training starts from, its image scaled to a standard deviation of 0.5."""
    generator = tiny_stylegan2(channels=channels, **options)
    rng = torch.Generator().manual_seed(1)
    for name, value in generator.state_dict().items():
        normal = torch.randn(value.shape, generator=rng)
        if name.startswith("mapping."):
            value.copy_(normal / generator.mapping_lr_multiplier if name.endswith("weight") else 0 * normal)
        elif name.endswith("affine.bias"):
            value.fill_(1)
        elif name.endswith("noise_strength"):
            value.fill_(0.1)
        else:
            value.copy_(0.1 * normal if name.endswith("bias") else normal)
    z = torch.randn(2000, generator.z_dim, generator=rng)
    labels = torch.eye(generator.c_dim)[torch.arange(2000) % generator.c_dim] if generator.c_dim else None
    generator.w_avg.copy_(generator.map(z, labels=labels)[:, 0].mean(0))
    scale_image(generator)
    return generator


def scale_image(generator):
    """Give the images a standard deviation of 0.5."""
    scale = 0.5 / torch.cat([generator.synthesize(generator.draw_ws(0, i, 0.7)).image for i in range(4)]).std()
    for name, value in generator.state_dict().items():
        if ".to_rgb.weight" in name or ".to_rgb.bias" in name:
            value.mul_(scale)


@pytest.fixture(scope="module")
def healthy():
    return fresh_stylegan2({4: 32, 8: 32, 16: 32, 32: 16}, z_dim=32, w_dim=32, mapping_widths=[32] * 8)


@pytest.fixture
def generator(healthy):
    """One to break."""
    return copy.deepcopy(healthy)


def told(generator) -> str:
    return " ".join(self_check(generator).warnings)


# What is healthy


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channels": {4: 64, 8: 64, 16: 64, 32: 64, 64: 32}, "z_dim": 64, "w_dim": 64, "mapping_widths": [64] * 8},
        {"channels": {4: 16, 8: 16, 16: 16, 32: 16}, "z_dim": 48, "w_dim": 64, "c_dim": 3, "mapping_widths": [64, 64]},
        {"channels": {4: 16, 8: 16}},
    ],
    ids=["64", "64 wide", "32 with classes", "8"],
)
def test_a_well_scaled_random_stylegan2_passes(options):
    assert self_check(fresh_stylegan2(**options)).warnings == ()


def test_random_wavelets_are_white_noise_and_nothing_else_is_wrong_with_them(tiny_generator):
    (warning,) = self_check(tiny_generator).warnings
    assert warning.startswith("The finest details carry 75% of the images' variance")


def test_the_real_generator_passes(zoo_generator):
    check = self_check(zoo_generator)
    assert check.warnings == ()
    assert check.numbers["w_avg_distance"] < 0.1
    assert check.numbers["image_deviation"] == pytest.approx(0.51, abs=0.05)
    assert check.numbers["outside_fraction"] < 0.01
    assert check.picture.shape[0] == 2 * 256 + 3 * 6  # shrunk


def layers(generator):
    return [layer for block in generator.styled_blocks() for layer in (*block.convs(), block.to_rgb)]


def transposed_mapping(generator):
    for layer in generator.mapping:
        layer.weight.copy_(layer.weight.T.clone())


def another_w_avg(generator):
    generator.w_avg.copy_(torch.randn(32, generator=torch.Generator().manual_seed(3)))


def wrong_multiplier(factor):
    def change(generator):
        for layer in generator.mapping:
            layer.bias.normal_(generator=torch.Generator().manual_seed(0)).mul_(10)
            layer.scale *= factor

    return change


def styles_without_the_one(generator):
    for layer in layers(generator):
        layer.affine.bias.sub_(1)


def equal_styles(generator):
    for layer in layers(generator):
        layer.affine.weight.zero_()


def scaled_image(factor):
    def change(generator):
        for block in generator.styled_blocks():
            block.to_rgb.weight.mul_(factor)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (transposed_mapping, ["w_avg lies"]),
        (lambda g: g.w_avg.zero_(), ["w_avg lies"]),
        (another_w_avg, ["times the spread of w away from the mean of mapped latents, expected at most 0.25"]),
        (wrong_multiplier(0.1), ["nearly all the same"]),
        (wrong_multiplier(10.0), ["have values of size"]),
        (styles_without_the_one, ["the 1 that some formats leave out may not have been added"]),
        (lambda g: g.blocks["b16"].conv0.noise_strength.mul_(1e4), ["Layer b16.conv0 gives values of size"]),
        (
            lambda g: g.blocks["b8"].conv1.bias.fill_(40.0),
            ["The values of layers b8.conv0 and b8.conv1 differ in size by a factor of"],
        ),
        (scaled_image(10), ["of them lie outside [-1, 1]", "untrained or its weights were converted wrongly"]),
        (scaled_image(0.01), ["The pixels have a standard deviation of"]),
        (equal_styles, ["The samples hardly differ"]),
        (
            lambda g: g.blocks["b32"].conv1.noise_strength.fill_(30.0),
            ["The finest details carry", "noise or checkerboards"],
        ),
    ],
)
def test_what_is_told(generator, change, said):
    change(generator)
    warnings = told(generator)
    assert all(text in warnings for text in said)


def test_w_avg_of_a_generator_with_classes_says_what_else_it_may_be():
    generator = fresh_stylegan2({4: 8, 8: 8}, c_dim=2)
    generator.w_avg.add_(10)
    assert "unless some classes were far more frequent in training" in told(generator)


def test_checkerboard(generator, monkeypatch):
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16)
    synthesize = type(generator).synthesize

    def with_board(self, *args, **options):
        image, features = synthesize(self, *args, **options)
        return type(synthesize(self, *args, **options))(image + 0.2 * board, features)

    monkeypatch.setattr(type(generator), "synthesize", with_board)
    assert "the diagonal ones" in told(generator)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("where", "part"),
    [
        (lambda g: g.mapping[0].weight[0], "its mapping network gives"),
        (lambda g: g.w_avg, "w_avg gives"),
        (lambda g: g.blocks["b8"].conv1.bias, "layer b8.conv1 gives"),
        (lambda g: g.blocks["b32"].to_rgb.bias, "its image gives"),
    ],
)
def test_what_is_not_finite_is_an_error(generator, value, where, part):
    where(generator)[0] = value
    with pytest.raises(CheckpointError) as caught:
        self_check(generator, what="a.pkl")
    assert str(caught.value).startswith(f"a.pkl does not work: {part} values that are NaN or infinite.")


# What is told: kernels of a trained network


class _Image(torch.nn.Module):
    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    def forward(self, ws):
        return self.generator.synthesize(ws, noise="none").image


def pictures(w, size):
    """An ellipse at a place that w says, and an edge through it: [N, 3, size, size]."""
    line = torch.linspace(-1, 1, size)
    x, y = (0.6 * torch.tanh(w[:, k, None, None]) for k in (0, 1))
    ellipse = 2 * torch.sigmoid(20 * (0.16 - (line[None, None] - x) ** 2 - 4 * (line[None, :, None] - y) ** 2)) - 1
    edge = torch.tanh(8 * (line[None, None] + 0.5 * line[None, :, None] - x))
    return 0.7 * torch.stack((ellipse, edge, ellipse * edge), dim=1)


@pytest.fixture(scope="module")
def fitted():
    """A trained one: it has learned some pictures, which its kernels draw together."""
    generator = fresh_stylegan2(dict.fromkeys([4, 8, 16], 24), z_dim=16, w_dim=16, mapping_widths=[16, 16])
    rng = torch.Generator().manual_seed(0)
    w = generator.map(torch.randn(256, 16, generator=rng))[:, 0].clone()
    target = pictures((w - w.mean(0)) / w.std(0), 16)
    module = _Image(generator)
    trained = {
        name: value.clone().requires_grad_()
        for name, value in module.state_dict().items()
        if ("blocks" in name or "constant" in name) and "noise" not in name
    }
    optimizer = torch.optim.Adam(trained.values(), lr=0.04, betas=(0.5, 0.99))
    for _ in range(600):
        chosen = torch.randint(256, (4,), generator=rng)
        ws = w[chosen].unsqueeze(1).repeat(1, generator.num_ws, 1).requires_grad_()
        loss = (torch.func.functional_call(module, trained, (ws,)) - target[chosen]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for name, value in trained.items():
            module.state_dict()[name].copy_(value)
    return generator


KERNELS = {
    "flipped up-sampling kernels": (".conv0.", lambda kernel: kernel.flip(2, 3)),
    "all kernels flipped": ("", lambda kernel: kernel.flip(2, 3)),
    "all kernels transposed": ("", lambda kernel: kernel.transpose(2, 3)),
}


def test_a_trained_stylegan2_passes(fitted):
    check = self_check(fitted)
    assert check.warnings == ()
    assert all(value < 0.9 for name, value in check.numbers.items() if name.startswith("gain_"))


@pytest.mark.parametrize("change", KERNELS)
def test_kernels_that_are_not_as_they_were_trained(fitted, change):
    broken = copy.deepcopy(fitted)
    part, act = KERNELS[change]
    for name, value in broken.state_dict().items():
        if value.shape[2:] == (3, 3) and part in name:
            value.copy_(act(value).clone())
    (warning,) = self_check(broken).warnings
    assert warning.startswith(f"With {change} the feature maps would be")
    assert warning.endswith("expected at most 1.35 times: that may be how they were trained.")


def test_flipped_kernels_of_the_real_generator(zoo_generator):
    broken = copy.deepcopy(zoo_generator)
    for value in broken.state_dict().values():
        if value.shape[2:] == (3, 3):
            value.copy_(value.flip(2, 3))
    assert "With all kernels flipped the feature maps would be" in told(broken)


# What is documented as not told: a change here is news for docs/checkpoints.md


def swapped_layers(generator):
    a, b = generator.blocks["b8"].conv1.weight, generator.blocks["b16"].conv0.weight
    kept = a.clone()
    a.copy_(b)
    b.copy_(kept)


def transposed_styles(generator):
    layer = generator.blocks["b8"].conv1.affine
    layer.weight[:16] = layer.weight[:16].T.clone()


@pytest.mark.parametrize("change", [swapped_layers, transposed_styles])
def test_what_is_not_told(fitted, change):
    broken = copy.deepcopy(fitted)
    change(broken)
    assert told(broken) == ""


# Discriminator, alpha network, picture


def test_discriminator_judges_the_samples(generator):
    torch.manual_seed(0)
    discriminator = Discriminator(32, channel_base=128, channel_max=8)
    check = self_check(generator, discriminator)
    assert check.warnings == ()
    assert 0 < check.numbers["discriminator_logit_max"] < 100
    with torch.no_grad():
        discriminator.final_linear[1].bias.fill_(5000.0)
    assert "The discriminator gives logits of up to" in self_check(generator, discriminator).warnings[0]
    with torch.no_grad():
        discriminator.final_linear[1].bias.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="its discriminator gives values that are NaN"):
        self_check(generator, discriminator)


def test_discriminator_with_classes_gets_them():
    generator = fresh_stylegan2({4: 8, 8: 8}, c_dim=3)
    discriminator = Discriminator(8, channel_base=32, channel_max=8, c_dim=3)
    assert "discriminator_logit_max" in self_check(generator, discriminator).numbers


def test_picture_has_a_row_each_of_images_backgrounds_and_alphas(generator):
    sheet = self_check(generator).picture
    assert sheet.dtype == np.uint8
    height, width, _ = sheet.shape
    assert height == 2 * 96 + 3 * 6
    assert width > SAMPLES * 96
    network = MergeNetwork(generator.feature_specs, 32, width=2)
    assert self_check(generator, alpha_network=network).picture.shape == (3 * 96 + 4 * 6, width, 3)


def test_numbers_by_hand(generator, monkeypatch):
    """Samples of +1.5 and -0.5 in alternate columns."""
    columns = torch.tensor([1.5, -0.5]).repeat(16).expand(1, 3, 32, 32)
    output = type(generator.synthesize(generator.draw_ws(0, 0)))
    features = tuple(torch.full((1, s.channels, s.resolution, s.resolution), 2.0) for s in generator.feature_specs)
    monkeypatch.setattr(type(generator), "synthesize", lambda *args, **options: output(columns, features))
    check = self_check(generator)
    assert check.layers == {spec.name: pytest.approx(2.0) for spec in generator.feature_specs}
    expected = {
        "image_mean": 0.5,
        "image_deviation": 1.0,
        "image_min": -0.5,
        "image_max": 1.5,
        "outside_fraction": 0.5,
        "variety": 0.0,
        "fine_fraction": 1.0,
        "checkerboard": 0.0,
    }
    assert {name: check.numbers[name] for name in expected} == pytest.approx(expected, abs=1e-3)


def test_the_same_check_twice_gives_the_same_and_changes_nothing(generator):
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    seen = []
    first, second = self_check(generator, progress=lambda *done: seen.append(done)), self_check(generator)
    assert (first.numbers, first.layers) == (second.numbers, second.layers)
    assert np.array_equal(first.picture, second.picture)
    assert seen == [(k, SAMPLES + 1) for k in range(1, SAMPLES + 2)]
    assert all(torch.equal(before[name], value) for name, value in generator.state_dict().items())
