from __future__ import annotations

import numpy as np
import pytest
from tests.refusals import refuses

from labels4free.errors import DataError
from labels4free.pictures import contact_sheet
from labels4free.pictures.contact_sheet import caption, heading
from labels4free.segmenting import sheet as module
from labels4free.segmenting.cutout import Cutout
from labels4free.segmenting.sheet import LeastCertain

CELL, STEP = 192, 198
BEHIND = (0x2D, 0x4F, 0xC8)


def cutout(grey, border, size=(40, 80)):
    """A photo of one grey; its left half is found, with so many undecided columns beside it."""
    alpha = np.zeros(size, np.uint8)
    alpha[:, : size[1] // 2] = 255
    alpha[:, size[1] // 2 : size[1] // 2 + border] = 100
    return Cutout(np.full((*size, 3), grey, np.uint8), alpha)


def empty(grey):
    found = cutout(grey, 0)
    return Cutout(found.photo, np.zeros_like(found.alpha))


@pytest.fixture
def said(monkeypatch):
    """Captions, and the last heading."""
    words = []
    monkeypatch.setattr(module, "caption", lambda *given: words.append(given[:2]) or caption(*given))
    monkeypatch.setattr(contact_sheet, "heading", lambda given, width: words.append(given[0]) or heading(given, width))
    return words


def photos(sheet, count):
    """The grey of each photo on the sheet, in order."""
    rows = -(-count // 3)
    tops = [sheet.shape[0] - (rows - row) * STEP for row in range(rows)]
    places = [(top, 6 + (3 * column + 1) * STEP) for top in tops for column in range(3)][:count]
    return [int(sheet[top + 10, left + 10, 0]) for top, left in places]


def test_the_least_certain_come_first(said):
    sheet = LeastCertain()
    sheet.add("sure", cutout(10, 0, (192, 192)))
    sheet.add("nobody", empty(20))
    sheet.add("half", cutout(30, 20, (192, 192)))
    drawn = sheet.draw()
    assert [name for name, _ in said[:3]] == ["1. nobody", "2. half", "3. sure"]
    assert said[0][1] == ["certainty 0.000"]
    assert said[2][1] == ["certainty 1.000"]
    assert said[3].startswith("Photos: 3. The least certain first")
    # A picture that is wider than high leaves the lower part of its cell white.
    top = drawn.shape[0] - STEP
    assert [int(drawn[top + 10, 6 + (3 * k + 1) * STEP + 10, 0]) for k in range(3)] == [20, 30, 10]
    assert drawn.shape[1] == 6 + 9 * STEP


def test_a_cut_out_lies_on_one_colour():
    sheet = LeastCertain()
    sheet.add("a", cutout(200, 0, (192, 192)))
    cell = sheet.draw()[-STEP : -STEP + CELL, 6 + 2 * STEP : 6 + 2 * STEP + CELL]
    assert (cell[:, :90] == 200).all()
    assert (cell[:, 100:] == BEHIND).all()


def test_the_most_certain_are_left_out(said):
    sheet = LeastCertain(most=4)
    for border in (3, 9, 5, 1, 8, 2):
        sheet.add(str(border), cutout(border, border, (192, 192)))
    assert len(sheet) == 4
    assert photos(sheet.draw(), 4) == [9, 8, 5, 3]
    assert said[-1].startswith("The 4 least certain of 6 photos. ")


def test_equals_stay_in_order():
    sheet = LeastCertain(most=3)
    for grey in (7, 5, 9, 1):
        sheet.add("nobody", empty(grey))
    assert photos(sheet.draw(), 3) == [7, 5, 9]


def test_large_photos_are_kept_small():
    sheet = LeastCertain()
    sheet.add("large", cutout(9, 0, (900, 1800)))
    assert [picture.shape for picture in sheet._blocks[0].pictures] == [(96, 192, 3)] * 2


def test_nothing_to_draw():
    refuses(DataError, "at least one picture", LeastCertain().draw)
