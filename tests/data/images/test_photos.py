from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image

from labels4free.data.images.dataset import read_image
from labels4free.data.images.photos import open_photos, open_shared
from labels4free.errors import DataError


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in {"a": (40, 60, 3), "b": (64, 16, 3), "c": (20, 20, 3)}.items():
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_nothing_is_cropped(photos):
    store = open_photos(photos, 30)
    assert [store.photo(k).shape for k in range(3)] == [(20, 30, 3), (30, 8, 3), (30, 30, 3)]
    whole = Image.fromarray(read_image(photos / "a.png"))
    assert np.array_equal(store.photo(0), np.asarray(whole.resize((30, 20), Image.Resampling.LANCZOS)))


def test_a_photo_of_the_right_size_is_left_alone(photos):
    assert np.array_equal(open_photos(photos, 60).photo(0), read_image(photos / "a.png"))


def test_a_damaged_photo_makes_room_for_the_next(photos):
    (photos / "b.png").write_bytes((photos / "b.png").read_bytes()[:60])
    store = open_photos(photos, 30)
    assert np.array_equal(store.photo(1), store.photo(2))
    assert len(store.skipped) == 1


def test_there_must_be_photos(tmp_path):
    with pytest.raises(DataError):
        open_photos(tmp_path, 30)


def test_several_threads_may_use_a_store(photos, monkeypatch):
    store = open_shared(photos, 16)
    inside, most, lock = 0, 0, threading.Lock()
    decode = type(store)._decode

    def slow(self, encoded, label):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        found = decode(self, encoded, label)
        with lock:
            inside -= 1
        return found

    monkeypatch.setattr(type(store), "_decode", slow)
    threads = [threading.Thread(target=lambda k=k: store[k % 3]) for k in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert store[0].shape == (3, 16, 16)
