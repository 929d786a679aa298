from __future__ import annotations

import errno
import os
import pickle
import shutil
from types import SimpleNamespace

import lmdb
import pytest
import torch
from tests.data.image_store_contract import ImageStoreContract
from tests.data.picture_files import jpeg, store_content

from labels4free.data.images import lmdb as lmdb_store
from labels4free.data.images.base import MANIFEST, StoreLayout
from labels4free.data.images.dataset import open_images
from labels4free.data.images.lmdb import LmdbSource, LmdbWriter
from labels4free.errors import DataError


def write(path, entries, **options):
    """As rosinality's prepare_data.py writes them, or anything else."""
    with lmdb.open(str(path), map_size=2**24, **options) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    return path


def rosinality(path, count=12, sizes=(8, 16), **options):
    entries = {f"{size}-{str(i).zfill(5)}".encode(): jpeg(i, size) for size in sizes for i in range(count)}
    return write(path, entries | {b"length": str(count).encode()}, **options)


class TestLmdb(ImageStoreContract):
    source, writer, nothing = LmdbSource, LmdbWriter, "without images: its `length` is 0"


# What others write


def test_reads_what_rosinality_wrote(tmp_path):
    path = rosinality(tmp_path / "db")
    before = sorted(os.listdir(path)), (path / "data.mdb").read_bytes()
    for size in (8, 16):
        store = open_images(path, size)
        assert len(store) == 12
        assert store.batch([0, 11]).shape == (2, 3, size, size)
        assert store.source.read(11) == jpeg(11, size)
        assert store.source.names[11] == store.source.names[-1] == f"{size}-00011"
    del store
    assert (sorted(os.listdir(path)), (path / "data.mdb").read_bytes()) == before


def test_a_single_file_and_a_read_only_folder(tmp_path):
    path = rosinality(tmp_path / "cats.mdb", subdir=False)
    (tmp_path / "cats.mdb-lock").unlink()
    assert len(open_images(path, 8)) == 12
    assert os.listdir(tmp_path) == ["cats.mdb"]


def test_indices_beyond_five_digits(tmp_path):
    path = write(tmp_path / "db", {b"8-00000": jpeg(0), b"8-123456": jpeg(1), b"length": b"123457"})
    assert LmdbSource(path, 8).read(123456) == jpeg(1)


def test_a_size_that_is_not_there(tmp_path):
    path = rosinality(tmp_path / "db", 1, sizes=(128, 8, 1024))
    with pytest.raises(DataError, match=r"db holds images of 8, 128 and 1024 pixels, asked for was 256: choose one"):
        open_images(path, 256)
    path = rosinality(tmp_path / "one", sizes=(16,))
    with pytest.raises(DataError, match=r"one holds images of 16 pixels, asked for was 8"):
        open_images(path, 8)
    assert LmdbSource(tmp_path / "db").names[0] == "1024-00000"


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ({b"0a1b": b"x", b"9": b"y"}, "the entry `length`"),
        ({}, "the entry `length`"),
        ({b"8-00000": b"x"}, "the entry `length`"),  # rosinality's own, killed
        ({b"00000000": b"x", b"length": b"1"}, "a number in `length` and keys such as"),
        ({b"8-00000": b"x", b"length": b"\x80\x04K\x01."}, "a number in `length` and keys such as"),  # pickled
    ],
)
def test_lmdb_of_another_program(tmp_path, entries, what):
    with pytest.raises(DataError, match=rf"db is an LMDB of another program, or unfinished: {what}"):
        open_images(write(tmp_path / "db", entries), 8)


@pytest.mark.parametrize("rest", [{}, {b"length": b"3"}, {b"length": b"\x80\x04K\x03."}])
def test_an_lmdb_of_image_files_under_any_keys(tmp_path, rest):
    """LSUN's own: hashes of the addresses. The values tell what it is, and images of any size serve."""
    entries = {b"%040x" % n: jpeg(n, 16 + n) for n in range(3)} | {b"caf\xe9": jpeg(3)}
    source = open_images(write(tmp_path / "db", entries | rest), 8).source
    assert list(source.names) == [*(f"{n:040x}" for n in range(3)), "caf\udce9"]
    assert [source.read(n) for n in range(4)] == list(entries.values())
    assert source.names[1:3] == [f"{n:040x}" for n in (1, 2)]
    assert source.names[-1] == "caf\udce9"
    again = pickle.loads(pickle.dumps(source))
    assert again.read(2) == jpeg(2, 18)
    assert len(source.content_hash()) == 64


def test_a_path_that_is_no_text(tmp_path):
    path = tmp_path / "caf\udce9"
    writer = LmdbWriter(path, LAYOUT)
    writer.add([jpeg(0, 8), jpeg(0, 16)])
    writer.finish(b"{}")
    writer.close()
    (path / MANIFEST).unlink()
    assert LmdbSource(path, 8).read(0) == jpeg(0)


def test_one_file_of_that_name_does_not_make_an_lmdb_of_images(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"something else" * 1000)
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    source = open_images(tmp_path, 8).source
    assert source.names == ("a.jpg",)
    assert list(source.skipped) == [str(tmp_path / "data.mdb")]


def test_images_beside_an_lmdb_are_listed(tmp_path):
    path = rosinality(tmp_path / "db")
    (path / "preview.jpg").write_bytes(jpeg(0))
    assert list(LmdbSource(path, 8).skipped) == [str(path / "preview.jpg")]


def test_no_lmdb_at_all(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"something else" * 1000)
    with pytest.raises(DataError, match="cannot be opened as an LMDB"):
        open_images(tmp_path, 8)


def test_a_file_that_was_cut_off_is_refused_before_it_ends_the_process(tmp_path):
    path = rosinality(tmp_path / "db", sizes=(64,))
    data = (path / "data.mdb").read_bytes()
    (path / "data.mdb").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"db is cut off: [\d,]+ bytes of [\d,]+ are there; copy it again"):
        open_images(path, 64)


def test_missing_and_damaged_images_are_skipped(tmp_path):
    path = write(tmp_path / "db", {b"8-00000": jpeg(0), b"8-00001": b"damaged", b"8-00003": jpeg(3), b"length": b"4"})
    store = open_images(path, 8)
    assert torch.equal(store[1], store[3])
    assert torch.equal(store[2], store[3])
    reasons = [f"{path}/8-00001 cannot be read as an image (its format is unknown).", f"{path}/8-00002 is missing."]
    assert list(store.skipped.values()) == reasons


def test_two_stores_at_once(tmp_path):
    """They share one environment; in the end it is closed, so that it may be opened again."""
    path = rosinality(tmp_path / "db")
    store, other = open_images(path, 8, cache_bytes=0), open_images(path, 16)
    assert (store[0].shape, other[0].shape) == ((3, 8, 8), (3, 16, 16))
    del store, other
    assert not lmdb_store._Environment._opened
    with lmdb.open(str(path)) as environment:
        assert environment.stat()["entries"] == 25


def test_an_environment_of_a_parent_process_is_not_used(tmp_path, monkeypatch):
    source = LmdbSource(rosinality(tmp_path / "db"))
    before = source._environment()
    assert source._environment() is before
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert source._environment() is not before


# Writing

LAYOUT = StoreLayout((8, 16), ".jpg", 1000)


def test_writes_rosinality_s_layout(tmp_path):
    writer = LmdbWriter(tmp_path / "db", LAYOUT)
    for i in range(3):
        writer.add([jpeg(i, 8), jpeg(i, 16)])
    assert writer.commit() == 0
    assert b"length" not in content_of(writer)
    writer.finish(b"{}")
    writer.close()
    files = store_content(tmp_path / "db")
    assert files.pop(MANIFEST) == b"{}"
    assert files == store_content(rosinality(tmp_path / "theirs", 3))


def content_of(writer):
    with writer._environment.begin() as transaction:
        return [bytes(key) for key, _ in transaction.cursor()]


def test_the_map_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_store, "_FIRST_MAP_SIZE", 2**15)
    writer = LmdbWriter(tmp_path / "db", LAYOUT)
    images = [bytes([i]) * 50_000 for i in range(6)]
    for number in range(0, 6, 2):
        writer.add(images[number : number + 2])
    writer.commit()
    assert writer._environment.info()["map_size"] == 2**19
    writer.finish(b"")
    assert store_content(tmp_path / "db")["16-00002"] == images[5]
    size = (tmp_path / "db" / "data.mdb").stat().st_size
    assert size < 2**19  # what is there, not what may come
    again = LmdbWriter(tmp_path / "db", LAYOUT, written=3)
    assert again._environment.info()["map_size"] >= size
    again.close()


@pytest.mark.parametrize(
    ("error", "free", "number"),
    [
        (lmdb.DiskError("mdb_put"), 2**40, errno.ENOSPC),
        (lmdb.Error("mdb_txn_commit: Input/output error"), 1, errno.ENOSPC),  # what comes of a write cut short
        (lmdb.Error("mdb_txn_commit: Input/output error"), 2**40, errno.EIO),
    ],
)
def test_no_space(tmp_path, monkeypatch, error, free, number):
    writer = LmdbWriter(tmp_path / "db", LAYOUT)
    writer.add([b"a", b"b"])

    class Full:
        def begin(self, write):
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_environment", Full())
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
        with pytest.raises(OSError, match=r"data\.mdb") as caught:
            writer.commit()
    assert caught.value.errno == number
    writer.close()
    assert store_content(tmp_path / "db") == {}
