from __future__ import annotations

import math

import pytest
import torch
from tests.tiny import tiny_stylegan2

from labels4free.checkpoints.foreign.rosinality_projection import read_projection_noise, write_projection
from labels4free.errors import CheckpointError


@pytest.fixture(scope="module")
def generator():
    return tiny_stylegan2()


def maps(generator, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 1, s.resolution, s.resolution, generator=rng) for s in generator.feature_specs]


def test_what_is_written_is_read(tmp_path, generator):
    noise = maps(generator)
    write_projection(tmp_path / "new" / "a.pt", "a.jpg", torch.zeros(3, 64, 64), torch.zeros(8), noise)
    (read,) = read_projection_noise(tmp_path / "new" / "a.pt", generator)
    assert all(torch.equal(one, other) for one, other in zip(read, noise, strict=True))
    content = torch.load(tmp_path / "new" / "a.pt", weights_only=True)
    assert list(content) == ["a.jpg"]
    assert set(content["a.jpg"]) == {"img", "latent", "noise"}


def test_maps_of_several_photos_and_of_one_alone(tmp_path, generator):
    entries = [{"latent": torch.zeros(8), "noise": maps(generator, seed)} for seed in (1, 2)]
    torch.save(dict(zip("ab", entries, strict=True)), tmp_path / "two.pt")
    two = read_projection_noise(tmp_path / "two.pt", generator)
    assert [torch.equal(two[k][0], entries[k]["noise"][0]) for k in (0, 1)] == [True, True]
    torch.save(entries[1], tmp_path / "one.pt")
    (one,) = read_projection_noise(tmp_path / "one.pt", generator)
    assert torch.equal(one[3], entries[1]["noise"][3])


@pytest.mark.parametrize("content", [torch.zeros(8), {"a": {"latent": torch.zeros(8)}}, {"latent": torch.zeros(8)}, {}])
def test_files_without_noise(tmp_path, generator, content):
    torch.save(content, tmp_path / "x.pt")
    assert read_projection_noise(tmp_path / "x.pt", generator) is None


def test_bad_files(tmp_path, generator):
    good, path = maps(generator), tmp_path / "x.pt"
    for noise, message in (
        ("text", "should be a list of maps"),
        ([1, 2], "should be a list of maps"),
        ([m.long() for m in good], "should be a list of maps"),
        (good[:-1], "another generator. Noise maps are needed for 9 layers, got 8"),
        ([good[0][0], *good[1:]], "another generator. The noise map of layer 0 must have shape"),
        ([*good[:-1], good[-1] * math.nan], "not all finite"),
    ):
        torch.save({"a": {"latent": torch.zeros(8), "noise": noise}}, path)
        with pytest.raises(CheckpointError, match=message):
            read_projection_noise(path, generator)
    path.write_bytes(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.")
    with pytest.raises(CheckpointError):
        read_projection_noise(path, generator)
