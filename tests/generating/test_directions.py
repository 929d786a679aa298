from __future__ import annotations

import copy
from pathlib import Path

import torch
from tests.refusals import refuses
from tests.tiny import tiny_generator as build_mobile
from tests.tiny import tiny_stylegan2

from labels4free.checkpoints.foreign.rosinality_factor import read_factor, write_factor
from labels4free.checkpoints.native import write_native
from labels4free.errors import CheckpointError, ConfigError
from labels4free.generating import directions
from labels4free.generating.directions import pca, read_directions, sefa, write_directions

FACTOR = Path(__file__).parents[1] / "fixtures" / "rosinality_factor.pt"


def up_to_sign(ours, theirs):
    return (ours * (ours * theirs).sum(1, keepdim=True).sign() - theirs).abs().max()


def test_sefa_is_rosinalitys_factorisation():
    generator = tiny_stylegan2()
    theirs = read_factor(FACTOR, generator)
    assert up_to_sign(sefa(generator).vectors, theirs) < 1e-5
    for other in ("none", "all"):
        assert up_to_sign(sefa(generator, to_rgb=other).vectors, theirs) > 0.1, other


def test_sefa_directions_are_what_the_weights_stretch(any_generator):
    found = sefa(any_generator, to_rgb="all")
    matrix = torch.cat([weight.weight for weight in any_generator.style_weights()])
    assert found.layers == tuple(range(any_generator.num_ws))
    torch.testing.assert_close(found.vectors @ found.vectors.T, torch.eye(8), rtol=0, atol=1e-5)
    torch.testing.assert_close((matrix @ found.vectors.T).norm(dim=0), found.values, rtol=1e-4, atol=1e-5)
    assert (found.values.diff() <= 0).all()
    largest = found.vectors.gather(1, found.vectors.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


def test_layers_choose_the_weights_and_what_is_moved(any_generator):
    found = sefa(any_generator, [3, 2])
    matrix = torch.cat([w.weight for w in any_generator.style_weights() if w.row in (2, 3) and w.rgb_size is None])
    vectors = torch.linalg.svd(matrix.double())[2].float()
    assert up_to_sign(found.vectors, vectors) < 1e-5
    assert found.layers == (2, 3)
    step = found.step(1, any_generator.num_ws)
    assert torch.equal(step[[2, 3]], found.vectors[1].expand(2, -1))
    assert step.count_nonzero(dim=1).nonzero().flatten().tolist() == [2, 3]


def test_sefa_does_not_touch_the_generator_and_takes_a_trainable_one():
    generator = tiny_stylegan2().unfreeze()
    assert torch.equal(sefa(generator).vectors, sefa(tiny_stylegan2()).vectors)
    assert all(parameter.grad is None for parameter in generator.parameters())


def test_pca_finds_the_axes_of_w(any_generator):
    found = pca(any_generator, [1], samples=3000)
    rng = torch.Generator().manual_seed(5)
    z, labels = torch.randn(20_000, 8, generator=rng), None
    if any_generator.c_dim:
        labels = torch.eye(3)[torch.randint(3, (20_000,), generator=rng)]
    w = any_generator.map(z, labels=labels)[:, 0].double()
    along = ((w - w.mean(0)) @ found.vectors.T.double()).std(0)
    torch.testing.assert_close(found.values, along.float(), rtol=0.1, atol=0)
    torch.testing.assert_close(found.vectors @ found.vectors.T, torch.eye(8), rtol=0, atol=1e-5)
    assert found.values[0] > 1.5 * found.values[-1]
    assert found.layers == (1,)
    assert torch.equal(pca(any_generator, samples=3000).vectors, found.vectors)


def test_pca_is_the_covariance_of_its_samples(any_generator, monkeypatch):
    """Batches and the mean that is taken off beforehand change nothing."""
    monkeypatch.setattr(directions, "_BATCH", 7)
    seen, plain = [], any_generator.map

    def spy(z, **options):
        ws = plain(z, **options)
        seen.append(ws[:, 0].double())
        return ws

    monkeypatch.setattr(any_generator, "map", spy)
    found = pca(any_generator, samples=50)
    w = torch.cat(seen)
    assert w.shape == (50, 8)
    _, values, vectors = torch.linalg.svd(w - w.mean(0))
    torch.testing.assert_close(found.values, (values / 49**0.5).float(), rtol=1e-4, atol=1e-5)
    assert up_to_sign(found.vectors[:3], vectors[:3].float()) < 1e-3


def test_a_file_gives_back_what_was_written(tmp_path, any_generator):
    path = tmp_path / directions.DIRECTIONS
    for found in (sefa(any_generator, [2, 3], "all"), pca(any_generator, samples=9)):
        write_directions(path, found, any_generator, "a name")
        for source in (path, tmp_path):
            back = read_directions(source, any_generator)
            assert (back.method, back.layers, back.options) == (found.method, found.layers, found.options)
            assert torch.equal(back.vectors, found.vectors)
            assert torch.equal(back.values, found.values)


def test_a_factor_file_moves_all_rows(tmp_path):
    generator = tiny_stylegan2()
    back = read_directions(FACTOR, generator)
    assert back.layers == tuple(range(10))
    assert back.values is None
    write_directions(tmp_path / "d.safetensors", back, generator)
    again = read_directions(tmp_path / "d.safetensors", generator)
    assert again.values is None
    assert torch.equal(again.vectors, back.vectors)
    write_factor(tmp_path / "f.pt", again.vectors, "x")
    assert torch.equal(read_directions(tmp_path / "f.pt", generator).vectors, back.vectors)


def test_files_of_another_generator_are_refused(tmp_path, any_generator):
    path = tmp_path / "d.safetensors"
    write_directions(path, sefa(any_generator), any_generator, "cats.pt")
    other = copy.deepcopy(any_generator)
    other.style_weights()[0].weight.add_(1e-3)
    message = "holds directions of another generator, cats.pt: its weights are others"
    refuses(CheckpointError, message, read_directions, path, other)
    refuses(CheckpointError, message, read_directions, path, build_mobile(seed=1))
    refuses(CheckpointError, "There is no checkpoint at", read_directions, tmp_path / "none.safetensors", other)
    refuses(CheckpointError, "another generator", read_directions, FACTOR, tiny_stylegan2(w_dim=16))


def test_damaged_files_are_refused(tmp_path, any_generator):
    path, found = tmp_path / "d.safetensors", sefa(any_generator)
    write_directions(path, found, any_generator)
    header = directions.read_native_header(path)
    good = {"vectors": found.vectors, "values": found.values}
    nan = torch.full_like(found.vectors, torch.nan)
    changes = [
        ("sefa", {"layers": [0], "options": {}}, {"values": found.values}),
        ("sefa", {"layers": [0], "options": {}}, {"vectors": nan}),
        ("sefa", {"layers": [0], "options": {}}, {"vectors": found.vectors[:, :-1]}),
        ("sefa", {"layers": [0], "options": {}}, {"vectors": found.vectors[:0]}),
        ("sefa", {"layers": [0], "options": {}}, {"vectors": found.vectors, "values": found.values[:2]}),
        ("sefa", {"layers": [99], "options": {}}, good),
        ("sefa", {"layers": [], "options": {}}, good),
        ("sefa", {"layers": ["0"], "options": {}}, good),
        ("sefa", {"layers": None, "options": {}}, good),
        ("sefa", {"layers": [0], "options": 3}, good),
        ("sefa", {}, good),
        ("magic", {"layers": [0], "options": {}}, good),
    ]
    for family, config, state in changes:
        write_native(path, kind="directions", family=family, config=config, state=state, info=header.info)
        refuses(CheckpointError, "damaged", read_directions, path, any_generator)
    write_native(path, kind="directions", family="sefa", config={}, state=good, info={})
    refuses(CheckpointError, "another generator, without a name", read_directions, path, any_generator)
    write_native(path, kind="generator", family="sefa", config={}, state=good, info=header.info)
    refuses(CheckpointError, "expected kind 'directions'", read_directions, path, any_generator)


def test_bad_input_is_one_sentence(any_generator):
    last = any_generator.num_ws - 1
    for method in (sefa, pca):
        for wrong in (last + 1, -1):
            refuses(ConfigError, f"layers 0 to {last}, got layer {wrong}", method, any_generator, [0, wrong])
    refuses(ConfigError, f"Only a to-RGB layer reads row {last}", sefa, any_generator, [last])
    refuses(ConfigError, "first, none, all, got 'some'", sefa, any_generator, (), "some")
    refuses(ConfigError, "2 samples or more, got 1", pca, any_generator, (), 1)
    for number in (-1, 8):
        refuses(ConfigError, f"directions 0 to 7, got {number}", sefa(any_generator).step, number, last + 1)
    broken = copy.deepcopy(any_generator)
    broken.style_weights()[2].weight.fill_(torch.nan)
    refuses(CheckpointError, "not all finite", sefa, broken)
    broken = copy.deepcopy(any_generator)
    broken.mapping[0].weight.fill_(torch.nan)
    refuses(CheckpointError, "not all finite", pca, broken, (), 10)
