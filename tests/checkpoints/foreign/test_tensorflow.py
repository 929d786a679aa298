"""StyleGAN2's TensorFlow pickles: parity with the originals, and every way in which a file may be none of them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests.checkpoints.converter_contract import ConverterContract
from tests.checkpoints.foreign.parity import LOGITS, RELATIVE, Fixture, generator_errors, logit_errors
from tests.checkpoints.refusals import says

from labels4free.checkpoints.foreign import tensorflow
from labels4free.checkpoints.untrusted.inert_data import TensorflowNetwork
from labels4free.checkpoints.untrusted.safe_pickle import read_pickle


@pytest.fixture(scope="module")
def fixture(shared):
    return Fixture(shared, "tf_stylegan2")


@pytest.fixture(scope="module")
def original(fixture):
    """The file's content; not to be changed."""
    return read_pickle(fixture.path)


@pytest.fixture(scope="module")
def converted(original):
    return tensorflow.convert(original, "x.pkl")


@pytest.fixture
def data(original):
    """A list (G, D, Gs) with a generator of 8 pixels, which is quicker."""
    return copy.deepcopy(list(original))


def find(network, name):
    """List of variables that has one of this name, and its index."""
    for prefix, part in (("", network), *((f"{n}/", c) for n, c in network.state["components"].items())):
        for index, (variable, _) in enumerate(part.state["variables"]):
            if prefix + variable == name:
                return part.state["variables"], index
    raise AssertionError(name)


def replace(network, name, value):
    """Set a variable of a pickled network; None removes it."""
    variables, index = find(network, name)
    variables[index : index + 1] = [] if value is None else [(variables[index][0], value)]


def value_of(network, name):
    variables, index = find(network, name)
    return variables[index][1]


def add(network, name, value):
    network.state["variables"].append((name, value))


def left_out(data):
    """Why the discriminator of a file with a good generator is not used."""
    converted = tensorflow.convert(data, "x.pkl")
    assert converted.generator is not None
    assert converted.discriminator is None
    assert f"The discriminator is left out: {converted.ignored['D']}" in converted.notes
    return converted.ignored["D"]


@pytest.mark.slow
def test_configuration_is_read_from_the_variables(converted):
    generator, discriminator = converted.generator, converted.discriminator
    assert (generator.z_dim, generator.w_dim, generator.c_dim, generator.resolution) == (48, 64, 0, 32)
    assert generator.channels == discriminator.channels == dict.fromkeys((4, 8, 16, 32), 24)
    assert generator.mapping_widths == (64,) * 8
    assert (generator.conv_clamp, discriminator.conv_clamp) == (None, None)
    assert not generator.training


def test_variables_are_turned_by_the_rules(original, converted):
    """The rules of the format, written out for one variable of each kind."""
    gs, state = original[2], converted.generator.state_dict()

    def there(name):
        return np.asarray(value_of(gs, name))

    def same(ours, expected):
        np.testing.assert_array_equal(state[ours].numpy(), expected)

    same("w_avg", there("dlatent_avg"))
    same("mapping.3.weight", there("mapping/Dense3/weight").T)
    same("constant", there("synthesis/4x4/Const/const"))
    same("blocks.b4.conv1.weight", there("synthesis/4x4/Conv/weight").transpose(3, 2, 0, 1))
    same("blocks.b16.conv0.weight", there("synthesis/16x16/Conv0_up/weight")[::-1, ::-1].transpose(3, 2, 0, 1))
    same("blocks.b16.conv1.weight", there("synthesis/16x16/Conv1/weight").transpose(3, 2, 0, 1))
    same("blocks.b16.conv0.noise", there("synthesis/noise3"))
    same("blocks.b16.conv1.noise", there("synthesis/noise4"))
    same("blocks.b16.conv1.noise_strength", there("synthesis/16x16/Conv1/noise_strength").astype(np.float32))
    same("blocks.b16.to_rgb.affine.weight", there("synthesis/16x16/ToRGB/mod_weight").T)
    same("blocks.b16.to_rgb.affine.bias", there("synthesis/16x16/ToRGB/mod_bias") + 1)
    same("blocks.b16.to_rgb.bias", there("synthesis/16x16/ToRGB/bias"))
    state, gs = converted.discriminator.state_dict(), original[1]
    same("convs.2.conv2.1.weight", there("16x16/Conv1_down/weight").transpose(3, 2, 0, 1))
    same("final_linear.0.weight", there("4x4/Dense0/weight").T)


def test_generator_gives_the_original_numbers(fixture, converted):
    errors = generator_errors(fixture, converted.generator)
    assert len(errors) == 19
    assert max(errors.values()) < RELATIVE, errors


def test_g_is_used_where_there_is_no_average(fixture, original):
    converted = tensorflow.convert((*original[:2], None), "x.pkl")
    errors = generator_errors(fixture, converted.generator, "G")
    assert max(errors.values()) < RELATIVE, errors
    assert "There is no running average Gs; G, the generator as it was last trained, is used." in converted.notes


def test_discriminator_gives_the_original_logits(fixture, converted, data):
    errors = logit_errors(fixture, converted.discriminator, batches=(1, 4))
    errors |= logit_errors(fixture, converted.discriminator, "D/logits_batch{}_group_of_4", (8,))
    assert max(errors.values()) < LOGITS, errors
    assert any("does not say its minibatch-stddev group" in note for note in converted.notes)
    data[1].state["static_kwargs"]["mbstd_group_size"] = None  # said, and so the whole batch
    whole = tensorflow.convert(data, "x.pkl")
    assert max(logit_errors(fixture, whole.discriminator, "D/logits_batch{}_group_of_8", (8,)).values()) < LOGITS
    assert not any("minibatch-stddev" in note for note in whole.notes)


def test_what_is_left_out_is_named(converted):
    assert set(converted.ignored) == {"G", "Gs: lod"}


def test_variables_of_other_kinds_of_floats(data):
    """Big-endian, Fortran order and double precision are the same numbers."""
    weight = value_of(data[2], "mapping/Dense1/weight")
    replace(data[2], "mapping/Dense1/weight", np.asfortranarray(weight.astype(">f8")))
    converted = tensorflow.convert(data, "x.pkl")
    np.testing.assert_array_equal(converted.generator.mapping[1].weight.numpy(), weight.T)
    assert "1 tensors of Gs of x.pkl are float64 there and float32 here." in converted.notes


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("num_channels", 1, "Gs of x.pkl has num_channels=1, the only one supported is 3."),
        ("architecture", "orig", "has architecture='orig', the only one supported is 'skip'"),
        ("resample_kernel", [1, 2, 1], "has resample_kernel=[1, 2, 1], the only one supported is [1, 3, 3, 1]"),
        ("nonlinearity", "relu", "has nonlinearity='relu', the only one supported is 'lrelu'"),
        ("normalize_latents", False, "has normalize_latents=False"),
        ("secret", 3, "has the setting secret=3, which is unknown"),
        ("mapping_lrmul", "a", "In Gs of x.pkl mapping_lrmul='a' was found, expected a number above 0"),
        ("resample_kernel", [1, torch.zeros(2), 3, 1], "has resample_kernel=a list, the only one"),
        ("architecture", np.zeros(2), "has architecture=an array of float64, the only one supported is 'skip'"),
        ("mapping_lrmul", torch.zeros(2), "In Gs of x.pkl mapping_lrmul=a Tensor was found, expected a number"),
        ("conv_clamp", -1, "In Gs of x.pkl conv_clamp=-1 was found, expected a number above 0"),
    ],
)
def test_unsupported_setting(data, setting, value, text):
    data[2].state["components"]["synthesis"].state["static_kwargs"][setting] = value
    refused(data, text)


def test_supported_settings(data):
    settings = {"architecture": "skip", "resample_kernel": (1, 3, 3, 1), "mapping_lrmul": 0.02, "conv_clamp": 256}
    data[2].state["static_kwargs"] |= settings | {"num_fp16_res": 4, "truncation_psi": 0.5}
    converted = tensorflow.convert(data, "x.pkl")
    assert (converted.generator.mapping_lr_multiplier, converted.generator.conv_clamp) == (0.02, 256.0)
    half = "In Gs of x.pkl the maps of the 4 finest resolutions were float16; everything is float32 here."
    assert half in converted.notes


def test_noise_may_be_absent(data):
    data[2].state["static_kwargs"]["use_noise"] = False
    variables = data[2].state["components"]["synthesis"].state["variables"]
    variables[:] = [(name, value) for name, value in variables if "noise" not in name]
    converted = tensorflow.convert(data, "x.pkl")
    assert not any(value.any() for key, value in converted.generator.state_dict().items() if ".noise" in key)
    del data[2].state["static_kwargs"]["use_noise"]
    refused(data, "lacks the tensor synthesis/noise0")


def test_other_discriminators_are_left_out(data):
    discriminator = data[1]
    discriminator.state["static_kwargs"]["mbstd_num_features"] = 4
    assert "mbstd_num_features=4, the only one supported is 1" in left_out(data)
    del discriminator.state["static_kwargs"]["mbstd_num_features"]
    add(discriminator, "8x8/FromRGB/weight", np.zeros((1, 1, 3, 24), np.float32))
    assert "has the architecture 'skip'" in left_out(data)
    discriminator.state["variables"].pop()
    replace(discriminator, "Output/weight", np.zeros((24, 3), np.float32))  # labels as StyleGAN2 first had them
    assert "has 3 outputs and mapping_lrmul=0.01, supported are 1 output without labels" in left_out(data)
    variables = discriminator.state["variables"]
    variables[:] = [(name, value) for name, value in variables if "Skip" not in name]
    assert "has the architecture 'orig'; supported is 'resnet'" in left_out(data)


def test_discriminator_with_labels(data):
    data[1].state["variables"] += [
        ("LabelEmbed/weight", np.ones((5, 24), np.float32)),
        ("LabelEmbed/bias", np.ones(24, np.float32)),
    ]
    replace(data[1], "Output/weight", np.ones((24, 24), np.float32))
    replace(data[1], "Output/bias", np.ones(24, np.float32))
    discriminator = tensorflow.convert(data, "x.pkl").discriminator
    assert (discriminator.c_dim, discriminator.mapping_layers) == (5, 0)
    assert discriminator(torch.zeros(2, 3, 32, 32), torch.eye(5)[:2]).shape == (2, 1)


def refused(data, *texts):
    with says(*texts):
        tensorflow.convert(data, "x.pkl")


class TestConverter(ConverterContract):
    parts = ("Gs", "D")
    example = ("Gs", "synthesis/8x8/Conv0_up/mod_weight", [64, 24])
    file = "x.pkl"
    strangers = ((), (1, 2, 3), [TensorflowNetwork({})], {"G": TensorflowNetwork({})})

    @pytest.fixture
    def data(self, original):
        return copy.deepcopy(dict(zip(("G", "D", "Gs"), original, strict=True)))

    def convert(self, data):
        return tensorflow.convert(tuple(data.values()), self.file)

    def matches(self, data):
        return tensorflow.matches(data)

    def names(self, data, part):
        parts = (("", data[part]), *((f"{n}/", c) for n, c in data[part].state["components"].items()))
        return [prefix + name for prefix, part in parts for name, _ in part.state["variables"] if name != "lod"]

    def is_named_when_missing(self, name):
        return not name.endswith("ToRGB/weight")  # without one of those the architecture is doubted

    def get(self, data, part, name):
        return np.asarray(value_of(data[part], name))

    def put(self, data, part, name, value):
        known = name in self.names(data, part)
        if known:
            replace(data[part], name, value)
        else:
            holder, place = data[part], name
            for component in data[part].state["components"]:
                if name.startswith(f"{component}/"):
                    holder, place = data[part].state["components"][component], name.partition("/")[2]
            add(holder, place, value)

    def odd_values(self, good):
        return [
            (np.zeros(good.shape, np.int32), "is an array of int32, expected a tensor."),
            (np.full(good.shape, np.nan, np.float32), "has values that are not finite in float32"),
            (np.full(good.shape, 1e300), "has values that are not finite in float32"),
            ([1.0], "is a list, expected a tensor."),
        ]

    def in_type(self, value, kind):
        return value.astype(kind)


def conditional(network, classes, rows):
    """Give a generator's mapping network labels: their embedding in 64 numbers."""
    mapping = network.state["components"]["mapping"]
    mapping.state["variables"] += [
        ("LabelEmbed/weight", np.ones((classes, rows), np.float32)),
        ("LabelEmbed/bias", np.zeros(rows, np.float32)),
    ]
    replace(network, "mapping/Dense0/weight", np.ones((48 + rows, 64), np.float32))


def test_labels(data):
    conditional(data[2], 5, 64)
    generator = tensorflow.convert(data, "x.pkl").generator
    assert (generator.c_dim, generator.z_dim) == (5, 48)
    assert generator.embed.weight.shape == (64, 5)


def test_pickled_networks_by_themselves(original):
    assert tensorflow.convert(original[2], "x.pkl").generator is not None
    alone = tensorflow.convert(original[1], "x.pkl")
    assert alone.generator is None
    assert alone.discriminator is not None


def rgb_at_the_end_alone(network):
    variables = network.state["components"]["synthesis"].state["variables"]
    variables[:] = [(n, v) for n, v in variables if "ToRGB" not in n or n.startswith("32x32")]


def with_zeros(name, *shape):
    """What adds a variable to a network."""
    return lambda network: add(network, name, np.zeros(shape or (2,), np.float32))


def with_state(**changes):
    """What changes a network's attributes."""
    return lambda network: network.state.update(changes)


@pytest.mark.parametrize(
    ("part", "change", "text"),
    [
        (2, with_state(build_func_name="G_style"), "Gs of x.pkl is a network of the family StyleGAN1; supported are"),
        (2, with_state(build_func_name="G_paper"), "Gs of x.pkl is a network of the family ProGAN"),
        (2, with_zeros("synthesis/4x4/Const/StyleMod/weight"), "is a network of the family StyleGAN1"),
        (2, with_zeros("4x4/Dense/weight"), "is a network of the family ProGAN"),
        (2, with_zeros("synthesis/8x8/Skip/weight"), "has the architecture 'resnet'"),
        (2, with_zeros("ToRGB_lod0/weight"), "has the architecture 'orig'"),
        (2, rgb_at_the_end_alone, "has the architecture 'orig'; supported is 'skip'"),
        (2, with_state(components={}), "Gs of x.pkl has the variables lod, dlatent_avg; supported are"),
        (2, with_state(components=[1]), "is damaged: it is no network of variables and components"),
        (2, with_state(variables=[("a",)]), "is damaged: it is no network of variables and components"),
        (2, lambda gs: gs.state["components"].update(mapping=3), "is damaged: it is no network of variables"),
        (2, with_zeros("dlatent_avg", 64), "Gs of x.pkl is damaged: it has the variable dlatent_avg twice."),
        (2, with_zeros("mapping/LabelConcat/weight", 5, 48), "Gs of x.pkl concatenates its labels to z (LabelConcat)"),
        (
            2,
            lambda gs: conditional(gs, 5, 16),
            "Gs of x.pkl embeds labels in 16 numbers (label_fmaps), supported is 64.",
        ),
        (
            1,
            lambda d: d.state["static_kwargs"].update(mbstd_group_size=0),
            "D of x.pkl has mbstd_group_size=0, expected a number from 1 up.",
        ),
    ],
)
def test_other_networks_are_named(data, part, change, text):
    change(data[part])
    refused(data, text)
