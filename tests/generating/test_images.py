from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from tests.refusals import refuses
from tests.tiny import tiny_generator as build_generator

from labels4free.errors import ConfigError, DataError, RunError
from labels4free.generating import picture_folder
from labels4free.generating.images import Sources, generate_images
from labels4free.generating.latent_files import read_latents
from labels4free.generating.picture_folder import MANIFEST, FileFormat
from labels4free.generating.rendering import PictureConfig, Renderer
from labels4free.pictures import pixels as image_files


def renderer(generator, **settings):
    return Renderer(generator, PictureConfig(**settings))


def names(out):
    return sorted(path.name for path in out.iterdir())


def content(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


def pixels(path):
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


@pytest.mark.slow
def test_files_hold_the_pictures_of_their_seeds(tmp_path, any_generator):
    made = renderer(any_generator)
    seen = []
    summary = generate_images(made, tmp_path / "o", Sources([42, 7]), progress=lambda *state: seen.append(state))
    assert names(tmp_path / "o") == ["contact_sheet.png", MANIFEST, "seed00007.png", "seed00042.png"]
    for seed in (7, 42):
        expected = made.pictures(made.ws_of_seed(seed), "fixed")[0]
        assert np.array_equal(pixels(tmp_path / "o" / f"seed{seed:05d}.png"), expected)
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert (summary.num, summary.rendered, summary.out) == (2, 2, tmp_path / "o")
    assert summary.contact_sheet.is_file()


@pytest.mark.slow
def test_pictures_do_not_depend_on_each_other_or_the_batch(tmp_path, any_generator):
    generate_images(renderer(any_generator, noise="random"), tmp_path / "a", Sources([1, 2, 3]))
    generate_images(renderer(any_generator, noise="random", batch_size=1), tmp_path / "b", Sources([3]))
    assert (tmp_path / "a" / "seed00003.png").read_bytes() == (tmp_path / "b" / "seed00003.png").read_bytes()


def test_manifest(tmp_path, tiny_generator):
    made = renderer(tiny_generator, size=32, background="default")
    generate_images(made, tmp_path, Sources([1]), FileFormat("jpeg", 80), generator_name="tiny")
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["kind"] == "labels4free_pictures"
    assert manifest["generator"]["name"] == "tiny"
    assert manifest["settings"] == {
        "truncation_psi": 0.7,
        "truncation_cutoff": None,
        "noise": "fixed",
        "label": None,
        "size": 32,
        "background": tiny_generator.default_background,
        "latents": None,
        "latents_psi": None,
        "format": "jpeg",
        "quality": 80,
    }


@pytest.mark.parametrize(("name", "ending", "kind"), [("jpeg", ".jpg", "JPEG"), ("webp", ".webp", "WEBP")])
def test_other_formats(tmp_path, tiny_generator, name, ending, kind):
    made = renderer(tiny_generator)
    generate_images(made, tmp_path, Sources([1]), FileFormat(name, 95))
    path = tmp_path / f"seed00001{ending}"
    with Image.open(path) as picture:
        assert picture.format == kind
    exact = made.pictures(made.ws_of_seed(1), "fixed")[0]
    grey = [np.array(Image.fromarray(one).convert("L")).astype(int) for one in (pixels(path), exact)]
    assert 0 < np.abs(grey[0] - grey[1]).mean() < 8  # WebP halves the resolution of colours
    small = tmp_path / "small"
    generate_images(made, small, Sources([1]), FileFormat(name, 5))
    assert (small / path.name).stat().st_size < path.stat().st_size


def test_what_is_there_is_not_rendered_again(tmp_path, tiny_generator):
    made = renderer(tiny_generator)
    generate_images(made, tmp_path / "whole", Sources([1, 2, 3]))
    generate_images(made, tmp_path / "o", Sources([2]))
    before = (tmp_path / "o" / "seed00002.png").stat().st_mtime_ns
    seen = []
    summary = generate_images(made, tmp_path / "o", Sources([1, 2, 3]), progress=lambda *state: seen.append(state))
    assert (summary.num, summary.rendered) == (3, 2)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (tmp_path / "o" / "seed00002.png").stat().st_mtime_ns == before
    assert content(tmp_path / "o") == content(tmp_path / "whole")


def test_an_interrupted_call_is_continued_to_the_same_bytes(tmp_path, tiny_generator):
    made = renderer(tiny_generator)
    seeds = list(range(6))
    generate_images(made, tmp_path / "whole", Sources(seeds), save_latents=True)

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_images(made, tmp_path / "o", Sources(seeds), progress=interrupt)
    there = names(tmp_path / "o")
    assert 3 <= len([n for n in there if n.startswith("seed")]) < 6
    assert not [n for n in there if n.endswith(".tmp")]
    generate_images(made, tmp_path / "o", Sources(seeds), save_latents=True)
    assert content(tmp_path / "o") == content(tmp_path / "whole")


def test_leftovers_of_a_killed_process_go(tmp_path, tiny_generator):
    generate_images(renderer(tiny_generator), tmp_path, Sources([1]))
    left = tmp_path / ".seed00002.png.0-1.tmp"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    generate_images(renderer(tiny_generator), tmp_path, Sources([1]))
    assert not left.exists()


@pytest.mark.slow
def test_latents_come_behind_the_seeds(tmp_path, any_generator):
    made = renderer(any_generator)
    latents = torch.cat([any_generator.draw_ws(seed, 0, 0.7) for seed in (8, 9)])
    generate_images(made, tmp_path / "o", Sources([8], latents), save_latents=True)
    latent_files = ["latent00000.png", "latent00001.png", "latents.npz"]
    assert names(tmp_path / "o") == ["contact_sheet.png", *latent_files, MANIFEST, "seed00008.png"]
    seed, same = (tmp_path / "o" / name for name in ("seed00008.png", "latent00000.png"))
    assert seed.read_bytes() == same.read_bytes()
    saved = read_latents(tmp_path / "o" / "latents.npz", any_generator)
    assert saved.equal(torch.cat((made.ws_of_seed(8), latents)))
    with np.load(tmp_path / "o" / "latents.npz") as arrays:
        assert arrays["seeds"].tolist() == [8, -1, -1]
    generate_images(made, tmp_path / "again", Sources([], saved))
    assert (tmp_path / "again" / "latent00002.png").read_bytes() == (tmp_path / "o" / "latent00001.png").read_bytes()


def test_other_latents_need_another_folder(tmp_path, tiny_generator):
    made = renderer(tiny_generator)
    latents = [tiny_generator.draw_ws(seed, 0) for seed in (1, 2)]
    generate_images(made, tmp_path, Sources([5]))
    generate_images(made, tmp_path, Sources([5], latents[0]))  # seeds alone may be joined by latents
    generate_images(made, tmp_path, Sources([6]))  # and by seeds, which does not forget the latents
    before = content(tmp_path)
    with pytest.raises(RunError, match="holds pictures of another set of latents: choose another"):
        generate_images(made, tmp_path, Sources([], latents[1]))
    assert content(tmp_path) == before


def test_truncated_latents_are_others(tmp_path, tiny_generator):
    latents = tiny_generator.draw_ws(1, 0)
    generate_images(renderer(tiny_generator), tmp_path, Sources([], latents))
    generate_images(renderer(tiny_generator, truncation_psi=0.7), tmp_path / "o", Sources([1], latents))
    assert (tmp_path / "o" / "latent00000.png").read_bytes() == (tmp_path / "o" / "seed00001.png").read_bytes()
    with pytest.raises(RunError, match=r"made with truncation_psi of latents 1.0, asked for was 0.7"):
        generate_images(renderer(tiny_generator, truncation_psi=0.7), tmp_path, Sources([], latents))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"truncation_psi": 0.5}, "holds pictures made with truncation_psi 0.7, asked for was 0.5: choose another"),
        ({"noise": "none"}, "made with noise fixed, asked for was none"),
        ({"size": 32}, "made with size 64, asked for was 32"),
        ({"truncation_cutoff": 3}, "made with truncation_cutoff by default, asked for was 3"),
    ],
)
def test_other_settings_need_another_folder(tmp_path, tiny_generator, changes, said):
    generate_images(renderer(tiny_generator), tmp_path, Sources([1]))
    before = content(tmp_path)
    refuses(RunError, said, generate_images, renderer(tiny_generator, **changes), tmp_path, Sources([2]))
    assert content(tmp_path) == before


def test_another_format_or_generator_needs_another_folder(tmp_path, tiny_generator):
    generate_images(renderer(tiny_generator), tmp_path, Sources([1]))
    with pytest.raises(RunError, match="made with format png, asked for was jpeg"):
        generate_images(renderer(tiny_generator), tmp_path, Sources([1]), FileFormat("jpeg"))
    with pytest.raises(RunError, match="holds pictures of another generator"):
        generate_images(renderer(build_generator(seed=1)), tmp_path, Sources([1]))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "labels4free_samples", "settings": {}}', "[" * 100_000])
def test_another_manifest(tmp_path, tiny_generator, text):
    (tmp_path / MANIFEST).write_text(text)
    refuses(RunError, "manifest of pictures", generate_images, renderer(tiny_generator), tmp_path, Sources([1]))


def test_places_that_cannot_serve(tmp_path, tiny_generator):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file is a file, a folder was expected"):
        generate_images(renderer(tiny_generator), tmp_path / "file", Sources([1]))
    with pytest.raises(RunError, match="is not empty and holds no earlier pictures"):
        generate_images(renderer(tiny_generator), tmp_path, Sources([1]))
    assert names(tmp_path) == ["file"]


def test_nothing_to_render(tmp_path, tiny_generator):
    with pytest.raises(ConfigError, match="There is nothing to render: give seeds, latents or both"):
        generate_images(renderer(tiny_generator), tmp_path / "o", Sources())
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", ["png", "jpeg"])
def test_no_space(tmp_path, tiny_generator, monkeypatch, name):
    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    module = image_files if name == "png" else picture_folder
    generate_images(renderer(tiny_generator), tmp_path, Sources([1]), FileFormat(name))
    monkeypatch.setattr(module, "write_atomically", fail)
    if name == "jpeg":  # the manifest can be written
        monkeypatch.setattr(picture_folder, "open_folder", lambda *arguments: None)
        monkeypatch.setattr("labels4free.generating.images.open_folder", lambda *arguments: None)
    with pytest.raises(DataError, match=r"There is no space left to write .*seed00002"):
        generate_images(renderer(tiny_generator), tmp_path, Sources([1, 2]), FileFormat(name))


def test_a_damaged_picture_is_named(tmp_path, tiny_generator):
    generate_images(renderer(tiny_generator), tmp_path, Sources([1, 2]))
    (tmp_path / "seed00001.png").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"seed00001.png is damaged .*: remove it, and the same command makes it again"):
        generate_images(renderer(tiny_generator), tmp_path, Sources([1, 2]))


@pytest.mark.slow
def test_the_sheet_shows_the_first_64(tmp_path, tiny_generator):
    generate_images(renderer(tiny_generator, size=4), tmp_path, Sources(range(66)))
    sheet = pixels(tmp_path / "contact_sheet.png")
    assert sheet.shape[0] == 6 + 8 * (160 + 6)
    assert 8 * 166 < sheet.shape[1] < 9 * 166


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gif",), "name must be one of png, jpeg, webp, got 'gif'"),
        (("jpeg", 0), r"quality must lie in \[1, 100\], got 0"),
        (("webp", 101), r"quality must lie in \[1, 100\], got 101"),
    ],
)
def test_formats_that_cannot_be(arguments, said):
    refuses(ConfigError, said, FileFormat, *arguments)
