from __future__ import annotations

import tarfile

import pytest
import torch
from tests.data.image_store_contract import ImageStoreContract
from tests.data.picture_files import jpeg, tar_file

from labels4free.data.images.base import StoreLayout
from labels4free.data.images.dataset import open_images
from labels4free.data.images.shards import ShardSource, ShardWriter
from labels4free.errors import DataError


class TestShards(ImageStoreContract):
    source, writer, nothing = ShardSource, ShardWriter, "holds no image: give tar files with PNG"

    def store(self, path, images):
        return super().store(path, images) if images else tar_file(path / "x.tar", {"1.json": b"{}"}).parent

    def test_the_files(self, tmp_path):
        out = self.write(tmp_path, StoreLayout((8, 16), ".jpg", 3), [[jpeg(i, 8), jpeg(i, 16)] for i in range(7)])
        shards = sorted(out.glob("*.tar"))
        assert [path.name for path in shards] == ["000000.tar", "000001.tar", "000002.tar"]
        assert all(path.stat().st_size % tarfile.RECORDSIZE == 0 for path in shards)
        assert ShardSource(out, 8).names[3:5] == ("000001.tar/00003.8.jpg", "000001.tar/00004.8.jpg")
        with tarfile.open(shards[1]) as tar:
            assert {(member.mtime, member.uid, member.uname, member.mode) for member in tar} == {(0, 0, "", 0o644)}

    def test_an_unfinished_shard_that_was_damaged(self, tmp_path):
        layout = StoreLayout((8,), ".jpg", 3)
        writer = ShardWriter(tmp_path, layout)
        writer.add([jpeg(0)])
        offset = writer.commit()
        writer.close()
        (tmp_path / "000000.tar").write_bytes(b"")
        with pytest.raises(DataError, match=r"000000\.tar is damaged: remove"):
            ShardWriter(tmp_path, layout, 1, offset)


# What others write


@pytest.fixture
def shards(tmp_path):
    """Twelve shards with two images each."""
    for shard in range(12):
        members = {f"{shard:03d}{i}.jpg": jpeg(10 * shard + i) for i in range(2)}
        tar_file(tmp_path / "set" / f"x-{shard:06d}.tar", members)
    return tmp_path / "set"


def test_folder_file_and_pattern(shards):
    folder = open_images(shards, 8)
    assert len(folder) == 24
    assert folder.source.names[2] == "x-000001.tar/0010.jpg"
    assert folder.source.read(23) == jpeg(111)
    one = open_images(shards / "x-000003.tar", 8)
    assert torch.equal(one.batch([0, 1]), folder.batch([6, 7]))
    some = open_images(f"{shards}/x-{{000008..000011}}.tar", 8)
    assert torch.equal(some.batch([0, 7]), folder.batch([16, 23]))


def test_patterns_with_several_ranges_and_widths(tmp_path):
    for name in ("a-9-00.tar", "a-9-01.tar", "a-10-00.tar", "a-10-01.tar"):
        tar_file(tmp_path / name, {"1.jpg": jpeg(1)})
    names = open_images(f"{tmp_path}/a-{{9..10}}-{{00..01}}.tar", 8).source.names
    assert [name.partition("/")[0] for name in names] == ["a-9-00.tar", "a-9-01.tar", "a-10-00.tar", "a-10-01.tar"]


def test_missing_shards_and_bad_patterns(shards):
    with pytest.raises(DataError, match=r"There is no shard .*x-000012\.tar, nor 2 more, of 5: check"):
        open_images(f"{shards}/x-{{000010..000014}}.tar", 8)
    with pytest.raises(DataError, match=r"There is no shard .*none\.tar, of 1"):
        open_images(shards / "none.tar", 8)
    for bad in ("{5..4}", "{0..99999999999}"):
        with pytest.raises(DataError, match="is no range of shards: it must rise"):
            open_images(f"{shards}/x-{bad}.tar", 8)


def test_one_image_a_sample(tmp_path):
    members = {
        "a/1.seg.png": b"mask",
        "a/1.jpg": jpeg(1),
        "a/1.json": b"{}",
        "b/1.webp": jpeg(2),
        "2.cls": b"3",
        "3.mask.png": jpeg(3),  # nothing better in this sample
        "._4.jpg": b"",
    }
    source = ShardSource(tar_file(tmp_path / "x.tar", members))
    assert list(source.names) == ["x.tar/a/1.jpg", "x.tar/b/1.webp", "x.tar/3.mask.png"]
    assert [source.read(i) for i in range(3)] == [jpeg(1), jpeg(2), jpeg(3)]


@pytest.mark.parametrize(
    "options", [{"format": f} for f in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
)
def test_kinds_of_tar(tmp_path, options):
    name = f"{'folder' * 10}/{'x' * 80}.jpg"
    source = ShardSource(tar_file(tmp_path / "x.tar", {name: jpeg(1), "2.jpg": jpeg(2)}, **options))
    assert list(source.names) == [f"x.tar/{name}", "x.tar/2.jpg"]
    assert source.read(1) == jpeg(2)


def test_images_beside_a_tar_file_are_a_folder_of_images(tmp_path):
    tar_file(tmp_path / "x.tar", {"1.jpg": jpeg(1)})
    (tmp_path / "2.jpg").write_bytes(jpeg(2))
    assert list(open_images(tmp_path, 8).source.names) == ["2.jpg"]


def test_compressed_or_something_else(tmp_path):
    tar_file(tmp_path / "x.tar", {"1.jpg": jpeg(1)}, "w:gz")
    with pytest.raises(DataError, match=r"x\.tar cannot be read as a tar file .*; if it is compressed, unpack it"):
        open_images(tmp_path, 8)
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"x\.tar cannot be read as a tar file"):
        open_images(tmp_path, 8)


def test_a_shard_that_was_cut_off(tmp_path, caplog):
    path = tar_file(tmp_path / "x.tar", {"1.jpg": jpeg(1), "2.jpg": jpeg(2), "3.jpg": jpeg(3)})
    with tarfile.open(path) as tar:
        second = tar.getmember("2.jpg").offset_data
    whole = path.read_bytes()
    path.write_bytes(whole[: second + 100])  # within an image
    store = open_images(path, 8)
    assert len(store) == 2
    assert torch.equal(store[1], store[0])
    damage, cut = store.skipped.values()
    assert damage == f"{path} is damaged (unexpected end of data): what comes before that is used."
    assert damage in caplog.text
    assert cut == f"{path}/2.jpg is cut off: its shard ends within it."
    path.write_bytes(whole[: second - 512] + b"x" * 512 + whole[second:])  # a header
    store = open_images(path, 8)
    assert len(store) == 1
    assert f"no header at byte {second - 512:,}" in store.skipped[str(path)]


# Names, links and what lies beside


def image(side):
    return jpeg(side, side)


@pytest.mark.parametrize(
    ("members", "names"),
    [
        (["./0.png", "./a/1.png"], ["0.png", "a/1.png"]),  # tar -cf x.tar -C folder .
        (["22.05.0.png", "22.05.1.png"], None),
        (["cat.0.jpg", "cat.1.jpg", "dog.0.jpg", "dog.1.jpg"], None),
        (["22.5.png", "22.6.png", "23.5.png"], None),
        (["22.png", "22.05.0.png", "22.05.1.png"], None),
        (["mr.smith.jpg", "mr.jones.jpg", "dr.no.jpg"], None),
        (["1.png", "1.seg.png", "1.json"], ["1.png"]),
        (["1.left.png", "1.right.png", "2.left.png", "2.right.png"], ["1.left.png", "2.left.png"]),
        (["1.mask.png", "1.image.png"], ["1.mask.png"]),
        (["1.4.png", "1.16.png", "2.4.png", "2.16.png"], ["1.16.png", "2.16.png"]),  # they have these sides
    ],
)
def test_dots_in_names(tmp_path, members, names):
    sides = {name: int(parts[1]) if (parts := name.split("."))[1] in ("4", "16") else 8 for name in members}
    source = ShardSource(tar_file(tmp_path / "x.tar", {name: image(sides[name]) for name in members}))
    assert [name.removeprefix("x.tar/") for name in source.names] == (members if names is None else names)
    assert source.skipped == {}


def test_links_in_a_tar_file(tmp_path):
    links = [
        ("b.jpg", tarfile.LNKTYPE, "./a.jpg"),
        ("deep/c.jpg", tarfile.SYMTYPE, "../b.jpg"),
        ("d.jpg", tarfile.SYMTYPE, "nowhere.jpg"),
        ("e.jpg", tarfile.SYMTYPE, "e.jpg"),
        ("folder", tarfile.SYMTYPE, "deep"),
    ]
    path = tar_file(tmp_path / "x.tar", {"./a.jpg": jpeg(1), "a2.jpg": jpeg(2)})
    with tarfile.open(path, "a") as tar:
        for name, kind, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    source = ShardSource(path)
    assert [name.removeprefix("x.tar/") for name in source.names] == ["a.jpg", "a2.jpg", "b.jpg", "deep/c.jpg"]
    assert [source.read(i) for i in (2, 3)] == [jpeg(1), jpeg(1)]
    assert list(source.skipped) == [f"{path}/d.jpg", f"{path}/e.jpg"]
    assert "d.jpg is a link to nowhere.jpg, which is not in the tar file" in source.skipped[f"{path}/d.jpg"]


def test_of_files_of_one_name_the_last_counts(tmp_path):
    path = tar_file(tmp_path / "x.tar", {"1.jpg": jpeg(1), "2.jpg": jpeg(2)})
    source = ShardSource(tar_file(path, {"1.jpg": jpeg(3)}, "a"))
    assert sorted(source.read(i) for i in range(len(source))) == sorted([jpeg(2), jpeg(3)])


def test_what_is_not_read_is_listed(tmp_path):
    members = {"1.jpg": jpeg(1), "2.CR2": b"", "IMG_3": jpeg(3), "1.cls": b"3", "1.txt": b"a cat"}
    source = ShardSource(tar_file(tmp_path / "x.tar", members))
    assert list(source.names) == ["x.tar/1.jpg"]
    assert [label.rpartition("/")[2] for label in source.skipped] == ["2.CR2", "IMG_3"]


def test_more_tar_files_than_images_are_shards(shards):
    (shards / "preview.jpg").write_bytes(jpeg(0))
    (shards / "x-000003.tar").write_bytes(b"damaged")
    source = open_images(shards, 8).source
    assert type(source) is ShardSource
    assert len(source) == 22
    assert [label.rpartition("/")[2] for label in source.skipped] == ["x-000003.tar", "preview.jpg"]


def test_images_in_folders_beside_a_tar_file(tmp_path):
    """One file at the top says nothing of what is below."""
    tar_file(tmp_path / "backup.tar", {"1.jpg": jpeg(1)})
    for n in range(3):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / "a.jpg").write_bytes(jpeg(n))
    source = open_images(tmp_path, 8).source
    assert source.names == ("0/a.jpg", "1/a.jpg", "2/a.jpg")
    assert list(source.skipped) == [str(tmp_path / "backup.tar")]
