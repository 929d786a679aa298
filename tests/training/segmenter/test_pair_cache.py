from __future__ import annotations

import dataclasses
import errno
import os

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny_distillation import SIZE, Discs, write_pairs

from labels4free.data.pairs.formats import open_pairs
from labels4free.errors import DataError, RunError
from labels4free.training.segmenter import pair_cache
from labels4free.training.segmenter.pair_cache import build_pair_cache


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "pairs", 5)


def test_it_holds_the_pairs(pairs, tmp_path):
    told = []
    cache = build_pair_cache(open_pairs(pairs), SIZE, tmp_path / "cache", 1.0, lambda *given: told.append(given))
    assert len(cache) == 5
    assert told == [(k, 5) for k in range(1, 6)]
    for index, (image, alpha, _) in enumerate(Discs(5)):
        found = cache[index]
        torch.testing.assert_close(found.image, image.clamp(-1, 1), atol=0.005, rtol=0)
        assert torch.equal(found.alpha, (alpha > 0.5).float())
        assert torch.equal(found.weight, torch.ones_like(alpha))


def test_pictures_are_averaged(pairs, tmp_path):
    cache = build_pair_cache(open_pairs(pairs), SIZE // 2, tmp_path / "cache", 1.0)
    whole = (Discs(5)[0].alpha > 0.5).float()
    torch.testing.assert_close(cache[0].alpha, torch.nn.functional.avg_pool2d(whole, 2), atol=0.005, rtol=0)


def test_a_second_call_decodes_nothing(pairs, tmp_path, monkeypatch):
    first = build_pair_cache(open_pairs(pairs), SIZE, tmp_path / "cache", 1.0)
    monkeypatch.setattr(pair_cache, "_decode", None)
    second = build_pair_cache(open_pairs(pairs), SIZE, tmp_path / "cache", 1.0)
    assert second.digest == first.digest
    assert np.array_equal(second.images, first.images)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["another size", "another count", "torn", "no note", "damaged note"])
def test_what_does_not_fit_is_decoded_again(pairs, tmp_path, what):
    folder = tmp_path / "cache"
    first = build_pair_cache(open_pairs(pairs), SIZE // 2 if what == "another size" else SIZE, folder, 1.0)
    digest = first.digest
    if what == "another count":
        for name in ("images", "masks"):
            (pairs / name / "00004.png").unlink()
    if what == "torn":
        os.truncate(folder / "images.u8", 100)
    if what == "no note":
        (folder / "pairs.json").unlink()
    if what == "damaged note":
        (folder / "pairs.json").write_text("[]")
    again = build_pair_cache(open_pairs(pairs), SIZE, folder, 1.0)
    assert len(again) == (4 if what == "another count" else 5)
    assert (again.digest == digest) == (what in ("torn", "no note", "damaged note"))
    assert again[3].image.shape == (1, 3, SIZE, SIZE)


def test_uncertain_pairs_count_less(pairs, tmp_path, monkeypatch):
    kind = type(open_pairs(pairs))
    load = kind._pair

    def uncertain(self, number):
        pair = load(self, number)
        return dataclasses.replace(pair, record=dataclasses.replace(pair.record, uncertainty=0.25 * number))

    monkeypatch.setattr(kind, "_pair", uncertain)
    cache = build_pair_cache(open_pairs(pairs), SIZE, tmp_path / "cache", 2.0)
    assert [float(cache[k].weight.max()) for k in range(5)] == pytest.approx([1, 0.5625, 0.25, 0.1, 0.1])
    assert build_pair_cache(open_pairs(pairs), SIZE, tmp_path / "cache", 0.0).weights == (1,) * 5


def test_parts_share_their_pixels(pairs, tmp_path):
    cache = build_pair_cache(open_pairs(pairs), SIZE, tmp_path / "cache", 1.0)
    part = cache.part(3, 5)
    assert len(part) == 2
    assert torch.equal(part[0].image, cache[3].image)
    assert np.shares_memory(part.images, cache.images)


def test_alphas_of_16_bits():
    wide = np.array([[0, 257, 65535, 128]], np.uint16)
    assert pair_cache._to_bytes(wide).tolist() == [[0, 1, 255, 0]]


def test_pairs_need_masks(tmp_path, monkeypatch, pairs):
    found = open_pairs(pairs)
    found.parts = ("image",)
    with pytest.raises(DataError, match="holds no images with alphas or masks: its pairs have image"):
        build_pair_cache(found, SIZE, tmp_path / "cache", 1.0)


def test_all_pairs_damaged(tmp_path):
    pairs = write_pairs(tmp_path / "pairs", 1)
    good = (pairs / "images" / "00000.png").read_bytes()
    (pairs / "images" / "00000.png").write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match="holds no readable pair"):
        build_pair_cache(open_pairs(pairs), SIZE, tmp_path / "cache", 1.0)


def test_no_space(pairs, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pair_cache, "write_atomically", full)
    with pytest.raises(RunError, match="space"):
        build_pair_cache(open_pairs(pairs), SIZE, tmp_path / "cache", 1.0)


def test_oblong_pictures_are_cropped(tmp_path):
    pairs = write_pairs(tmp_path / "pairs", 1)
    for name, value in (("images", (9, 8, 7)), ("masks", 255)):
        mode = "RGB" if name == "images" else "L"
        Image.new(mode, (70, 40), value).save(pairs / name / "00000.png")
    image, alpha, _ = build_pair_cache(open_pairs(pairs), SIZE, tmp_path / "cache", 1.0)[0]
    assert image.shape == (1, 3, SIZE, SIZE)
    assert alpha.min() == 1
