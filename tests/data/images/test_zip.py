from __future__ import annotations

import zipfile

import pytest
import torch
from tests.data.image_store_contract import FINISHED, ImageSourceContract
from tests.data.picture_files import jpeg

from labels4free.data.images import zip as zip_store
from labels4free.data.images.base import MANIFEST
from labels4free.data.images.dataset import open_images
from labels4free.data.images.zip import ZipSource
from labels4free.errors import DataError


def write(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


class TestZip(ImageSourceContract):
    source, nothing = ZipSource, "holds no image: give a zip file with"

    def store(self, path, images):
        return write(path, {f"{number}.jpg": data for number, data in enumerate(images)} | {"a.txt": b""})


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


def test_a_process_opens_the_file_for_itself(tmp_path, monkeypatch):
    source = ZipSource(write(tmp_path / "a.zip", {"1.jpg": jpeg(1)}))
    before = source._archive()
    assert source._archive() is before
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert source._archive() is not before
    before.close()


def test_what_earlier_versions_prepared(tmp_path):
    images = {f"{size}/0000{i}.jpg": jpeg(i, size) for size in (8, 16) for i in range(3)}
    path = write(tmp_path / "a.zip", images | {MANIFEST: FINISHED})
    for size, wanted in ((8, 8), (16, 16), (12, 16), (4, 8), (32, 16)):
        source = ZipSource(path, size)
        assert list(source.names) == [f"{wanted}/0000{i}.jpg" for i in range(3)]
        assert source.read(2) == jpeg(2, wanted)
    with pytest.raises(DataError, match=rf"manifest {MANIFEST} of .*b\.zip is damaged"):
        open_images(write(tmp_path / "b.zip", {MANIFEST: b"[]"}), 8)


def test_what_is_not_read_is_listed(tmp_path):
    members = {"./1.jpg": jpeg(1), "IMG_3": jpeg(2), "x.CR2": b"", "dataset.json": b"{}", "a.txt": b""}
    source = ZipSource(write(tmp_path / "x.zip", members))
    assert source.names == ("./1.jpg",)
    assert source.read(0) == jpeg(1)
    assert [label.rpartition("/")[2] for label in source.skipped] == ["IMG_3", "x.CR2"]
