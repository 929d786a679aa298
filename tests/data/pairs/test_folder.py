from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.pair_format_contract import PairFormatContract
from tests.data.pair_sets import INDICES, files, layout, pair, write

from labels4free.data.images.dataset import open_source
from labels4free.data.pairs.folder import FolderSet, JsonLines, part_path
from labels4free.data.pairs.formats import open_pairs
from labels4free.data.pairs.record import measure
from labels4free.errors import DataError


class TestFolder(PairFormatContract):
    name = "folder"


def put(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def square(value=255, side=8):
    mask = np.zeros((side, side), np.uint8)
    mask[2:5, 2:5] = value
    return mask


def colour(value, side=8):
    return np.full((side, side, 3), value, np.uint8)


def test_paths():
    settings = layout(image_format="jpeg")
    assert part_path("image", 7, settings) == "images/00007.jpg"
    assert part_path("mask", 1234567, settings) == "masks/1234567.png"
    assert part_path("latents", 0, settings) == "latents/00000.npz"


def test_files_of_a_data_set(tmp_path):
    write("folder", tmp_path, layout(("image", "mask")))
    names = {f"{folder}/{index:05d}.png" for folder in ("images", "masks") for index in INDICES}
    assert files(tmp_path).keys() == names | {"records.jsonl"}
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    assert json.loads(lines[4]) == pair(5).record.to_json()


def test_the_order_is_that_of_the_records(tmp_path):
    write("folder", tmp_path, indices=(0, 2, 5, 9))
    for path in tmp_path.glob("*/00009*"):
        shutil.copy(path, path.with_name(path.name.replace("00009", "100000")))
    assert open_pairs(tmp_path).names == ["00000", "00002", "00005", "00009"]  # what no record names is not read


def test_damaged_and_missing_files_are_skipped(tmp_path, caplog):
    write("folder", tmp_path, layout(("image", "mask")))
    (tmp_path / "masks" / "00001.png").unlink()
    (tmp_path / "images" / "00005.png").write_bytes(b"no image")
    put(tmp_path / "masks" / "00009.png", square())
    pairs = open_pairs(tmp_path)
    assert [one.record.index for one in pairs] == [0, 2, 3, 6, 8]
    assert pairs.skipped.keys() == {"00001", "00005", "00009"}
    assert pairs.skipped["00001"] == f"There is no mask of 00001 in {tmp_path / 'masks'}."
    assert "images/00005.png cannot be read as an image" in pairs.skipped["00005"]
    assert "differ in size (8 x 8 and 24 x 24)" in pairs.skipped["00009"]
    assert caplog.text.count("Skipped 1 pair(s)") == 3
    assert pairs[1].record.index == 2  # the next one takes its place
    assert pairs[7].record.index == 0
    assert len(caplog.records) == 3


def test_the_first_format_is_read(tmp_path):
    """Data sets of earlier versions: five folders of numbered PNG files, a manifest, no records."""
    for index in range(3):
        one = pair(index, 8)
        for part, folder in [
            ("image", "images"),
            ("alpha", "alpha"),
            ("mask", "masks"),
            ("composite", "composites"),
            ("background", "backgrounds"),
        ]:
            put(tmp_path / folder / f"{index:05d}.png", one.pictures[part], compress_level=2)
    manifest = {"kind": "labels4free_samples", "format": 1, "num": 3, "settings": {"truncation_psi": 0.5}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    pairs = open_pairs(tmp_path)
    assert pairs.parts == ("image", "alpha", "mask", "composite", "background")
    for index, read in enumerate(pairs):
        one = pair(index, 8, truncation_psi=0.5)
        assert read.record == one.record
        assert np.array_equal(read.pictures["composite"], one.pictures["composite"])


def test_a_folder_of_others(tmp_path, caplog):
    put(tmp_path / "images" / "b10.jpg", colour(10))
    put(tmp_path / "images" / "b9.webp", colour(20), lossless=True)
    put(tmp_path / "images" / "deep" / "7.png", colour(30))
    put(tmp_path / "images" / "alone.png", colour(40))
    put(tmp_path / "masks" / "b10.png", square())
    put(tmp_path / "masks" / "b9.bmp", square(1))
    put(tmp_path / "masks" / "deep" / "7.tif", square())
    put(tmp_path / "masks" / "nothing.png", square())
    put(tmp_path / "alpha" / "b10.png", square())  # some pairs have one: it is no part of the data set
    (tmp_path / "masks" / "notes.txt").write_text("")
    pairs = open_pairs(tmp_path)
    assert pairs.names == ["b9", "b10", "deep/7"]
    assert pairs.parts == ("image", "mask")
    assert "images/alone.png has no mask." in pairs.skipped["alone"]
    assert "Skipped 1 pair(s)" in caplog.text
    for one, value in zip(pairs, (20, 10, 30), strict=True):
        assert np.array_equal(one.pictures["mask"], square())
        assert abs(int(one.pictures["image"].mean()) - value) <= 1
    assert [one.record.index for one in pairs] == [0, 1, 7]  # the name where it is a number, else the place
    assert pairs[0].record == measure(0, square(), square())


def test_alphas_serve_where_there_are_no_masks(tmp_path):
    put(tmp_path / "images" / "0.png", colour(10))
    put(tmp_path / "alpha" / "0.png", square(128))
    pairs = FolderSet(tmp_path)
    assert pairs.parts == ("image", "alpha")
    assert pairs[0].record.alpha_mean == round(9 * 128 / 255 / 64, 6)


@pytest.mark.parametrize("folders", [("images",), ("images", "masks")])
def test_no_pairs(tmp_path, folders):
    for folder in folders:
        put(tmp_path / folder / f"{folder}.png", square())
    with pytest.raises(DataError, match=r"holds no pair: put images into .*images and a mask of the same name"):
        open_pairs(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "object 2 in it is no JSON"), ("[]", "line 2 is no JSON object"), ('{"index": "1"}', "has the index '1'")],
)
def test_damaged_records(tmp_path, line, message):
    write("folder", tmp_path)
    path = tmp_path / "records.jsonl"
    first, _, *rest = path.read_text().splitlines()
    path.write_text("\n".join([first, line, *rest]))
    with pytest.raises(DataError, match=rf"records\.jsonl is damaged: .*{message}"):
        open_pairs(tmp_path)


def test_lines_of_json_by_number(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n  \n{"a": "é"}\n{"a": 3}')
    lines = JsonLines(path)
    assert len(lines) == 3
    assert [lines[i]["a"] for i in range(3)] == [line["a"] for line in lines] == [1, "é", 3]
    path.unlink()
    with pytest.raises(DataError, match=r"x\.jsonl cannot be read: No such file"):
        lines[0]
    with pytest.raises(DataError, match="cannot be read"):
        JsonLines(path)


def test_what_stands_in_the_way_is_listed(tmp_path):
    """Links are followed; what is beside images and masks decides nothing."""
    for number in range(2):
        put(tmp_path / "outside" / f"{number}.png", colour(10))
        put(tmp_path / "set" / "masks" / "linked" / f"{number}.png", square())
    top = tmp_path / "set"
    (top / "images").mkdir()
    (top / "images" / "linked").symlink_to(tmp_path / "outside")
    (top / "images" / "2.png").symlink_to("nowhere")
    put(top / "masks" / "2.png", square())
    put(top / "masks" / "linked" / "1.tif", square())
    put(top / "preview.jpg", colour(1))
    (top / "images" / "d.CR2").touch()
    (top / "instances.json").write_text("{}")
    (top / "metadata.jsonl").write_text('{"file_name": "images/0.png", "text": "x"}\n')
    (top / "backup.tar").write_bytes(b"x")
    (top / "data.mdb").write_bytes(b"x")
    pairs = open_pairs(top)
    assert pairs.names == ["linked/0", "linked/1"]
    assert np.array_equal(pairs[1].pictures["mask"], square())
    said = [
        f"{top}/images/2.png is a link to nothing.",
        f"{top}/images/d.CR2 is a camera's raw file, which is not read: develop it to JPEG or PNG.",
        f"{top}/masks/linked/1.tif is left out: linked/1.png has its name but for the ending.",
        f"{top}/masks/2.png has no image.",
    ]
    assert pairs.skipped == {sentence.partition(" ")[0]: sentence for sentence in said}
    source = open_source(top)
    assert source.names == ("linked/0.png", "linked/1.png")
    assert [Path(label).name for label in source.skipped] == ["2.png", "d.CR2", "preview.jpg"]
