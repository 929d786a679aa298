from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.refusals import refuses

from labels4free.errors import ConfigError, DataError
from labels4free.ops.inpainting import widened
from labels4free.segmenting.cutout import Cutout
from labels4free.segmenting.editing import keep_background, recompose
from labels4free.segmenting.photo import Photo
from labels4free.segmenting.segmenter import NOTHING_FOUND, Segmenter

RED, BLUE = (230, 30, 20), (20, 30, 220)
HEIGHT, WIDTH = 60, 80


def cutout(colour, left, right, background, **options):
    """A bar of a colour with soft sides, and its alpha: over a background, as a camera would see it."""
    alpha = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    alpha[20:, left:right] = 255
    alpha[20:, [left - 1, right]] = 128
    fraction = alpha[..., None] / 255
    photo = fraction * np.array(colour) + (1 - fraction) * background
    return Cutout(photo.round().astype(np.uint8), alpha, **options)


@pytest.fixture
def backdrop():
    """A green noise, no two pixels of which are alike."""
    noise = np.random.default_rng(0).integers(-9, 10, (HEIGHT, WIDTH, 3))
    return (np.array((40, 160, 60)) + noise).astype(np.uint8)


@pytest.fixture
def back(backdrop):
    return cutout(RED, 20, 40, backdrop, icc_profile=b"original's")


@pytest.fixture
def front():
    """The edit: the bar stands elsewhere and is blue, the background is another one."""
    return cutout(BLUE, 30, 50, np.full((HEIGHT, WIDTH, 3), 250))


@pytest.mark.slow
@pytest.mark.parametrize("fill", ["patches", "smooth"])
def test_outside_of_both_objects_the_original_stays_bit_for_bit(front, back, fill):
    result = recompose(front, back, fill=fill, margin=2)
    covered = widened(back.alpha > 0, 2)
    outside = (front.alpha == 0) & ~covered
    np.testing.assert_array_equal(result.pixels[outside], back.photo[outside])
    np.testing.assert_array_equal(result.filled, covered & (front.alpha < 255))
    assert result.filled_fraction == result.filled.mean() > 0.1
    assert result.icc_profile == b"original's"


@pytest.mark.slow
@pytest.mark.parametrize("fill", ["patches", "smooth"])
def test_nothing_of_the_old_object_and_of_the_new_background_stays(front, back, backdrop, fill):
    pixels = recompose(front, back, fill=fill, margin=2).pixels.astype(int)
    inside = front.alpha == 255
    np.testing.assert_array_equal(pixels[inside], front.photo[inside])
    behind = front.alpha == 0
    assert np.abs(pixels[behind] - (40, 160, 60)).max() <= 16  # no red, and no near-white
    halfway = np.mean([BLUE, (40, 160, 60)], axis=0)
    assert np.abs(pixels[30, [29, 50]] - halfway).max() <= 14  # a halo of the edit's background would add 50


@pytest.mark.slow
def test_the_margin_is_filled_as_well(front, back):
    photo = back.photo.copy()
    photo[30, 16] = RED  # a hair that alpha missed
    stray = replace(back, photo=photo)
    assert recompose(front, stray, margin=1).pixels[30, 16].tolist() == list(RED)
    assert np.abs(recompose(front, stray, margin=4).pixels[30, 16].astype(int) - (40, 160, 60)).max() <= 10


def test_without_an_edit_nothing_changes(back):
    result = recompose(replace(back), back)
    np.testing.assert_array_equal(result.pixels, back.photo)
    assert not result.filled.any()


def test_what_the_editor_left_alone_stays_at_the_border(back):
    """The object's inside has another colour, its border and the background have not."""
    photo = back.photo.copy()
    photo[25:55, 25:35] = BLUE
    result = recompose(replace(back, photo=photo), back)
    np.testing.assert_array_equal(result.pixels, photo)


@pytest.mark.slow
def test_a_haze_of_alpha_changes_nothing(front, back):
    hazy = replace(front, alpha=np.maximum(front.alpha, 9))
    np.testing.assert_array_equal(recompose(hazy, back).pixels, recompose(front, back).pixels)


def test_an_original_without_object_is_all_background(front, back, backdrop):
    empty = Cutout(backdrop, np.zeros_like(back.alpha), (NOTHING_FOUND,))
    result = recompose(front, empty)
    assert not result.filled.any()
    np.testing.assert_array_equal(result.pixels[front.alpha == 0], backdrop[front.alpha == 0])
    assert result.notes == (f"the original: {NOTHING_FOUND}",)


def test_an_edit_of_another_size_is_scaled(front, back):
    large = replace(front, photo=front.photo.repeat(2, 0).repeat(2, 1), alpha=front.alpha.repeat(2, 0).repeat(2, 1))
    result = recompose(large, back)
    assert result.notes == ("scaled the edited picture from 160x120 to 80x60 pixels",)
    same = recompose(front, back).pixels.astype(int)
    assert np.abs(result.pixels[25:, 32:48] - same[25:, 32:48]).max() <= 4
    with pytest.raises(DataError, match="of 80x50 pixels does not fit the original, which has 80x60: give both of the"):
        recompose(replace(front, photo=front.photo[:50], alpha=front.alpha[:50]), back)


def test_profiles_that_differ_are_mentioned(front, back):
    assert "colour profiles" in recompose(replace(front, icc_profile=b"other"), back).notes[0]
    assert recompose(replace(front, icc_profile=b"original's"), back).notes == ()


def test_what_cannot_be_done_is_said(front, back):
    with pytest.raises(DataError, match="Nothing to put over the background was found"):
        recompose(replace(front, alpha=np.zeros_like(front.alpha)), back)
    with pytest.raises(DataError, match="Nothing of the background can be seen"):
        recompose(front, replace(back, alpha=np.full_like(back.alpha, 255)))
    refuses(ConfigError, "0 pixels or more, got -3", recompose, front, back, margin=-3)


# keep_background


@pytest.mark.slow
def test_files_and_a_segmenter(front, back, tmp_path, red_file):
    pink = cutout((250, 30, 200), 30, 50, np.zeros((HEIGHT, WIDTH, 3)))
    Image.fromarray(pink.photo).save(tmp_path / "edited.png")
    Image.fromarray(back.photo).save(tmp_path / "original.png")
    segmenter = Segmenter.load(red_file)
    result = keep_background(tmp_path / "edited.png", str(tmp_path / "original.png"), segmenter=segmenter)
    np.testing.assert_array_equal(result.pixels[:8], back.photo[:8])
    assert np.abs(result.pixels[50, 40].astype(int) - (250, 30, 200)).max() <= 3
    assert result.pixels[50, 24, 0] < 90
    path = tmp_path / "new" / "out.png"
    result.save(path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), result.pixels)
    (tmp_path / "file").touch()
    refuses(DataError, "cannot be written", result.save, tmp_path / "file" / "out.png")


def test_masks_take_the_place_of_the_segmenter(front, back, tmp_path):
    Image.fromarray(back.alpha).save(tmp_path / "mask.png")
    result = keep_background(
        front.photo, back.photo, foreground_mask=front.alpha, background_mask=tmp_path / "mask.png"
    )
    np.testing.assert_array_equal(result.pixels, recompose(front, back).pixels)
    with pytest.raises(ConfigError, match="Give a segmenter, or a mask of the object in the original"):
        keep_background(front.photo, back.photo, foreground_mask=front.alpha)


def test_hard_masks_are_refined_unless_that_is_unwanted(front, back):
    """A bar's mask that reaches two pixels too far: refined, it lets go of the background beside the bar."""
    wide = widened(front.alpha == 255, 2)
    masks = {"foreground_mask": wide, "background_mask": back.alpha}
    exact = keep_background(front.photo, back.photo, refine=False, **masks).pixels
    np.testing.assert_array_equal(exact[wide], front.photo[wide])
    refined = keep_background(front.photo, back.photo, **masks).pixels
    assert refined[40, 51, 0] < exact[40, 51, 0] - 60


def test_masks_of_another_size(front, back):
    masks = {"background_mask": back.alpha, "foreground_mask": front.alpha[::2, ::2]}
    result = keep_background(front.photo, back.photo, **masks)
    assert result.notes == ("the edited picture: scaled the mask from 40x30 to 80x60 pixels",)
    masks["foreground_mask"] = front.alpha[:, :50]
    with pytest.raises(DataError, match="A mask of 50x60 pixels does not fit the edited picture, which has 80x60"):
        keep_background(front.photo, back.photo, **masks)
    masks["foreground_mask"] = front.photo
    with pytest.raises(DataError, match=r"the mask of the edited picture must be \[H, W\], bool or uint8; got uint8"):
        keep_background(front.photo, back.photo, **masks)


def test_a_picture_is_no_mask(front, back, tmp_path):
    Image.fromarray(back.photo).save(tmp_path / "photo.png")
    with pytest.raises(DataError, match=r"photo\.png is no mask"):
        keep_background(
            front.photo, back.photo, foreground_mask=front.alpha, background_mask=Path(tmp_path / "photo.png")
        )


@pytest.mark.slow
def test_real_photos_leave_no_ghost(shared):
    """A person in half the size over the own photo: what is filled looks like the background, not like the person."""
    folder = shared / "data" / "labels4free_custom" / "Faces"
    with Image.open(folder / "images" / "5.png") as photo, Image.open(folder / "gt" / "5.png") as mask:
        original = photo.convert("RGB").resize((256, 256))
        alpha = mask.convert("RGB").convert("L").resize((256, 256))
    edited, small = Image.new("RGB", (256, 256), "white"), Image.new("L", (256, 256))
    edited.paste(original.resize((128, 128)), (64, 128))
    small.paste(alpha.resize((128, 128)), (64, 128))
    pixels, old = np.asarray(original), np.asarray(alpha)
    result = keep_background(edited, pixels, foreground_mask=np.array(small), background_mask=old)
    background = pixels[~widened(old > 0, 5)].astype(float)
    filled = result.pixels[result.filled & (np.asarray(small) == 0)].astype(float)
    skin = pixels[110:130, 110:146].reshape(-1, 3).mean(axis=0)
    assert np.abs(filled.mean(axis=0) - background.mean(axis=0)).max() < 30
    assert np.abs(filled.mean(axis=0) - skin).max() > 60
    assert filled.std(axis=0).min() > background.std(axis=0).min() / 2  # textured, not smooth


@pytest.mark.slow
def test_an_original_with_transparency_is_laid_on_white(front, back):
    opacity = np.full((HEIGHT, WIDTH), 255, np.uint8)
    opacity[:10] = 0
    opacity[10:15] = 128
    pixels = np.where(opacity[..., None] == 0, 255, back.photo)
    clear = Cutout.of(Photo(pixels, (), None, opacity), back.alpha)
    made = recompose(front, clear, fill="smooth")
    assert made.notes == ("the original: laid its transparency on white",)
    assert (made.pixels[:10] == 255).all()
    np.testing.assert_allclose(made.pixels[10:15, :15], (back.photo[10:15, :15].astype(int) + 255) / 2, atol=1)
