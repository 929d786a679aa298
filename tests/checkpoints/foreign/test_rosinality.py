"""rosinality's checkpoints, in both directions: parity, exact round trips, and every way to be refused."""

from __future__ import annotations

import argparse
import copy
import errno
import json
import runpy

import numpy as np
import pytest
import torch
from tests.checkpoints.converter_contract import ConverterContract
from tests.checkpoints.foreign.parity import LOGITS, RELATIVE, relative
from tests.checkpoints.refusals import says
from tests.tiny import tiny_generator, tiny_stylegan2

from labels4free.checkpoints.foreign import rosinality, torch_writer
from labels4free.checkpoints.foreign.rosinality import to_rosinality, write_rosinality
from labels4free.checkpoints.untrusted.torch_file import read_torch_file
from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.networks.discriminator import Discriminator

pytestmark = pytest.mark.slow

FILES = ("tiny_train_checkpoint.pt", "tiny_converted.pt", "tiny_converted_with_d_legacy_format.pt")


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "fixtures" / "rosinality"


@pytest.fixture(scope="module")
def rules(shared):
    return runpy.run_path(str(shared / "fixtures" / "fill.py"))


@pytest.fixture(scope="module")
def expected(folder):
    with np.load(folder / "tiny_expected.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


@pytest.fixture(scope="module")
def original(folder):
    """A training checkpoint's content; not to be changed."""
    return read_torch_file(folder / "tiny_train_checkpoint.pt")


@pytest.fixture
def data(original):
    return copy.deepcopy(original)


def convert(data):
    return rosinality.convert(data, "x.pt")


def same(found, wanted):
    """The same tensors, bit by bit, in the same order."""
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        assert torch.equal(found[name], value), name


def image_errors(generator, rules, expected, part):
    """Relative error of every array that the fixture has of one of its generators."""
    w = generator.map(torch.from_numpy(rules["latents"](41, 2, 32)))
    whole = generator.synthesize(w)
    truncated = torch.lerp(torch.from_numpy(expected["latent_avg"]), w, 0.5)
    found = {"w": w[:, 0], "image": whole.image, "image_psi0.5": generator.synthesize(truncated).image}
    for index, value in enumerate(whole.features):
        found[f"conv_{index:02}"] = value if value.shape[-1] <= 8 else value[:, ::3, ::3, ::3]
    wanted = {key.removeprefix(f"{part}/"): v for key, v in expected.items() if key.startswith(f"{part}/")}
    assert found.keys() == wanted.keys()
    return {name: relative(found[name].numpy(), value) for name, value in wanted.items()}


@pytest.mark.parametrize(("name", "part"), [*((name, "g_ema") for name in FILES), (FILES[0], "g"), (FILES[2], "g")])
def test_generators_give_the_original_numbers(folder, rules, expected, name, part):
    data = read_torch_file(folder / name)
    if part == "g":
        del data["g_ema"]
    errors = image_errors(convert(data).generator, rules, expected, part)
    assert max(errors.values()) < RELATIVE, errors


def test_discriminator_gives_the_original_logits(folder, rules, expected):
    images = torch.from_numpy(rules["images"]("rosinality/tiny", 4, 32))
    for name in (FILES[0], FILES[2]):
        discriminator = convert(read_torch_file(folder / name)).discriminator
        for n in (1, 4):
            with torch.no_grad():
                found = discriminator(images[:n]).numpy()
            assert np.abs(found - expected[f"logits_batch{n}"]).max() < LOGITS


def test_shapes_are_those_described(folder, original):
    described = json.loads((folder / "tiny.describe.json").read_text(encoding="utf-8"))["state_dict_shapes"]
    out = to_rosinality(convert(original).generator, convert(original).discriminator)
    for part in ("g_ema", "d"):
        assert {name: list(value.shape) for name, value in out[part].items()} == described[part]


@pytest.mark.parametrize("name", FILES)
def test_round_trip_of_the_files_is_exact(folder, name, tmp_path):
    data = read_torch_file(folder / name)
    converted = convert(data)
    write_rosinality(tmp_path / "out.pt", converted.generator, converted.discriminator)
    written = torch.load(tmp_path / "out.pt", weights_only=True)
    same(written["g_ema"], data["g_ema"])
    if "d" in data:
        same(written["d"], data["d"])
    assert ("d" in written) == ("d" in data)
    if "latent_avg" in data:
        assert torch.equal(written["latent_avg"], data["latent_avg"])
    assert torch.equal(written["latent_avg"], converted.generator.w_avg)


@pytest.mark.parametrize("seed", range(6))
def test_round_trip_at_any_width_is_exact(seed):
    rng = np.random.Generator(np.random.PCG64(seed))
    sizes = [4 << k for k in range(int(rng.integers(2, 6)))]
    channels = {size: int(rng.integers(1, 9)) for size in sizes}
    w_dim = int(rng.integers(2, 9))
    generator = tiny_stylegan2(seed, channels, z_dim=w_dim, w_dim=w_dim, mapping_widths=[w_dim] * (1 + seed % 3))
    torch.manual_seed(seed)
    discriminator = Discriminator(sizes[-1], {size: int(rng.integers(1, 9)) for size in sizes})
    data = to_rosinality(generator, discriminator)
    assert {f"{n}.weight" for n in ("style.1", f"style.{1 + seed % 3}")} <= data["g_ema"].keys()
    back = convert(data)
    assert back.generator.config() == generator.config()
    assert back.discriminator.config() == discriminator.config()
    same(back.generator.state_dict(), generator.state_dict())
    same(back.discriminator.state_dict(), discriminator.state_dict())
    again = to_rosinality(back.generator, back.discriminator)
    for part in ("g_ema", "d"):
        same(again[part], data[part])


def test_order_of_keys_has_no_gaps_at_many_blocks():
    """More than ten convolutions: they are counted, not sorted as text."""
    generator = tiny_stylegan2(0, {4 << k: 1 for k in range(7)})
    names = [name for name in to_rosinality(generator)["g_ema"] if name.endswith("activate.bias")]
    assert names == ["conv1.activate.bias", *(f"convs.{i}.activate.bias" for i in range(12))]
    assert list(to_rosinality(generator)["g_ema"])[-1] == "noises.noise_12"


def test_nothing_is_shared_with_the_network():
    generator = tiny_stylegan2()
    before = generator.constant.clone()
    to_rosinality(generator)["g_ema"]["input.input"].zero_()
    assert torch.equal(generator.constant, before)


def test_tensors_get_memory_of_their_own(data):
    data["g_ema"]["convs.0.activate.bias"] = data["g_ema"]["conv1.activate.bias"]
    generator = convert(data).generator
    pointers = [value.data_ptr() for value in generator.state_dict().values()]
    assert len(set(pointers)) == len(pointers)
    assert data["g_ema"]["input.input"].data_ptr() not in pointers


def test_what_is_left_out_is_named(original):
    converted = convert(original)
    assert set(converted.ignored) == {"g", "g_optim", "d_optim", "args", "ada_aug_p"}
    assert converted.ignored["g"] == "the running average g_ema is used"
    assert isinstance(original["args"], argparse.Namespace)
    assert not converted.generator.training


def test_mean_latent_is_computed_where_there_is_none(original, folder):
    converted = convert(original)
    assert converted.notes == ("The file has no mean latent: w_avg is the mean of 10,000 mapped latents.",)
    w = converted.generator.map(torch.randn(20_000, 32, generator=torch.Generator().manual_seed(5)))[:, 0]
    assert (converted.generator.w_avg - w.mean(0)).abs().max() < 0.05 * w.std()
    assert torch.equal(converted.generator.w_avg, convert(original).generator.w_avg)


def test_names_of_distributed_training(data):
    plain = convert(data)
    wrapped = {part: {f"module.{name}": value for name, value in data[part].items()} for part in ("g_ema", "d")}
    converted = convert(wrapped)
    same(converted.generator.state_dict(), plain.generator.state_dict())
    same(converted.discriminator.state_dict(), plain.discriminator.state_dict())
    assert rosinality.is_generator(wrapped["g_ema"])
    assert convert(wrapped["g_ema"]).generator is not None


@pytest.mark.parametrize(
    ("part", "name"),
    [("g_ema", "convs.2.conv.blur.kernel"), ("g_ema", "to_rgbs.0.upsample.kernel"), ("d", "convs.2.skip.0.kernel")],
)
@pytest.mark.parametrize("change", [lambda k: k * 4, lambda k: torch.ones(4, 4) / 16, lambda k: -k])
def test_other_filters(data, part, name, change):
    data[part][name] = change(data[part][name])
    refused(data, f"{part} of x.pt: {name} is another resampling filter than (1, 3, 3, 1), the only one supported.")


def test_files_from_before_noise_maps_were_saved(data):
    told = convert(data).generator
    data["g_ema"] = {name: value for name, value in data["g_ema"].items() if not name.startswith("noises.")}
    converted = convert(data)
    assert any("noise maps were not saved: fixed ones were drawn" in note for note in converted.notes)
    maps = {key: value for key, value in converted.generator.state_dict().items() if key.endswith(".noise")}
    assert len(maps) == 7
    assert maps["blocks.b32.conv1.noise"].std() == pytest.approx(1, abs=0.1)
    assert not torch.equal(maps["blocks.b32.conv0.noise"], maps["blocks.b32.conv1.noise"])
    same({k: v for k, v in convert(data).generator.state_dict().items() if k in maps}, maps)
    ws = told.map(torch.ones(1, 32))
    silent = converted.generator.synthesize(ws, noise="none").image
    assert torch.equal(silent, told.synthesize(ws, noise="none").image)


def test_failure_to_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch_writer, "write_atomically", full)
    with says("There is no space left to write"):
        write_rosinality(tmp_path / "g.pt", tiny_stylegan2())
    assert list(tmp_path.iterdir()) == []


def refused(data, *texts):
    with says(*texts):
        convert(data)


class TestConverter(ConverterContract):
    parts = ("g_ema", "d")
    example = ("g_ema", "convs.3.conv.modulation.bias", [16])
    strangers = ({"g_ema": 3},)

    @pytest.fixture
    def data(self, original):
        return copy.deepcopy({part: original[part] for part in self.parts})

    def convert(self, data):
        return convert(data)

    def matches(self, data):
        return rosinality.matches(data)


REFUSED = {
    "no state dict": ({"g_ema": [1]}, "g_ema of x.pt is no state dict: expected tensors by name, got a list."),
    "other tensors": ({"g_ema": {"w": torch.zeros(2)}}, "g_ema of x.pt lacks the tensor style.1.weight; it has w."),
    "no tensors": ({"g_ema": {}}, "g_ema of x.pt lacks the tensor style.1.weight; it has nothing."),
    "another convolution": ({"d": {"convs.9.extra": torch.zeros(3)}}, "lacks the tensor convs.4.conv2.1.weight"),
    "a number beyond belief": (
        {"g_ema": {"convs.9999.conv.weight": torch.zeros(3)}},
        "g_ema of x.pt is damaged: it counts up to 9999 with 82 tensors.",
    ),
    "too many sizes": (
        {"g_ema": {"convs.60.conv.weight": torch.zeros(3)}},
        "g_ema of x.pt has 32 resolutions, expected 4x4, 8x8, ... up to 8192².",
    ),
    "widths that do not fit": (
        {"g_ema": {"style.8.weight": torch.zeros(30, 32)}},
        "g_ema of x.pt does not fit together: The last mapping layer must give w_dim=32 values",
    ),
    "wavelets": (
        {"g_ema": {"to_rgbs.0.iwt.ll": torch.zeros(2, 2)}},
        "g_ema of x.pt is a SWAGAN (wavelets); of rosinality's networks only stylegan2 is supported.",
    ),
    "a mean latent of two axes": ({"latent_avg": torch.zeros(1, 32)}, "g_ema of x.pt: latent_avg "),
    "a shorter mean latent": ({"latent_avg": torch.zeros(31)}, "g_ema of x.pt: latent_avg "),
    "no mean latent": ({"latent_avg": "none"}, "g_ema of x.pt: latent_avg "),
    "an unknown entry": (
        {"encoder": [{"weight": torch.zeros(2)}]},
        "x.pt has the entry 'encoder' with tensors in it, which is unknown to this format; its entries are g",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(data, name):
    """Entries are replaced; of state dicts with dots in their names, tensors are added."""
    change, text = REFUSED[name]
    for entry, value in change.items():
        more = isinstance(value, dict) and any("." in key for key in value)
        data[entry] = data[entry] | value if more else value
    refused(data, text)


def test_entries_without_tensors_are_ignored(data):
    data["iter"] = 7
    assert convert(data).ignored["iter"] == "no tensors in it"


def test_bare_state_dicts_and_g_alone(data):
    generator = convert(data["g_ema"])
    assert generator.discriminator is None
    assert torch.equal(generator.generator.constant, data["g_ema"]["input.input"])
    discriminator = convert(data["d"])
    assert discriminator.generator is None
    assert discriminator.discriminator.resolution == 32
    del data["g_ema"]
    assert "There is no running average g_ema; g, the generator as it was last trained, is used." in convert(data).notes


def test_half_precision_is_widened(data):
    half = {name: value.half() for name, value in data["g_ema"].items()}
    converted = convert({"g_ema": half})
    assert torch.equal(converted.generator.constant, half["input.input"].float())
    assert converted.notes[0] == "81 tensors of g_ema of x.pt are float16 there and float32 here."


@pytest.mark.parametrize(
    ("of_generator", "of_discriminator", "text"),
    [
        ({"c_dim": 3}, {}, "no place for classes=3: there it is always 0"),
        ({"conv_clamp": 256.0}, {}, "no place for conv_clamp=256.0: there it is always None"),
        ({"mapping_lr_multiplier": 0.1}, {}, "no place for mapping_lr_multiplier=0.1: there it is always 0.01"),
        ({"z_dim": 4}, {}, "no place for z_dim=4: there it is always 8"),
        ({"mapping_widths": [4, 8]}, {}, "no place for mapping_widths=[4, 8]: there it is always [8]"),
        ({}, {"c_dim": 2}, "no place for classes of the discriminator=2"),
        ({}, {"conv_clamp": 1.0}, "no place for conv_clamp of the discriminator=1.0"),
        ({}, {"stddev_group": 0}, "no place for stddev_group of the discriminator=0"),
    ],
)
def test_what_the_layout_cannot_hold(of_generator, of_discriminator, text):
    generator = StyleGAN2({4: 2, 8: 2}, **{"z_dim": 8, "w_dim": 8, "mapping_widths": [8, 8]} | of_generator)
    with says(f"rosinality's layout has {text}"):
        to_rosinality(generator, Discriminator(8, {4: 2, 8: 2}, **of_discriminator))


def test_other_families_have_no_rosinality_layout():
    with says("holds StyleGAN2 generators, this one is of family 'mobile_stylegan'"):
        to_rosinality(tiny_generator())
