from __future__ import annotations

import pytest
import torch
from tests.tiny_distillation import disc

from labels4free.seeds import SeededRandom
from labels4free.training.segmenter.augmentation.bodies import Window
from labels4free.training.segmenter.augmentation.clothes_and_limbs import (
    Frame,
    dressed,
    frame_of,
    with_arms,
    with_occluder,
)

SIZE = 96
FRAME = Frame(top=10.0, side=48.0, middle=40.0, half=16.0)
"""The picture takes a quarter of the canvas, the body's axis is at column 40."""
SEEDS = range(10)


def plain(value):
    return torch.full((1, 3, SIZE, SIZE), value)


def body():
    alpha = torch.zeros(1, 1, SIZE, SIZE)
    alpha[..., 16:, 24:56] = 1
    return alpha


def test_a_frame_is_where_the_object_meets_its_pictures_lower_edge():
    alpha = torch.zeros(1, 1, SIZE, SIZE)
    alpha[..., 20:, 30:51] = 1
    assert frame_of(alpha, Window(10, 58, 8, 56)) == Frame(10, 48, 40.5, 10.5)


@pytest.mark.parametrize("window", [Window(10, 58, 8, 56), Window(60, 140, 8, 88)])
def test_an_object_that_ends_before_has_no_frame(window):
    alpha = torch.zeros(1, 1, SIZE, SIZE)
    alpha[..., 20:50, 30:51] = 1
    assert frame_of(alpha, window) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_clothes_leave_the_face_and_cover_the_body(seed):
    colours = dressed(plain(0.5), FRAME, (plain(-0.5), plain(-0.6)), SeededRandom(seed))
    face = colours[..., : int(10 + 0.6 * 48), :]
    torch.testing.assert_close(face, torch.full_like(face, 0.5), atol=0.03, rtol=0)
    # Below the deepest neckline it is one of the two stuffs, up to folds: at most 1 ± 0.8 times as bright.
    low = colours[..., int(10 + 1.55 * 48) :, :]
    assert low.mean() < 0.1
    assert colours.abs().max() <= 1


def test_some_garments_are_open():
    lining = [
        float(
            (dressed(plain(0.5), FRAME, (plain(-1.0), plain(1.0)), SeededRandom(s))[..., 90:, :] > 0.5).float().mean()
        )
        for s in range(20)
    ]
    assert 0 < sum(fraction > 0.01 for fraction in lining) < 20
    assert max(lining) < 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_arms_are_added_to_the_body_and_change_nothing_else(seed):
    colours, alpha = with_arms(plain(0.5), body(), FRAME, plain(-0.5), SeededRandom(seed))
    assert (alpha >= body()).all()
    assert alpha.max() <= 1
    assert not torch.equal(colours, plain(0.5))
    untouched = ((alpha == 0) & (body() == 0)).expand_as(colours)
    assert (colours[untouched] == 0.5).all()
    assert colours.abs().max() <= 1


@pytest.mark.slow
def test_arms_reach_out_of_the_body_to_either_side():
    drawn = [with_arms(plain(0.5), body(), FRAME, plain(-0.5), SeededRandom(seed))[1] for seed in range(20)]
    assert sum(float(alpha[..., :22].sum()) > 20 for alpha in drawn) > 5
    assert sum(float(alpha[..., 58:].sum()) > 20 for alpha in drawn) > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_thing_is_put_before_the_border(seed):
    alpha = disc(SIZE)
    colours, whole = with_occluder(plain(0.5), alpha, plain(-0.5), SeededRandom(seed))
    new = (whole > alpha)[0, 0]
    assert new.any()
    assert (whole >= alpha).all()
    assert float(new.float().mean()) < 0.3  # at most an ellipse of 0.16 by 0.35 sides, in halves
    border = ((alpha > 0.3) & (alpha < 0.7))[0, 0]
    assert (colours[0, 0][border] < 0.5).any()
    untouched = (whole == 0).expand_as(colours)
    assert (colours[untouched] == 0.5).all()


def test_without_an_object_there_is_nothing_to_put_a_thing_before():
    nothing = torch.zeros(1, 1, SIZE, SIZE)
    colours, alpha = with_occluder(plain(0.5), nothing, plain(-0.5), SeededRandom(0))
    assert torch.equal(colours, plain(0.5))
    assert torch.equal(alpha, nothing)
    colours, alpha = with_occluder(plain(0.5), 1 - nothing, plain(-0.5), SeededRandom(0))  # nor where it has no border
    assert torch.equal(colours, plain(0.5))


@pytest.mark.parametrize(
    "make",
    [
        lambda random: (dressed(plain(0.5), FRAME, (plain(-0.5), plain(0.0)), random),),
        lambda random: with_arms(plain(0.5), body(), FRAME, plain(-0.5), random),
        lambda random: with_occluder(plain(0.5), body(), plain(-0.5), random),
    ],
    ids=["dressed", "with_arms", "with_occluder"],
)
def test_it_depends_on_the_draws_alone_and_changes_nothing_in_place(make):
    first, again, other = (make(SeededRandom(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("frame", [Frame(-200.0, 300.0, -50.0, 2.0), Frame(90.0, 33.0, 95.0, 60.0)])
def test_a_figure_may_lie_partly_beyond_the_canvas(frame):
    for seed in range(5):
        colours, alpha = with_arms(plain(0.5), body(), frame, plain(-0.5), SeededRandom(seed))
        colours = dressed(colours, frame, (plain(-0.5), plain(0.0)), SeededRandom(seed))
        assert colours.isfinite().all()
        assert 0 <= alpha.min() <= alpha.max() <= 1
