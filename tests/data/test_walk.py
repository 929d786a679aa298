from __future__ import annotations

import os
import re
import sys
import types
from pathlib import Path

import pytest
from PIL import Image, features
from tests.data.picture_files import jpeg, save
from tests.refusals import refuses

from labels4free.data import walk
from labels4free.data.decoding import decode_image
from labels4free.data.walk import find_files, find_images, image_kind, is_image_name, natural_key, why_unread
from labels4free.errors import DataError

HEIC = b"\0\0\0\x18ftypheic" + bytes(64)


@pytest.fixture
def fresh_formats():
    """Formats looked up anew, before and afterwards."""
    kept = dict(Image.EXTENSION)
    walk.register_formats.cache_clear()
    walk._endings.cache_clear()
    yield
    Image.EXTENSION.clear()
    Image.EXTENSION.update(kept)
    walk.register_formats.cache_clear()
    walk._endings.cache_clear()


@pytest.fixture
def no_heic(fresh_formats, monkeypatch):
    """Without pillow-heif, whether it is there or not."""
    for ending in (".heic", ".heics", ".heif", ".heifs", ".hif"):
        Image.EXTENSION.pop(ending, None)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


@pytest.mark.parametrize("name", ["1.png", "a/b/2.JPG", "x.y.webp", "a b/c.tif", "./1.png", "../a/1.png"])
def test_names_of_images(name):
    assert is_image_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "png",
        "1.txt",
        "1.json",
        ".hidden.png",
        "a/.b/1.png",
        "__MACOSX/1.png",
        "a/._1.png",
        "1.eps",
        "png/1",
        "",
        "1.h5",
    ],
)
def test_other_names(name):
    assert not is_image_name(name)


def test_natural_order():
    names = ["10.png", "2.png", "B/1.png", "a/10/1.png", "a/9/1.png", "02.png"]
    assert sorted(names, key=natural_key) == ["02.png", "2.png", "10.png", "a/9/1.png", "a/10/1.png", "B/1.png"]


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("IMG_3", jpeg(0), "begins as JPEG does, but its name has no image's ending: rename it"),
        ("b.jpg_large", jpeg(0), "begins as JPEG does"),
        ("b.php", b"\x89PNG\r\n\x1a\n", "begins as PNG does"),
        ("a.jpg~", b"RIFF\0\0\0\0WEBPVP8 ", "begins as WebP does"),
        ("scan", b"II*\0" + bytes(12), "begins as TIFF does"),
        ("c.HEIC", b"", "is a HEIC picture: install pillow-heif"),
        ("c.hif", b"", "is a HEIC picture"),
        ("c.heic", jpeg(0), "begins as JPEG does"),
        ("c", HEIC, "is a HEIC picture"),
        ("d.CR2", b"", "is a camera's raw file, which is not read"),
        ("d", b"\0\0\0\x18ftypcrx ", "is a camera's raw file"),
        ("e.svg", b"", r"is in a format that is not read \(svg\)"),
        ("e.eps", b"", r"is in a format that is not read \(eps\)"),
        ("f.jxl", b"", r"is in a format that is not read \(jxl\)"),
        ("f", b"\0\0\0\x0cJXL \r\n\x87\n", r"is in a format that is not read \(JPEG XL\)"),
    ],
)
def test_what_looks_like_an_image(no_heic, name, head, said):
    assert not is_image_name(name)
    reason = why_unread(name, f"in/{name}", lambda: head)
    assert reason is not None
    assert reason.startswith(f"in/{name} ")
    assert re.search(said, reason)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
        ("README", b"BMW and others"),
        ("film.mp4", b"\0\0\0\x18ftypisom"),
        ("caption.txt", b"\xff\xd8\xff is not looked at"),
        ("empty", b""),
        ("._a.jpg", jpeg(0)),
        ("a.jpg:Zone.Identifier", b"[ZoneTransfer]"),
    ],
)
def test_other_files(name, head):
    assert why_unread(name, name, lambda: head) is None


@pytest.fixture
def folder(tmp_path, no_heic):
    """Three images, one of them by a link, and everything that stands in the way."""
    top = tmp_path / "top"
    for name in ("a.jpg", "deep/b.png", "../outside/c.jpg"):
        save(top / name)
    (top / "to_outside").symlink_to(tmp_path / "outside")
    (top / "deep" / "to_top").symlink_to(top)
    (top / "nothing.jpg").symlink_to("nowhere")
    (top / "disk").symlink_to("/nowhere")
    (top / "latest.log").symlink_to("nowhere")
    (top / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(top / "pipe.jpg")
    (top / "IMG_3").write_bytes(jpeg(0))
    (top / "deep" / "d.HEIC").write_bytes(HEIC)
    (top / "pack.tar.gz").touch()
    (top / ".hidden.jpg").touch()
    (top / "notes.txt").write_text("text")
    return top


def test_links_are_followed_and_nothing_is_lost_in_silence(folder):
    found = find_images(folder)
    assert found.names == ("a.jpg", "deep/b.png", "to_outside/c.jpg")
    assert list(found.left_out) == ["deep/d.HEIC", "disk", "IMG_3", "loop.jpg", "nothing.jpg", "pipe.jpg"]
    assert found.left_out["nothing.jpg"] == f"{folder / 'nothing.jpg'} is a link to nothing."
    assert found.left_out["pipe.jpg"] == f"{folder / 'pipe.jpg'} is no file but a pipe."
    assert "cannot be read: Too many levels of symbolic links" in found.left_out["loop.jpg"]
    assert found.archives == ("pack.tar.gz",)


def test_a_folder_that_cannot_be_read_is_listed_and_the_rest_used(folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_images(folder)
    assert found.names == ("a.jpg", "to_outside/c.jpg")
    assert found.left_out["deep"] == f"{folder / 'deep'} cannot be read: Permission denied."
    refuses(DataError, "deep cannot be read: Permission denied; change its permissions", find_images, folder / "deep")


def test_a_folder_that_is_none(folder):
    refuses(DataError, "none does not exist: give a folder", find_images, folder / "none")
    refuses(DataError, r"a\.jpg is a file: give a folder", find_images, folder / "a.jpg")


def test_how_deep(folder):
    assert find_files(folder, is_image_name, depth=1).names == ("a.jpg",)
    assert len(find_files(folder, is_image_name, depth=2).names) == 3


def test_names_that_are_no_text(tmp_path):
    save(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")))
    assert find_images(tmp_path).names == ("caf\udce9.jpg",)


def test_heic_is_read_where_its_package_is_there(monkeypatch, fresh_formats):
    package = types.ModuleType("pillow_heif")
    package.register_heif_opener = lambda: Image.register_extension("PNG", ".heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    assert is_image_name("a.HEIC")
    assert "begins as HEIC does, but its name has no image's ending" in why_unread("a", "a", lambda: HEIC)


def test_heic_is_listed_where_it_is_not(no_heic):
    assert not is_image_name("a.HEIC")


def test_a_picture_in_heic(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    save(tmp_path / "a.heic", size=(64, 32))
    assert find_images(tmp_path).names == ("a.heic",)
    assert decode_image(tmp_path / "a.heic").shape == (32, 64, 3)
    assert image_kind((tmp_path / "a.heic").read_bytes()[: walk.HEAD]) == "HEIC"


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_a_picture_in_avif(tmp_path):
    save(tmp_path / "a.avif", size=(64, 32))
    assert find_images(tmp_path).names == ("a.avif",)
    assert decode_image(tmp_path / "a.avif").shape == (32, 64, 3)
    assert "begins as AVIF does" in why_unread("a", "a", (tmp_path / "a.avif").read_bytes)
