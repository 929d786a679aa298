from __future__ import annotations

import pytest
from tests.evaluation.mask_folders import disc, folders, write
from tests.refusals import refuses

from labels4free.errors import DataError
from labels4free.evaluation.pairing import pair_files, with_predictions


def touch(root, *names):
    for name in names:
        write(root / name, disc(2))
    return root


def test_by_name_whatever_the_ending(tmp_path):
    gt = touch(tmp_path / "gt", "10.png", "2.png", "a.b.png")
    pred = touch(tmp_path / "pred", "10.bmp", "2.jpg", "a.b.tiff")
    images = touch(tmp_path / "images", "10.webp", "2.png", "a.b.png")
    pairs = pair_files(gt, pred, images)
    assert [pair.name for pair in pairs] == ["2", "10", "a.b"]
    assert [pair.prediction for pair in pairs] == [pred / "2.jpg", pred / "10.bmp", pred / "a.b.tiff"]
    assert [pair.truth for pair in pairs] == [gt / "2.png", gt / "10.png", gt / "a.b.png"]
    assert [pair.image for pair in pairs] == [images / "2.png", images / "10.webp", images / "a.b.png"]
    assert [pair.group for pair in pairs] == ["", "", ""]


def test_a_truth_alone_and_images_without_predictions(tmp_path):
    gt, images = touch(tmp_path / "gt", "1.png"), touch(tmp_path / "images", "1.jpg")
    assert [(pair.prediction, pair.image) for pair in pair_files(gt)] == [(None, None)]
    assert [(pair.prediction, pair.image) for pair in pair_files(gt, images=images)] == [(None, images / "1.jpg")]


def test_natural_order(tmp_path):
    gt = touch(tmp_path / "gt", "Face10.png", "Face9.png", "b/x.png")
    pred = touch(tmp_path / "pred", "p.png", "q.png", "b/1.png")
    pairs = pair_files(gt, pred, order="natural")
    found = [(pair.name, pair.prediction.relative_to(pred).as_posix(), pair.group) for pair in pairs]
    assert found == [("b/x", "b/1.png", "b"), ("Face9", "p.png", ""), ("Face10", "q.png", "")]


def test_sub_folders_are_groups(tmp_path):
    for group in ("Cats", "Cars/old"):
        pred, gt = folders(tmp_path, 1, group)
    assert [(pair.group, pair.name) for pair in pair_files(gt, pred)] == [
        ("Cars/old", "Cars/old/0"),
        ("Cats", "Cats/0"),
    ]


def test_a_star_stands_for_the_groups(tmp_path):
    for group in ("Cats", "Cars"):
        folders(tmp_path / group, 2)
    touch(tmp_path / "other", "1.png")  # has no gt: not meant
    pairs = pair_files(tmp_path / "*" / "gt", tmp_path / "*" / "pred")
    assert [(pair.group, pair.name) for pair in pairs] == [
        ("Cars", "Cars/0"), ("Cars", "Cars/1"), ("Cats", "Cats/0"), ("Cats", "Cats/1"),
    ]  # fmt: skip
    assert pairs[0].prediction == tmp_path / "Cars" / "pred" / "0.png"


def test_files_without_a_partner_are_named(tmp_path):
    pred, gt = folders(tmp_path, 9)
    (pred / "3.png").unlink()
    with pytest.raises(DataError) as error:
        pair_files(gt, pred)
    assert str(error.value) == (
        f"{gt} has 9 files and {pred} 8, of which {gt / '3.png'} is without a partner of the same name; give both the "
        "same names, or pair them in sorted order with --order natural."
    )
    for number in range(9):
        if number != 3:
            (pred / f"{number}.png").rename(pred / f"p{number}.png")
    refuses(DataError, r"0\.png, .*4\.png and 12 more are without a partner", pair_files, gt, pred)


def test_too_few_for_natural_order_are_named(tmp_path):
    pred, gt = folders(tmp_path, 3)
    (pred / "0.png").unlink()
    with pytest.raises(DataError) as error:
        pair_files(gt, pred, order="natural")
    assert str(error.value) == (
        f"{gt} has 3 files and {pred} 2: in sorted order {gt / '2.png'} is without a partner; give both as many."
    )
    touch(pred, "other/0.png")
    refuses(DataError, r"2\.png, \S+other.0\.png are without a partner", pair_files, gt, pred, order="natural")


def test_other_bad_folders(tmp_path):
    gt = touch(tmp_path / "gt", "1.png")
    (tmp_path / "empty").mkdir()
    for wrong, words in (("empty", "holds no readable image"), ("none", "does not exist: give a folder of images")):
        refuses(DataError, words, pair_files, gt, tmp_path / wrong)
        refuses(DataError, words, pair_files, tmp_path / wrong)
    refuses(DataError, r"There is no folder that \S+\*\S+ stands for", pair_files, tmp_path / "*" / "masks")
    refuses(DataError, r"none cannot be read: No such file", pair_files, tmp_path / "none" / "*")
    refuses(DataError, r"more than one part \*", pair_files, tmp_path / "*" / "*")
    touch(gt, "1.bmp")
    refuses(DataError, r"1\.bmp and \S+1\.png differ only in their endings", pair_files, gt)


def test_predictions_in_a_folder_to_come(tmp_path):
    gt = touch(tmp_path / "set" / "Cats" / "gt", "a.b.png", "deep/1.jpg")
    pairs = with_predictions(pair_files(tmp_path / "set" / "*" / "gt"), tmp_path / "out")
    assert {pair.truth: pair.prediction for pair in pairs} == {
        gt / "a.b.png": tmp_path / "out" / "Cats" / "a.b.png",
        gt / "deep" / "1.jpg": tmp_path / "out" / "Cats" / "deep" / "1.png",
    }
    for pair in pairs:
        write(pair.prediction, disc(2))
    assert pair_files(tmp_path / "set" / "*" / "gt", tmp_path / "out") == pairs


def test_what_is_no_mask_is_listed(tmp_path, caplog):
    pred, gt = folders(tmp_path, 3)
    (pred / "d.CR2").touch()
    assert [pair.name for pair in pair_files(gt, pred)] == ["0", "1", "2"]
    assert f"Left out: {pred / 'd.CR2'} is a camera's raw file" in caplog.text


@pytest.mark.parametrize("name", ["1.png", "v1.0"])
def test_what_cannot_be_read_stops_the_evaluation(tmp_path, name):
    """A figure of part of a set is none."""
    pred, gt = folders(tmp_path, 3)
    for folder in (pred, gt):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("nowhere")
    refuses(DataError, f"gt can only be scored as a whole. .*{name} is a link to nothing", pair_files, gt, pred)
