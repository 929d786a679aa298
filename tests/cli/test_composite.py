from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from labels4free import cli

GREEN, RED, PINK = (10, 160, 40), (230, 30, 20), (240, 30, 200)


@pytest.fixture(autouse=True)
def _pictures(tmp_path, monkeypatch, quick):
    """A red box on green; the edit, a pink box beside on another background; a mask of each."""
    monkeypatch.chdir(tmp_path)
    for name, colour, behind, box in (("old", RED, GREEN, (10, 16, 34, 48)), ("new", PINK, "black", (30, 16, 54, 48))):
        picture, mask = Image.new("RGB", (64, 48), behind), Image.new("L", (64, 48))
        picture.paste(colour, box)
        mask.paste(255, box)
        picture.save(f"{name}.png")
        mask.save(f"{name}_mask.png")
    Image.new("RGB", (64, 48), GREEN).save("empty.png")
    (tmp_path / "text.jpg").write_text("no image")


MASKS = ["--foreground-mask", "new_mask.png", "--background-mask", "old_mask.png"]


@pytest.fixture
def composite(red_file, said):
    """Run the verb: (exit code, lines on stdout, lines on stderr)."""

    def composite(*words, foreground="new.png", background="old.png", out="out.png", model=red_file):
        command = ["composite", "--foreground", foreground, "--background", background, "--out", out, *words]
        code, out, ours = said(*command, "--model", model)
        return code, out.splitlines(), ours

    return composite


def read(path="out.png"):
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


@pytest.mark.parametrize(
    "words",
    [[], ["--no-refine"], ["--fill", "smooth"], [*MASKS, "--margin", "2"], MASKS[:2]],
    ids=["model", "plain", "smooth", "masks", "one mask"],
)
def test_the_new_object_stands_before_the_old_background(composite, words):
    code, out, err = composite(*words)
    assert (code, err) == (0, [])
    assert len(out) == 1
    assert out[0].startswith("out.png: ")
    assert out[0].endswith("% of its pixels had been covered and were filled")
    pixels = read()
    assert pixels.shape == (48, 64, 3)
    np.testing.assert_array_equal(pixels[:8], np.broadcast_to(GREEN, (8, 64, 3)))
    assert np.abs(pixels[40, 14] - GREEN).max() <= 3
    assert np.abs(pixels[40, 42] - PINK).max() <= 3
    assert np.abs(pixels[40, 60] - GREEN).max() <= 3


def test_masks_need_no_model(composite):
    assert composite(*MASKS, model="none")[0] == 0
    assert composite(*MASKS[:2], model="none", out="other.png")[0] == cli.FAILURE


def test_notes_are_said(composite):
    with Image.open("new.png") as picture:
        picture.resize((128, 96)).save("large.png")
    code, _, err = composite(foreground="large.png", background="empty.png")
    assert code == 0
    assert err == [
        "the original: found nothing to cut out: the mask is empty.",
        "scaled the edited picture from 128x96 to 64x48 pixels.",
    ]


def test_an_older_picture_is_replaced_only_if_asked(composite):
    Image.new("RGB", (1, 1)).save("out.png")
    assert composite() == (cli.FAILURE, [], ["out.png is there already; choose another name, or --overwrite."])
    assert read().shape == (1, 1, 3)
    assert composite("--overwrite", *MASKS)[0] == 0
    assert read().shape == (48, 64, 3)


def test_missing_folders_are_made(composite):
    assert composite(*MASKS, out="new/folder/out.png")[0] == 0
    assert read("new/folder/out.png").shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("options", "words", "message"),
    [
        ({"foreground": "none.png"}, [], "none.png"),
        ({"background": "text.jpg"}, [], "text.jpg cannot be read as an image"),
        ({"foreground": "empty.png"}, [], "Nothing to put over the background was found in the edited picture"),
        ({"foreground": "narrow.png"}, [], "of 40x48 pixels does not fit the original, which has 64x48"),
        ({}, ["--foreground-mask", "narrow.png"], "A mask of 40x48 pixels does not fit new.png, which has 64x48"),
        ({}, ["--foreground-mask", "text.jpg"], "text.jpg cannot be read as an image"),
        ({}, ["--background-mask", "white.png"], "Nothing of the background can be seen"),
        ({}, ["--background-mask", "old.png"], "old.png is no mask"),
        ({}, ["--margin", "-1"], "must be 0 pixels or more, got -1"),
        ({"out": "out.jpg"}, [], "--out names out.jpg; what is written is a PNG"),
        ({"out": "."}, [], "--out names the folder ."),
        ({"out": "old.png"}, ["--overwrite"], "--out would replace old.png, which is read"),
        ({"out": "old_mask.png"}, [*MASKS, "--overwrite"], "--out would replace old_mask.png"),
        ({"out": "text.jpg/out.png"}, MASKS, "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(composite, tmp_path, options, words, message):
    Image.new("L", (64, 48), 255).save("white.png")
    wide = Image.new("RGB", (40, 48))
    wide.paste((255, 255, 255), (10, 10, 30, 40))
    wide.save("narrow.png")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    code, out, err = composite(*words, **options)
    assert (code, out, len(err)) == (cli.FAILURE, [], 1)
    assert message in err[0]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_the_library_smooth_still_serves(composite, monkeypatch):
    monkeypatch.setitem(sys.modules, "patchmatch", None)
    code, _, err = composite(*MASKS)
    assert code == cli.FAILURE
    assert "pip install PyPatchMatch, or fill smooth" in err[0]
    assert composite(*MASKS, "--fill", "smooth")[0] == 0


@pytest.mark.slow
def test_masks_need_no_pytorch(without_torch):
    without_torch(["composite", "--foreground", "new.png", "--background", "old.png", "--out", "out.png", *MASKS])
    assert np.abs(read()[40, 42] - PINK).max() <= 3
