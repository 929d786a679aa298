from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.refusals import refuses
from tests.small_segmenters import red_segmenter, tiny_segmenter, write_segmenter

import labels4free
from labels4free.errors import ConfigError, DataError
from labels4free.segmenting import segmenter as module
from labels4free.segmenting.segmenter import NOTHING_FOUND, Segmenter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def red(red_file):
    return Segmenter.load(red_file)


def photo(height=90, width=120):
    """A red square on green."""
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    pixels[:] = (10, 160, 40)
    pixels[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = (230, 30, 20)
    return pixels


def test_the_object_of_a_photo_is_found(red, tmp_path):
    pixels = photo()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    truth = pixels[..., 0] > 100
    for source in (pixels, tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), Image.fromarray(pixels)):
        cutout = red.segment(source)
        assert cutout.alpha.shape == (90, 120)
        assert (cutout.mask() == truth).mean() > 0.97
        assert cutout.notes == ()
        np.testing.assert_array_equal(cutout.photo, pixels)


@pytest.mark.parametrize("method", ["guided", "closed-form"])
def test_refinement_follows_the_photos_edge(method, tmp_path):
    if method == "closed-form":
        pytest.importorskip("pymatting")
    fine = Segmenter.load(write_segmenter(tmp_path / "s.safetensors", red_segmenter(96)))
    pixels = photo(362, 486)
    truth = (pixels[..., 0] > 100) * 255.0
    smooth, refined = (np.abs(fine.segment(pixels, refine=how).alpha - truth).mean() for how in (None, method))
    assert refined < 0.8 * smooth


def test_holes_of_a_photo_stay_holes(red):
    layer = np.dstack((photo(), np.full((90, 120), 255, np.uint8)))
    layer[40:50, 50:70, 3] = 0
    layer[60:64, 40:80, 3] = 128
    cutout = red.segment(Image.fromarray(layer))
    assert not cutout.alpha[40:50, 50:70].any()
    assert np.abs(cutout.alpha[60:64, 45:75].astype(int) - 128).max() <= 2
    assert cutout.alpha[30:38, 50:70].min() > 250
    assert cutout.notes == ("kept its transparency",)
    layer[..., 3] = 255
    assert red.segment(Image.fromarray(layer)).notes == ()


def test_both_runtimes_give_the_same(red, red_onnx):
    other = Segmenter.load(red_onnx)
    for size in ((90, 120), (33, 7), (1, 1)):
        a, b = (s.segment(photo(*size)).alpha.astype(int) for s in (red, other))
        assert np.abs(a - b).max() <= 1


def test_it_is_the_networks_own_answer(tmp_path):
    network = tiny_segmenter()
    own = Segmenter.load(write_segmenter(tmp_path / "s.safetensors", network))
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    for mirrored in (False, True):
        expected = network.segment(Image.fromarray(pixels), mirrored=mirrored)[0, 0].numpy() * 255
        found = own.segment(pixels, refine=None, mirrored=mirrored)
        assert found.found
        np.testing.assert_allclose(found.alpha, expected, atol=0.6)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (31, 33), (257, 1000)])
def test_any_size(red, size):
    cutout = red.segment(np.full((*size, 3), 255, dtype=np.uint8))
    assert cutout.alpha.shape == size
    assert (cutout.alpha > 250).all()
    assert cutout.rgba().size == size[::-1]


def test_nobody_in_it_is_an_empty_mask_and_a_word(red):
    pixels = photo()
    pixels[...] = (10, 160, 40)
    cutout = red.segment(pixels)
    assert cutout.notes == (NOTHING_FOUND,)
    assert not cutout.alpha.any()
    assert not np.asarray(cutout.rgba())[..., 3].any()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's count of a process's largest memory")
def test_memory_does_not_grow_with_the_photo_beyond_its_bytes(red):
    """Of a pixel there are 4 bytes of the cut-out and 1 or 2 of alpha; a map of floats would take 4 more, or 12."""

    def memory(name):
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    pixels = np.full((4000, 6000, 3), (10, 160, 40), dtype=np.uint8)
    pixels[:2000] = 255
    red.segment(pixels[:100, :100]).rgba()
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest so far
    before = memory("VmRSS")
    red.segment(pixels).rgba()
    assert 2 < (memory("VmHWM") - before) / 24e6 < 9


def test_what_cannot_be_done_is_said(red, monkeypatch):
    refuses(ConfigError, "by guided, closed-form; got 'magic'", red.segment, photo(), refine="magic")
    refuses(DataError, "standard input cannot be read as an image", red.segment, b"text", name="standard input")
    monkeypatch.setattr(module, "LARGEST_CLOSED_FORM", 10_000)
    refuses(ConfigError, r"up to 0\.0 million pixels, this one has", red.segment, photo(), refine="closed-form")


def test_it_is_a_public_name(red_file):
    assert labels4free.Segmenter is Segmenter
