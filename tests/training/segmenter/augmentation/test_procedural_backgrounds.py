from __future__ import annotations

import pytest
import torch

from labels4free.seeds import SeededRandom
from labels4free.training.segmenter.augmentation import procedural_backgrounds
from labels4free.training.segmenter.augmentation.procedural_backgrounds import fractal_noise, procedural_background


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(13))
@pytest.mark.parametrize("size", [32, 96])
def test_each_kind(kind, size, monkeypatch):
    random = SeededRandom(kind, 7)
    monkeypatch.setattr(random, "below", _first_then(random.below, kind))
    background = procedural_background(random, size)
    assert background.shape == (1, 3, size, size)
    assert background.isfinite().all()
    assert background.abs().max() <= 1.2


@pytest.mark.slow
def test_most_backgrounds_are_scenes(monkeypatch):
    drawn = []
    monkeypatch.setattr(procedural_backgrounds, "_lit", lambda image, random: drawn.append(1) or image)
    for seed in range(60):
        procedural_background(SeededRandom(seed), 32)
    assert 0.45 < len(drawn) / 60 < 0.78


@pytest.mark.parametrize("size", [32, 96])
def test_light_is_uneven_and_keeps_black_black(size):
    white, black = torch.ones(1, 3, size, size), -torch.ones(1, 3, size, size)
    spreads = [
        float(procedural_backgrounds._lit(white, SeededRandom(seed)).std(dim=(2, 3)).max()) for seed in range(10)
    ]
    assert max(spreads) > 0.1
    torch.testing.assert_close(procedural_backgrounds._lit(black, SeededRandom(0)), black)


def _first_then(below, first):
    answers = [first]
    return lambda count: answers.pop() if answers else below(count)


@pytest.mark.slow
def test_backgrounds_differ_and_repeat():
    assert torch.equal(procedural_background(SeededRandom(1), 32), procedural_background(SeededRandom(1), 32))
    kinds = {procedural_background(SeededRandom(seed), 32).sum().item() for seed in range(20)}
    assert len(kinds) == 20


@pytest.mark.parametrize("size", [32, 48])
def test_fractal_noise_is_normalised(size):
    noise = fractal_noise(SeededRandom(2), size, 2)
    assert noise.shape == (1, 2, size, size)
    assert float(noise.std()) == pytest.approx(1, abs=1e-5)


def test_tiles_are_as_wide_at_every_size(monkeypatch):
    """The same numbers give the same picture, only finer."""
    monkeypatch.setattr(procedural_backgrounds, "fractal_noise", lambda random, size, channels: 0.0)
    coarse, fine = (procedural_backgrounds._tiles(SeededRandom(5), size) for size in (64, 128))
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(fine, 2), coarse, atol=0.1, rtol=0)
