"""The networks that ship in the package: each is what its model card says and belongs to a generator of the zoo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import labels4free
from labels4free import LayeredGenerator, load_alpha_network
from labels4free.checkpoints.loading import load_segmenter
from labels4free.checkpoints.model_zoo import MODELS
from labels4free.checkpoints.native import read_native_header
from labels4free.checkpoints.state_hash import state_hash
from labels4free.generators.base import sample_z
from labels4free.metrics.masks import soft_agreement

WEIGHTS = Path(labels4free.__file__).parent / "weights"
SHIPPED = sorted(WEIGHTS.glob("*.alpha.safetensors"))
SEGMENTERS = sorted(WEIGHTS.glob("*.segmenter.safetensors"))
CARDS = Path(__file__).parents[2] / "docs" / "model_cards"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_network_names_its_generator_and_has_a_card(path):
    info = read_native_header(path, "alpha_network").info
    assert info["generator"]["name"] in MODELS
    assert path.name == f"{info['generator']['name']}.alpha.safetensors"
    assert info["train"]["cache"]["folder"] is None
    card = (CARDS / f"{path.stem}.md").read_text(encoding="utf-8")
    weights = sum(value.numel() for value in load_alpha_network(path).state_dict().values())
    assert f"{weights:,} weights" in card
    assert f"{round(path.stat().st_size / 1000)} kB" in card


def test_the_face_network_cuts_faces_out(zoo_generator):
    name = "mobilestylegan-ffhq-1024"
    network = load_alpha_network(name)
    info = read_native_header(next(p for p in SHIPPED if p.name.startswith(name)), "alpha_network").info
    assert info["generator"]["state_hash"] == state_hash(zoo_generator)
    layered = LayeredGenerator(zoo_generator, network)
    with torch.inference_mode():
        ws = torch.cat([zoo_generator.map(sample_z(512, 0, index)[None], 0.7) for index in range(2)])
        alpha = layered(ws).alpha
    middle, corners = alpha[:, :, 384:640, 384:640], alpha[:, :, :96, :96]
    assert alpha.shape == (2, 1, 1024, 1024)
    assert middle.mean() > 0.95
    assert corners.mean() < 0.05
    assert 0.4 < alpha.mean() < 0.85


@pytest.mark.parametrize("path", SEGMENTERS, ids=lambda path: path.stem)
def test_a_shipped_segmenter_is_small_and_has_a_card(path):
    info = read_native_header(path, "segmenter").info
    assert info["train"]["pairs"]["background_pictures"] is None
    assert info["train"]["self_training"]["unlabelled"] is None  # no photo of unclear licence is in it
    assert "/" not in info["source"]["name"]
    card = (CARDS / f"{path.stem}.md").read_text(encoding="utf-8")
    weights = sum(value.numel() for value in load_segmenter(path).parameters())
    assert f"{weights:,} weights" in card
    assert f"{path.stat().st_size / 1e6:.1f} MB" in card
    assert path.stat().st_size <= 5e6


def test_the_face_segmenter_finds_what_the_alpha_network_finds_from_pixels_alone(zoo_generator):
    """On a small fraction of what it was trained for: that the file is the right one, not how good it is."""
    layered = LayeredGenerator(zoo_generator, load_alpha_network("mobilestylegan-ffhq-1024"))
    segmenter = load_segmenter()
    with torch.inference_mode():
        for index in range(2):
            front = layered.foreground(zoo_generator.map(sample_z(512, 3, index)[None], 0.7))
            assert soft_agreement(segmenter.segment(front.image), front.alpha) > 0.85
        assert segmenter.segment(torch.zeros(1, 3, 256, 256)).max() < 0.5  # nobody is there


def test_something_ships():
    assert SHIPPED
    assert SEGMENTERS


def test_everything_that_ships_is_tested():
    assert sorted(WEIGHTS.iterdir()) == sorted([*SHIPPED, *SEGMENTERS])
