from __future__ import annotations

import errno
import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.picture_files import BLUE, GREEN, RED, cut, noise_png, save

from labels4free.data.images.dataset import ImageStore, open_images, open_source, read_image
from labels4free.data.images.folder import FolderSource
from labels4free.errors import DataError
from labels4free.pictures.pixels import from_uint8

# Finding


def test_natural_order_at_any_depth(tmp_path):
    names = ["2.png", "10.png", "A1.png", "a2/1.jpg", "a10/3.webp", "a10/deep/20.bmp", "upper.PNG"]
    for name in (*names[5::-1], ".hidden.png", ".cache/1.png"):
        save(tmp_path / name)
    (tmp_path / "README.txt").write_text("no image")
    save(tmp_path / "upper.PNG", format="PNG")
    folder = open_images(tmp_path, 4)
    assert list(folder.source.names) == names
    assert len(folder) == 7
    assert folder.skipped == {}


def test_follows_links_once(tmp_path):
    save(tmp_path / "real" / "1.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "set")
    assert len(open_images(tmp_path / "set", 4)) == 1


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match=r"none does not exist: give a folder of images, a zip"):
        open_images(tmp_path / "none", 4)
    save(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"1\.png is a file of another kind: give a folder"):
        open_images(tmp_path / "1.png", 4)
    with pytest.raises(DataError, match=r"1\.png is a file: give a folder"):
        FolderSource(tmp_path / "1.png", 4, check_headers=True)
    assert isinstance(open_images(tmp_path, 4), ImageStore)
    with pytest.raises(DataError, match="at least 1 pixel, got 0"):
        open_images(tmp_path, 0)


def test_unreadable_folder(tmp_path, monkeypatch):
    save(tmp_path / "1.png")

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        open_images(tmp_path, 4)


# Damaged files


def test_files_without_an_image_header_are_skipped_counted_and_named(tmp_path, caplog):
    for number in range(3):
        save(tmp_path / f"good{number}.png")
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        folder = open_images(tmp_path, 4)
    assert len(folder) == 3
    assert [Path(label).name for label in folder.skipped] == ["empty.png", "text.jpg"]
    assert "Skipped 2 image file(s)" in caplog.text
    assert "empty.png cannot be read as an image" in caplog.text
    assert "text.jpg" in caplog.text


def test_damage_behind_the_header_shows_on_use_and_the_next_image_serves(tmp_path, caplog):
    save(tmp_path / "0.png", RED)
    noise_png(tmp_path / "1.png")
    save(tmp_path / "2.png", BLUE)
    noise_png(tmp_path / "3.png")
    cut(tmp_path / "1.png")
    cut(tmp_path / "3.png")
    folder = open_images(tmp_path, 4)
    assert folder.skipped == {}
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(folder[1], folder[2])
            assert torch.equal(folder[3], folder[0])  # behind the last comes the first
    assert [Path(label).name for label in folder.skipped] == ["1.png", "3.png"]
    assert len(caplog.records) == 2  # each is named once
    assert len(folder) == 4
    again = open_images(tmp_path, 4)
    assert torch.equal(again[3], folder[3])  # whatever was asked for before
    assert torch.equal(again[1], folder[1])


def test_only_damaged_files(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"no readable image.*the 1 image files in it are damaged"):
        open_images(tmp_path, 4)
    (tmp_path / "text.jpg").unlink()
    noise_png(tmp_path / "1.png")
    cut(tmp_path / "1.png")
    folder = open_images(tmp_path, 4)
    with pytest.raises(DataError, match="all 1 image files in it are damaged"):
        folder[0]


def test_decompression_bomb_is_skipped(tmp_path, monkeypatch):
    save(tmp_path / "0.png")
    for name, side in (("1.png", 60), ("2.png", 90)):  # Pillow warns about the first, refuses the second
        save(tmp_path / name, size=(side, side))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    folder = open_images(tmp_path, 4)
    assert [Path(label).name for label in folder.skipped] == ["1.png", "2.png"]
    assert all("more pixels than Pillow's limit" in reason for reason in folder.skipped.values())


def test_postscript_is_not_read(tmp_path):
    save(tmp_path / "0.png")
    save(tmp_path / "1.eps")
    (tmp_path / "1.eps").rename(tmp_path / "1.png")
    folder = open_images(tmp_path, 4)
    assert "EPS, is not read" in folder.skipped[str(tmp_path / "1.png")]


# Pixels


def test_values_and_shapes(tmp_path):
    save(tmp_path / "0.png", (255, 0, 51))
    image = open_images(tmp_path, 4)[0]
    assert image.shape == (3, 4, 4)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image[:, 2, 2], torch.tensor([1.0, -1.0, -0.6]))


def test_central_square(tmp_path):
    pixels = np.zeros((4, 10, 3), np.uint8)
    pixels[:, 3:7] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2).copy()).save(tmp_path / "tall.png")
    folder = open_images(tmp_path, 4)
    assert (folder.batch([0, 1]) == 1).all()


def test_shrinking_is_the_area_average(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    expected = torch.nn.functional.avg_pool2d(from_uint8(pixels[None]), 4)[0]
    assert (
        open_images(tmp_path, 4)[0] - expected
    ).abs().max() <= 2.01 / 255  # one of 256 levels: Pillow rounds after each axis


def test_growing_is_smooth(tmp_path):
    pixels = np.repeat(np.array([[0, 255]], np.uint8), 2, axis=0)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    row = open_images(tmp_path, 8)[0][0, 4]
    assert row[0] < -0.9
    assert row[-1] > 0.9
    assert len(row.unique()) > 4


def test_large_jpeg_keeps_its_colours(tmp_path):
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[:128], pixels[128:] = (200, 30, 60), (20, 180, 90)
    Image.fromarray(pixels).save(tmp_path / "1.jpg", quality=95)
    small = read_image(tmp_path / "1.jpg", 8)
    assert np.abs(small[:4].astype(int) - (200, 30, 60)).max() < 12
    assert np.abs(small[4:].astype(int) - (20, 180, 90)).max() < 12


# Index and cache


def test_index_batch_and_iteration(tmp_path):
    for number, colour in enumerate((RED, GREEN, BLUE)):
        save(tmp_path / f"{number}.png", colour)
    folder = open_images(tmp_path, 4)
    assert torch.equal(folder[-1], folder[2])
    assert torch.equal(folder.batch([2, 0]), torch.stack([folder[2], folder[0]]))
    assert torch.equal(torch.stack(list(folder)), folder.batch([0, 1, 2]))
    assert folder.batch([]).shape == (0, 3, 4, 4)
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"has 3 images, there is no number {index}"):
            folder[index]


def test_cache_is_bounded_and_changes_nothing(tmp_path):
    for number, colour in enumerate((RED, GREEN, BLUE)):
        save(tmp_path / f"{number}.png", colour)
    size = 3 * 4 * 4
    folder = open_images(tmp_path, 4, cache_bytes=2 * size + 1)
    first = folder.batch([0, 1, 2])
    first += 1  # what is handed out is a copy
    assert len(folder._cache) == 2
    again = folder.batch([0, 1, 2])
    assert torch.equal(again, open_images(tmp_path, 4, cache_bytes=0).batch([0, 1, 2]))
    for name in folder.source.names:
        (tmp_path / name).unlink()
    assert torch.equal(folder[0], again[0])
    with pytest.raises(DataError, match="damaged"):
        folder.batch([2])


def test_a_pickled_store_leaves_its_cache_behind(tmp_path):
    save(tmp_path / "0.png")
    store = open_images(tmp_path, 4, cache_bytes=100)
    first = store[0]
    again = pickle.loads(pickle.dumps(store))
    assert again._cache == {}
    assert torch.equal(again[0], first)
    assert len(again._cache) == 1


def test_of_a_folder_with_images_and_masks_the_images_are_opened(tmp_path):
    for part in ("images", "alpha", "masks"):
        save(tmp_path / part / "1.png")
    assert open_source(tmp_path).names == ("1.png",)
