from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tests.data.picture_files import BLUE, GREEN, RED, WHITE, png16, save

from labels4free.data import decoding
from labels4free.data.decoding import central_square, decode_image, read_bytes
from labels4free.data.images.dataset import read_image
from labels4free.errors import DataError


def test_content_and_file_decode_alike(tmp_path):
    save(tmp_path / "1.png", GREEN)
    data = (tmp_path / "1.png").read_bytes()
    assert np.array_equal(decode_image(data, 4), decode_image(tmp_path / "1.png", 4))
    with pytest.raises(DataError, match=r"^that cannot be read as an image"):
        decode_image(data[:20], name="that")


def test_a_square_of_the_right_size_is_left_alone():
    image = Image.new("RGB", (8, 8))
    assert central_square(image, 8) is image


def test_the_filter_looks_beyond_the_square():
    """As when the shorter side is resized first and the square cut out then: no edges inside the picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    resized_first = np.asarray(image.resize((24, 16), Image.Resampling.LANCZOS).crop((4, 0, 20, 16)))
    ours = np.asarray(central_square(image, 16, Image.Resampling.LANCZOS))
    assert np.array_equal(ours, resized_first)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    for read in (read_bytes, read_image):
        with pytest.raises(DataError, match="There is no image at"):
            read(tmp_path / "none.png")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_bytes(tmp_path)
    save(tmp_path / "1.png")
    assert read_bytes(tmp_path / "1.png") == (tmp_path / "1.png").read_bytes()
    monkeypatch.setattr(decoding, "LARGEST_FILE", 10)
    with pytest.raises(DataError, match=r"1\.png is larger than 1 GiB"):
        read_bytes(tmp_path / "1.png")


def test_an_unknown_format_is_named_without_an_address(tmp_path):
    (tmp_path / "1.png").write_text("no image")
    with pytest.raises(DataError, match=r"1\.png cannot be read as an image \(its format is unknown\)\.$"):
        read_image(tmp_path / "1.png")


def test_exif_orientation(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255  # upper half white as stored
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "1.png", exif=exif)
    upright = read_image(tmp_path / "1.png")
    assert (upright[:, 4:] == 255).all()
    assert (upright[:, :4] == 0).all()


def test_transparency_lies_on_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 0] = 255
    pixels[..., 3] = [[255, 0], [128, 255]]
    Image.fromarray(pixels).save(tmp_path / "rgba.png")
    rgb = read_image(tmp_path / "rgba.png")
    assert rgb[0].tolist() == [list(RED), list(WHITE)]
    assert rgb[1, 0].tolist() == [255, 127, 127]
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([*GREEN, *BLUE])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=1)
    assert read_image(tmp_path / "palette.png")[0].tolist() == [list(GREEN), list(WHITE)]
    Image.new("LA", (2, 2), (10, 0)).save(tmp_path / "la.png")
    assert (read_image(tmp_path / "la.png") == 255).all()


@pytest.mark.parametrize(
    ("mode", "suffix", "expected"),
    [
        ("L", "png", 76),
        ("1", "png", None),
        ("P", "gif", None),
        ("CMYK", "jpg", None),
        ("CMYK", "tif", None),
        ("YCbCr", "jpg", None),
    ],
)
def test_colour_modes(tmp_path, mode, suffix, expected):
    path = tmp_path / f"1.{suffix}"
    save(path, RED, mode=mode)
    rgb = read_image(path)
    assert rgb.shape == (8, 8, 3)
    assert rgb.dtype == np.uint8
    if expected is not None:
        assert (rgb == expected).all()
    elif mode != "1":
        assert np.abs(rgb[4, 4].astype(int) - RED).max() <= 3


def test_16_bit_grey(tmp_path):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    for name in ("1.png", "1.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert read_image(tmp_path / name)[0, :, 0].tolist() == [0, 1, 128, 255], name


def test_16_bit_colour_and_grey_with_alpha(tmp_path):
    """Pillow itself reads these with 8 bits: the upper byte of each value."""
    assert read_image(png16(tmp_path / "rgb.png", 2, (0x1234, 0x80FF, 0xFFFF)))[0, 0].tolist() == [0x12, 0x80, 0xFF]
    assert read_image(png16(tmp_path / "la.png", 4, (0x4000, 0xFFFF)))[0, 0].tolist() == [0x40] * 3
    assert read_image(png16(tmp_path / "clear.png", 4, (0x4000, 0)))[0, 0].tolist() == list(WHITE)


def test_of_an_animation_the_first_frame_serves(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    for name in ("1.gif", "1.webp", "1.png", "1.tif"):
        options = {"lossless": True} if name == "1.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert (read_image(tmp_path / name) == RED).all(), name


def test_an_odd_text_block_does_not_disturb(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", "damaged")
    save(tmp_path / "1.png", pnginfo=info)
    assert read_image(tmp_path / "1.png").shape == (8, 8, 3)
