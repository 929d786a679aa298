"""NVIDIA's PyTorch pickles: parity with the originals, and every way in which a file may be none of them."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from tests.checkpoints.converter_contract import ConverterContract
from tests.checkpoints.foreign.parity import LOGITS, RELATIVE, Fixture, generator_errors, logit_errors
from tests.checkpoints.refusals import says

from labels4free.checkpoints.foreign import nvlabs
from labels4free.checkpoints.untrusted.inert_data import PersistentObject
from labels4free.checkpoints.untrusted.safe_pickle import read_pickle

NAMES = ("ada_uncond", "ada_cond", "ada_fp16_clamp")


@pytest.fixture(scope="module", params=NAMES)
def fixture(request, shared):
    return Fixture(shared, request.param)


@pytest.fixture(scope="module")
def converted(fixture):
    return nvlabs.convert(read_pickle(fixture.path), fixture.path.name)


@pytest.fixture(scope="module")
def original(shared):
    """The smallest file's content; not to be changed."""
    return read_pickle(shared / "fixtures" / "nvlabs" / "ada_fp16_clamp.pkl")


@pytest.fixture
def data(original):
    return copy.deepcopy(original)


@pytest.fixture
def conditional(shared):
    return read_pickle(shared / "fixtures" / "nvlabs" / "ada_cond.pkl")


def module(network, name):
    """A module of a pickled network."""
    for part in filter(None, name.split(".")):
        network = network.state["_modules"][part]
    return network


def edit(network, name):
    """The dictionary of a pickled network that holds a tensor, and the tensor's name in it."""
    path, _, last = name.rpartition(".")
    state = module(network, path).state
    kind = next((kind for kind in ("_parameters", "_buffers") if last in state[kind]), "_buffers")
    return state[kind], last


@pytest.mark.slow
def test_tensors_are_those_of_the_file(fixture, converted):
    generator, size = converted.generator, converted.generator.resolution
    for part, network in (("G_ema", generator), ("D", converted.discriminator)):
        expected = fixture.rules["state"](fixture.describe["networks"][part])
        for key, value in network.state_dict().items():
            place = nvlabs.generator_place if part == "G_ema" else lambda k, s: nvlabs.discriminator_place(k, s, size)
            found = place(key, tuple(value.shape))
            there = found.numpy() if isinstance(found, torch.Tensor) else expected.pop(found.name)
            np.testing.assert_array_equal(value.detach().reshape(there.shape).numpy(), there, err_msg=key)
        assert all(name.endswith("resample_filter") for name in expected)


@pytest.mark.slow
def test_configuration_is_read_from_the_tensors(fixture, converted):
    said, generator = fixture.describe["parameters"], converted.generator
    assert (generator.z_dim, generator.w_dim, generator.c_dim) == (said["z_dim"], said["w_dim"], said["c_dim"])
    assert generator.resolution == converted.discriminator.resolution == said["img_resolution"]
    assert generator.mapping_widths == (said["w_dim"],) * said["mapping_layers"]
    widths = {r: min(said["channel_base"] // r, said["channel_max"]) for r in generator.channels}
    assert generator.channels == widths
    assert converted.discriminator.channels == widths
    assert (generator.conv_clamp, converted.discriminator.conv_clamp) == (said["conv_clamp"],) * 2
    assert converted.discriminator.stddev_group == said["mbstd_group_size"]
    assert not generator.training
    assert not list(generator.parameters())


@pytest.mark.slow
def test_generator_gives_the_original_numbers(fixture, converted):
    errors = generator_errors(fixture, converted.generator)
    assert len(errors) == 5 + 3 * len(converted.generator.channels) - 1 + 3
    assert max(errors.values()) < RELATIVE, errors


@pytest.mark.slow
def test_g_is_used_where_there_is_no_average(fixture):
    data = read_pickle(fixture.path)
    del data["G_ema"]
    converted = nvlabs.convert(data, "x.pkl")
    errors = generator_errors(fixture, converted.generator, "G")
    assert max(errors.values()) < RELATIVE, errors
    assert "There is no running average G_ema; G, the generator as it was last trained, is used." in converted.notes


@pytest.mark.slow
def test_discriminator_gives_the_original_logits(fixture, converted):
    errors = logit_errors(fixture, converted.discriminator)
    assert max(errors.values()) < LOGITS, errors


@pytest.mark.slow
def test_what_is_left_out_is_named(fixture, converted):
    assert set(converted.ignored) == {"G", "training_set_kwargs", "augment_pipe"}
    half = [note for note in converted.notes if "float16" in note]
    assert bool(half) == bool(fixture.describe["parameters"]["num_fp16_res"])
    if half:
        assert half[0] == (
            "In G_ema of ada_fp16_clamp.pkl the maps of 8², 16², 32² were float16; everything is float32 here."
        )


def test_a_pickled_network_by_itself(data):
    assert nvlabs.matches(data["G_ema"])
    assert nvlabs.convert(data["G_ema"], "x.pkl").generator is not None
    alone = nvlabs.convert(data["D"], "x.pkl")
    assert alone.generator is None
    assert alone.discriminator is not None


def test_half_precision_weights_are_widened(data):
    holder, last = edit(data["G_ema"], "synthesis.b16.conv0.weight")
    holder[last] = holder[last].half()
    converted = nvlabs.convert(data, "x.pkl")
    assert torch.equal(converted.generator.blocks["b16"].conv0.weight, holder[last].float())
    assert "1 tensors of G_ema of x.pkl are float16 there and float32 here." in converted.notes


@pytest.mark.parametrize(
    ("name", "setting", "value", "text"),
    [
        (
            "synthesis.b8",
            "architecture",
            "resnet",
            "architecture='resnet' in synthesis.b8, the only one supported is 'skip'",
        ),
        ("", "img_channels", 1, "has img_channels=1, the only one supported is 3"),
        ("synthesis.b8.conv1", "activation", "relu", "activation='relu' in synthesis.b8.conv1"),
        ("synthesis.b8.conv1", "act_gain", 1.0, "act_gain=1.0 in synthesis.b8.conv1"),
        ("synthesis.b8.conv0", "up", 1, "up=1 in synthesis.b8.conv0, the only one supported is 2"),
        ("synthesis.b8.torgb", "weight_gain", 1.0, "weight_gain=1.0 in synthesis.b8.torgb"),
        ("synthesis.b8.torgb.affine", "activation", "lrelu", "in synthesis.b8.torgb.affine"),
        ("mapping.fc1", "bias_gain", 0.1, "bias_gain=0.1 in mapping.fc1, the only one supported is 0.01"),
        ("mapping.fc0", "bias_gain", "a", "bias_gain of mapping.fc0='a' was found, expected a number above 0"),
        ("mapping.fc0", "bias_gain", math.nan, "bias_gain of mapping.fc0=nan was found, expected a number above 0"),
        ("synthesis.b8.conv1", "conv_clamp", 256, "layers of different conv_clamp (1.25, 256.0)"),
    ],
)
def test_unsupported_setting_of_the_generator(data, name, setting, value, text):
    module(data["G_ema"], name).state[setting] = value
    refused(data, text)


@pytest.mark.parametrize(
    ("name", "setting", "value", "text"),
    [
        ("b16", "architecture", "orig", "architecture='orig' in b16, the only one supported is 'resnet'"),
        ("b4.mbstd", "num_channels", 4, "without one channel of minibatch standard deviation"),
        ("b16.conv1", "down", 1, "down=1 in b16.conv1, the only one supported is 2"),
    ],
)
def test_other_discriminators_are_left_out(data, name, setting, value, text):
    """The generator is as good as ever: published CIFAR-10 files have another discriminator."""
    module(data["D"], name).state[setting] = value
    converted = nvlabs.convert(data, "x.pkl")
    assert converted.generator is not None
    assert converted.discriminator is None
    assert text in converted.ignored["D"]
    assert any(
        note.startswith("The discriminator is left out: D of x.pkl") and text in note for note in converted.notes
    )


def test_discriminator_of_another_class_is_left_out(data):
    data["D"].class_name = "ProjectedDiscriminator"
    assert "is a ProjectedDiscriminator" in nvlabs.convert(data, "x.pkl").ignored["D"]


@pytest.mark.slow
@pytest.mark.parametrize("value", [torch.zeros(2), np.zeros(2), [1], {}, "x"])
def test_settings_of_any_kind_are_refused_by_name(data, value):
    """What has no truth value and no hash is refused like the rest."""
    for name in ("architecture", "conv_clamp", "activation", "up", "weight_gain", "img_channels", "_buffers"):
        changed = copy.deepcopy(data)
        for module_name in ("synthesis.b8", "synthesis.b8.conv0", "synthesis.b8.torgb"):
            module(changed["G_ema"], module_name).state[name] = value
        refused(changed, "noise_const" if name == "_buffers" and type(value) is dict else name)


@pytest.mark.parametrize(("found", "group"), [(None, 0), (8, 8)])
def test_group_of_minibatch_stddev(data, found, group):
    module(data["D"], "b4.mbstd").state["group_size"] = found
    assert nvlabs.convert(data, "x.pkl").discriminator.stddev_group == group


def test_other_learning_rate_multiplier(data):
    for layer in module(data["G_ema"], "mapping").state["_modules"].values():
        layer.state["weight_gain"] *= 10
        layer.state["bias_gain"] *= 10
    assert nvlabs.convert(data, "x.pkl").generator.mapping_lr_multiplier == pytest.approx(0.1)


def test_narrow_mapping_network(data):
    layers = module(data["G_ema"], "mapping").state["_modules"]
    for layer, (out, into) in {"fc0": (24, 32), "fc1": (32, 24)}.items():
        layers[layer].state["_parameters"] |= {"weight": torch.ones(out, into), "bias": torch.ones(out)}
        layers[layer].state["weight_gain"] = 0.01 / math.sqrt(into)
    assert nvlabs.convert(data, "x.pkl").generator.mapping_widths == (24, 32)


def test_noise_may_be_absent(data):
    """use_noise=False: the layers have neither maps nor strengths."""
    layers = [f"synthesis.b{size}.{name}" for size in (4, 8, 16, 32) for name in ("conv0", "conv1")][1:]
    for name in layers:
        state = module(data["G_ema"], name).state
        del state["_buffers"]["noise_const"]
        if name == layers[0]:
            refused(data, "lacks the tensor synthesis.b4.conv1.noise_const" if name == layers[0] else name)
        del state["_parameters"]["noise_strength"]
        state["use_noise"] = False
    converted = nvlabs.convert(data, "x.pkl")
    assert "7 layers have no noise at the source: maps and strengths are 0." in converted.notes
    noises = [value for key, value in converted.generator.state_dict().items() if ".noise" in key]
    assert len(noises) == 14
    assert not any(value.any() for value in noises)


@pytest.mark.slow
def test_mean_latent_may_be_absent(conditional):
    """w_avg_beta=None: then it is computed, over all classes alike."""
    told = nvlabs.convert(conditional, "x.pkl").generator
    mapping = module(conditional["G_ema"], "mapping").state
    del mapping["_buffers"]["w_avg"]
    mapping["w_avg_beta"] = None
    converted = nvlabs.convert(conditional, "x.pkl")
    z, c = torch.randn(3000, 48, generator=torch.Generator().manual_seed(1)), torch.eye(3).repeat(1000, 1)
    expected = told.map(z, labels=c)[:, 0].mean(0)
    assert (converted.generator.w_avg - expected).abs().max() < 0.15 * told.map(z, labels=c)[:, 0].std()
    assert any("10,000 mapped latents" in note for note in converted.notes)


def test_discriminator_with_another_label_mapping_is_left_out(conditional):
    for name, layer in module(conditional["D"], "mapping").state["_modules"].items():
        if name.startswith("fc"):
            layer.state["weight_gain"] *= 10
            layer.state["bias_gain"] *= 10
    reason = nvlabs.convert(conditional, "x.pkl").ignored["D"]
    assert "24 numbers with a learning-rate multiplier of 0.1" in reason


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"input": "SynthesisInput", "L0_36_512": "SynthesisLayer"},
            "is a generator of the family StyleGAN3; supported are",
        ),
        ({"class_name": "TriPlaneGenerator"}, "is a generator of the family EG3D"),
        ({"class_name": "SuperresGenerator"}, "is a generator of the family StyleGAN-XL"),
        ({"class_name": "SomethingElse", "no_synthesis": True}, "is a SomethingElse with the parts mapping; supported"),
    ],
)
def test_other_families_are_named(data, changes, text):
    network = data["G_ema"]
    network.class_name = changes.pop("class_name", network.class_name)
    if changes.pop("no_synthesis", False):
        del network.state["_modules"]["synthesis"]
    for name, kind in changes.items():
        module(network, "synthesis").state["_modules"][name] = PersistentObject(kind, {})
    refused(data, text)


def refused(data, *texts):
    with says(*texts):
        nvlabs.convert(data, "x.pkl")


class TestConverter(ConverterContract):
    parts = ("G_ema", "D")
    example = ("G_ema", "synthesis.b8.torgb.affine.bias", [16])
    file = "x.pkl"
    strangers = ({"G_ema": {"a": torch.zeros(1)}}, {"G_ema": None})

    @pytest.fixture
    def data(self, original):
        return copy.deepcopy({part: original[part] for part in self.parts})

    def convert(self, data):
        return nvlabs.convert(data, self.file)

    def matches(self, data):
        return nvlabs.matches(data)

    def names(self, data, part):
        return list(nvlabs.flatten(data[part], "x").tensors)

    def is_named_when_missing(self, name):
        return not name.endswith("resample_filter")  # which may be left out

    def get(self, data, part, name):
        holder, last = edit(data[part], name)
        return holder[last]

    def put(self, data, part, name, value):
        holder, last = edit(data[part], name)
        holder[last] = value
        if value is None:
            del holder[last]


@pytest.mark.parametrize(
    ("part", "where", "change", "text"),
    [
        (
            "G_ema",
            "synthesis.b8",
            {"_buffers": {"style_bank": torch.zeros(3)}},
            "G_ema of x.pkl has 1 tensors that no StyleGAN2 of its size has: synthesis.b8.style_bank.",
        ),
        ("D", "b4.mbstd", {"group_size": -1}, "D of x.pkl: b4.mbstd has group_size=-1, expected a number from 1 up."),
        (
            "G_ema",
            "synthesis.b16.conv0",
            {"_buffers": {"resample_filter": torch.full((4, 4), 1 / 16)}},
            "synthesis.b16.conv0.resample_filter is another resampling filter than (1, 3, 3, 1)",
        ),
        (
            "G_ema",
            "synthesis",
            {"_modules": {"b8": [1]}},
            "G_ema of x.pkl: synthesis.b8 is a list, expected a module of a network.",
        ),
        ("G_ema", "synthesis", {"_modules": [1]}, "_modules of synthesis is no dictionary by name."),
        ("G_ema", "mapping", {"_buffers": {"\x1b[2J": torch.zeros(1)}}, "is no dictionary by name."),
    ],
)
def test_what_is_refused(data, part, where, change, text):
    state = module(data[part], where).state
    for name, value in change.items():
        state[name] = state[name] | value if isinstance(value, dict) else value
    refused(data, text)


def test_entries_of_a_file(data):
    data["E"] = {"w": torch.zeros(2)}
    refused(data, "x.pkl has the entry 'E' with tensors in it, which is unknown")
    data["E"] = {"steps": 3}
    assert nvlabs.convert(data, "x.pkl").ignored["E"] == "no tensors in it"
    del data["D"]
    assert nvlabs.convert(data, "x.pkl").discriminator is None


def test_wide_label_embedding(conditional):
    state = module(conditional["G_ema"], "mapping.embed").state["_parameters"]
    state |= {"weight": torch.zeros(16, 3), "bias": torch.zeros(16)}
    refused(conditional, "G_ema of x.pkl embeds labels in 16 numbers (embed_features), supported is 64.")
