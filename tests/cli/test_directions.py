from __future__ import annotations

import json
import os

import pytest
import torch
from PIL import Image
from tests.tiny import tiny_stylegan2
from tests.tiny_run import write_generator

from labels4free import cli
from labels4free.checkpoints.loading import load_generator
from labels4free.generating.directions import pca, read_directions, sefa


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def command(generator_file, out):
    return lambda *words: ["directions", str(generator_file), "--out", str(out), *map(str, words)]


@pytest.mark.slow
def test_ranked_by_an_alpha_network(command, out, write_alpha, said, tiny_generator):
    words = ["--alpha", write_alpha(2.5), "--number", "3", "--seeds", "1,2", "--by", "-4..4:2", "--layers", "2-5"]
    code, printed, ours = said(*command(*words))
    assert (code, ours) == (cli.SUCCESS, [])
    note = json.loads((out / "directions.json").read_text())
    assert note["ranked"]
    lines = printed.splitlines()
    for line, entry in zip(lines, note["directions"], strict=False):
        assert line.startswith(f"direction {entry['direction']}: inside over outside {entry['ratio']:.2f} (")
    assert lines[3:] == [f"Directions: {out / 'directions.safetensors'}; to look at: {out / 'index.html'}"]
    assert (out / "index.html").is_file()
    assert torch.equal(read_directions(out, tiny_generator).vectors, sefa(tiny_generator, range(2, 6)).vectors)
    assert note["settings"]["degrees"] == [-4, -2, 0, 2, 4]
    with Image.open(out / "sheets" / "direction_000.png") as sheet:
        assert sheet.width > 5 * 192


@pytest.mark.slow
def test_without_an_alpha_network_a_word_says_so(command, out, said, generator_file, tiny_generator):
    code, _, ours = said(*command("--number", "2", "--seeds", "1", "--method", "pca", "--samples", "50"))
    assert code == cli.SUCCESS
    assert ours == [
        f"No alpha network ships for {generator_file}: give --alpha to rank what is the object's and what the scene's."
    ]
    assert torch.equal(read_directions(out, tiny_generator).vectors, pca(tiny_generator, samples=50).vectors)


@pytest.mark.slow
def test_factor_files_in_and_out(command, out, tmp_path, said):
    generator = write_generator(tmp_path / "stylegan2.safetensors", tiny_stylegan2())
    factor, again = tmp_path / "new" / "factor.pt", tmp_path / "again"
    words = ["--number", "1", "--seeds", "1", "--cell", "32"]
    assert said("directions", generator, "--out", out, "--factor", factor, "--to-rgb", "none", *words)[0] == cli.SUCCESS
    eigvec = torch.load(factor, weights_only=True)["eigvec"]
    assert torch.equal(eigvec, sefa(tiny_stylegan2(), to_rgb="none").vectors.T)
    assert said("directions", generator, "--out", again, "--directions", factor, *words)[0] == cli.SUCCESS
    assert torch.equal(read_directions(again, load_generator(generator)).vectors, eigvec.T)


def hostile(path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(path.parent / "hostile"),)

    torch.save({"eigvec": Hostile()}, path)
    return path


BAD = [
    ("--layers 0-11", "layers go from 0 to 10, got '11'"),
    ("--layers 5-2", "The range 5-2 of layers ends before it begins"),
    ("--layers 10", "Only a to-RGB layer reads row 10 of ws"),
    ("--by nan", "Degrees lie in [-1000, 1000], got nan"),
    ("--by 0", "Degrees other than 0 are needed"),
    ("--number 0", "Look at 1 direction or more"),
    ("--seeds 3-2", "The range 3-2 of seeds ends before it begins"),
    ("--truncation-psi 3", "truncation_psi must lie in [-2, 2]"),
    ("--samples 10", "--samples is for pca"),
    ("--method pca --samples 1", "PCA needs 2 samples or more"),
    ("--method pca --to-rgb all", "--to-rgb is for sefa"),
    ("--directions no.safetensors", "no.safetensors"),
    ("--directions no.pt --method pca --layers 2", "leave --method and --layers out"),
    ("--alpha no.safetensors", "no.safetensors is no alpha network file"),
    ("--device toaster", "toaster"),
    ("--factor x.txt", "A factor file's name ends in .pt"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_values_are_one_sentence_and_write_nothing(command, words, message, refused):
    assert message in refused(command(*words.split()))


def test_bad_files_are_refused_and_nothing_is_run(command, tmp_path, refused, generator_file):
    bad = hostile(tmp_path / "factor.pt")
    assert "factor.pt" in refused(command("--directions", bad))
    torch.save({"eigvec": torch.eye(512)}, bad)
    assert "of another generator: its directions have 512 numbers" in refused(command("--directions", bad))
    assert "holds a checkpoint of kind 'generator'" in refused(command("--directions", generator_file))
    file = tmp_path / "file"
    file.write_text("")
    assert f"--out names the file {file}" in refused(["directions", str(generator_file), "--out", str(file)])
