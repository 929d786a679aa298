from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.picture_files import cut, noise_png
from tests.evaluation.mask_folders import write
from tests.small_segmenters import tiny_segmenter, write_segmenter

from labels4free import cli
from labels4free.segmenting.segmenter import Segmenter

pytestmark = pytest.mark.slow

GREEN, RED = (10, 160, 40), (230, 30, 20)
BOX = (10, 8, 30, 24)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    Path("temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture
def evaluate(red_file, said):
    """Run the verb with the segmenter: (exit code, stdout, lines on stderr that are ours); nothing temporary stays."""

    def evaluate(*words, model=red_file):
        found = said("evaluate", "--model", model, "--bootstrap", 20, *words)
        assert os.listdir("temporary") == []
        assert list(Path().rglob(".*")) == []
        return found

    return evaluate


def image(path, size=(40, 30), person=True):
    picture = Image.new("RGB", size, GREEN)
    if person:
        picture.paste(RED, BOX)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def truth(path, size=(40, 30), box=BOX):
    mask = np.zeros(size[::-1], np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 255
    write(path, mask)


def photos(root=Path(), count=2):
    """Images of a red box each; the k-th truth is k pixels off."""
    for number in range(count):
        image(root / "images" / f"{number}.bmp")
        truth(root / "gt" / f"{number}.png", box=(BOX[0] + number, *BOX[1:]))
    return ["--images", root / "images", "--gt", root / "gt"]


def figures(words, evaluate, **options):
    assert evaluate(*words, "--json", "a.json", **options)[0] == cli.SUCCESS
    return json.loads(Path("a.json").read_text())


def test_the_images_are_segmented_and_scored(evaluate, red_file):
    words = photos()
    code, out, err = evaluate(*words, "--json", "a.json")
    digest = hashlib.sha256(red_file.read_bytes()).hexdigest()
    assert (code, err) == (cli.SUCCESS, [])
    assert out.startswith(f"Masks of {red_file} (SHA-256 {digest[:12]}), refined (guided).\n\n2 pairs of masks\n")
    found = json.loads(Path("a.json").read_text())
    assert found["model"] == {"name": str(red_file), "sha256": digest, "refinement": "guided", "mirrored": False}
    ious = [entry["iou_foreground"] for entry in found["images"]]
    assert ious[0] > 0.85
    assert ious[1] < ious[0]
    assert sorted(os.listdir()) == ["a.json", "gt", "images", "temporary"]


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ([], {}),
        (["--refine", "--mirrored"], {"mirrored": True}),
        (["--no-refine"], {"refine": None}),
        (["--no-refine", "--mirrored"], {"refine": None, "mirrored": True}),
    ],
)
def test_what_is_scored_is_the_soft_alpha_of_the_segmenter(evaluate, tmp_path, flags, options):
    file = write_segmenter(tmp_path / "tiny.safetensors", tiny_segmenter())
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    write(Path("images/0.png"), pixels)
    truth(Path("gt/0.png"))
    alpha = Segmenter.load(file).segment(pixels, **options).alpha
    assert len(np.unique(alpha)) > 20
    found = figures(["--images", "images", "--gt", "gt", "--keep", "new/kept", *flags], evaluate, model=file)
    with Image.open("new/kept/0.png") as kept, Image.open("gt/0.png") as true:
        np.testing.assert_array_equal(np.asarray(kept), alpha)
        error = np.abs(alpha / 255 - np.asarray(true) / 255).mean()
    assert found["images"][0]["mae"] == pytest.approx(error, abs=1e-6)
    refined = "refine" not in options
    assert (found["model"]["refinement"], found["model"]["mirrored"]) == (
        "guided" if refined else None,
        "mirrored" in options,
    )


def test_classes_by_a_star_and_what_is_kept_scores_the_same(evaluate):
    for group in ("Cats", "Cars"):
        photos(Path("set", group))
    words = ["--images", "set/*/images", "--gt", "set/*/gt"]
    found = figures([*words, "--keep", "kept"], evaluate)
    assert [entry["name"] for entry in found["images"]] == ["Cars/0", "Cars/1", "Cats/0", "Cats/1"]
    assert set(found["groups"]) == {"Cars", "Cats"}
    again = ["evaluate", "--pred", "kept", "--gt", "set/*/gt", "--bootstrap", "20", "--json", "b.json"]
    assert cli.main(again) == cli.SUCCESS
    del found["model"]
    assert json.loads(Path("b.json").read_text()) == found


def test_the_page_and_the_sheet_show_the_images_and_name_the_model(evaluate, red_file, monkeypatch):
    from labels4free.pictures import contact_sheet as sheet

    headings, heading = [], sheet.heading
    monkeypatch.setattr(sheet, "heading", lambda words, width: headings.append(words[0]) or heading(words, width))
    code, out, _ = evaluate(*photos(), "--html", "a.html", "--sheet", "a.jpg", "--no-refine")
    assert code == cli.SUCCESS
    assert out.endswith("Page: a.html\nSheet: a.jpg\n")
    page = Path("a.html").read_text()
    assert page.count("<img") == 2
    assert f"<p>{headings[0]} 2 pairs of masks: mean IoU" in page
    assert headings[0].startswith(f"Masks of {red_file} (SHA-256 ")
    assert headings[0].endswith("), not refined.")
    with Image.open("a.jpg") as drawn:
        corner = np.asarray(drawn)[-150 + 72, 6 + 198 + 10]  # in the middle of the last row, left of the box
    np.testing.assert_allclose(corner, GREEN, atol=12)


def test_the_original_s_table_takes_hard_masks(red_file, capsys):
    words = ["evaluate", "--model", str(red_file), *map(str, photos()), "--faithful"]
    assert cli.main([*words, "--keep", "kept", "--json", "a.json"]) == cli.SUCCESS
    assert capsys.readouterr().out.startswith(f"Masks of {red_file} (SHA-256 ")
    found = json.loads(Path("a.json").read_text())
    assert found["model"]["refinement"] == "guided"
    assert found["groups"][""]["bg"]["IoU"] > 0.85
    with Image.open("kept/0.png") as mask:
        assert set(np.unique(mask)) == {0, 255}
    assert cli.main([*words, "--threshold", "0.4"]) == cli.FAILURE
    assert "--faithful has rules of its own" in capsys.readouterr().err


def test_an_exported_model(evaluate, red_onnx):
    assert figures(photos(), evaluate, model=red_onnx)["model"]["sha256"] == (
        hashlib.sha256(red_onnx.read_bytes()).hexdigest()
    )


def test_images_with_nothing_in_them_are_said(evaluate):
    words = photos()
    image(Path("images/1.bmp"), person=False)
    code, _, err = evaluate(*words, "--keep", "kept")
    assert (code, err) == (cli.SUCCESS, ["images/1.bmp: found nothing to cut out: the mask is empty."])
    with Image.open("kept/1.png") as mask:
        assert not np.asarray(mask).any()


def test_images_of_another_size_than_their_truth(evaluate):
    words = photos()
    image(Path("images/1.bmp"), size=(80, 60))
    code, out, err = evaluate(*words, "--keep", "kept")
    assert (code, out) == (cli.FAILURE, "")
    assert err[0] == (
        "1 of 2 images have another size than the true mask, in pixels: images/1.bmp (80x60, true mask 40x30); give "
        "files of one size, or allow resizing the predictions with --resize."
    )
    assert not Path("kept").exists()
    assert evaluate(*words, "--resize")[0] == cli.SUCCESS


def test_an_image_that_cannot_be_read_or_lacks_its_truth(evaluate):
    words = photos()
    noise_png(Path("images/2.png"))
    truth(Path("gt/2.png"), size=(64, 64))
    cut(Path("images/2.png"))
    code, out, err = evaluate(*words, "--keep", "kept")
    assert (code, out, len(err)) == (cli.FAILURE, "", 1)
    assert err[0].startswith("images/2.png cannot be read as an image")
    assert not Path("kept").exists()
    Path("gt/2.png").unlink()
    code, out, err = evaluate(*words)
    assert (code, out) == (cli.FAILURE, "")
    assert "gt has 2 files and images 3, of which images/2.png is without a partner" in err[0]


@pytest.mark.parametrize("keep", [(), ("--keep", "new/kept")])
def test_an_interrupt_leaves_nothing(evaluate, monkeypatch, keep):
    segment = Segmenter.segment
    seen = []

    def once(self, photo, **options):
        if seen:
            assert len([path for path in Path().rglob("0.png") if path.parent.name == "predictions"]) == 1
            raise KeyboardInterrupt
        seen.append(photo)
        return segment(self, photo, **options)

    monkeypatch.setattr(Segmenter, "segment", once)
    code, out, err = evaluate(*photos(), *keep)
    assert (code, out, err) == (cli.INTERRUPTED, "", ["Interrupted."])
    assert not Path("new/kept").exists()
    assert len(seen) == 1


def test_an_image_beyond_memory(evaluate, monkeypatch):
    def full(self, photo, **options):
        raise MemoryError

    monkeypatch.setattr(Segmenter, "segment", full)
    assert evaluate(*photos())[2] == ["images/0.bmp does not fit into memory; make it smaller."]


def test_where_predictions_are_kept(evaluate):
    words = photos()
    Path("empty").mkdir()
    assert evaluate(*words, "--keep", "empty")[1].endswith("Predictions: empty\n")
    assert sorted(os.listdir("empty")) == ["0.png", "1.png"]
    before = Path("gt/0.png").read_bytes()
    Path("a").touch()
    filled = " is not empty and holds no earlier predictions (it holds 0.png, 1.png): choose a new or empty folder."
    wrong = "a is a file, a folder was expected: choose another output folder."
    for keep, what in (("gt", f"gt{filled}"), ("empty", f"empty{filled}"), ("a", wrong)):
        assert evaluate(*words, "--keep", keep) == (cli.FAILURE, "", [what])
    assert Path("gt/0.png").read_bytes() == before
    code, _, err = evaluate(*words, "--keep", "a/kept")
    assert code == cli.FAILURE
    assert "a/kept cannot be written" in err[0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Give the predicted masks with --pred DIR, or a segmenter with --model FILE --images DIR."),
        (["--model", "x", "--pred", "gt"], "--model predicts the masks that --pred gives"),
        (["--model", "x"], "--model segments images: say where they are with --images DIR."),
        (["--pred", "gt", "--keep", "kept"], "are for --model; leave them out with --pred."),
        (["--pred", "gt", "--no-refine"], "are for --model; leave them out with --pred."),
        (["--pred", "gt", "--mirrored"], "are for --model; leave them out with --pred."),
        (["--pred", "gt", "--device", "cuda"], "are for --model; leave them out with --pred."),
        (["--pred", "gt", "--sheet", "a.jpg"], "--sheet shows the images: say where they are with --images DIR."),
        (["--pred", "gt", "--images", "images", "--sheet", "a.gif"], "A sheet's name must end in .jpg, .jpeg, .png"),
        (["--pred", "gt", "--images", "images", "--sheet", "gt"], "--sheet names the folder gt"),
        (["--pred", "gt", "--faithful", "--images", "images"], "--faithful has rules of its own"),
        (["--pred", "gt", "--faithful", "--images", "images", "--sheet", "a.jpg"], "--faithful has rules of its own"),
        (["--model", "none", "--images", "images"], "There is no segmenter at none"),
        (["--model", "gt/0.png", "--images", "images"], "gt/0.png"),
        (["--model", "{red}", "--images", "images", "--device", "abacus"], "Unknown device 'abacus'"),
    ],
)
def test_bad_flags(refused, red_file, words, sentence):
    photos()
    assert sentence in refused(["evaluate", "--gt", "gt", *(word.format(red=red_file) for word in words)])


def test_a_sheet_of_predictions_that_are_there(capsys):
    words = photos()
    assert cli.main(["evaluate", "--pred", "gt", *map(str, words), "--sheet", "new/a.png"]) == cli.SUCCESS
    assert capsys.readouterr().out.endswith("Sheet: new/a.png\n")
    with Image.open("new/a.png") as drawn:
        assert drawn.size[0] == 6 + 5 * 198
