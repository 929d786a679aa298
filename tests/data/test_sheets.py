from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from labels4free.data import sheets
from labels4free.data.sheets import caption, check_sheet_name, heading, save_sheet, thumbnail
from labels4free.errors import ConfigError, RunError


@pytest.fixture
def lines(monkeypatch):
    """The lines of text that are drawn, a list for each call."""
    seen, draw = [], sheets._text
    monkeypatch.setattr(sheets, "_text", lambda text, *more, **named: seen.append(text) or draw(text, *more, **named))
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
