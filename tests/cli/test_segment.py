from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tests.data.picture_files import cut, noise_png

from labels4free import cli
from labels4free.cli import segment as cli_segment
from labels4free.segmenting.cutout import Cutout
from labels4free.segmenting.segmenter import Segmenter

GREEN, RED = (10, 160, 40), (230, 30, 20)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def segment(red_file, said):
    """Run the verb: (exit code, lines on stdout, lines on stderr that are ours)."""

    def segment(*words):
        code, out, ours = said("segment", *words, "--model", red_file)
        return code, out.splitlines(), ours

    return segment


def picture(size=(40, 30), person=True):
    image = Image.new("RGB", size, GREEN)
    if person:
        image.paste(RED, (10, 8, 30, 24))
    return image


def read(path):
    with Image.open(path) as image:
        return image.mode, np.asarray(image)


def test_a_folder_of_photos_becomes_cut_outs(segment, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    picture().save("in/a.png")
    picture().save("in/deep/b.bmp")
    assert segment("in", "--out", "out") == (0, ["2 pictures in out"], [])
    for name in ("a.png", "deep/b.png"):
        mode, pixels = read(tmp_path / "out" / name)
        assert mode == "RGBA"
        assert pixels[15, 20, 3] == 255
        assert pixels[2, 2, 3] == 0


@pytest.mark.parametrize(
    ("words", "mode", "corner"),
    [
        (["--what", "mask"], "L", 0),
        (["--what", "alpha", "--no-refine"], "L", 0),
        (["--what", "alpha", "--mirrored", "--refine"], "L", 0),
        (["--background", "white"], "RGB", [255, 255, 255]),
        (["--what", "composite"], "RGB", list(GREEN)),
        (["--what", "composite", "--background", "blue.png"], "RGB", [0, 0, 255]),
    ],
)
def test_what_is_written(segment, words, mode, corner):
    Image.new("RGB", (9, 9), "blue").save("blue.png")
    picture().save("a.png")
    assert segment("a.png", "--out", "out", *words)[0] == 0
    found, pixels = read("out/a.png")
    assert found == mode
    np.testing.assert_allclose(pixels[1, 1], corner, atol=2)
    np.testing.assert_allclose(pixels[15, 20], 255 if mode == "L" else RED, atol=2)


@pytest.mark.slow
def test_pictures_that_are_there_stay_unless_they_are_to_be_replaced(segment):
    picture().save("a.png")
    picture().save("b.png")
    segment("a.png", "--out", "out", "--what", "mask")
    before = read("out/a.png")
    said = segment("[ab].png", "--out", "out")
    assert said == (
        0,
        ["1 picture in out"],
        ["1 from before kept; --overwrite replaces them."],
    )
    assert read("out/a.png")[0] == before[0] == "L"
    assert segment("a.png", "--out", "out", "--overwrite") == (0, ["1 picture in out"], [])
    assert read("out/a.png")[0] == "RGBA"


def test_one_photo_into_one_file(segment):
    picture().save("a.png")
    for words in (["a.png", "b.png"], ["a.png", "b.png", "--overwrite"], ["a.png", "--out", "b.png", "--overwrite"]):
        assert segment(*words) == (0, ["1 picture in b.png"], [])
        assert read("b.png")[0] == "RGBA"
    segment("a.png", "new/c.jpg", "--background", "white")
    with Image.open("new/c.jpg") as image:
        assert (image.format, image.size) == ("JPEG", picture().size)
    for words in (["a.png", "b.png"], ["a.png", "--out", "b.png"]):
        code, _, said = segment(*words, "--what", "mask")
        assert (code, said[0].partition(";")[0]) == (2, "b.png is there already: --overwrite replaces it")
    assert read("b.png")[0] == "RGBA"


def test_masks_that_may_be_wrong_are_named_the_least_sure_first(segment, monkeypatch):
    certain = {"a.png": (40, 0.93), "b.png": (41, 0.96), "c.png": (42, 0.5)}
    for name, (width, _) in certain.items():
        picture((width, 30)).save(name)
    by_width = dict(certain.values())
    monkeypatch.setattr(Cutout, "certainty", property(lambda cutout: by_width[cutout.photo.shape[1]]))
    said = segment(*certain, "--out", "out")
    assert said[2] == [
        "c.png: the mask may be wrong (certainty 0.50).",
        "a.png: the mask may be wrong (certainty 0.93).",
    ]
    few = [(0.5 + k / 1000, f"{k}.png") for k in range(25)]
    lines = cli_segment._to_look_at(few)
    assert lines[0] == "0.png: the mask may be wrong (certainty 0.50)."
    assert lines[20:] == ["5 more masks may be wrong; --sheet shows them first."]


def test_a_sheet_of_the_photos(segment, tmp_path):
    picture().save("a.png")
    picture(person=False).save("b.png")
    said = segment("a.png", "b.png", "--out", "out", "--what", "mask", "--sheet", "look/sheet.png")
    assert said[:2] == (0, ["2 pictures in out; to look at: look/sheet.png"])
    mode, pixels = read("look/sheet.png")
    assert mode == "RGB"
    first, second = (pixels[-100, 6 + 198 * column + 96] for column in (1, 4))
    assert first.tolist() == list(GREEN)  # nobody there
    assert second.tolist() == list(RED)
    # Nothing new, nothing to look at.
    assert segment("a.png", "--out", "out", "--sheet", "other.png")[1] == ["0 pictures in out"]
    assert not (tmp_path / "other.png").exists()


def test_a_sheet_of_what_was_done_before_ctrl_c(segment, tmp_path, monkeypatch):
    picture().save("a.png")
    picture().save("b.png")
    whole = Segmenter.segment

    def interrupted(self, image, **options):
        if image.name == "b.png":
            raise KeyboardInterrupt
        return whole(self, image, **options)

    monkeypatch.setattr(Segmenter, "segment", interrupted)
    segment("a.png", "b.png", "--out", "out", "--sheet", "sheet.jpg")
    assert (tmp_path / "out" / "a.png").exists()
    assert (tmp_path / "sheet.jpg").exists()


def test_bad_photos_are_listed_and_the_others_done(segment, tmp_path):
    noise_png(tmp_path / "cut.png")
    cut(tmp_path / "cut.png")
    (tmp_path / "text.jpg").write_text("no image")
    picture().save("good.png")
    Image.new("RGB", (1, 1), RED).save("dot.png")
    code, out, err = segment("none.jpg", "cut.png", "text.jpg", "dot.png", "good.png", "*.webp", "--out", "out")
    assert code == cli.FAILURE
    assert out == ["2 pictures in out"]
    assert err[0] == "There is no image at none.jpg."
    assert err[1] == "No file is called like *.webp."
    assert err[2].startswith("cut.png cannot be read as an image")
    assert err[3] == "text.jpg cannot be read as an image (its format is unknown)."
    assert err[4:] == ["4 of 6 failed."]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["dot.png", "good.png"]


def test_notes_are_said(segment):
    picture(person=False).save("empty.png")
    picture().save("film.gif", save_all=True, append_images=[picture(person=False)])
    code, _, err = segment("empty.png", "film.gif", "--out", "out", "--what", "mask")
    assert code == 0
    assert err == ["empty.png: found nothing to cut out: the mask is empty.", "film.gif: took the first of 2 frames."]
    assert not read("out/empty.png")[1].any()


def test_no_photo_at_all_is_a_failure_without_a_model(capsys):
    assert cli.main(["segment", "*.jpg", "--out", "out", "--model", "none"]) == cli.FAILURE
    assert "No file is called like *.jpg." in capsys.readouterr().err


def test_a_pipe(red_file, monkeypatch, capsysbinary):
    buffer = io.BytesIO()
    picture(person=False).save(buffer, format="PNG")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(buffer.getvalue())))
    assert cli.main(["segment", "-", "--what", "mask", "--model", str(red_file)]) == 0
    said = capsysbinary.readouterr()
    with Image.open(io.BytesIO(said.out)) as image:
        assert (image.mode, image.size) == ("L", (40, 30))
    assert said.err == b"labels4free: standard input: found nothing to cut out: the mask is empty.\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO()))
    assert cli.main(["segment", "-", "--model", str(red_file)]) == cli.FAILURE
    assert capsysbinary.readouterr().err == b"labels4free: standard input is empty, expected an image.\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give photos: files, folders"),
        (["a.png"], "Say where the pictures go: --out DIR"),
        (["-", "a.png", "--out", "out"], "- stands for standard input and goes alone"),
        (["-", "--out", "out"], "leave out --out"),
        (["a.png", "--out", "a.png"], "--out names the photo itself, a.png"),
        (["a.png", "a.png"], "--out names the photo itself, a.png"),
        (["a.png", "--out", "new.jpg"], "new.jpg would be a JPEG, which has no transparency"),
        (["a.png", "text.jpg", "--out", "cut.png"], "--out names one file, cut.png, for 2 photos; give a folder."),
        (["a.png", "--out", "text.txt"], "--out names the file text.txt; give a folder, or the name of a .png or .jpg"),
        (["a.png", "--out", "."], "a.png would replace a photo"),
        (["a.png", "--out", "out", "--what", "mask", "--background", "white"], "--what asks for mask"),
        (["a.png", "--out", "out", "--background", "greenish"], "'greenish' is no background"),
        (["a.png", "--out", "out", "--background", "text.jpg"], "text.jpg cannot be read as an image"),
        (["a.png", "--out", "out", "--closed-form", "--no-refine"], "leave out --no-refine"),
        (["a.png", "--out", "out", "--device", "abacus"], "Unknown device 'abacus'"),
        (["a.png", "--out", "out", "--sheet", "a.gif"], "must end in .jpg, .jpeg, .png, got a.gif"),
        (["a.png", "--out", "out", "--sheet", "a.png"], "--sheet names a.png, which is a photo or its picture"),
        (["a.png", "--out", "out", "--sheet", "out/a.png"], "--sheet names out/a.png, which is a photo or its picture"),
        (["a.png", "--out", "out", "--sheet", "folder.jpg"], "--sheet names the folder folder.jpg"),
        (["-", "--sheet", "a.jpg"], "--sheet is for files"),
    ],
)
def test_bad_input_is_one_sentence(segment, words, message, tmp_path):
    picture().save("a.png")
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "text.txt").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    code, out, err = segment(*words)
    assert (code, out, len(err)) == (cli.FAILURE, [], 1)
    assert message in err[0]
    assert not (tmp_path / "out").exists()


def test_an_exported_model_needs_no_pytorch(segment, red_onnx, without_torch):
    picture().save("a.png")
    words = ["segment", "a.png", "--out", "bare", "--sheet", "bare.png", "--model", str(red_onnx)]
    assert without_torch(words) == "1 picture in bare; to look at: bare.png\n"
    segment("a.png", "--out", "out")
    bare, whole = (read(f"{folder}/a.png")[1].astype(int) for folder in ("bare", "out"))
    assert np.abs(bare - whole).max() <= 1


def test_what_is_left_out_of_a_folder_is_listed(segment, tmp_path):
    (tmp_path / "in").mkdir()
    picture().save("in/a.JPG")
    picture().save("in/IMG_3", "JPEG")
    (tmp_path / "in" / "d.CR2").write_bytes(b"II*\0")
    (tmp_path / "in" / "c.jpg").symlink_to("nowhere")
    (tmp_path / "in" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "in" / "backup.zip").write_bytes(b"x")
    said = [
        "in/c.jpg is a link to nothing.",
        "in/d.CR2 is a camera's raw file, which is not read: develop it to JPEG or PNG.",
        "in/IMG_3 begins as JPEG does, but its name has no image's ending: rename it.",
    ]
    code, out, err = segment("in", "--out", "out")
    assert (code, out) == (cli.FAILURE, ["1 picture in out"])
    assert err == [*said, "3 of 4 failed."]
    code, out, err = segment("in/c*", "in/a*", "--out", "out")
    assert (code, out) == (cli.FAILURE, ["0 pictures in out"])
    assert err == [said[0], "1 from before kept; --overwrite replaces them.", "1 of 2 failed."]


def test_names_as_file_systems_allow_them(segment, tmp_path):
    names = ["n" * 251 + ".jpg", "\u590f" * 83 + ".jpg", "caf\udce9.jpg", "a\nb.jpg", "-x.jpg", "[x]*.jpg"]
    (tmp_path / "in").mkdir()
    for name in names:
        buffer = io.BytesIO()
        picture().save(buffer, "JPEG")
        (tmp_path / "in" / name).write_bytes(buffer.getvalue())
    words = ("--out", "caf\udce9", "--sheet", "\udce9.jpg")
    assert segment("in", *words)[::2] == (0, [])
    assert {path.stem + ".jpg" for path in (tmp_path / "caf\udce9").iterdir()} == set(names)


def test_a_picture_whose_name_is_too_long_is_listed_and_the_others_done(segment, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("n" * 251 + ".jpg", "n" * 251 + ".png", "a.jpg"):
        picture().save(f"in/{name}")
    code, out, err = segment("in", "x" * 300, "--out", "out")
    assert (code, out) == (cli.FAILURE, ["1 picture in out"])
    assert err[0] == f"{'x' * 300} cannot be read: File name too long."
    assert [line.rpartition(" cannot be written: ")[2] for line in err[1:3]] == ["File name too long."] * 2
