from __future__ import annotations

import itertools
import json
import logging
import shutil

import numpy as np
import pytest
from tests.data.pair_format_contract import PairFormatContract
from tests.data.pair_sets import EMPTY, INDICES, layout, pair, write
from tests.data.pairs.hugging_face import load

from labels4free.data.names import PARTS
from labels4free.data.pairs.formats import open_pairs
from labels4free.data.pairs.huggingface import HuggingFaceFormat, _size_category
from labels4free.errors import DataError


class TestHuggingFace(PairFormatContract):
    name = "huggingface"


def header_of(out):
    _, header, text = (out / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return header.splitlines(), text


def test_lines_of_the_metadata(tmp_path):
    write("huggingface", tmp_path, layout(("image", "mask", "latents"), image_format="webp"))
    lines = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(INDICES)
    paths = {"file_name": "images/00005.webp", "mask_file_name": "masks/00005.png", "latents": "latents/00005.npz"}
    assert lines[4] == paths | pair(5).record.to_json()


def test_the_card(tmp_path):
    write("huggingface", tmp_path, layout(("image", "mask")))
    header, text = header_of(tmp_path)
    assert header == [
        'pretty_name: "Images with masks: a \\"cat\\""',
        "task_categories:",
        "- image-segmentation",
        "size_categories:",
        "- n<1K",
        "tags:",
        "- synthetic",
        "- labels4free",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path:",
        '    - "metadata.jsonl"',
        '    - "images/*"',
        '    - "masks/*"',
    ]
    assert text.startswith('\n# Images with masks: a "cat"\n')
    write("huggingface", tmp_path, layout(("image", "mask")), card="\n# Mine\n")
    assert header_of(tmp_path) == (header, "\n# Mine\n")


@pytest.mark.parametrize(
    ("count", "words"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (9_999, "1K<n<10K"), (10**7, "10M<n<100M"), (10**11, "100B<n<1T")],
)
def test_size_categories(tmp_path, count, words):
    """The Hub's own words, from the number of records; no file of a pair is needed for that."""
    if count < 10**4:
        HuggingFaceFormat.finish(tmp_path, layout(("image", "mask")), [(0, itertools.repeat(pair(0).record, count))])
        assert f"- {words}" in header_of(tmp_path)[0]
    assert _size_category(count) == words


def test_metadata_of_others(tmp_path):
    write("huggingface", tmp_path, layout(("image", "mask")))
    lines = [
        {"file_name": "images/00000.png", "mask_file_name": "masks/00000.png", "caption": "a cat"},
        {"file_name": "images/00001.png", "mask_file_name": "../outside.png"},
        {"file_name": "images/00002.png"},
    ]
    shutil.copy(tmp_path / "masks" / "00001.png", tmp_path.parent / "outside.png")
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pairs = open_pairs(tmp_path)
    (one,) = pairs
    assert one.record.foreground_ratio == pair(0).record.foreground_ratio
    assert "names no mask inside the folder for images/00001" in pairs.skipped["images/00001"]
    (tmp_path / "metadata.jsonl").write_text('{"text": "x"}\n')
    assert len(open_pairs(tmp_path)) == len(INDICES)  # it says nothing, and there are folders of images and masks
    (tmp_path / "masks").rename(tmp_path / "others")
    with pytest.raises(DataError, match="names no image: every line needs a file_name"):
        open_pairs(tmp_path)


# Their own reader


def assert_all_there(data, out):
    assert len(data) == len(INDICES)
    for row, index in zip(data, INDICES, strict=True):
        written = pair(index)
        for part in PARTS:
            if part != "latents":
                assert np.array_equal(np.asarray(row[part]), written.pictures[part]), part
        record = {name: row[name] for name in written.record.to_json()}
        assert record == written.record.to_json()
        with np.load(out / row["latents"]) as latents:
            assert np.array_equal(latents["ws"], written.latents["ws"])
    assert data[INDICES.index(EMPTY)]["mask"].getextrema() == (0, 0)


@pytest.fixture
def out(tmp_path):
    """A data set with what else lies in one."""
    write("huggingface", tmp_path / "set")
    (tmp_path / "set" / "shards").mkdir()
    (tmp_path / "set" / "shards" / "000000.json").write_text('{"shard": 0}')
    (tmp_path / "set" / "manifest.json").write_text('{"kind": "x"}')
    shutil.copy(tmp_path / "set" / "images" / "00000.png", tmp_path / "set" / "contact_sheet.png")
    return tmp_path / "set"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_datasets_loads_the_folder_and_finds_out_by_the_card(out):
    assert_all_there(load("imagefolder", out.parent, data_dir=str(out)), out)
    assert_all_there(load(str(out), out.parent), out)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("indices", [INDICES, (0, 9)])
def test_datasets_loads_our_tar_shards(tmp_path, caplog, indices):
    caplog.set_level(logging.ERROR)
    write("webdataset", tmp_path / "set", indices=indices)
    shards = sorted(str(path) for path in (tmp_path / "set").glob("*.tar"))
    data = load("webdataset", tmp_path, data_files=shards)
    assert [row["__key__"] for row in data] == [f"{i:09d}" for i in indices]
    for row, index in zip(data, indices, strict=True):
        written = pair(index)
        assert np.array_equal(np.asarray(row["image.png"]), written.pictures["image"])
        assert np.array_equal(np.asarray(row["mask.png"].convert("L")), written.pictures["mask"])
        assert row["json"] == written.record.to_json()
