from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image
from tests.data.picture_files import RED, WHITE, cut, noise_png, png16, png_chunk, save
from tests.refusals import refuses

from labels4free.errors import DataError
from labels4free.segmenting import photo
from labels4free.segmenting.cutout import Cutout
from labels4free.segmenting.photo import read_photo

TURNED = 6  # EXIF: to be turned by a quarter


def test_a_photo_is_its_pixels(tmp_path):
    noise_png(tmp_path / "a.png")
    expected = np.asarray(Image.open(tmp_path / "a.png"))
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes(), expected):
        found = read_photo(source)
        np.testing.assert_array_equal(found.pixels, expected)
        assert found.notes == ()
        assert found.pixels.flags["C_CONTIGUOUS"]


def test_a_photo_is_turned_upright(tmp_path):
    picture = Image.new("RGB", (8, 4), RED)
    exif = picture.getexif()
    exif[0x0112] = TURNED
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert read_photo(tmp_path / "turned.jpg").pixels.shape == (8, 4, 3)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "LA", "RGBA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    save(path, WHITE, mode=mode)
    np.testing.assert_allclose(read_photo(path).pixels, 255, atol=1)


def test_transparency_is_kept_beside_the_colours(tmp_path):
    pixels = np.array([[[255, 0, 0, 255], [9, 9, 9, 0], [0, 0, 0, 128]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_photo(tmp_path / "a.png")
    assert found.pixels.tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 0]]]  # what is hidden stays so
    assert found.opacity is not None
    assert found.opacity.tolist() == [[255, 0, 128]]
    assert found.on_white().tolist() == [[[255, 0, 0], [255, 255, 255], [127, 127, 127]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGB"])
def test_an_opaque_alpha_channel_is_not_mentioned(tmp_path, mode):
    save(tmp_path / "a.tif", mode=mode)
    found = read_photo(tmp_path / "a.tif")
    assert found.opacity is None
    assert found.notes == ()
    assert found.on_white() is found.pixels


def test_sixteen_bits_become_eight(tmp_path):
    assert read_photo(png16(tmp_path / "a.png", 0, [0x8000])).pixels.tolist() == [[[128, 128, 128]]]


def test_an_animation_gives_its_first_frame_with_a_word(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "green")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    found = read_photo(tmp_path / "a.gif")
    assert found.pixels[0, 0].tolist() == [254, 0, 0] or found.pixels[0, 0].tolist() == [255, 0, 0]
    assert found.notes == ("took the first of 3 frames",)
    assert read_photo(tmp_path / "a.tif").notes == ("took the first of 3 pages",)


def test_a_colour_profile_is_kept_where_it_still_holds(tmp_path):
    save(tmp_path / "rgb.jpg", icc_profile=b"profile")
    save(tmp_path / "cmyk.jpg", mode="CMYK", icc_profile=b"profile")
    assert read_photo(tmp_path / "rgb.jpg").icc_profile == b"profile"
    assert read_photo(tmp_path / "cmyk.jpg").icc_profile is None


def test_an_open_picture_is_not_changed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = TURNED
    Image.new("RGB", (8, 4), RED).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        assert read_photo(picture).pixels.shape[:2] == (8, 4)
        assert picture.size == (8, 4)
    assert read_photo(np.full((2, 3), 7, dtype=np.uint8)).pixels.tolist() == [[[7] * 3] * 3] * 2


def test_a_large_photo_is_read_beyond_pillows_own_limit(tmp_path, monkeypatch):
    noise_png(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_photo(tmp_path / "a.png").pixels.shape == (64, 64, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_photo_beyond_the_limit_is_refused_by_its_header(tmp_path, monkeypatch):
    noise_png(tmp_path / "a.png")
    monkeypatch.setattr(photo, "LARGEST_PHOTO", 4095)
    refuses(DataError, r"a\.png has more than 0 million pixels; make it smaller", read_photo, tmp_path / "a.png")


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "text.jpg").write_text("no image", encoding="utf-8")
    noise_png(tmp_path / "cut.png")
    cut(tmp_path / "cut.png")
    for name, message in (
        ("text.jpg", "its format is unknown"),
        ("cut.png", "cannot be read as an image"),
        ("none.png", "There is no image"),
    ):
        refuses(DataError, message, read_photo, tmp_path / name)
    refuses(DataError, "standard input is empty", read_photo, b"", "standard input")
    refuses(DataError, r"uint8 pixels .*, got float64 \[4, 4, 3\]", read_photo, np.zeros((4, 4, 3)))


def damaged(tmp_path):
    """What callers hand over: contents and opened pictures, whose headers are fine."""
    noise_png(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        closed = picture.copy()
    closed.close()
    text = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000)))
    sources = {
        "cut": data[: len(data) // 2],
        "a chunk of no name": data[:41].replace(b"IDAT", b"\xff\xfe\xfd\xfc") + data[41:],
        "a wrong checksum": data[:-20] + bytes(8) + data[-12:],
        "a text behind the pixels": data[:-12] + text + data[-12:],
        "no image": bytes(range(256)) * 40,
    }
    opened = {}
    for what in ("cut", "a wrong checksum", "a text behind the pixels"):
        opened[f"opened, {what}"] = Image.open(io.BytesIO(sources[what]))
    del sources["a text behind the pixels"]  # can be read
    return sources | opened | {"closed": closed, "nothing": None, "a list": [1, 2], "a colour": np.zeros((2, 2, 4))}


def test_what_python_callers_give_is_refused_in_one_short_sentence(tmp_path):
    for what, source in damaged(tmp_path).items():
        with pytest.raises(DataError) as caught:
            read_photo(source)
        assert len(str(caught.value)) < 200, what
        assert "\n" not in str(caught.value), what


def test_a_damaged_background_is_refused(tmp_path):
    noise_png(tmp_path / "a.png")
    cut(tmp_path / "a.png")
    shown = Cutout(np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 255, np.uint8))
    with Image.open(tmp_path / "a.png") as half:
        refuses(DataError, "The background cannot be read as an image", shown.over, half)
