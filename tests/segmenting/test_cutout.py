from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from tests.refusals import refuses

from labels4free.errors import ConfigError, DataError
from labels4free.metrics.masks import soft_agreement
from labels4free.segmenting.cutout import Cutout, parse_colour
from labels4free.segmenting.photo import Photo

RED, GREEN = (220, 40, 30), (20, 180, 60)


@pytest.fixture
def cutout():
    """A red square on green, with a soft border at the right."""
    alpha = np.zeros((60, 80), dtype=np.uint8)
    alpha[10:50, 20:60] = 255
    alpha[10:50, 60:64] = 128
    fraction = alpha[..., None] / 255
    photo = (fraction * np.array(RED) + (1 - fraction) * np.array(GREEN)).round().astype(np.uint8)
    return Cutout(photo, alpha, icc_profile=b"profile")


def test_mask_and_coverage(cutout):
    assert cutout.mask().sum() == 40 * 44
    assert cutout.mask(0.6).sum() == 40 * 40
    assert cutout.foreground_ratio == 40 * 44 / (60 * 80)
    assert cutout.found
    assert not Cutout(cutout.photo, np.where(cutout.alpha == 255, 0, cutout.alpha - (cutout.alpha > 0))).found
    refuses(ConfigError, r"from 0 to below 1, such as 0\.5; got 1", cutout.mask, 1)


def test_certainty_by_hand(cutout):
    full, half, all_ = 40 * 40, 40 * 4, 60 * 80
    fraction = 128 / 255
    foreground = (full + half * fraction) / (full + half)
    background = (all_ - full - half) / (all_ - full - half * fraction)
    assert cutout.certainty == pytest.approx((foreground + background) / 2)
    # What lies outside the mask without being background lowers both.
    grey = np.where(cutout.alpha == 128, 127, cutout.alpha).astype(np.uint8)
    foreground = full / (full + half * 127 / 255)
    background = (all_ - full - half * 127 / 255) / (all_ - full)
    assert Cutout(cutout.photo, grey).certainty == pytest.approx((foreground + background) / 2)


@pytest.mark.parametrize(("alpha", "certainty"), [(255, 1.0), (0, 0.0), (127, 0.0), (128, (128 / 255 + 0) / 2)])
def test_certainty_where_alpha_is_the_same_everywhere(cutout, alpha, certainty):
    assert Cutout(cutout.photo, np.full_like(cutout.alpha, alpha)).certainty == pytest.approx(certainty)


def test_certainty_is_that_of_the_metrics(cutout):
    alpha = np.random.default_rng(0).integers(0, 256, cutout.alpha.shape, dtype=np.uint8)
    soft = torch.from_numpy(alpha / 255)
    expected = soft_agreement(soft, (torch.from_numpy(alpha) > 127).double())
    assert Cutout(cutout.photo, alpha).certainty == pytest.approx(expected, abs=1e-6)


def test_a_cut_out_has_alpha_and_no_old_background(cutout):
    pixels = np.asarray(cutout.rgba())
    np.testing.assert_array_equal(pixels[..., 3], cutout.alpha)
    seen = pixels[cutout.alpha > 0][:, :3].astype(int)
    assert np.abs(seen - RED).max() <= 12


def test_a_composite_over_a_colour(cutout):
    pixels = np.asarray(cutout.over("#0000ff")).astype(int)
    assert pixels[0, 0].tolist() == [0, 0, 255]
    assert pixels[30, 40].tolist() == list(RED)
    half = np.array(RED) * 128 / 255 + np.array((0, 0, 255)) * 127 / 255
    assert np.abs(pixels[30, 62] - half).max() <= 8


def test_a_composite_over_a_picture_is_cropped_to_cover(cutout):
    background = Image.new("RGB", (400, 100), "blue")
    background.paste("white", (150, 0, 250, 100))  # wider than the middle part, 133 pixels, that is used
    pixels = np.asarray(cutout.over(background))
    assert pixels.shape == (60, 80, 3)
    assert pixels[5, 40].tolist() == [255, 255, 255]
    assert pixels[5, 2].tolist() == [0, 0, 255]
    small = np.asarray(cutout.over(Image.new("L", (3, 3), 200)))
    assert small[0, 0].tolist() == [200, 200, 200]


def test_the_blurred_background_has_nothing_of_the_object(cutout):
    pixels = np.asarray(cutout.over()).astype(int)
    outside = cutout.alpha == 0
    assert np.abs(pixels[outside] - GREEN).max() <= 12
    assert pixels[30, 40].tolist() == list(RED)


@pytest.mark.parametrize(
    ("what", "mode", "values"),
    [("mask", "L", {0, 255}), ("alpha", "L", {0, 128, 255}), ("cutout", "RGBA", None), ("composite", "RGB", None)],
)
def test_each_picture_is_written_as_it_is(cutout, tmp_path, what, mode, values):
    path = tmp_path / "inner" / "a.png"
    cutout.save(path, what)
    with Image.open(path) as picture:
        assert picture.mode == mode
        assert picture.size == (80, 60)
        assert picture.info.get("icc_profile") == (b"profile" if values is None else None)
        assert values is None or set(np.unique(np.asarray(picture))) == values
    buffer = io.BytesIO()
    cutout.write(cutout.picture(what), what, buffer)
    assert buffer.getvalue() == path.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_what_cannot_be_made_or_written_is_said(cutout, tmp_path):
    refuses(ConfigError, "mask, alpha, cutout, composite; got 'hologram'", cutout.picture, "hologram")
    refuses(ConfigError, "'greenish' is no background: give an image file, a colour", cutout.over, "greenish")
    (tmp_path / "file").touch()
    refuses(DataError, "cannot be written", cutout.save, tmp_path / "file" / "a.png")


def test_colours_go_by_name_and_number():
    assert parse_colour("white") == (255, 255, 255)
    assert parse_colour("#00b140") == (0, 177, 64)


def test_transparency_is_multiplied_into_alpha_and_keeps_its_colours(cutout):
    """A hole, and a half transparent band, in the square and outside of it."""
    opacity = np.full(cutout.alpha.shape, 255, np.uint8)
    opacity[20:30, 5:50] = 0
    opacity[35:40, 5:70] = 100
    found = Cutout.of(Photo(cutout.photo, ("a note",), b"profile", opacity), cutout.alpha)
    assert found.notes == ("a note", "kept its transparency")
    assert (found.alpha[opacity == 0] == 0).all()
    assert (found.alpha[opacity == 255] == cutout.alpha[opacity == 255]).all()
    assert (found.alpha[35:40, 20:60] == 100).all()
    assert (found.alpha[35:40, 60:64] == 50).all()
    hidden = np.where(opacity == 0, 0, cutout.alpha)
    assert found.certainty == pytest.approx(Cutout(cutout.photo, hidden).certainty, abs=1e-3)
    cut_out = np.asarray(found.rgba())
    np.testing.assert_array_equal(cut_out[..., 3], found.alpha)
    assert (cut_out[35:40, 20:60, :3] == RED).all()
    assert np.abs(cut_out[35:40, 60:64, :3].astype(int) - RED).max() <= 12  # without the green behind
    over = np.asarray(found.over("white"))
    expected = np.round(np.array(RED) * 100 / 255 + 155)
    assert np.abs(over[35:40, 20:60] - expected).max() <= 1
    assert (over[opacity == 0] == 255).all()


def test_a_background_is_read_by_the_rule_of_photos(cutout):
    grey = Image.fromarray(np.full((60, 80), 0x8080, np.uint16))
    assert np.asarray(cutout.over(grey))[0, 0].tolist() == [128] * 3
    assert np.asarray(cutout.over(Image.new("RGBA", (80, 60), (0, 0, 0, 0))))[0, 0].tolist() == [255] * 3
    assert np.asarray(cutout.over(Image.new("F", (80, 60), 0.5)))[0, 0].tolist() == [128] * 3


def test_a_notebook_shows_the_cut_out(cutout):
    large = Cutout(np.repeat(cutout.photo, 200, axis=1), np.repeat(cutout.alpha, 200, axis=1))
    shown = Image.open(io.BytesIO(large._repr_png_()))
    assert shown.mode == "RGBA"
    assert max(shown.size) == 512
    small = Image.open(io.BytesIO(cutout._repr_png_()))
    assert small.tobytes() == cutout.rgba().tobytes()
