from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

from labels4free.errors import ConfigError, DataError, RunError
from labels4free.pictures import contact_sheet as module
from labels4free.pictures.contact_sheet import (
    caption,
    check_sheet_name,
    contact_sheet,
    heading,
    overlay,
    save_sheet,
    thumbnail,
)

BLACK = np.zeros((4, 4), np.uint8)


def test_colours_and_places_without_titles():
    red = torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1).expand(3, 8, 8)
    alpha = torch.full((1, 8, 8), 0.6)
    mask = torch.ones(1, 8, 8, dtype=torch.bool)
    sheet = contact_sheet([[red, alpha], [mask]], cell=8)
    assert sheet.shape == (6 + 2 * (8 + 6), 6 + 2 * (8 + 6), 3)
    assert sheet.dtype == np.uint8
    assert (sheet[6:14, 6:14] == (255, 0, 0)).all()
    assert (sheet[6:14, 20:28] == 153).all()  # 0.6 * 255
    assert (sheet[20:28, 6:14] == 255).all()
    assert (sheet[20:28, 20:28] == 255).all()  # the short row leaves white
    assert (sheet[:6] == 255).all()
    assert (sheet[:, 14:20] == 255).all()


def test_black_mask_and_overshooting_image_are_clamped():
    sheet = contact_sheet(
        [[torch.zeros(1, 4, 4, dtype=torch.bool), torch.full((1, 3, 4, 4), 1.7), torch.full((3, 4, 4), -3.0)]], cell=4
    )
    assert (sheet[6:10, 6:10] == 0).all()
    assert (sheet[6:10, 16:20] == 255).all()
    assert (sheet[6:10, 26:30] == 0).all()


def test_resizes_by_box_down_and_nearest_up_and_keeps_the_aspect():
    checker = np.indices((4, 4)).sum(0) % 2 * 255
    assert (contact_sheet([[checker.astype(np.uint8)]], cell=2)[6:8, 6:8] == 128).all()
    up = contact_sheet([[np.array([[0, 255]], dtype=np.uint8)]], cell=4)
    assert up.shape == (6 + 2 + 6, 6 + 4 + 6, 3)
    assert (up[6:8, 6:8] == 0).all()
    assert (up[6:8, 8:10] == 255).all()


def test_titles_are_drawn_outside_the_pictures():
    black = np.zeros((32, 32), dtype=np.uint8)
    plain = contact_sheet([[black, black]], cell=32)
    titled = contact_sheet([[black, black]], ["image", "mask"], ["00007"], cell=32)
    above, left = titled.shape[0] - plain.shape[0], titled.shape[1] - plain.shape[1]
    assert above > 10
    assert left > 20
    assert (titled[above:, left:] == plain).all()
    assert (titled[:above] < 128).any()
    assert (titled[above:, :left] < 128).any()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (([[torch.zeros(2, 4, 4)]],), r"float32 \[2, 4, 4\]"),
        (([[torch.zeros(4, 4)]],), r"float32 \[4, 4\]"),
        (([[torch.zeros(2, 3, 4, 4)]],), r"float32 \[2, 3, 4, 4\]"),
        (([[torch.zeros(3, 4, 4, dtype=torch.uint8)]],), "uint8"),
        (([[np.zeros((4, 4), dtype=np.float32)]],), "float32"),
        (([[np.zeros((4, 4, 4), dtype=np.uint8)]],), r"\[4, 4, 4\]"),
        (([],), "at least one picture"),
        (([[]],), "at least one picture"),
        (([[BLACK]], ["a", "b"]), "1 columns needs as many column titles or none, got 2"),
        (([[BLACK]], (), ["a", "b"]), "1 rows needs as many row titles or none, got 2"),
    ],
)
def test_what_is_no_sheet(given, said):
    with pytest.raises(DataError, match=said):
        contact_sheet(*given)


# Masks over images


def test_overlay_paints_the_background_and_outlines_the_object():
    image, mask = np.full((8, 8, 3), 128, np.uint8), np.zeros((8, 8), bool)
    mask[2:7, 2:7] = True
    shown = overlay(image, mask)
    assert (shown[4, 4] == 128).all()  # the inside is untouched
    assert (shown[2, 2:7] == 255).all()
    assert (shown[4, 6] == 255).all()
    assert shown[0, 0].tolist() == [70, 93, 193]  # two fifths of 128, three of a blue


def test_overlay_of_full_and_empty_masks_has_no_outline():
    image = np.full((6, 6, 3), 191, np.uint8)
    assert np.array_equal(overlay(image, np.ones((6, 6), bool)), image)
    assert len(np.unique(overlay(image, np.zeros((6, 6), bool))[..., 0])) == 1


def test_the_outline_is_wider_where_the_picture_is_larger():
    mask = np.zeros((256, 256), bool)
    mask[:, :100] = True
    white = (overlay(np.zeros((256, 256, 3), np.uint8), mask) == 255).all(axis=2)
    assert np.flatnonzero(white[7]).tolist() == [98, 99]


def test_overlay_refuses_alpha_and_other_sizes():
    with pytest.raises(DataError, match=r"boolean mask, got uint8"):
        overlay(np.zeros((4, 4, 3), np.uint8), BLACK)
    with pytest.raises(DataError, match=r"\(4, 4, 3\) and \(4, 5\)"):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), bool))


# Files, small pictures, text


@pytest.fixture
def lines(monkeypatch):
    """The lines of text that are drawn, a list for each call."""
    seen, draw = [], module._text
    monkeypatch.setattr(module, "_text", lambda text, *more, **named: seen.append(text) or draw(text, *more, **named))
    return seen


def smooth():
    y, x = np.mgrid[:30, :40]
    return np.stack([4 * y, 5 * x, 3 * (x + y)], axis=-1).astype(np.uint8)


def test_files_of_both_kinds(tmp_path):
    save_sheet(tmp_path / "new" / "a.JPG", smooth())
    save_sheet(tmp_path / "a.png", smooth())
    with Image.open(tmp_path / "new" / "a.JPG") as lossy, Image.open(tmp_path / "a.png") as exact:
        assert (lossy.format, exact.format) == ("JPEG", "PNG")
        np.testing.assert_array_equal(np.asarray(exact), smooth())
        assert np.abs(np.asarray(lossy).astype(int) - smooth()).mean() < 3
    assert sorted(os.listdir(tmp_path)) == ["a.png", "new"]


def test_names_and_places_that_cannot_be(tmp_path):
    for refuse in (check_sheet_name, lambda path: save_sheet(path, smooth())):
        with pytest.raises(ConfigError, match=r"must end in \.jpg, \.jpeg, \.png, got .*a\.gif"):
            refuse(tmp_path / "a.gif")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        save_sheet(tmp_path / "file" / "a.jpg", smooth())


@pytest.mark.parametrize(
    ("shape", "small"), [((40, 100, 3), (4, 10, 3)), ((100, 40), (10, 4)), ((10, 9, 3), (10, 9, 3)), ((1, 99), (1, 10))]
)
def test_thumbnails_are_no_larger_than_a_cell(shape, small):
    assert thumbnail(np.full(shape, 7, np.uint8), 10).shape == small


def test_a_thumbnail_is_the_mean_of_what_it_covers():
    picture = np.zeros((4, 4), np.uint8)
    picture[:, ::2] = 100
    assert (thumbnail(picture, 2) == 50).all()


def test_captions_are_broken_and_cut_off(lines):
    assert caption("x" * 400, ["IoU 1"], 192).shape[1] == 192
    (drawn,) = lines
    assert len(drawn) == 6
    assert drawn[-2].endswith("...")
    assert drawn[-1] == "IoU 1"
    assert max(map(len, drawn)) <= 25


def test_each_sentence_of_a_heading_begins_a_line(lines):
    assert heading(["One two three.", "", "Four."], 80).shape[1] == 80
    assert lines == [["One two", "three.", "Four."]]
