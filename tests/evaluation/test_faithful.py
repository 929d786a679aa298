from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.mask_folders import disc, folders, write
from tests.refusals import refuses

from labels4free.errors import DataError
from labels4free.evaluation.faithful import faithful_table, faithful_tables, format_table
from labels4free.evaluation.pairing import pair_files

CLASSES = ["Cars", "Cats", "Faces", "Horse"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_every_printed_digit_of_the_original(shared, name):
    expected = json.loads((shared / "fixtures" / "evaluation" / f"{name}.json").read_text())
    folder = shared / "data" / "labels4free_custom" / name
    tables = faithful_tables(pair_files(folder / "gt", folder / "pred", order="natural"))
    assert tables == {"": expected["table"]}  # equal to the last bit
    assert format_table(tables[""]).splitlines() == expected["printed_table"]


@pytest.mark.slow
def test_each_image_of_the_original(shared):
    """The confusion matrix of every single image."""
    expected = json.loads((shared / "fixtures" / "evaluation" / "custom_first5.json").read_text())["classes"]
    for name in CLASSES:
        folder = shared / "data" / "labels4free_custom" / name
        pairs = pair_files(folder / "gt", folder / "pred", order="natural")
        for pair, matrix in zip(pairs, expected[name]["confusion_matrix_per_image"], strict=True):
            assert faithful_tables([pair])[""] == faithful_table(np.array(matrix))


def test_by_hand():
    table = faithful_table(np.array([[6, 2], [1, 3]]))
    assert table["fg"] == {"IoU": 0.6667, "F1": 0.7999, "Prec": 0.8571, "recall": 0.75, "Acc": 0.75}
    assert table["bg"] == {"IoU": 0.5, "F1": 0.6666, "Prec": 0.6, "recall": 0.75, "Acc": 0.75}
    assert table["total"]["IoU"] == (0.6667 + 0.5) / 2
    assert table["total(-bg)"] == table["bg"]


def test_a_class_that_does_not_occur_scores_0():
    assert faithful_table(np.array([[9, 0], [0, 0]]))["bg"] == {"IoU": 0, "F1": 0, "Prec": 0, "recall": 0, "Acc": 1}


def test_greys_are_background_and_transparency_is_ignored(tmp_path):
    write(tmp_path / "gt" / "1.png", np.array([[254, 255, 255, 0]], np.uint8))
    layer = np.array([[[255, 255, 255, 255], [255, 255, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)
    write(tmp_path / "pred" / "1.png", layer)
    table = faithful_tables(pair_files(tmp_path / "gt", tmp_path / "pred"))[""]
    assert table == faithful_table(np.array([[1, 1], [1, 1]]))


def test_true_masks_without_white_are_refused(tmp_path):
    pred, gt = folders(tmp_path, 2)
    for number, value in enumerate((2, 15)):
        write(gt / f"{number}.png", disc() // 255 * value)
    refuses(
        DataError, "hold no value above 15 of 255, and by the original's rule", faithful_tables, pair_files(gt, pred)
    )


def test_groups(tmp_path):
    for group in ("b", "a"):
        pred, gt = folders(tmp_path, 2, group)
    calls = []
    tables = faithful_tables(pair_files(gt, pred), lambda done, total: calls.append((done, total)))
    assert list(tables) == ["a", "b"]
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_columns_have_the_decimals_that_they_need():
    table = {"fg": {"IoU": 0.5, "Acc": 1.0}, "total(-bg)": {"IoU": 0.48765, "Acc": 0.0}}
    assert format_table(table).splitlines() == [
        "                IoU  Acc",
        "fg          0.50000  1.0",
        "total(-bg)  0.48765  0.0",
    ]


def test_refusals(tmp_path):
    refuses(DataError, "no image to score", faithful_tables, [])
    pred, gt = folders(tmp_path, 1)
    write(pred / "0.png", disc(20))
    with pytest.raises(
        DataError, match=r"1 of 1 predicted masks have another size .*0\.png \(20x20, true mask 24x24\)"
    ):
        faithful_tables(pair_files(gt, pred))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(disc()[:20]).save(gt / "0.png")
    Image.fromarray(disc()[:, :20]).save(pred / "0.png", exif=exif)  # 24 x 20 when turned upright
    with pytest.raises(DataError, match=r"0\.png have other sizes when they are not turned upright"):
        faithful_tables(pair_files(gt, pred))
