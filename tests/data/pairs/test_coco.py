from __future__ import annotations

import contextlib
import io
import json
import tracemalloc
import warnings

import numpy as np
import pytest
from PIL import Image
from tests.data.pair_format_contract import PairFormatContract
from tests.data.pair_sets import EMPTY, INDICES, SIDE, files, layout, pair, write

from labels4free.data.pairs import rle
from labels4free.data.pairs.coco import CocoFormat
from labels4free.data.pairs.formats import open_pairs
from labels4free.errors import DataError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

# pycocotools 2.0.11 and NumPy 2: its arrays do not know the argument copy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


class TestCoco(PairFormatContract):
    name = "coco"


def content(path):
    return json.loads(path.read_text())


def opened(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def test_files_of_a_data_set(tmp_path):
    write("coco", tmp_path, layout(("image", "mask", "alpha")))
    pictures = {f"{folder}/{i:05d}.png" for folder in ("images", "alpha") for i in INDICES}
    assert files(tmp_path).keys() == pictures | {f"annotations/00000{i}.json" for i in range(3)} | {"instances.json"}


def test_an_annotation_by_hand(tmp_path):
    write("coco", tmp_path)
    found = content(tmp_path / "instances.json")
    assert found["categories"] == [{"id": 1, "name": 'a "cat"', "supercategory": 'a "cat"'}]
    assert found["licenses"] == []
    assert 'a "cat"' in found["info"]["description"]
    assert found["images"][4] == {
        "id": 5,
        "file_name": "00005.png",
        "width": SIDE,
        "height": SIDE,
        "record": pair(5).record.to_json(),
    }
    mask = pair(5).pictures["mask"] > 0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    annotation = next(one for one in found["annotations"] if one["image_id"] == 5)
    assert annotation == {
        "id": 6,
        "image_id": 5,
        "category_id": 1,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1],
        "segmentation": {"size": [SIDE, SIDE], "counts": rle.to_text(rle.encode(mask))},
    }


def test_an_empty_mask_has_no_annotation(tmp_path):
    write("coco", tmp_path)
    for name in ("instances.json", "annotations/000000.json"):
        found = content(tmp_path / name)
        assert EMPTY in {image["id"] for image in found["images"]}
        assert {one["image_id"] for one in found["annotations"]} == {i["id"] for i in found["images"]} - {EMPTY}


def test_every_shard_is_a_coco_file(tmp_path):
    write("coco", tmp_path)
    whole = content(tmp_path / "instances.json")
    parts = [content(tmp_path / "annotations" / f"00000{i}.json") for i in range(3)]
    for key in ("images", "annotations"):
        assert [one for part in parts for one in part[key]] == whole[key]
    assert all(part["categories"] == whole["categories"] for part in parts)
    assert opened(tmp_path / "annotations" / "000001.json").getImgIds() == [5, 6]


def test_merging_holds_one_shard_at_a_time(tmp_path):
    settings, count = layout(("image", "mask")), 20
    text = "x" * 100_000
    for shard in range(count):
        item = {"id": shard, "file_name": text, "width": 1, "height": 1}
        path = tmp_path / "annotations" / f"{shard:06d}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": [item], "annotations": []}))
    tracemalloc.start()
    CocoFormat.finish(tmp_path, settings, ((shard, []) for shard in range(count)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "instances.json").stat().st_size > count * len(text)
    assert peak < count * len(text) / 2


def test_a_shard_that_is_lost_or_damaged(tmp_path):
    write("coco", tmp_path)
    before = files(tmp_path)
    path = tmp_path / "annotations" / "000001.json"
    for data, message in [(b'{"images": [', "cannot be read as a COCO file"), (b"[]", 'expected under "images"')]:
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"000001\.json .*{message}"):
            CocoFormat.finish(tmp_path, layout(), [(s, []) for s in range(3)])
    path.unlink()
    with pytest.raises(DataError, match=r"There are no annotations at .*000001\.json"):
        CocoFormat.finish(tmp_path, layout(), [(s, []) for s in range(3)])
    assert files(tmp_path)["instances.json"] == before["instances.json"]
    assert files(tmp_path).keys() == before.keys() - {"annotations/000001.json"}


# Reading


def test_a_coco_file_beside_its_images(tmp_path):
    """Of others: several annotations an image, run lengths as numbers, images without a folder of their own."""
    Image.new("RGB", (3, 2), "red").save(tmp_path / "a.png")
    image = {"id": "x", "file_name": "a.png", "width": 3, "height": 2}
    annotations = [
        {"image_id": "x", "segmentation": {"size": [2, 3], "counts": [1, 1, 4]}},
        {"image_id": "x", "segmentation": {"size": [2, 3], "counts": rle.to_text(np.array([5, 1]))}},
        {"image_id": "y", "segmentation": {"size": [2, 3], "counts": [0, 6]}},
    ]
    (tmp_path / "val.json").write_text(json.dumps({"images": [image], "annotations": annotations}))
    (one,) = open_pairs(tmp_path / "val.json")
    assert one.pictures["mask"].tolist() == [[0, 0, 0], [255, 0, 255]]
    assert one.pictures["image"].shape == (2, 3, 3)
    assert one.record.foreground_ratio == round(2 / 6, 6)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 1, 0, 1, 1]], "Polygons are not read: give masks as run lengths"),
        ({"size": [2, 2], "counts": "é"}, "This is no text of run lengths"),
        ({"size": [2, 2], "counts": [1]}, "cover 1 pixels, expected were 24 x 24"),
        ({"size": [2, 2]}, r"are damaged \(KeyError: 'counts'\)"),
    ],
)
def test_masks_that_cannot_be_read(tmp_path, segmentation, message):
    write("coco", tmp_path, layout(("image", "mask")))
    found = content(tmp_path / "instances.json")
    found["annotations"][0]["segmentation"] = segmentation
    (tmp_path / "instances.json").write_text(json.dumps(found))
    pairs = open_pairs(tmp_path)
    assert len(list(pairs)) == len(INDICES) - 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(pairs.skipped["00000.png"])


def test_other_parts_that_are_missing(tmp_path):
    write("coco", tmp_path, layout(("image", "mask", "alpha")))
    (tmp_path / "alpha" / "00002.png").unlink()
    pairs = open_pairs(tmp_path)
    assert [one.record.index for one in pairs] == [i for i in INDICES if i != 2]
    assert pairs.skipped["00002.png"].startswith("There is no alpha of 00002.png in")


# COCO's own reader


def test_pycocotools_reads_it(tmp_path):
    write("coco", tmp_path, layout(("image", "mask")))
    coco = opened(tmp_path / "instances.json")
    assert coco.getImgIds() == list(INDICES)
    assert coco.loadCats(coco.getCatIds())[0]["name"] == 'a "cat"'
    for index in INDICES:
        image = coco.loadImgs(index)[0]
        with Image.open(tmp_path / "images" / image["file_name"]) as picture:
            assert np.array_equal(picture, pair(index).pictures["image"])
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=index, catIds=[1]))
        masks = [coco.annToMask(one) for one in annotations]
        assert len(masks) == (index != EMPTY)
        assert all(np.array_equal(mask * 255, pair(index).pictures["mask"]) for mask in masks)


def test_their_evaluation_takes_it(tmp_path):
    write("coco", tmp_path, layout(("image", "mask")))
    truth = opened(tmp_path / "instances.json")
    keys = ("image_id", "category_id", "segmentation")
    results = [{key: one[key] for key in keys} | {"score": 0.9} for one in truth.loadAnns(truth.getAnnIds())]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)  # mean average precision of the masks themselves
