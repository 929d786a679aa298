from __future__ import annotations

import pytest
import torch

from labels4free.seeds import SeededRandom
from labels4free.training.segmenter.augmentation.bodies import Window, completed

SIZE = 64
WINDOW = Window(16, 48, 16, 48)
"""The picture lies in the middle of the canvas, at half its side."""


def canvas(rows, columns):
    """Alpha that is 1 in some rows and columns of the canvas."""
    alpha = torch.zeros(1, 1, SIZE, SIZE)
    alpha[..., slice(*rows), slice(*columns)] = 1
    return alpha


def figure(alpha, seed=0, window=WINDOW, colours=None):
    colours = torch.full((1, 3, SIZE, SIZE), 0.5) if colours is None else colours
    return completed(colours, alpha, window, torch.full((1, 3, SIZE, SIZE), -0.5), SeededRandom(seed))


def test_an_object_that_no_edge_cuts_off_stays():
    alpha = canvas((24, 40), (24, 40))
    for seed in range(5):
        colours, whole = figure(alpha, seed)
        assert torch.equal(whole, alpha)
        assert torch.equal(colours[..., 16:48, 16:48], torch.full((1, 3, 32, 32), 0.5))


def test_what_alpha_was_outside_the_picture_does_not_matter():
    inside = canvas((24, 40), (24, 40))
    noise = torch.rand(1, 1, SIZE, SIZE)
    noise[..., 16:48, 16:48] = inside[..., 16:48, 16:48]
    assert torch.equal(figure(noise)[1], inside)


@pytest.mark.parametrize("seed", range(8))
def test_a_top_that_is_cut_off_is_rounded(seed):
    alpha = canvas((16, 40), (24, 40))
    whole = figure(alpha, seed)[1]
    assert torch.equal(whole[..., 16:, :], alpha[..., 16:, :])
    above = whole[0, 0, :16]
    assert above[15, 32] > 0.9  # no seam
    assert above[:, :23].max() == 0
    assert above[:, 41:].max() == 0
    widths = above.sum(dim=1)
    assert widths[15] > widths[10]
    assert above[:2].max() == 0  # 8 pixels wide in halves: at most so high


@pytest.mark.parametrize("seed", range(8))
def test_a_body_goes_on_to_the_lower_edge_of_the_canvas(seed):
    alpha = canvas((24, 48), (24, 40))
    whole = figure(alpha, seed)[1]
    assert torch.equal(whole[..., :48, :], alpha[..., :48, :])
    body = whole[0, 0, 48:]
    assert body[:, 32].min() == 1
    assert body[0].sum() >= 14  # no seam, and as wide as it was
    assert body.sum(dim=1)[-1] >= body.sum(dim=1)[0] - 4


@pytest.mark.parametrize("mirror", [False, True])
def test_what_a_side_cuts_off_goes_on_from_where_it_does(mirror):
    alpha = canvas((32, 48), (16, 36))
    alpha = alpha.flip(-1) if mirror else alpha
    wider = 0
    for seed in range(8):
        whole = figure(alpha, seed)[1]
        whole = whole.flip(-1) if mirror else whole
        assert whole[0, 0, :31, :16].max() == 0  # not above the first row that touches the side
        assert (whole[0, 0, 32:48, 1:16] - whole[0, 0, 32:48, :15]).min() >= 0  # no seam
        wider += int(whole[0, 0, 32:48, :15].sum() > 4)
    assert wider >= 3


def test_colours_within_the_picture_stay_and_beyond_it_change():
    colours = torch.rand(1, 3, SIZE, SIZE) * 2 - 1
    after, _ = figure(canvas((24, 48), (24, 40)), 3, colours=colours)
    assert torch.equal(after[..., 16:48, 16:48], colours[..., 16:48, 16:48])
    assert not torch.equal(after[..., 48:, :], colours[..., 48:, :])
    assert after.abs().max() <= 1


@pytest.mark.parametrize("window", [Window(-20, 30, -10, 40), Window(30, 90, 20, 80), Window(-5, 70, -5, 70)])
def test_a_picture_may_lie_partly_beyond_the_canvas(window):
    alpha = torch.ones(1, 1, SIZE, SIZE)
    for seed in range(4):
        colours, whole = figure(alpha, seed, window)
        assert colours.isfinite().all()
        assert 0 <= whole.min() <= whole.max() <= 1
        rows, columns = slice(max(0, window.top), window.bottom), slice(max(0, window.left), window.right)
        assert whole[0, 0, rows, columns].min() == 1


def test_it_depends_on_the_draws_alone():
    alpha = canvas((16, 48), (20, 44))
    first, again, other = (figure(alpha, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])
