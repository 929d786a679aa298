from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from labels4free import cli
from labels4free.checkpoints.loading import load_layered
from labels4free.generating.directions import sefa, write_directions
from labels4free.generating.latent_edits import edit_latents
from labels4free.generating.latent_files import write_latents
from labels4free.pictures.pixels import to_uint8


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def command(generator_file, out):
    return lambda *words: ["edit", str(generator_file), "--out", str(out), *map(str, words)]


def pixels(path):
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.mark.slow
def test_seeds_and_latents(command, out, tmp_path, write_alpha, said, tiny_generator, generator_file):
    alpha, latents, file = write_alpha(2.5), tmp_path / "latents.npz", tmp_path / "d.safetensors"
    directions = sefa(tiny_generator, [0, 1, 2])
    write_directions(file, directions, tiny_generator)
    write_latents(latents, [tiny_generator.draw_ws(9, 0)], [9], tiny_generator.w_avg)
    words = ["--alpha", alpha, "--seeds", "4", "--latents", latents, "--direction", "2", "--by", "-3,3"]
    words += ["--directions", file, "--fill", "smooth", "--margin", "0", "--truncation-psi", "0.5"]
    code, printed, ours = said(*command(*words))
    assert (code, ours) == (cli.SUCCESS, [])
    assert printed.splitlines()[-1] == f"Before and after: {out / 'before_after.png'}"
    layered, _ = load_layered(alpha, generator_file)
    ws, step = tiny_generator.draw_ws(4, 0, 0.5), directions.step(2, 11)
    for degree in (-3, 3):
        name = f"seed00004_by{degree:+d}"
        expected = to_uint8(edit_latents(layered, ws, ws + 0.5 * degree * step, fill="smooth", margin=0))[0]
        assert abs(pixels(out / f"{name}.png").astype(int) - expected).max() <= 1
        line = next(line for line in printed.splitlines() if line.startswith(name))
        assert "100.00% of the pixels are the original's; " in line
    assert (out / "latent00000_by+3.png").is_file()


@pytest.mark.slow
def test_without_directions_it_is_sefa(command, out, write_alpha, said, tiny_generator, tmp_path):
    write_directions(tmp_path / "d.safetensors", sefa(tiny_generator), tiny_generator)
    words = ["--alpha", write_alpha(), "--seeds", "4", "--direction", "0", "--fill", "smooth"]
    code, _, ours = said(*command(*words))
    assert (code, ours) == (cli.SUCCESS, ["seed00004_by+3: no object was found in the moved picture."])
    first = pixels(out / "seed00004_by+3.png")
    assert said(*command(*words, "--directions", tmp_path))[0] == cli.FAILURE  # there is no directions.safetensors
    assert said(*command(*words, "--directions", tmp_path / "d.safetensors"))[0] == cli.SUCCESS
    assert np.array_equal(pixels(out / "seed00004_by+3.png"), first)


BAD = [
    ("--direction 0", "There is nothing to edit: give --seeds"),
    ("--direction 8 --seeds 1", "There are directions 0 to 7, got 8"),
    ("--direction=-1 --seeds 1", "There are directions 0 to 7, got -1"),
    ("--direction 0 --seeds 1 --by nan", "Degrees lie in [-1000, 1000], got nan"),
    ("--direction 0 --seeds 1 --by x", "got 'x'"),
    ("--direction 0 --seeds 1 --margin -1", "got -1"),
    ("--direction 0 --latents no.npz", "There is no file of latents at no.npz"),
    ("--direction 0 --seeds 1 --directions no.pt", "no.pt"),
    ("--direction 0 --seeds 1 --truncation-psi nan", "truncation_psi"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_values_are_one_sentence_and_write_nothing(command, words, message, refused, write_alpha):
    alpha = write_alpha()
    assert message in refused(command("--alpha", alpha, *words.split()))


def test_what_tells_the_object_apart_must_be_known(command, refused, generator_file):
    said = refused(command("--direction", "0", "--seeds", "1"))
    assert f"No alpha network ships for {generator_file}: say with --alpha" in said


def test_files_of_another_generator_are_refused(command, refused, write_alpha, tmp_path, tiny_generator):
    alpha, bad = write_alpha(), tmp_path / "factor.pt"
    torch.save({"eigvec": torch.eye(512)}, bad)
    words = ["--alpha", alpha, "--direction", "0", "--seeds", "1", "--directions"]
    assert "its directions have 512 numbers" in refused(command(*words, bad))
    assert "expected kind 'directions'" in refused(command(*words, alpha))
