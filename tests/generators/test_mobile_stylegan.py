from __future__ import annotations

import pytest
import torch
from tests.generators.contract import ACCURACY, GeneratorContract, assert_same, some_ws
from tests.tiny import tiny_generator as build_tiny_generator

from labels4free.generators.mobile_stylegan import MobileStyleGAN, StyledConv
from labels4free.ops.wavelets import inverse_haar
from labels4free.types import FeatureSpec


class TestMobileStyleGAN(GeneratorContract):
    @pytest.fixture
    def generator(self, tiny_generator):
        return tiny_generator

    def own_noise(self, generator):
        layers = [m for m in generator.modules() if isinstance(m, StyledConv)]
        return [layer.noise / layer.noise_strength for layer in layers]  # the fixed maps carry their strength


def test_the_layout_of_the_face_generator_that_can_be_fetched():
    with torch.device("meta"):
        generator = MobileStyleGAN((512, 512, 512, 512, 512, 256, 128, 64))
    assert generator.resolution == 1024
    assert generator.num_ws == 23
    assert len(generator.feature_specs) == 15
    assert generator.feature_specs[0] == FeatureSpec("b4.conv1", 512, 4)
    assert generator.feature_specs[-1] == FeatureSpec("b512.conv2", 64, 512)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["fixed", "none"])
@pytest.mark.parametrize("background", [None, *MobileStyleGAN.background_modes])
def test_the_batched_path_of_other_devices_equals_the_one_by_one_path_of_the_cpu(tiny_generator, noise, background):
    ws = some_ws(tiny_generator, 3)
    one_by_one = tiny_generator.synthesize(ws, noise=noise, background=background)
    batched = tiny_generator.synthesize_plainly(ws, noise, background)
    assert_same(batched, one_by_one)
    assert batched.image.is_contiguous()


def test_a_sample_has_the_very_same_values_in_any_batch(tiny_generator):
    ws = some_ws(tiny_generator, 3)
    batch = tiny_generator.synthesize(ws)
    for k in range(3):
        single = tiny_generator.synthesize(ws[k : k + 1])
        assert torch.equal(single.image[0], batch.image[k])
        assert all(torch.equal(a[0], b[k]) for a, b in zip(single.features, batch.features, strict=True))


def test_the_image_is_the_inverse_haar_transform_of_the_modulated_last_map(tiny_generator):
    ws = some_ws(tiny_generator, 1)
    image, features = tiny_generator.synthesize(ws)
    head = tiny_generator.to_image
    style = ws[0, -1] @ head.modulation.weight.T + head.modulation.bias
    bands = torch.einsum("oc,c,chw->ohw", head.weight[:, :, 0, 0], style, features[-1][0]) + head.bias[:, None, None]
    torch.testing.assert_close(image, inverse_haar(bands[None]), **ACCURACY)


def test_mapping_of_one_layer_by_hand():
    generator = MobileStyleGAN((4, 4), z_dim=2, mapping_layers=1)
    generator.mapping[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    generator.mapping[0].bias.copy_(torch.tensor([0.0, 0.5]))
    # pixel norm of (3, 4) divides by sqrt(12.5); then weight and bias, leaky ReLU 0.2, times sqrt(2)
    w0, w1 = 3 / 12.5**0.5, -4 / 12.5**0.5 + 0.5
    expected = torch.tensor([w0 * 2**0.5, 0.2 * w1 * 2**0.5])
    torch.testing.assert_close(generator.map(torch.tensor([[3.0, 4.0]]))[0, 0], expected)


def test_zero_modes_remove_what_they_name(tiny_generator):
    ws = some_ws(tiny_generator, 1)

    def names_of_zero_maps(background):
        features = tiny_generator.synthesize(ws, background=background).features
        return [spec.name for spec, f in zip(tiny_generator.feature_specs, features, strict=True) if not f.any()]

    assert names_of_zero_maps(None) == []
    assert names_of_zero_maps("zero_constant") == []
    assert names_of_zero_maps("zero_first_conv") == ["b4.conv1"]
    assert names_of_zero_maps("zero_first_block") == ["b8.conv2"]


def test_zero_constant_leaves_noise_and_bias_of_the_first_convolution(tiny_generator):
    conv = tiny_generator.conv1
    first = tiny_generator.synthesize(some_ws(tiny_generator, 1), background="zero_constant").features[0]
    expected = torch.nn.functional.leaky_relu(conv.bias[None, :, None, None] + conv.noise, 0.2)
    torch.testing.assert_close(first, expected)


def test_random_noise_has_the_strength_of_each_layer():
    generator = build_tiny_generator()
    ws = some_ws(generator, 1)
    for module in generator.modules():
        if hasattr(module, "noise_strength"):
            module.noise_strength.zero_()
    random, none = (generator.synthesize(ws, noise=noise).image for noise in ("random", "none"))
    assert torch.equal(random, none)
    generator.conv1.noise_strength.fill_(1.0)
    assert not torch.allclose(generator.synthesize(ws, noise="random").image, none, **ACCURACY)


def test_the_batched_path_draws_fresh_noise_for_every_sample(tiny_generator):
    ws = some_ws(tiny_generator, 1).expand(2, -1, -1)
    first, second = tiny_generator.synthesize_plainly(ws, "random", rng=torch.Generator().manual_seed(0)).image
    assert not torch.allclose(first, second, **ACCURACY)
