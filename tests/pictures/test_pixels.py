from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch
from PIL import Image

from labels4free.errors import DataError
from labels4free.pictures.pixels import from_uint8, to_uint8, uint16_to_uint8, unit_to_uint8, write_png


def test_every_byte_comes_back():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    assert np.array_equal(to_uint8(from_uint8(pixels)), pixels)
    assert np.array_equal(unit_to_uint8((from_uint8(pixels) + 1) / 2)[0, 0], pixels[0, ..., 0])


def test_uint8_by_hand():
    image = torch.tensor([-3.0, -1.0, 0.0, 1.0, 1.5, 1 / 255]).view(1, 1, 1, 6).expand(1, 3, 1, 6).requires_grad_()
    pixels = to_uint8(image)
    assert pixels.shape == (1, 1, 6, 3)
    assert pixels[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255, 128]
    assert pixels.flags["C_CONTIGUOUS"]
    assert to_uint8(image.bfloat16()).dtype == np.uint8
    values = from_uint8(np.array([[[[0, 255, 51]]]], np.uint8))
    torch.testing.assert_close(values.flatten(), torch.tensor([-1.0, 1.0, -0.6]))
    assert values.is_contiguous()


def test_shares_by_hand():
    values = [-1.0, 0.0, 0.5, 127.4 / 255, 1.0, 3.0]
    for made in (np.array(values), np.array(values, np.float32), torch.tensor(values)):
        assert unit_to_uint8(made).tolist() == [0, 0, 128, 127, 255, 255]
        assert unit_to_uint8(made).dtype == np.uint8


def test_16_bits_are_rounded_to_8():
    values = np.arange(65536).astype(np.uint16)
    assert np.array_equal(uint16_to_uint8(values), np.rint(values / 257.0))


def test_read_only_pixels_convert():
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    pixels.flags.writeable = False
    assert (from_uint8(pixels) == -1).all()


@pytest.mark.parametrize("shape", [(3, 5, 3), (3, 5)])
def test_png_round_trip(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / "new" / "1.png"
    write_png(path, np.zeros_like(pixels))
    write_png(path, pixels)
    assert np.array_equal(np.asarray(Image.open(path)), pixels)
    assert os.listdir(path.parent) == ["1.png"]


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((2, 2, 3), float), ((2, 2, 4), np.uint8), ((1, 2, 2, 3), np.uint8), ((0, 2), np.uint8), ((2,), np.uint8)],
)
def test_png_of_something_else(tmp_path, shape, kind):
    with pytest.raises(DataError, match=r"uint8 array \[H, W, 3\] or \[H, W\], got"):
        write_png(tmp_path / "1.png", np.zeros(shape, kind))
    assert not list(tmp_path.iterdir())


def test_png_without_space(tmp_path, monkeypatch):
    path = tmp_path / "1.png"
    write_png(path, np.zeros((2, 2), np.uint8))
    before = path.read_bytes()

    def no_space(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.replace", no_space)
    with pytest.raises(DataError, match=r"no space left to write .*1\.png"):
        write_png(path, np.ones((2, 2), np.uint8))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["1.png"]
