"""Files of other projects, loaded as they are; discriminators; and where an alpha network's generator is."""

from __future__ import annotations

import pytest
import torch
from tests.foreign_files import write_ir, write_original
from tests.tiny_run import write_generator

from labels4free.checkpoints.foreign import read_foreign
from labels4free.checkpoints.loading import (
    beside,
    generator_fingerprint,
    generator_name_of,
    load_alpha_network,
    load_discriminator,
    load_generator,
    read_alpha_network,
)
from labels4free.checkpoints.native import write_native
from labels4free.errors import CheckpointError, ConfigError
from labels4free.networks.discriminator import Discriminator
from labels4free.networks.merge_network import MergeNetwork
from labels4free.networks.paper_network import PaperNetwork


@pytest.fixture
def write_alpha(tiny_generator, tmp_path):
    """Write an alpha network for the tiny generator, with what its file says about itself."""

    def write(**info):
        network = MergeNetwork(tiny_generator.feature_specs, tiny_generator.resolution, width=3)
        path = tmp_path / "a" / "alpha.safetensors"
        config, state = network.config(), network.state_dict()
        write_native(path, kind="alpha_network", family=network.family, config=config, state=state, info=info)
        return path

    return write


@pytest.mark.parametrize(
    "name",
    [
        "rosinality/tiny_train_checkpoint.pt",
        "rosinality/tiny_converted_with_d_legacy_format.pt",
        "nvlabs/ada_uncond.pkl",
        "nvlabs/ada_cond.pkl",
        "nvlabs/tf_stylegan2.pkl",
    ],
)
def test_foreign_generator_and_discriminator(name, shared):
    path = shared / "fixtures" / name
    found = read_foreign(path)
    generator, discriminator = load_generator(str(path)), load_discriminator(path)
    assert generator_fingerprint(generator) == generator_fingerprint(found.generator)
    assert generator_fingerprint(discriminator) == generator_fingerprint(found.discriminator)
    assert not generator.training
    assert list(generator.parameters()) == []
    assert all(parameter.requires_grad for parameter in discriminator.parameters())


def test_openvino_ir(tiny_generator, tmp_path):
    folder = write_ir(tmp_path / "ir", tiny_generator)
    for given in (folder, str(folder), folder / "MappingNetwork.xml"):
        assert torch.equal(load_generator(given).constant, tiny_generator.constant)


def test_original_alpha_network(shared):
    path = shared / "fixtures" / "alpha" / "labels4free_checkpoint_256.pt"
    loaded = read_alpha_network(path)
    assert isinstance(loaded.network, PaperNetwork)
    assert generator_fingerprint(loaded.network) == generator_fingerprint(read_foreign(path).alpha_network)
    assert not loaded.network.training
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())
    assert (loaded.generator, loaded.made_for, loaded.path) == (None, {}, path)
    assert generator_name_of(loaded) is None


def test_original_checkpoint_with_its_generator(tmp_path):
    path = write_original(tmp_path / "original.pt")
    loaded = read_alpha_network(path)
    assert loaded.generator is not None
    loaded.network.check_fits(loaded.generator.feature_specs)
    assert generator_fingerprint(load_generator(path)) == generator_fingerprint(loaded.generator)


def test_parts_that_a_file_has_not(shared):
    fixtures = shared / "fixtures"
    alpha, both = fixtures / "alpha" / "labels4free_checkpoint_256.pt", fixtures / "rosinality/tiny_train_checkpoint.pt"
    with pytest.raises(CheckpointError) as caught:
        load_generator(alpha)
    assert str(caught.value) == (
        f"{alpha} holds an alpha network and no generator. Give the file of the generator that it belongs to."
    )
    with pytest.raises(CheckpointError) as caught:
        load_alpha_network(both)
    assert str(caught.value) == (
        f"{both} holds a generator and a discriminator and no alpha network. "
        f"Train one: labels4free train {both} --out RUN"
    )
    without = fixtures / "rosinality" / "tiny_converted.pt"
    with pytest.raises(CheckpointError) as caught:
        load_discriminator(without)
    assert str(caught.value) == (
        f"{without} holds a generator and no discriminator. Training checkpoints of rosinality and pickles of NVIDIA "
        "hold one, and conversions keep it."
    )


def test_foreign_file_on_a_device_that_is_not_there(shared):
    with pytest.raises(ConfigError, match="Unknown device 'tpu'"):
        load_discriminator(shared / "fixtures" / "rosinality" / "tiny_converted.pt", "tpu")


@pytest.mark.parametrize("name", ["01_os_system.pkl", "03_nested_in_state_dict.pt", "19_truncated_legacy.pt"])
@pytest.mark.parametrize("load", [load_generator, load_alpha_network, load_discriminator])
def test_hostile_and_damaged_files(name, load, shared, tmp_path, monkeypatch):
    monkeypatch.setenv("L4F_MARKER", str(tmp_path / "marker"))
    with pytest.raises(CheckpointError, match=name):
        load(shared / "fixtures" / "malicious" / name)
    assert not (tmp_path / "marker").exists()


# Native discriminators


def test_native_discriminator_lies_beside_its_generator(tiny_generator, tmp_path):
    discriminator = Discriminator(64, channel_base=256, channel_max=8, c_dim=2, mapping_layers=1)
    path = write_generator(tmp_path / "g.safetensors", tiny_generator)
    with pytest.raises(
        CheckpointError, match=r"is a generator without a discriminator: there is no .*g\.discriminator"
    ):
        load_discriminator(path)
    other = beside(path, "discriminator")
    assert other == tmp_path / "g.discriminator.safetensors"
    config, state = discriminator.config(), discriminator.state_dict()
    write_native(other, kind="discriminator", family="stylegan2", config=config, state=state)
    for given in (path, other):
        loaded = load_discriminator(given)
        assert loaded.config() == config
        assert generator_fingerprint(loaded) == generator_fingerprint(discriminator)
    write_native(other, kind="discriminator", family="biggan", config=config, state=state)
    with pytest.raises(CheckpointError, match="a discriminator of family 'biggan'; the families are stylegan2"):
        load_discriminator(other)
    write_native(other, kind="discriminator", family="stylegan2", config={"resolution": 64}, state=state)
    with pytest.raises(CheckpointError, match="has a configuration that stylegan2 cannot use"):
        load_discriminator(other)


def test_discriminator_of_an_alpha_network(write_alpha):
    with pytest.raises(CheckpointError, match="of kind 'alpha_network', expected kind 'discriminator'"):
        load_discriminator(write_alpha())


def test_generator_of_an_alpha_network_is_found_beside_it_too(write_alpha, tmp_path):
    path = write_alpha(generator={"name": "/gone/g.pkl"})
    assert generator_name_of(read_alpha_network(path)) is None
    (tmp_path / "a" / "g.pkl").write_bytes(b"")
    assert generator_name_of(read_alpha_network(path)) == str(tmp_path / "a" / "g.pkl")
    write_alpha(generator={"name": "mobilestylegan-ffhq-1024"})
    assert generator_name_of(read_alpha_network(path)) == "mobilestylegan-ffhq-1024"
    write_alpha(generator={"name": 3})
    assert generator_name_of(read_alpha_network(path)) is None
