from __future__ import annotations

import inspect
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image
from tests.tiny import tiny_stylegan2
from tests.tiny_run import write_generator

from labels4free import cli
from labels4free.checkpoints import loading
from labels4free.cli import generate
from labels4free.generating import images
from labels4free.generating.directions import sefa, write_directions
from labels4free.generating.interpolation import FilmConfig
from labels4free.generating.picture_folder import FileFormat
from labels4free.generating.rendering import PictureConfig, Renderer
from labels4free.pictures import films


@pytest.fixture(scope="session")
def conditional_file(tmp_path_factory):
    return write_generator(tmp_path_factory.mktemp("generator") / "classes.safetensors", tiny_stylegan2(c_dim=3))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def command(generator_file, out):
    """The verb with the tiny generator, into the folder ``out``."""
    return lambda *words: ["generate", str(generator_file), "--out", str(out), *map(str, words)]


@pytest.fixture
def call(command):
    return lambda *words: cli.main(command(*words))


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def pixels(path):
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


def test_pictures(call, out, tiny_generator, capsys):
    assert call("--seeds", "0-1,1000", "--size", "32", "--truncation-psi", "0.5") == cli.SUCCESS
    assert names(out) == ["contact_sheet.png", "pictures.json", "seed00000.png", "seed00001.png", "seed01000.png"]
    made = Renderer(tiny_generator, PictureConfig(size=32, truncation_psi=0.5))
    assert np.array_equal(pixels(out / "seed01000.png"), made.pictures(made.ws_of_seed(1000), "fixed")[0])
    said = capsys.readouterr().out
    assert said == f"3 pictures in {out}\nContact sheet: {out / 'contact_sheet.png'}\n"
    assert call("--seeds", "0-4", "--size", "32", "--truncation-psi", "0.5") == cli.SUCCESS
    assert f"5 pictures in {out}, 2 of them from before" in capsys.readouterr().out


def test_every_setting_reaches_the_pictures(out, conditional_file):
    words = "--seeds 3 --truncation-psi 0.6 --truncation-cutoff 4 --noise none --label 1 --background default --size 16"
    words += f" --format jpeg --quality 7 --out {out}"
    command = ["generate", str(conditional_file), *words.split()]
    assert cli.main(command) == cli.SUCCESS
    generator = loading.load_generator(conditional_file)
    config = PictureConfig(0.6, 4, "none", 1, 16, "default")
    made = Renderer(generator, config)
    expected = out.parent / "expected.jpg"
    FileFormat("jpeg", 7).write(expected, made.pictures(made.ws_of_seed(3), "none")[0])
    assert (out / "seed00003.jpg").read_bytes() == expected.read_bytes()


def test_latents_out_and_in(call, out, generator_file, capsys):
    assert call("--seeds", "5,6", "--save-latents") == cli.SUCCESS
    assert f"Latents: {out / 'latents.npz'}" in capsys.readouterr().out
    again = out.parent / "again"
    file = str(out / "latents.npz")
    command = ["generate", str(generator_file), "--out", str(again), "--latents", file, file]
    assert cli.main(command) == cli.SUCCESS
    for k, seed in enumerate((5, 6, 5, 6)):
        got, expected = again / f"latent{k:05d}.png", out / f"seed{seed:05d}.png"
        assert got.read_bytes() == expected.read_bytes()


def test_grid(call, out, capsys):
    words = ["--mix-rows", "1,2", "--mix-columns", "10-12", "--mix-layers", "0-2,5", "--mix-singles", "--size", "16"]
    assert call(*words) == cli.SUCCESS
    assert f"Grid: {out / 'mix_0-2,5.png'}\n" in capsys.readouterr().out
    assert names(out) == [
        "mix_0-2,5.png",
        *(f"mix_0-2,5/seed0000{row}_seed000{column}.png" for row in (1, 2) for column in (10, 11, 12)),
        "pictures.json",
    ]


def test_film_alone_needs_no_folder(tmp_path, generator_file, capsys, monkeypatch):
    film = tmp_path / "new" / "film.gif"
    words = ["--seeds", "1-3", "--frames", "4", "--fps", "8", "--size", "32", "--loop", "--space", "z"]
    assert cli.main(["generate", str(generator_file), "--interpolate", str(film), *words]) == cli.SUCCESS
    assert capsys.readouterr().out == f"Film: {film}, 12 frames of 32x32, 1.5 s\n"
    with Image.open(film) as picture:
        assert picture.n_frames == 12
    assert names(tmp_path) == ["new/film.gif"]


def test_moved_along_a_direction(call, out, tiny_generator, capsys):
    film, directions = out / "film.webp", sefa(tiny_generator)
    words = f"--seeds 1 --direction 2 --by -1..1 --interpolate {film} --frames 2 --size 32".split()
    assert call(*words) == cli.SUCCESS
    assert names(out) == ["direction_2.png", "film.webp", "pictures.json"]
    said = capsys.readouterr().out
    assert said == f"Grid: {out / 'direction_2.png'}\nFilm: {film}, 5 frames of 32x32, 0.2 s\n"
    made = Renderer(tiny_generator, PictureConfig(size=32))
    grid = pixels(out / "direction_2.png")
    for column, degree in enumerate((-1, 0, 1)):
        left = grid.shape[1] - (3 - column) * 38
        ws = made.ws_of_seed(1) + 0.7 * degree * directions.step(2, 11)
        assert np.array_equal(grid[-38:-6, left : left + 32], made.pictures(ws, "fixed")[0])
    write_directions(out.parent / "d.safetensors", directions, tiny_generator)
    assert call(*words, "--directions", str(out.parent / "d.safetensors")) == cli.SUCCESS
    assert np.array_equal(pixels(out / "direction_2.png"), grid)


def test_all_at_once(call, out):
    film = out / "film.webp"
    words = f"--seeds 1,2 --mix-rows 1 --mix-columns 2 --interpolate {film} --frames 2 --size 16".split()
    assert call(*words) == cli.SUCCESS
    files = ["contact_sheet.png", "film.webp", "mix_0-3.png", "pictures.json", "seed00001.png", "seed00002.png"]
    assert names(out) == files
    assert call(*words) == cli.SUCCESS  # and once more
    assert names(out) == files


def test_defaults_are_those_of_the_library():
    flags = inspect.signature(generate.run).parameters
    shared = [field for config in (PictureConfig, FilmConfig, FileFormat) for field in fields(config)]
    assert len(shared) == 14
    for field in shared:
        assert flags["format" if field.name == "name" else field.name].default == field.default


BAD = [
    ("", "There is nothing to render: give --seeds such as 0-99,1000, or --latents."),
    ("--seeds 5-2", "The range 5-2 of seeds ends before it begins: write 2-5."),
    ("--seeds a", "seeds must be numbers from 0 and ranges"),
    ("--seeds ,", "got ''"),
    ("--seeds=", "got none"),
    ("--seeds=-1", "got '-1'"),
    ("--seeds 9223372036854775809", "seeds go from 0 to 4294967295, got '9223372036854775809'"),
    ("--seeds 1,2,1", "seeds must differ, 1 comes twice"),
    ("--seeds 1 --truncation-psi 3", "truncation_psi must lie in [-2, 2], got 3.0"),
    ("--seeds 1 --truncation-cutoff 12", "truncation_cutoff must lie in [0, 11]"),
    ("--seeds 1 --size 48", "size must divide the generator's resolution 64, got 48"),
    ("--seeds 1 --label 0", "no classes, so leave the label out"),
    ("--seeds 1 --background sky", "Unknown background mode 'sky'"),
    ("--seeds 1 --quality 0", "quality must lie in [1, 100], got 0"),
    ("--seeds 1 --batch-size 0", "batch_size must be at least 1"),
    ("--seeds 1 --device toaster", "toaster"),
    ("--latents /no/such.npz", "There is no file of latents at /no/such.npz"),
    ("--save-latents", "There are no latents to save"),
    ("--mix-rows 1", "needs both --mix-rows and --mix-columns"),
    ("--mix-columns 1", "needs both --mix-rows and --mix-columns"),
    ("--seeds 1 --mix-layers 1", "--mix-layers and --mix-singles are for a grid"),
    ("--seeds 1 --mix-singles", "--mix-layers and --mix-singles are for a grid"),
    ("--mix-rows 1 --mix-columns 3-2", "The range 3-2 of mix-columns ends before it begins"),
    ("--mix-rows 1 --mix-columns 2 --mix-layers 0-40", "has layers 0 to 10 to mix, got 0-40"),
    ("--mix-rows 1 --mix-columns 2 --save-latents", "There are no latents to save"),
    ("--seeds 1 --direction 8", "There are directions 0 to 7, got 8"),
    ("--seeds 1 --direction 0 --by nan", "Degrees lie in [-1000, 1000], got nan"),
    ("--seeds 1 --direction 0 --by 3..", "got '3..'"),
    ("--seeds 1 --direction 0 --directions no.pt", "no.pt"),
    ("--seeds 1 --directions no.pt", "--directions is for pictures that are moved"),
    ("--seeds 1 --by 3", "--by is for pictures that are moved"),
    ("--seeds 1 --direction 0 --save-latents", "--save-latents is for pictures as they are"),
    ("--seeds 1 --direction 0 --space z --interpolate x.gif", "A film along a direction goes through w"),
    ("--seeds 1 --direction 0 --by 3 --interpolate x.gif", "A film needs two pictures or more"),
    ("--direction 0", "There is nothing to render"),
    ("--interpolate x.gif", "A film goes from picture to picture"),
    ("--seeds 1 --interpolate x.gif", "A film needs two pictures or more to go between, got 1"),
    ("--seeds 1,2 --interpolate x.avi", "must end in .gif, .webp, .apng, .mp4; got 'x.avi'"),
    ("--seeds 1,2 --interpolate x.gif --fps 100", "fps must lie in [1, 50] for .gif, got 100"),
    ("--seeds 1,2 --interpolate x.gif --frames 0", "frames must be at least 1, got 0"),
]


@pytest.mark.parametrize(("words", "said"), BAD)
def test_bad_values_are_one_sentence_and_write_nothing(command, words, said, refused):
    assert said in refused(command(*words.split()))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--seeds 1", "Say what to write: --out DIR for pictures, --interpolate FILM for a film, or both."),
        ("--mix-rows 1 --mix-columns 2 --seeds 1,2 --interpolate x.gif", "A grid of mixed styles needs a folder"),
        ("--save-latents --seeds 1,2 --interpolate x.gif", "--save-latents needs a folder: give --out DIR."),
    ],
)
def test_what_needs_a_folder(generator_file, words, said, refused):
    assert said in refused(["generate", str(generator_file), *words.split()])


@pytest.mark.parametrize("words", ["--noise loud", "--format bmp", "--space x", "--frames many"])
def test_unknown_words_are_usage_errors(call, out, words, capsys):
    with pytest.raises(SystemExit) as end:
        call("--seeds", "1", *words.split())
    assert end.value.code == 2
    assert words.split(maxsplit=1)[0] in capsys.readouterr().err
    assert not out.exists()


def test_mp4_without_its_library(command, monkeypatch, refused):
    monkeypatch.setattr(films, "find_spec", lambda name: None)
    assert "or choose .webp, .apng or .gif" in refused(command("--seeds", "1,2", "--interpolate", "x.mp4"))


def test_places_that_cannot_serve(command, call, out, refused):
    out.write_text("")
    assert f"{out} is a file, a folder was expected" in refused(command("--seeds", "1"))
    out.unlink()
    assert call("--seeds", "1") == cli.SUCCESS
    said = refused(command("--seeds", "2", "--noise", "none"))
    assert "holds pictures made with noise fixed, asked for was none" in said


def test_interrupt_says_what_is_there(call, out, monkeypatch, capsys):
    def interrupted(*args, progress, **rest):
        progress(3, 9)
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "generate_images", interrupted)
    assert call("--seeds", "1-9") == cli.INTERRUPTED
    assert f"3 of 9 pictures are in {out}; the same command goes on from there." in capsys.readouterr().err
