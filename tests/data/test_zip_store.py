from __future__ import annotations

import pickle
import zipfile

import pytest
import torch
from tests.data.picture_files import jpeg, pixels_in_another_process

from labels4free.data import zip_store
from labels4free.data.image_store import StoreLayout
from labels4free.data.images import open_images
from labels4free.data.zip_store import ZipSource, ZipWriter, zip_manifest
from labels4free.errors import DataError


def write(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


# Reading


def test_images_in_any_folder_in_natural_order(tmp_path):
    """NVIDIA's dataset_tool.py writes such names and dataset.json; archives of Macs hold twins of each file."""
    names = ["00000/img00000010.png", "00000/img00000002.png", "top.jpg", "00001/x.jpg"]
    others = ["dataset.json", "__MACOSX/._top.jpg", ".hidden.png", "readme.txt"]
    members = {name: jpeg(i) for i, name in enumerate(names)} | dict.fromkeys(others, b"{}")
    path = write(tmp_path / "dataset.zip", members, compression=zipfile.ZIP_DEFLATED)
    store = open_images(path, 8)
    assert list(store.source.names) == [names[1], names[0], names[3], names[2]]
    assert store.source.read(0) == jpeg(1)
    assert store.batch([0, 3]).shape == (2, 3, 8, 8)
    assert open_images(path, 4)[0].shape == (3, 4, 4)


def test_the_name_does_not_matter(tmp_path):
    assert len(open_images(write(tmp_path / "cats", {"1.jpg": jpeg(1)}), 8)) == 1


def test_nothing_inside(tmp_path):
    with pytest.raises(DataError, match=r"a\.zip holds no image: give a zip file with"):
        open_images(write(tmp_path / "a.zip", {"a.txt": b""}), 8)


def test_cut_off(tmp_path):
    path = write(tmp_path / "a.zip", {"1.jpg": jpeg(1)})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"a\.zip cannot be read as a zip file \(.*\); is it complete\?"):
        open_images(path, 8)


def test_encrypted(tmp_path):
    path = write(tmp_path / "a.zip", {"1.jpg": jpeg(1)})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="is encrypted: unpack it"):
        open_images(path, 8)


def test_damaged_members_are_skipped(tmp_path):
    path = write(tmp_path / "a.zip", {"1.jpg": jpeg(1), "2.jpg": jpeg(2), "3.jpg": b"no image"})
    data = bytearray(path.read_bytes())
    data[data.index(jpeg(1)) + 300] ^= 1
    path.write_bytes(data)
    store = open_images(path, 8)
    assert torch.equal(store[0], store[1])
    assert torch.equal(store[2], store[1])  # the next after the last is the first, which is damaged too
    bad, no_image = store.skipped.values()
    assert bad == f"{path}/1.jpg cannot be read (Bad CRC-32 for file '1.jpg')."
    assert "3.jpg cannot be read as an image" in no_image


def test_a_member_that_unpacks_to_more_than_an_image(tmp_path, monkeypatch):
    path = write(tmp_path / "a.zip", {"1.jpg": jpeg(1), "2.png": bytes(10_000)}, compression=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zip_store, "LARGEST_FILE", 5000)
    with pytest.raises(DataError, match=r"2\.png is larger than 1 GiB"):
        ZipSource(path).read(1)


def test_processes(tmp_path):
    store = open_images(write(tmp_path / "a.zip", {"1.jpg": jpeg(1), "2.jpg": jpeg(2)}), 8, cache_bytes=0)
    first = store[0]
    assert torch.equal(pixels_in_another_process(store), first)
    assert torch.equal(store[0], first)
    assert torch.equal(pickle.loads(pickle.dumps(store))[0], first)


def test_a_process_opens_the_file_for_itself(tmp_path, monkeypatch):
    source = ZipSource(write(tmp_path / "a.zip", {"1.jpg": jpeg(1)}))
    before = source._archive()
    assert source._archive() is before
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert source._archive() is not before
    before.close()


# Writing

LAYOUT = StoreLayout((8, 16), ".jpg", 1000)
MANIFEST_OF_IT = b'{"kind": "labels4free_images", "settings": {"sizes": [8, 16]}}'


def add(writer, numbers):
    for i in numbers:
        writer.add([jpeg(i, 8), jpeg(i, 16)])


def test_round_trip(tmp_path):
    out = tmp_path / "new" / "a.zip"
    writer = ZipWriter(out, LAYOUT)
    add(writer, range(3))
    assert not out.exists()
    writer.finish(MANIFEST_OF_IT)
    writer.close()
    assert [path.name for path in out.parent.iterdir()] == ["a.zip"]
    for size, wanted in ((8, 8), (16, 16), (12, 16), (4, 8), (32, 16)):
        source = ZipSource(out, size)
        assert list(source.names) == [f"{wanted}/0000{i}.jpg" for i in range(3)]
        assert source.read(2) == jpeg(2, wanted)
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 7


def test_a_later_writer_goes_on_behind_what_is_safe(tmp_path):
    whole = ZipWriter(tmp_path / "whole.zip", LAYOUT)
    add(whole, range(5))
    whole.finish(MANIFEST_OF_IT)
    for safe in range(6):
        out = tmp_path / f"{safe}.zip"
        first = ZipWriter(out, LAYOUT)
        add(first, range(safe))
        offset = first.commit()
        if safe < 5:
            add(first, [99])  # not safe
        first.close()
        second = ZipWriter(out, LAYOUT, safe, offset)
        add(second, range(safe, 5))
        second.finish(MANIFEST_OF_IT)
        assert out.read_bytes() == (tmp_path / "whole.zip").read_bytes()


def test_an_unfinished_file_that_was_damaged(tmp_path):
    first = ZipWriter(tmp_path / "a.zip", LAYOUT)
    add(first, range(2))
    offset = first.commit()
    partial = tmp_path / "a.zip.unfinished"
    good = partial.read_bytes()
    first.close()
    for bad in (good[: offset // 2], bytes(100) + good[100:], good[:-1]):
        partial.write_bytes(bad)
        with pytest.raises(DataError, match=r"a\.zip\.unfinished is damaged: remove it and its journal"):
            ZipWriter(tmp_path / "a.zip", LAYOUT, 2, offset)


def test_manifest(tmp_path):
    assert zip_manifest(tmp_path / "none.zip") is None
    assert zip_manifest(write(tmp_path / "a.zip", {"1.jpg": jpeg(1)})) is None
    path = write(tmp_path / "b.zip", {"labels4free-images.json": b"[]"})
    with pytest.raises(DataError, match=r"manifest labels4free-images\.json of .*b\.zip is damaged"):
        open_images(path, 8)
