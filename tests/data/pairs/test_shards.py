from __future__ import annotations

import io
import json
import tarfile
import warnings

import numpy as np
import pytest
from PIL import Image
from tests.data.pair_format_contract import PairFormatContract
from tests.data.pair_sets import INDICES, files, layout, pair, write
from tests.data.picture_files import tar_file

from labels4free.data.names import PARTS
from labels4free.data.pairs.formats import open_pairs
from labels4free.data.pairs.shards import shard_name
from labels4free.errors import DataError


class TestShards(PairFormatContract):
    name = "webdataset"


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def test_members_of_a_shard(tmp_path):
    write("webdataset", tmp_path, layout(("mask", "image", "alpha"), image_format="jpeg"))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [shard_name(i) for i in range(3)]
    with tarfile.open(tmp_path / "shard-000001.tar") as tar:
        infos = tar.getmembers()
        record = json.load(tar.extractfile("000000005.json"))
    endings = ("image.jpg", "alpha.png", "mask.png", "json")
    assert [info.name for info in infos] == [f"{i:09d}.{ending}" for i in (5, 6) for ending in endings]
    assert {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode) for i in infos} == {(0, 0, 0, "", "", 0o644)}
    assert record == pair(5).record.to_json()
    for data in files(tmp_path).values():
        assert len(data) % tarfile.RECORDSIZE == 0
        assert data[-2 * tarfile.BLOCKSIZE :] == bytes(2 * tarfile.BLOCKSIZE)
        assert data[257:265] == b"ustar\x0000"


def test_a_shard_and_a_pattern_of_them(tmp_path):
    write("webdataset", tmp_path)
    assert [one.record.index for one in open_pairs(tmp_path / "shard-000001.tar")] == [5, 6]
    some = open_pairs(f"{tmp_path}/shard-{{000001..000002}}.tar")
    assert [one.record.index for one in some] == [5, 6, 8, 9]
    assert some.names[0] == "shard-000001.tar/000000005"
    with pytest.raises(DataError, match=r"There is no shard .*shard-000003\.tar"):
        open_pairs(f"{tmp_path}/shard-{{000001..000003}}.tar")


def test_shards_of_others(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4] = 255
    members = {}
    for i in range(3):
        members[f"a/{i}.cls"] = b"1"
        members[f"a/{i}.png"] = png(np.full((8, 8, 3), i, np.uint8))
        members[f"a/{i}.mask.png"] = png(mask)
    members["a/3.png"] = png(np.zeros((8, 8, 3), np.uint8))
    tar_file(tmp_path / "x.tar", members)
    pairs = open_pairs(tmp_path)
    assert pairs.parts == ("image", "mask")
    assert [(one.record.index, int(one.pictures["image"].max())) for one in pairs] == [(0, 0), (1, 1), (2, 2)]
    assert pairs[1].record.foreground_ratio == 0.25
    assert pairs.skipped == {"x.tar/a/3": f"There is no mask of x.tar/a/3 in {tmp_path}."}


def test_no_pairs_in_shards(tmp_path):
    tar_file(tmp_path / "x.tar", {"1.txt": b"a caption"})
    with pytest.raises(DataError, match="holds no pair: give tar files with an image and a mask of the same name"):
        open_pairs(tmp_path)
    (tmp_path / "x.tar").write_bytes(b"\x1f\x8b" + bytes(5000))
    with pytest.raises(DataError, match=r"cannot be read as a tar file .*; if it is compressed, unpack it"):
        open_pairs(tmp_path)


def test_what_precedes_damage_is_used(tmp_path, caplog):
    write("webdataset", tmp_path, layout(("image", "mask")))
    path = tmp_path / "shard-000000.tar"
    data = path.read_bytes()
    place = data.index(b"000000002.mask.png")
    path.write_bytes(data[: place + 600])  # the mask's header is there, most of its content is not
    pairs = open_pairs(tmp_path)
    assert [one.record.index for one in pairs] == [0, 1, 5, 6, 8, 9]
    assert "shard-000000.tar is damaged (unexpected end of data): what comes before that is used." in caplog.text
    assert "is cut off: its shard ends within it" in pairs.skipped["shard-000000.tar/000000002"]


def test_a_damaged_record(tmp_path):
    write("webdataset", tmp_path)
    path = tmp_path / "shard-000001.tar"
    path.write_bytes(path.read_bytes().replace(b'{"index": 5', b'["index": 5'))
    pairs = open_pairs(tmp_path)
    assert [one.record.index for one in pairs] == [i for i in INDICES if i != 5]
    assert "000000005.json is no JSON" in pairs.skipped["shard-000001.tar/000000005"]


# Other people's readers


def read_by_webdataset(urls):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset
    return list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil"))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset 1.0 leaves closing to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_it(tmp_path):
    write("webdataset", tmp_path)
    samples = read_by_webdataset(f"{tmp_path}/shard-{{000000..000002}}.tar")
    assert [sample["__key__"] for sample in samples] == [f"{i:09d}" for i in INDICES]
    endings = {f"{part}.png" for part in PARTS if part != "latents"} | {"latents.npz", "json"}
    for sample, index in zip(samples, INDICES, strict=True):
        written = pair(index)
        assert {key for key in sample if not key.startswith("__")} == endings
        assert sample["json"] == written.record.to_json()
        assert np.array_equal(sample["image.png"], written.pictures["image"])
        assert np.array_equal(np.asarray(sample["mask.png"].convert("L")), written.pictures["mask"])
        assert np.array_equal(sample["latents.npz"]["ws"], written.latents["ws"])


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_passes_over_a_shard_without_pairs(tmp_path):
    write("webdataset", tmp_path, layout(("image", "mask")), indices=(0, 9))
    samples = read_by_webdataset(f"{tmp_path}/shard-{{000000..000002}}.tar")
    assert [sample["__key__"] for sample in samples] == ["000000000", "000000009"]


@pytest.mark.parametrize("prefix", ["", "./", "22.05."])
def test_names_as_others_pack_them(tmp_path, prefix):
    picture, mask = pair(0).pictures["image"], pair(0).pictures["mask"]
    members = {}
    for number in range(2):
        name = f"{prefix}{number}"
        members |= {f"{name}.png": png(picture), f"{name}.mask.png": png(mask), f"{name}.depth.png": png(mask)}
    path = tar_file(tmp_path / "set" / "x.tar", members)
    (path.parent / "y.tar").write_bytes(b"damaged")
    pairs = open_pairs(path.parent)
    assert pairs.names == [f"x.tar/{prefix.removeprefix('./')}{number}" for number in range(2)]
    assert all(np.array_equal(one.pictures["mask"], mask) for one in pairs)
    assert all(np.array_equal(one.pictures["image"], picture) for one in pairs)
    assert list(pairs.skipped) == [str(path.parent / "y.tar")]
