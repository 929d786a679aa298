"""The networks that ship in the package: each is what its model card says and belongs to a generator of the zoo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import labels4free
from labels4free import LayeredGenerator, load_alpha_network
from labels4free.checkpoints.loading import generator_fingerprint
from labels4free.checkpoints.model_zoo import MODELS
from labels4free.checkpoints.native import read_native_header
from labels4free.generators.base import sample_z

SHIPPED = sorted((Path(labels4free.__file__).parent / "weights").glob("*.safetensors"))
CARDS = Path(__file__).parents[2] / "docs" / "model_cards"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_network_names_its_generator_and_has_a_card(path):
    info = read_native_header(path, "alpha_network").info
    assert info["generator"]["name"] in MODELS
    assert path.name == f"{info['generator']['name']}.alpha.safetensors"
    assert info["train"]["bank"]["folder"] is None
    card = (CARDS / f"{path.stem}.md").read_text(encoding="utf-8")
    weights = sum(value.numel() for value in load_alpha_network(path).state_dict().values())
    assert f"{weights:,} weights" in card
    assert f"{round(path.stat().st_size / 1000)} kB" in card


def test_the_face_network_cuts_faces_out(zoo_generator):
    name = "mobilestylegan-ffhq-1024"
    network = load_alpha_network(name)
    info = read_native_header(next(p for p in SHIPPED if p.name.startswith(name)), "alpha_network").info
    assert info["generator"]["fingerprint"] == generator_fingerprint(zoo_generator)
    layered = LayeredGenerator(zoo_generator, network)
    with torch.inference_mode():
        ws = torch.cat([zoo_generator.map(sample_z(512, 0, index)[None], 0.7) for index in range(2)])
        alpha = layered(ws).alpha
    middle, corners = alpha[:, :, 384:640, 384:640], alpha[:, :, :96, :96]
    assert alpha.shape == (2, 1, 1024, 1024)
    assert middle.mean() > 0.95
    assert corners.mean() < 0.05
    assert 0.4 < alpha.mean() < 0.85


def test_something_ships():
    assert SHIPPED
