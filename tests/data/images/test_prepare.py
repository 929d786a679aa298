from __future__ import annotations

import errno
import io
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.picture_files import cut, noise_png, save, store_content

from labels4free.data.images import prepare
from labels4free.data.images.base import MANIFEST
from labels4free.data.images.dataset import IMAGE_WRITERS, open_images, read_image
from labels4free.data.images.journal import Journal
from labels4free.data.images.prepare import PrepareConfig, prepare_images
from labels4free.errors import ConfigError, DataError
from labels4free.pictures.pixels import from_uint8


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(prepare, "_COMMIT_IMAGES", 3)


@pytest.fixture
def source(tmp_path):
    """Eleven images of many kinds, two of them damaged, and one that is only called an image."""
    folder = tmp_path / "source"
    rng = np.random.default_rng(0)
    for number, size in enumerate([(20, 20), (31, 17), (17, 40), (9, 9), (64, 64), (33, 33), (20, 21)]):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        (folder / "deep").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "deep" / f"{number}.png")
    save(folder / "10.jpg", mode="CMYK", size=(30, 20))
    save(folder / "9.gif", mode="P", size=(20, 30))
    for name in ("3.png", "12.png"):
        noise_png(folder / name)
        cut(folder / name)
    (folder / "4.jpg").write_text("no image")
    return folder


def config(**settings):
    return PrepareConfig(**{"sizes": (8, 16), "shard_images": 4, "workers": 1} | settings)


# What is written


def test_the_same_bytes_as_rosinality_s(tmp_path):
    """For upright square RGB images: resized from the original for each size, Lanczos, JPEG of quality 100."""
    (tmp_path / "in").mkdir()
    noise_png(tmp_path / "in" / "a.png", 50)
    prepare_images(tmp_path / "in", tmp_path / "out", PrepareConfig(sizes=(16, 8)))
    image = Image.fromarray(read_image(tmp_path / "in" / "a.png"))
    wanted = {"length": b"1"}
    for size in (8, 16):
        buffer = io.BytesIO()
        image.resize((size, size), Image.Resampling.LANCZOS).save(buffer, format="jpeg", quality=100)
        wanted[f"{size}-00000"] = buffer.getvalue()
    entries = store_content(tmp_path / "out")
    del entries[MANIFEST]
    assert entries == wanted


def test_defaults_are_rosinality_s():
    defaults = PrepareConfig()
    assert defaults.sizes == (128, 256, 512, 1024)
    assert (defaults.format, defaults.resample, defaults.encoding, defaults.quality) == ("lmdb", "lanczos", "jpeg", 100)


@pytest.mark.parametrize("name", IMAGE_WRITERS)
def test_round_trip_in_the_order_of_the_source(tmp_path, source, name):
    out = tmp_path / "out"
    calls = []
    summary = prepare_images(
        source, out, config(format=name, encoding="png", resample="box"), progress=lambda *call: calls.append(call)
    )
    assert (summary.images, summary.enlarged, summary.new) == (9, 1, True)
    assert list(summary.skipped) == ["3.png", "4.jpg", "12.png"]
    assert summary.skipped["4.jpg"] == "4.jpg cannot be read as an image (its format is unknown)."
    assert calls == [(done, 12) for done in range(13)]
    names = ["9.gif", "10.jpg", *(f"deep/{number}.png" for number in range(7))]
    for size in (8, 16):
        store = open_images(out, size)
        assert len(store) == 9
        for i, original in enumerate(names):
            assert store.source.read(i).startswith(b"\x89PNG")
            if size == 8 or original != "deep/3.png":  # that one grows: by the filter asked for
                assert torch.equal(store[i], from_uint8(read_image(source / original, size)[None])[0])


@pytest.mark.parametrize(("encoding", "magic"), [("jpeg", b"\xff\xd8\xff"), ("png", b"\x89PNG"), ("webp", b"RIFF")])
def test_encodings(tmp_path, source, encoding, magic):
    prepare_images(source, tmp_path / "out", config(encoding=encoding, format="folder", sizes=(8,)))
    files = sorted((tmp_path / "out").glob("0*"))
    assert len(files) == 9
    assert all(path.read_bytes().startswith(magic) for path in files)


def test_nothing_else_of_a_photograph_is_kept(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "secret"
    (tmp_path / "in").mkdir()
    for suffix in ("jpg", "png", "webp"):
        path = tmp_path / "in" / f"1.{suffix}"
        Image.new("RGB", (8, 8)).save(path, exif=exif, icc_profile=b"secret", comment=b"secret")
        assert b"secret" in path.read_bytes()
    for encoding in ("jpeg", "png", "webp"):
        prepare_images(tmp_path / "in", tmp_path / encoding, config(encoding=encoding, format="folder", sizes=(8,)))
        files = store_content(tmp_path / encoding)
        assert len(files) == 4
        assert all(b"secret" not in data for data in files.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE_WRITERS)
def test_workers_change_nothing(tmp_path, source, name):
    prepare_images(source, tmp_path / "one" / "x", config(format=name))
    prepare_images(source, tmp_path / "two" / "x", config(format=name, workers=2))
    assert store_content(tmp_path / "one" / "x") == store_content(tmp_path / "two" / "x")


# Stopping and going on


class KilledError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE_WRITERS)
@pytest.mark.parametrize("where", ["before the commit", "after the commit", "after the journal", "at the end"])
def test_stopped_anywhere_and_continued(tmp_path, source, monkeypatch, name, where):
    writer = IMAGE_WRITERS[name]
    wanted, out = tmp_path / "whole" / "x", tmp_path / "parts" / "x"
    prepare_images(source, wanted, config(format=name))
    target, method = {"before the commit": (writer, "commit"), "at the end": (writer, "finish")}.get(
        where, (Journal, "append")
    )
    original = getattr(target, method)

    def kill(self, *arguments):
        if where == "after the journal":
            original(self, *arguments)
        raise KilledError

    stops = 0
    for _ in range(6):
        calls = iter(range(2))  # let one through, then stop

        def once(self, *arguments, calls=calls):
            return original(self, *arguments) if where != "at the end" and next(calls) == 0 else kill(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(target, method, once)
            try:
                prepare_images(source, out, config(format=name))
            except KilledError:
                stops += 1
                with pytest.raises(DataError, match="is unfinished: go on with the same"):
                    open_images(out, 8)
    assert stops >= 2
    summary = prepare_images(source, out, config(format=name))
    assert (summary.images, summary.enlarged, list(summary.skipped)) == (9, 1, ["3.png", "4.jpg", "12.png"])
    assert store_content(out) == store_content(wanted)
    assert sorted(path.name for path in out.parent.iterdir()) == ["x"]


@pytest.mark.parametrize("name", IMAGE_WRITERS)
def test_killed_between_the_last_two_steps(tmp_path, source, monkeypatch, name):
    """The store is whole, its journal still there: it may be read, and the next call tidies up."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", lambda self, **options: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            prepare_images(source, out, config(format=name))
    before = list(tmp_path.rglob("*unfinished*"))
    assert len(before) == 1
    assert len(open_images(out, 8)) == 9
    assert not prepare_images(source, out, config(format=name)).new
    assert not before[0].exists()


@pytest.mark.parametrize("name", IMAGE_WRITERS)
def test_killed_while_the_manifest_is_written(tmp_path, source, monkeypatch, name):
    begin(source, tmp_path / "out", monkeypatch, finished=False, name=name)
    (tmp_path / "out" / f".{MANIFEST}.123-ab.tmp").touch()
    prepare_images(source, tmp_path / "out", config(format=name))
    assert not list((tmp_path / "out").glob(".*"))


def test_a_complete_store_is_left_alone(tmp_path, source):
    first = prepare_images(source, tmp_path / "out", config())
    before = store_content(tmp_path / "out")
    again = prepare_images(source, tmp_path / "out", config(workers=2))
    assert (again.new, again.images, again.skipped, again.enlarged) == (False, 9, first.skipped, 1)
    assert store_content(tmp_path / "out") == before


def test_a_damaged_manifest_of_a_complete_store(tmp_path, source):
    prepare_images(source, tmp_path / "out", config())
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    del manifest["skipped"]
    (tmp_path / "out" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"manifest .* of .*out is damaged: remove"):
        prepare_images(source, tmp_path / "out", config())


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "images", "sentence"),
    [
        ({"sizes": (8,)}, None, "was begun with sizes 8,16, asked for was 8: choose another place"),
        ({"quality": 90}, None, "was begun with quality 100, asked for was 90: choose another place"),
        ({"encoding": "png"}, None, "was begun with encoding jpeg, asked for was png: choose another place"),
        ({}, "10.jpg", "was begun from other images, or those have changed"),
        ({}, "new.jpg", "was begun from other images, or those have changed"),
    ],
)
def test_something_else_than_what_was_begun(tmp_path, source, monkeypatch, finished, change, images, sentence):
    begin(source, tmp_path / "out", monkeypatch, finished=finished)
    if images:
        save(source / images, size=(31, 20))
    with pytest.raises(DataError, match=f"out {sentence}"):
        prepare_images(source, tmp_path / "out", config(**change))


def begin(source, out, monkeypatch, *, finished, name="lmdb"):
    if finished:
        prepare_images(source, out, config(format=name))
        return
    with monkeypatch.context() as patch:
        patch.setattr(IMAGE_WRITERS[name], "finish", lambda *arguments: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            prepare_images(source, out, config(format=name))


# What cannot be done


@pytest.mark.parametrize("name", IMAGE_WRITERS)
def test_no_space(tmp_path, source, monkeypatch, name):
    out = tmp_path / "out"
    writer = IMAGE_WRITERS[name]
    original = writer.commit
    calls = iter(range(100))

    def full(self):
        if next(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "commit", full)
        with pytest.raises(DataError, match=r"no space left for .*out: free some and run the same command again"):
            prepare_images(source, out, config(format=name))
    assert prepare_images(source, out, config(format=name)).images == 9


def test_another_failure_of_the_disk_says_how_much_is_done(tmp_path, source, monkeypatch):
    def broken(self, encoded):
        if self.written == 7:
            raise OSError(errno.EIO, os.strerror(errno.EIO), "x.jpg")
        self.written += 1

    monkeypatch.setattr(IMAGE_WRITERS["folder"], "add", broken)
    with pytest.raises(DataError, match=r"x\.jpg cannot be written \(.*error\): .* behind the 9 of 12 images"):
        prepare_images(source, tmp_path / "out", config(format="folder"))


def test_places_that_are_taken(tmp_path, source):
    for out in (source, source / "out"):
        with pytest.raises(DataError, match=r"lies inside the source .*source: choose a place outside"):
            prepare_images(source, out, config())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for out, name in (("full", "lmdb"), ("full", "folder"), ("file", "lmdb"), ("file", "folder")):
        with pytest.raises(DataError, match=rf"{out} exists and was not begun by this command"):
            prepare_images(source, tmp_path / out, config(format=name))
    assert prepare_images(source, tmp_path / "empty", config()).images == 9


def test_nothing_readable(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.png").write_text("no image")
    with pytest.raises(DataError, match=r"None of the 1 images in .*in can be read; the first: 1\.png cannot be read"):
        prepare_images(tmp_path / "in", tmp_path / "out", config())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sizes": ()}, "sizes must be different numbers of pixels from 1 to 16384, such as 128,256; got none"),
        ({"sizes": (8, 8)}, "got 8,8"),
        ({"sizes": (0,)}, "got 0"),
        ({"sizes": (20000,)}, "got 20000"),
        ({"format": "tar"}, "format must be one of lmdb, webdataset, folder; got 'tar'"),
        ({"format": "zip"}, "format must be one of lmdb, webdataset, folder; got 'zip'"),
        ({"resample": "nearest"}, "resample must be one of lanczos, box, bicubic, bilinear; got 'nearest'"),
        ({"encoding": "gif"}, "encoding must be one of jpeg, png, webp; got 'gif'"),
        ({"quality": 0}, "quality must be from 1 to 100, got 0"),
        ({"quality": 101}, "quality must be from 1 to 100, got 101"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"shard_images": 0}, "shard_images must be at least 1, got 0"),
    ],
)
def test_values_that_are_not_allowed(values, sentence):
    with pytest.raises(ConfigError) as caught:
        PrepareConfig(**values)
    assert sentence in str(caught.value)


def test_the_manifest_says_what_was_done(tmp_path, source):
    prepare_images(source, tmp_path / "out", config())
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_bytes())
    assert manifest["images"] == 9
    assert list(manifest["skipped"]) == ["3.png", "4.jpg", "12.png"]
    assert manifest["settings"]["sizes"] == [8, 16]
    assert str(tmp_path) not in json.dumps(manifest)  # nor the number of workers: the bytes depend on the images alone
    assert "workers" not in manifest["settings"]
