from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from labels4free.errors import DataError
from labels4free.seeds import derive_seed, generator_for
from labels4free.training.discriminator_inputs.reals import ShuffledReals, open_reals


@pytest.fixture
def images(tmp_path):
    """Seven images, number k of grey 10 k on the left and black on the right."""
    for k in range(7):
        pixels = np.zeros((8, 8, 3), dtype=np.uint8)
        pixels[:, :4] = 30 + 10 * k
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    return open_reals(str(tmp_path), 8)


def numbers(batch):
    """Which image each one is, and whether it is mirrored."""
    left, right = (((batch[:, 0, 0, x] + 1) * 127.5).round() for x in (0, -1))
    return [(int(max(a, b) - 30) // 10, bool(b > a)) for a, b in zip(left.tolist(), right.tolist(), strict=True)]


def test_without_a_folder_there_are_none():
    assert open_reals(None, 8) is None


def test_every_image_once_an_epoch_in_another_order(images):
    reals = ShuffledReals(images, 0, mirror=False)
    epochs = [numbers(reals.take(7 * e, 7)) for e in range(3)]
    assert all(sorted(epoch) == [(k, False) for k in range(7)] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert numbers(ShuffledReals(images, 1, mirror=False).take(0, 7)) != epochs[0]


def test_a_draw_depends_on_its_number_alone(images):
    whole = ShuffledReals(images, 3, mirror=True).take(0, 20)
    reals = ShuffledReals(images, 3, mirror=True)
    for start, count in ((15, 5), (0, 3), (5, 4), (12, 3)):
        assert torch.equal(reals.take(start, count), whole[start : start + count])


def test_about_half_of_them_are_mirrored(images):
    mirrored = [flip for _, flip in numbers(ShuffledReals(images, 0, mirror=True).take(0, 200))]
    assert 70 < sum(mirrored) < 130


def test_too_few(images):
    ShuffledReals(images, 0, mirror=False, at_least=7)
    with pytest.raises(DataError, match=r"has 7 images, but a step needs 8: give more, or train with a smaller"):
        ShuffledReals(images, 0, mirror=False, at_least=8)


def test_seeds():
    seeds = {derive_seed(a, b, c) for a in range(5) for b in range(5) for c in (-1, 0, 1, 2, 1 << 40)}
    assert len(seeds) == 125
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == 125
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert derive_seed(1, 2) != derive_seed(2, 1)
    draws = [torch.rand(3, generator=generator_for(1, 2)) for _ in range(2)]
    assert torch.equal(*draws)
    assert derive_seed(0, 0, -1) == 7993540931761264879  # checkpoints of older runs count on it
