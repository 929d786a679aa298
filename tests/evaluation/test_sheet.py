from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.mask_folders import disc, folders, write

from labels4free.errors import ConfigError, DataError
from labels4free.evaluation import sheet as module
from labels4free.evaluation.config import EvaluationConfig
from labels4free.evaluation.evaluate import evaluate_pairs
from labels4free.evaluation.pairing import pair_files
from labels4free.evaluation.sheet import draw_sheet, write_sheet
from labels4free.pictures import contact_sheet
from labels4free.pictures.contact_sheet import caption, heading

pytestmark = pytest.mark.slow

CELL, STEP = 192, 198
RED, BLUE = (230, 60, 50), (40, 110, 230)
PHOTO = (30, 160, 60)


def scored(root, count, size=24):
    """Pairs whose k-th prediction is k pixels off, their images in one colour, and their report."""
    pred, gt = folders(root, count)
    for number in range(count):
        write(root / "images" / f"{number}.png", np.full((size, size, 3), PHOTO, np.uint8))
    pairs = pair_files(gt, pred, root / "images")
    return evaluate_pairs(pairs, EvaluationConfig(bootstrap=0)), pairs


def cells(sheet, row, rows, abreast=1):
    """The pictures of a row of the sheet, without the label."""
    top = sheet.shape[0] - (rows - row) * STEP
    lefts = [6 + column * STEP for column in range(5 * abreast) if column % 5]
    return [sheet[top : top + CELL, left : left + CELL] for left in lefts]


def fraction(picture, colour):
    return float((picture == np.array(colour)).all(axis=2).mean())


def test_the_worst_come_first_with_their_pictures(tmp_path):
    report, pairs = scored(tmp_path, 3)
    sheet = draw_sheet(report, pairs)
    assert sheet.shape[1] == 6 + 5 * STEP
    for row, shift in enumerate((2, 1, 0)):
        image, laid_over, truth, differences = cells(sheet, row, 3)
        assert fraction(image, PHOTO) == 1
        np.testing.assert_array_equal(truth[..., 0], disc().repeat(8, 0).repeat(8, 1))
        predicted = disc(shift=shift).repeat(8, 0).repeat(8, 1) > 0
        # The object keeps its colours, but for its outline, and the background does not.
        assert fraction(laid_over, PHOTO) > 0
        assert not (laid_over[~predicted] == PHOTO).all(axis=1).any()
        off = float(((disc(shift=shift) > 0) & (disc() == 0)).mean())
        assert fraction(differences, RED) == fraction(differences, BLUE) == pytest.approx(off)
    assert off == 0  # the last is perfect


def test_the_labels(tmp_path, monkeypatch):
    captions, headings = [], []
    monkeypatch.setattr(module, "caption", lambda *given: captions.append(given[:2]) or caption(*given))
    monkeypatch.setattr(contact_sheet, "heading", lambda words, width: headings.append(words) or heading(words, width))
    report, pairs = scored(tmp_path, 2)
    draw_sheet(report, pairs, "Masks of a.")
    worst = report.images.of(1)
    assert captions == [
        ("1. 1", [f"IoU {worst['iou_foreground']:.4f}", f"mean IoU {worst['miou']:.4f}"]),
        ("2. 0", ["IoU 1.0000", "mean IoU 1.0000"]),
    ]
    assert headings[0][0] == "Masks of a."
    assert headings[0][1].startswith("Images: 2. The lowest mean IoU first; IoU is that of the object.")


def test_many_images_are_cut_off_and_stand_two_abreast(tmp_path, monkeypatch):
    report, pairs = scored(tmp_path, 5)
    monkeypatch.setattr(module, "MOST_IMAGES", 3)
    monkeypatch.setattr(module, "_TWO_ABREAST", 2)
    headings, steps = [], []
    monkeypatch.setattr(contact_sheet, "heading", lambda words, width: headings.append(words) or heading(words, width))
    sheet = draw_sheet(report, pairs, progress=lambda done, of: steps.append((done, of)))
    assert headings[0][1].startswith("The 3 lowest of 5 images, cut off here. ")
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert sheet.shape[1] == 6 + 10 * STEP
    first, second = cells(sheet, 0, 2, 2)[3], cells(sheet, 0, 2, 2)[7]
    third, nothing = cells(sheet, 1, 2, 2)[3], cells(sheet, 1, 2, 2)[7]
    fractions = [fraction(picture, RED) for picture in (first, second, third)]
    assert all(one > other > 0 for one, other in pairwise(fractions))
    assert (nothing == 255).all()


def test_images_of_other_sizes_than_their_masks(tmp_path):
    report, pairs = scored(tmp_path, 1, size=400)
    write(pairs[0].image, np.full((200, 400, 3), PHOTO, np.uint8))
    image, laid_over, *_ = cells(draw_sheet(report, pairs), 0, 1)
    assert fraction(image[:96], PHOTO) == 1
    assert (image[96:] == 255).all()
    assert 0 < fraction(laid_over[:96], PHOTO) < 1


def test_the_sheet_shows_what_the_threshold_makes_of_soft_masks(tmp_path):
    gt = write(tmp_path / "gt" / "0.png", disc())
    pred = write(tmp_path / "pred" / "0.png", np.tile(np.arange(20, 140, 5, np.uint8), (24, 1)))
    write(tmp_path / "images" / "0.png", np.full((24, 24, 3), PHOTO, np.uint8))
    pairs = pair_files(gt.parent, pred.parent, tmp_path / "images")
    for threshold, found in ((0.9, 0), (0.01, 1)):
        config = EvaluationConfig(bootstrap=0, threshold=threshold)
        laid_over = cells(draw_sheet(evaluate_pairs(pairs, config), pairs), 0, 1)[1]
        assert fraction(laid_over, PHOTO) == found


def test_a_file(tmp_path):
    report, pairs = scored(tmp_path, 1)
    write_sheet(tmp_path / "a.png", report, pairs)
    with Image.open(tmp_path / "a.png") as exact:
        np.testing.assert_array_equal(np.asarray(exact), draw_sheet(report, pairs))


def test_what_cannot_be_drawn_or_written(tmp_path):
    report, pairs = scored(tmp_path, 1)
    with pytest.raises(ConfigError, match=r"must end in \.jpg, \.jpeg, \.png, got .*a\.gif"):
        write_sheet(tmp_path / "a.gif", report, pairs)
    with pytest.raises(DataError, match="0 has no image, which a sheet shows"):
        draw_sheet(report, pair_files(tmp_path / "gt", tmp_path / "pred"))
