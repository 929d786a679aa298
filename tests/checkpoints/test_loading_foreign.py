"""Files of other projects, loaded as they are."""

from __future__ import annotations

import pytest
import torch
from tests.checkpoints.refusals import says
from tests.foreign_files import write_ir, write_original

from labels4free.checkpoints.foreign.formats import read_foreign
from labels4free.checkpoints.loading import (
    generator_name_of,
    load_alpha_network,
    load_discriminator,
    load_generator,
    load_layered,
    load_segmenter,
    read_checkpoint,
)
from labels4free.checkpoints.state_hash import state_hash
from labels4free.networks.paper_network import PaperNetwork

BOTH = "rosinality/tiny_train_checkpoint.pt"
ALPHA = "alpha/labels4free_checkpoint_256.pt"
HOLD_ONE = "Training checkpoints of rosinality and pickles of NVIDIA hold one, and conversions keep it."
GENERATORS = [
    BOTH,
    "rosinality/tiny_converted_with_d_legacy_format.pt",
    "nvlabs/ada_uncond.pkl",
    "nvlabs/ada_cond.pkl",
    "nvlabs/tf_stylegan2.pkl",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_foreign_generator_and_discriminator(name, shared):
    path = shared / "fixtures" / name
    found = read_foreign(path)
    generator, discriminator = load_generator(str(path)), load_discriminator(path)
    assert state_hash(generator) == state_hash(found.generator)
    assert state_hash(discriminator) == state_hash(found.discriminator)
    assert not generator.training
    assert list(generator.parameters()) == []
    assert all(parameter.requires_grad for parameter in discriminator.parameters())


def test_openvino_ir(tiny_generator, tmp_path):
    folder = write_ir(tmp_path / "ir", tiny_generator)
    for given in (folder, str(folder), folder / "MappingNetwork.xml"):
        assert torch.equal(load_generator(given).constant, tiny_generator.constant)


def test_original_alpha_network(shared):
    path = shared / "fixtures" / ALPHA
    loaded, network = read_checkpoint(path, "alpha_network"), load_alpha_network(path)
    assert isinstance(network, PaperNetwork)
    assert state_hash(network) == state_hash(read_foreign(path).alpha_network)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert (loaded.held, loaded.made_for, loaded.path) == (("alpha_network",), {}, path)
    assert generator_name_of(loaded) is None
    with says(f"{path} does not say which generator it belongs to; name it with --generator."):
        load_layered(path)


@pytest.mark.slow
def test_original_checkpoint_with_its_generator(tmp_path):
    path = write_original(tmp_path / "original.pt")
    layered, name = load_layered(path)
    assert name == str(path)
    assert state_hash(load_generator(path)) == state_hash(layered.generator)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("load", "name", "text"),
    [
        (
            load_generator,
            ALPHA,
            "holds an alpha network and no generator. Give the file of the generator that it belongs to.",
        ),
        (
            load_alpha_network,
            BOTH,
            "holds a generator and a discriminator and no alpha network. Train one: labels4free train {path} --out RUN",
        ),
        (
            load_discriminator,
            "rosinality/tiny_converted.pt",
            f"holds a generator and no discriminator. {HOLD_ONE}",
        ),
        (load_segmenter, BOTH, "is not a safetensors file; expected a checkpoint written by labels4free."),
        (load_generator, "malicious/01_os_system.pkl", "is refused: it asks for posix.system"),
        (load_alpha_network, "malicious/03_nested_in_state_dict.pt", "is refused: it asks for posix.system"),
        (load_discriminator, "malicious/19_truncated_legacy.pt", "is truncated"),
    ],
)
def test_parts_that_a_file_has_not(load, name, text, shared, tmp_path, monkeypatch):
    monkeypatch.setenv("L4F_MARKER", str(tmp_path / "marker"))
    path = shared / "fixtures" / name
    with says(f"{path} {text.format(path=path)}"):
        load(path)
    assert not (tmp_path / "marker").exists()
