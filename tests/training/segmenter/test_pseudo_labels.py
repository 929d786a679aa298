from __future__ import annotations

import dataclasses

import pytest
import torch
from PIL import Image
from tests.tiny_distillation import SIZE, disc, to_pixels

from labels4free.data.images.photos import open_photos
from labels4free.training.segmenter import pseudo_labels
from labels4free.training.segmenter.config import SelfTrainingConfig
from labels4free.training.segmenter.pseudo_labels import PhotoLabels, predict_with_tta

LENIENT = SelfTrainingConfig(min_agreement=0.0, min_foreground_ratio=0.0, max_foreground_ratio=1.0)


class Brightness(torch.nn.Module):
    """Finds what is bright; ``doubt`` makes it see less in mirrored or smaller images."""

    multiple = 8

    def __init__(self, doubt=0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(20.0))
        self.doubt, self.calls = doubt, 0

    def forward(self, image):
        self.calls += 1
        less = self.doubt * (self.calls % 2 == 0) * 100
        return image.mean(1, keepdim=True) * self.weight - less


@pytest.fixture
def photos(tmp_path):
    """A white disc on black, and the same in the middle of a photo that is twice as wide as high."""
    pixels = to_pixels((disc(64) * 2 - 1).expand(1, 3, -1, -1))
    Image.fromarray(pixels).save(tmp_path / "0.png")
    wide = Image.new("RGB", (128, 64))
    wide.paste(Image.fromarray(pixels), (32, 0))
    wide.save(tmp_path / "1.png")
    return open_photos(tmp_path, SIZE)


def test_views_that_agree(photos):
    seen = predict_with_tta(Brightness(), photos.photo(0), SIZE)
    assert seen.image.shape == (1, 3, SIZE, SIZE)
    assert (seen.alpha - disc(SIZE)).abs().mean() < 0.03
    assert seen.agreement > 0.9
    assert seen.spread.max() < 0.3
    assert seen.inside.min() == 1


def test_views_are_turned_back(tmp_path):
    alpha = disc(64, 0.3, (-0.5, 0.2))
    Image.fromarray(to_pixels((alpha * 2 - 1).expand(1, 3, -1, -1))).save(tmp_path / "0.png")
    seen = predict_with_tta(Brightness(), open_photos(tmp_path, SIZE).photo(0), SIZE)
    assert (seen.alpha - disc(SIZE, 0.3, (-0.5, 0.2))).abs().mean() < 0.03
    assert seen.agreement > 0.85


def test_views_that_do_not(photos):
    seen = predict_with_tta(Brightness(doubt=1.0), photos.photo(0), SIZE)
    inside = disc(SIZE, 0.3) == 1
    assert seen.alpha[inside].mean() == pytest.approx(0.5, abs=0.01)  # half of the augmentations see it
    assert seen.spread[inside].min() == pytest.approx(0.5, abs=0.01)
    assert seen.agreement < 0.8


def test_a_wide_photo_is_padded_below(photos):
    seen = predict_with_tta(Brightness(), photos.photo(1), SIZE)
    assert seen.inside[..., : SIZE // 2, :].min() == 1
    assert seen.inside[..., SIZE // 2 :, :].max() == 0


def test_labels(photos):
    labels = PhotoLabels(photos, Brightness(), LENIENT)
    assert len(labels) == 2
    image, alpha, weight = labels.example(1)
    seen = predict_with_tta(Brightness(), photos.photo(1), SIZE)
    assert torch.equal(image, seen.image)
    torch.testing.assert_close(alpha, seen.alpha, atol=0.003, rtol=0)
    torch.testing.assert_close(weight, (1 - 2 * seen.spread) * seen.inside, atol=0.003, rtol=0)
    assert weight[..., SIZE // 2 :, :].max() == 0


@pytest.mark.parametrize(
    ("network", "changes", "kept"),
    [
        (Brightness(), {"min_agreement": 0.9}, True),
        (Brightness(doubt=1.0), {"min_agreement": 0.9}, False),
        (Brightness(), {"min_foreground_ratio": 0.5}, False),
        (Brightness(), {"max_foreground_ratio": 0.1}, False),
        (Brightness(), {"min_foreground_ratio": 0.1, "max_foreground_ratio": 0.5}, True),
    ],
)
def test_only_good_labels_are_kept(photos, network, changes, kept):
    labels = PhotoLabels(photos, network, dataclasses.replace(LENIENT, **changes))
    assert (labels.example(0) is not None) == kept


@pytest.mark.parametrize("room", [pseudo_labels._CACHE_BYTES, 0])
def test_a_label_is_made_once_if_there_is_room(photos, monkeypatch, room):
    monkeypatch.setattr(pseudo_labels, "_CACHE_BYTES", room)
    network = Brightness()
    labels = PhotoLabels(photos, network, LENIENT)
    one, other = labels.example(0), labels.example(0)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert network.calls == (4 if room else 8)
