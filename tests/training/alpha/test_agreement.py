from __future__ import annotations

import pytest
import torch
from tests.tiny_run import SETTINGS

from labels4free.generators.views import AUGMENTATIONS, render_again
from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha import agreement
from labels4free.training.alpha.agreement import build_augmented
from labels4free.training.alpha.projection import fit_projection


@pytest.fixture(scope="module")
def project(tiny_generator):
    network = MergeNetwork(tiny_generator.feature_specs, 64, width=4)
    samples = [tiny_generator.synthesize(tiny_generator.draw_ws(9, k)).features for k in range(3)]
    return fit_projection(tiny_generator.feature_specs, samples), network.levels, SETTINGS.resolution


def held_out(generator, numbers):
    return [(k, generator.draw_ws(0, k, 0.7), 0.7) for k in numbers]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_a_view_holds_the_projected_maps_of_its_samples(tiny_generator, project, tmp_path, augmentation):
    told = []
    maps = build_augmented(
        tiny_generator, augmentation, held_out(tiny_generator, (8, 9)), project, 0, tmp_path, lambda: told.append(1)
    )
    projection, levels, resolution = project
    for row, k in enumerate((8, 9)):
        features = render_again(tiny_generator, augmentation, tiny_generator.draw_ws(0, k, 0.7), 0, k, 0.7).features
        for level, expected in zip(maps, projection.levels(features, levels, resolution), strict=True):
            assert torch.equal(level[row : row + 1], expected.half())
    assert len(told) == 2


def test_a_view_is_rendered_once(tiny_generator, project, tmp_path, monkeypatch):
    samples = held_out(tiny_generator, (8, 9, 10))
    first = build_augmented(tiny_generator, "noise", samples, project, 0, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["noise_000008_000010.safetensors"]
    monkeypatch.setattr(agreement, "render_again", None)
    told = []
    second = build_augmented(tiny_generator, "noise", samples, project, 0, tmp_path, lambda: told.append(1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert len(told) == 3


def test_other_samples_are_another_file(tiny_generator, project, tmp_path):
    build_augmented(tiny_generator, "noise", held_out(tiny_generator, (8, 9)), project, 0, tmp_path)
    build_augmented(tiny_generator, "noise", held_out(tiny_generator, (8, 9, 10)), project, 0, tmp_path)
    build_augmented(tiny_generator, "mixing", held_out(tiny_generator, (8, 9)), project, 0, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_file_is_rendered_again(tiny_generator, project, tmp_path):
    samples = held_out(tiny_generator, (8,))
    first = build_augmented(tiny_generator, "mixing", samples, project, 0, tmp_path)
    path = tmp_path / "mixing_000008_000008.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    second = build_augmented(tiny_generator, "mixing", samples, project, 0, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
