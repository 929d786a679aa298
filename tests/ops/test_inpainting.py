from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from labels4free.errors import ConfigError, DataError
from labels4free.ops import inpainting
from labels4free.ops.inpainting import inpaint, margin_pixels, widened


def stripes(height=64, width=64):
    """Stripes of 8 pixels, so that a smooth fill is grey and patches are striped."""
    columns = np.arange(width) // 4 % 2 * 200
    return np.repeat(np.broadcast_to(columns, (height, width))[..., None], 3, axis=2).astype(np.uint8)


def square(shape, low, high):
    mask = np.zeros(shape, dtype=bool)
    mask[low:high, low:high] = True
    return mask


@pytest.fixture
def marked():
    """Stripes, and what a red object covers of them."""
    picture, hole = stripes(), square((64, 64), 24, 40)
    picture[hole] = (255, 0, 0)
    return picture, hole


@pytest.mark.parametrize("fill", ["patches", "smooth"])
def test_the_hole_alone_is_filled_and_nothing_of_the_object_stays(marked, fill):
    picture, hole = marked
    filled = inpaint(picture, hole, fill=fill)
    np.testing.assert_array_equal(filled[~hole], picture[~hole])
    assert np.ptp(filled[hole].astype(int), axis=1).max() <= 1  # grey: there is no red left
    assert (picture[hole] == (255, 0, 0)).all()


def test_patches_have_the_texture_and_a_smooth_fill_has_not(marked):
    picture, hole = marked
    assert inpaint(picture, hole, fill="patches")[hole].std() > 60
    assert inpaint(picture, hole, fill="smooth")[hole].std() < 30


def test_the_same_comes_out_again(marked):
    np.testing.assert_array_equal(inpaint(*marked), inpaint(*marked))


@pytest.mark.parametrize("fill", ["patches", "smooth"])
def test_what_is_hidden_is_neither_filled_nor_taken_from(fill):
    picture = stripes()
    hole, hidden = square((64, 64), 24, 40), square((64, 64), 16, 48)
    picture[hidden] = (255, 0, 0)
    filled = inpaint(picture, hole, hidden & ~hole, fill=fill)
    assert (filled[hidden & ~hole] == (255, 0, 0)).all()
    assert np.ptp(filled[hole].astype(int), axis=1).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("fill", ["patches", "smooth"])
def test_large_pictures_are_filled_small(monkeypatch, fill):
    """Reduced to half, the pixels at the border of the hole and of what is hidden hold some of the object."""
    picture, hole = stripes(64, 96).repeat(2, axis=0).repeat(2, axis=1), square((128, 192), 41, 90)
    hidden = square((128, 192), 35, 95) & ~hole
    picture[hole | hidden] = (255, 0, 0)
    monkeypatch.setattr(inpainting, "FILL_SIZE", 96)
    monkeypatch.setattr(inpainting, "FIT_SIZE", 96)
    filled = inpaint(picture, hole, hidden, fill=fill)
    np.testing.assert_array_equal(filled[~hole], picture[~hole])
    assert np.ptp(filled[hole].astype(int), axis=1).max() <= 1
    assert (filled[hole].std() > 50) == (fill == "patches")


def test_no_hole_needs_no_library(monkeypatch, marked):
    monkeypatch.setitem(sys.modules, "patchmatch", None)
    picture, hole = marked
    np.testing.assert_array_equal(inpaint(picture, np.zeros_like(hole)), picture)
    with pytest.raises(ConfigError, match=r"pip install PyPatchMatch, or fill smooth"):
        inpaint(picture, hole)
    monkeypatch.setitem(sys.modules, "patchmatch", SimpleNamespace(patchmatch_available=False))
    with pytest.raises(ConfigError, match="the compiled part of PyPatchMatch, which cannot be loaded"):
        inpaint(picture, hole)


@pytest.mark.parametrize("fill", ["patches", "smooth"])
@pytest.mark.parametrize("shape", [(1, 2), (3, 3), (2, 90)])
def test_small_pictures_and_little_to_see(shape, fill):
    picture = np.full((*shape, 3), (255, 0, 0), dtype=np.uint8)
    picture[0, 0] = (10, 20, 30)
    hole = np.ones(shape, dtype=bool)
    hole[0, 0] = False
    assert np.abs(inpaint(picture, hole, fill=fill).astype(int) - (10, 20, 30)).max() <= 1


def test_bad_input_is_one_sentence(marked):
    picture, hole = marked
    with pytest.raises(ConfigError, match="filled by patches or smooth; got 'magic'"):
        inpaint(picture, hole, fill="magic")
    with pytest.raises(DataError, match="Nothing of the background can be seen"):
        inpaint(picture, hole, ~hole)


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 9, 100])
def test_widened_by_hand(radius):
    mask = np.zeros((30, 20), dtype=bool)
    mask[3, 15] = True
    rows, columns = np.mgrid[:30, :20]
    np.testing.assert_array_equal(widened(mask, radius), (abs(rows - 3) <= radius) & (abs(columns - 15) <= radius))
    assert mask.sum() == 1


def test_the_margin():
    assert margin_pixels(None, 1000, 500) == 20
    assert margin_pixels(None, 3, 3) == 1
    assert margin_pixels(0, 1000, 500) == 0
    with pytest.raises(ConfigError, match="must be 0 pixels or more, got -1"):
        margin_pixels(-1, 10, 10)
