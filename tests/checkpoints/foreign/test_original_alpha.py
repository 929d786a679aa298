from __future__ import annotations

import argparse
import json
import runpy

import numpy as np
import pytest
import torch
from tests.checkpoints.converter_contract import ConverterContract
from tests.checkpoints.refusals import says
from torch.nn import functional as F

from labels4free.checkpoints.foreign import formats as foreign
from labels4free.checkpoints.foreign.original_alpha import alpha_network_from_original, original_keys
from labels4free.checkpoints.loading import load_alpha_network
from labels4free.checkpoints.native import write_native
from labels4free.errors import CheckpointError, ConfigError
from labels4free.networks.paper_network import PaperNetwork
from labels4free.types import FeatureSpec

LAYOUTS = ("repro", "general")
CHANNELS = {
    256: (512, 512, 512, 512, 256, 128),
    512: (512, 512, 512, 256, 128, 64),
    1024: (512, 512, 256, 128, 64, 32),
}
ABSOLUTE = 2e-5  # on alpha and its logits
RELATIVE = 1e-4  # to the largest value, on what lies between
FILES = {
    "labels4free_checkpoint_256.pt": "repro",
    "labels4free_checkpoint_256_bg_extractor.pt": "general",
    "labels4free_checkpoint_256_distributed.pt": "repro",
}
NAMES = {
    "repro": {
        "first.0.weight": "conv1.weight",
        "second.0.bias": "conv2.bias",
        "first.5.weight": "conv11.weight",
        "second.5.weight": "conv12.weight",
        "merges.0.bias": "conv_next.bias",
        "merges.1.bias": "conv_next2.bias",
        "merges.3.bias": "conv_next4.bias",
        "head.weight": "conv_n.weight",
    },
    "general": {
        "first.5.weight": "conv_fns0.5.weight",
        "second.0.bias": "conv_fns1.0.bias",
        "merges.0.weight": "conv_merge_fns.0.weight",
        "merges.3.weight": "conv_merge_fns.3.weight",
        "head.bias": "conv_n.bias",
    },
}


def original_state(layout="repro", channels=CHANNELS[256]) -> dict[str, torch.Tensor]:
    """A state dict as the original writes it, every tensor different."""
    rng = torch.Generator().manual_seed(0)
    state = {}
    for name, key in original_keys(layout).items():
        part, *_, kind = name.split(".")
        k = int(name.split(".")[1]) if part != "head" else 0
        c_out, c_in = {"merges": (6, 12), "head": (1, 6)}.get(part, (3, channels[k]))
        state[key] = torch.randn((c_out, c_in, 1, 1) if kind == "weight" else (c_out,), generator=rng)
    return state


class TestConverter(ConverterContract):
    parts = ("bg_extractor_ema",)
    example = ("bg_extractor_ema", "conv12.weight", [3, 128, 1, 1])
    file = "a.pt"
    strangers = ({"g_ema": {}}, {"conv1.weight": torch.ones(1)})

    @pytest.fixture
    def data(self):
        return {"bg_extractor_ema": original_state()}

    def convert(self, data):
        return foreign._convert_alpha(data, self.file)

    def matches(self, data):
        return foreign._is_alpha(data)

    def missing(self, name, shape):
        return f"lacks {name} (1 missing, 0 unknown); it is damaged or no alpha network of Labels4Free."

    def left_over(self, name):
        return f"has the unknown tensor {name} (0 missing, 1 unknown)"

    def test_a_tensor_of_another_shape_is_named(self, data):
        for key, shape, problem in (
            ("conv3.weight", (3, 512), "has shape [3, 512], expected 4 axes, none empty"),
            ("conv3.weight", (3, 0, 1, 1), "has shape [3, 0, 1, 1], expected 4 axes, none empty"),
            ("conv3.weight", (4, 512, 1, 1), "has shape [4, 512, 1, 1], expected [3, 512, 1, 1]"),
            ("conv3.weight", (3, 512, 3, 3), "has shape [3, 512, 3, 3], expected [3, 512, 1, 1]"),
            ("conv3.bias", (6,), "has shape [6], expected [3]"),
            ("conv3.bias", (), "has shape [], expected [3]"),
            ("conv_next3.weight", (6, 6, 1, 1), "has shape [6, 6, 1, 1], expected [6, 12, 1, 1]"),
        ):
            self.refused({"bg_extractor_ema": original_state() | {key: torch.ones(shape)}}, f"a.pt: {key} {problem}")
        huge = {"conv3.weight": torch.ones(1).expand(3, 1 << 40, 1, 1)}
        self.refused({"bg_extractor_ema": original_state() | huge}, "expected 4 axes, none empty")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names(layout):
    assert original_keys(layout).items() >= NAMES[layout].items()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("resolutions", range(1, 7))
def test_every_tensor_has_one_name(layout, resolutions):
    specs = [FeatureSpec(f"b{8 << k}.conv{i}", 1, 8 << k) for k in range(resolutions) for i in (0, 1)]
    names = original_keys(layout, resolutions)
    assert names.keys() == PaperNetwork(specs, 4 << resolutions).state_dict().keys()
    assert len(set(names.values())) == len(names)


# The original's numbers


class Fixture:
    """The describe files of one size, and its features."""

    def __init__(self, shared, size):
        self.folder, self.size = shared / "fixtures" / "alpha", size
        self.fill = runpy.run_path(str(shared / "fixtures" / "fill.py"))
        self.features = self.draw(self.describe("repro"))

    def describe(self, layout):
        return json.loads((self.folder / f"{self.name(layout)}.describe.json").read_text(encoding="utf-8"))

    def name(self, layout):
        return f"bg_extractor{'_repro' if layout == 'repro' else ''}_{self.size}"

    def draw(self, describe):
        return [torch.from_numpy(self.fill["noise"](f["name"], f["shape"])) for f in describe["features"]]

    def state(self, layout):
        return {key: torch.from_numpy(value) for key, value in self.fill["state"](self.describe(layout)).items()}

    def expected(self, layout):
        with np.load(self.folder / f"{self.name(layout)}.npz") as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.fixture(scope="module", params=[256, 512, 1024])
def fixture(request, shared):
    return Fixture(shared, request.param)


def stages(network: PaperNetwork, features) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The logits, and what goes into each up-sampling and comes out of it."""
    seen = {}

    def note(key, value):
        seen[key] = value.detach()

    hooks = []
    for k, merge in enumerate(network.merges):
        hooks.append(merge.register_forward_pre_hook(lambda _, x, k=k: note(f"stage_{k}_out", x[0][:, 6:])))
        hooks.append(merge.register_forward_hook(lambda _, x, y, k=k: note(f"stage_{k + 1}_in", F.leaky_relu(y, 0.2))))
    hooks.append(network.first[0].register_forward_hook(lambda _, x, y: note("first", y)))
    hooks.append(network.second[0].register_forward_hook(lambda _, x, y: note("second", y)))
    with torch.no_grad():
        logits = network.logits(features)
    for hook in hooks:
        hook.remove()
    seen["stage_0_in"] = torch.cat((seen.pop("first"), seen.pop("second")), dim=1)
    last = seen["stage_4_in"]  # the network resizes F of it alone
    seen["stage_4_out"] = F.interpolate(last, size=network.resolution, mode="bicubic", align_corners=True)
    return logits, seen


def check(name, got, expected, tolerance):
    assert got.shape == expected.shape, name
    error = (got - expected).abs().max().item()
    assert error <= tolerance, f"{name} is off by {error:.2g}, more than {tolerance:.2g}"


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gives_the_original_s_numbers(fixture, layout):
    describe, expected = fixture.describe(layout), fixture.expected(layout)
    converted = alpha_network_from_original(fixture.state(layout), "the state")
    network = converted.network
    assert (converted.entry, converted.notes) == ("", ())
    assert network.resolution == fixture.size
    assert sum(p.numel() for p in network.parameters()) == describe["num_parameters"]
    logits, seen = stages(network, fixture.features)
    alpha, stride = logits.sigmoid(), describe["output"]["stride"]
    assert list(alpha.shape) == describe["output"]["shape"]
    check("logit", logits[:, :, ::stride, ::stride], expected["logit"], ABSOLUTE)
    check("alpha", alpha[:, :, ::stride, ::stride], expected["alpha"], ABSOLUTE)
    check("last corner", alpha[:, :, -8:, -8:], expected["alpha_corner"], ABSOLUTE)
    check("first corner", alpha[:, :, :8, :8], expected["alpha_corner_top"], ABSOLUTE)
    wide = logits.double()
    statistics = torch.stack([wide.mean(), wide.std(correction=0), wide.abs().max()])
    check("statistics", statistics, expected["logit_stats"], ABSOLUTE)
    assert len(seen) == 10
    for k, stage in enumerate(describe["stages"]):
        largest = stage["out_mean_std_absmax"][2]
        for side in ("in", "out"):
            name, step = f"stage_{k}_{side}", stage[f"{side}_stride"]
            assert list(seen[name].shape) == stage[f"{side}_shape"]
            check(name, seen[name][:, :, ::step, ::step], expected[name], RELATIVE * largest)
        check(f"corner {k}", seen[name][:, :, -4:, -4:], expected[f"{name}_corner"], RELATIVE * largest)


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["bg_extractor_ema", "bg_extractor"])
@pytest.mark.parametrize("name", FILES)
def test_reads_the_files_that_training_writes(name, entry, shared, tmp_path):
    folder = shared / "fixtures" / "alpha"
    describe = json.loads((folder / "labels4free_checkpoints.describe.json").read_text(encoding="utf-8"))
    with torch.serialization.safe_globals([argparse.Namespace]):
        data = torch.load(folder / name, weights_only=True)
    assert next(iter(data["bg_extractor"])).startswith("module.") == ("distributed" in name)
    if entry == "bg_extractor":
        del data["bg_extractor_ema"]
    converted = alpha_network_from_original(data, name)
    assert (converted.entry, converted.notes) == (entry, ())
    assert not converted.network.training
    assert not any(p.requires_grad for p in converted.network.parameters())
    fill = runpy.run_path(str(shared / "fixtures" / "fill.py"))
    features = [
        torch.from_numpy(fill["noise"](f"alpha/256/feature_{i:02d}", (1, c, 8 << i // 2, 8 << i // 2)))
        for i, c in enumerate(c for c in CHANNELS[256] for _ in range(2))
    ]
    alpha, stride = converted.network(features), describe["files"][name]["alpha_stride"]
    with np.load(folder / "labels4free_checkpoints_expected.npz") as arrays:
        expected = torch.from_numpy(arrays[f"{name}/alpha"])
    check("alpha", alpha[:, :, ::stride, ::stride], expected, ABSOLUTE)


# Checkpoints


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("entry", ["", "bg_extractor", "bg_extractor_ema"])
def test_every_tensor_finds_its_place(layout, prefix, entry):
    state = original_state(layout)
    named = {prefix + key: value for key, value in state.items()}
    network = alpha_network_from_original({entry: named, "g": {}, "ada_aug_p": 0.0} if entry else named, "f").network
    filled = network.state_dict()
    assert filled.keys() == original_keys(layout).keys()
    for ours, theirs in original_keys(layout).items():
        assert torch.equal(filled[ours], state[theirs])
        assert filled[ours].data_ptr() != state[theirs].data_ptr()


@pytest.mark.parametrize("size", CHANNELS)
def test_fits_the_generator_it_was_trained_on(size):
    network = alpha_network_from_original(original_state(channels=CHANNELS[size]), "f").network
    resolutions = [4 << k for k in range(size.bit_length() - 2)]
    widths = (512,) * (len(resolutions) - 6) + CHANNELS[size]
    specs = [FeatureSpec("b4.conv1", widths[0], 4)]
    specs += [FeatureSpec(f"b{r}.conv{k}", c, r) for r, c in zip(resolutions, widths, strict=True) for k in (0, 1)][2:]
    network.check_fits(specs)
    with pytest.raises(ConfigError, match=f"fits generators of {size}x{size} pixels"):
        network.check_fits(specs[:-2])


def test_the_size_of_unusual_channels_comes_from_the_flags():
    channels = (64, 64, 32, 16, 8, 4)
    state = original_state("general", channels)
    for args in (argparse.Namespace(size=2048), {"size": 2048}):
        converted = alpha_network_from_original({"bg_extractor": state, "args": args}, "f")
        assert converted.network.resolution == 2048
        assert converted.network.feature_specs[0] == FeatureSpec("b64.conv0", 64, 64)
        assert converted.network.feature_specs[-1] == FeatureSpec("b2048.conv1", 4, 2048)
        assert converted.notes == ()
    with pytest.raises(CheckpointError) as caught:
        alpha_network_from_original({"bg_extractor": state, "args": argparse.Namespace()}, "a.pt")
    assert str(caught.value) == (
        "bg_extractor of a.pt reads maps of 64, 64, 32, 16, 8, 4 channels, which no generator of 256, 512 or 1024 "
        "pixels has in the original, and the file does not say its size (args.size)."
    )


def test_a_native_file_keeps_everything(tmp_path):
    network = alpha_network_from_original(original_state("general"), "f").network
    path = tmp_path / "alpha.safetensors"
    state, config = network.state_dict(), network.config()
    write_native(path, kind="alpha_network", family=network.family, config=config, state=state, info={})
    loaded = load_alpha_network(path)
    assert isinstance(loaded, PaperNetwork)
    assert loaded.feature_specs == network.feature_specs
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


def test_the_average_comes_first():
    state, other = original_state(), {key: value + 1 for key, value in original_state().items()}
    converted = alpha_network_from_original({"bg_extractor": other, "bg_extractor_ema": state}, "f")
    assert converted.entry == "bg_extractor_ema"
    assert torch.equal(converted.network.head.weight, state["conv_n.weight"])


def test_a_generator_of_half_the_usual_channels():
    """At 256 pixels with a channel multiplier of 1 the maps are as wide as usual at 512."""
    data = {"bg_extractor": original_state(channels=CHANNELS[512]), "args": argparse.Namespace(size=256)}
    converted = alpha_network_from_original(data, "f")
    assert converted.network.resolution == 256
    assert converted.notes == ("args.size is 256, though these channels are usual at 512 pixels.",)


def test_the_whole_state_in_half_precision():
    state = {name: value.bfloat16() for name, value in original_state().items()}
    found = alpha_network_from_original({"bg_extractor": state}, "a.pt")
    assert found.notes == ("34 tensors of bg_extractor of a.pt are bfloat16 there and float32 here.",)
    assert torch.equal(found.network.state_dict()["head.weight"], state["conv_n.weight"].float())


EXPECTED = "expected an alpha network of Labels4Free: conv1.weight, ... or conv_fns0.0.weight, ..."
OTHER = {"input.input": torch.ones(1), "conv1.conv.weight": torch.ones(1)}
HALF = {f"module.{k}" if i else k: v for i, (k, v) in enumerate(original_state().items())}
SIZES = {repr(size): size for size in (0, -256, 128, 384, 1 << 17, 256.0, "256", True, [256])}
SIZES |= {"a Tensor": torch.ones(2)}
IMPOSSIBLE = "bg_extractor of a.pt has args.size {}, expected a power of two from 256 to 65536."
MORE = original_state("general") | {"conv_fns0.6.weight": torch.ones(3, 64, 1, 1)}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, f"a.pt holds nothing, {EXPECTED}"),
        ({"bg_extractor": {}}, f"bg_extractor of a.pt holds nothing, {EXPECTED}"),
        (OTHER, f"a.pt holds input.input, conv1.conv.weight, {EXPECTED}"),
        ({"g_ema": {}}, f"a.pt holds g_ema, {EXPECTED}"),
        ({"bg_extractor": [1]}, "bg_extractor of a.pt is no state dict: expected tensors by name, got a list."),
        (HALF, "(33 missing, 33 unknown)"),
        (MORE, "a.pt has the unknown tensor conv_fns0.6.weight (0 missing, 1 unknown)"),
        *(
            ({"bg_extractor": original_state(), "args": argparse.Namespace(size=size)}, IMPOSSIBLE.format(shown))
            for shown, size in SIZES.items()
        ),
    ],
)
def test_what_is_refused(data, text):
    with says(text):
        alpha_network_from_original(data, "a.pt")
