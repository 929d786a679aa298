from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.refusals import refuses
from torch import nn

from labels4free.errors import ConfigError, DataError
from labels4free.generating import ranking
from labels4free.generating.directions import Directions, sefa
from labels4free.generating.images import Sources
from labels4free.generating.ranking import Change, look_at_directions
from labels4free.generating.rendering import PictureConfig, Renderer
from labels4free.pictures.pixels import to_uint8
from labels4free.types import GeneratorOutput

DEGREES = (-2.0, 0.0, 1.0)


class Left(nn.Module):
    """Alpha: the left quarter of the image is the object."""

    def forward(self, features):
        side = 64
        alpha = torch.zeros(len(features[0]), 1, side, side)
        alpha[..., : side // 4] = 1
        return alpha


@pytest.fixture
def halves(tiny_generator, monkeypatch):
    """A generator whose w[0] sets the left quarter's brightness, w[1] that of the rest; w[2] of both, w[3] none."""

    def synthesize(ws, **options):
        w = ws.mean(1)
        image = torch.zeros(len(ws), 3, 64, 64)
        image[..., :16] = 0.1 * (w[:, 0] + w[:, 2])[:, None, None, None]
        image[..., 16:] = 0.1 * (w[:, 1] + 0.5 * w[:, 2])[:, None, None, None]
        return GeneratorOutput(image, (image,))

    monkeypatch.setattr(tiny_generator, "synthesize", synthesize)
    return Renderer(tiny_generator, PictureConfig(truncation_psi=1.0))


AXES = Directions("sefa", torch.eye(8), tuple(range(11)))


def test_the_ratio_is_the_change_inside_over_that_outside(halves):
    seen = []
    shown = look_at_directions(
        halves, Sources([3, 8]), AXES, [0, 1, 2, 3], DEGREES, Left(), progress=lambda *state: seen.append(state)
    )
    assert [one.number for one in shown] == [0, 2, 1, 3]  # the object's, both, the scene's, nothing at all
    changes = {one.number: one.change for one in shown}
    square = 0.1**2 * (2**2 + 1**2) / 2  # of degrees -2 and 1
    assert changes[0].inside == pytest.approx(square, rel=1e-4)
    assert changes[0].outside == 0
    assert changes[0].ratio is None
    assert changes[0].ratios == (None, None)
    assert changes[1].ratio == 0
    assert changes[1].outside == pytest.approx(square, rel=1e-4)
    assert changes[2].ratio == pytest.approx(4, rel=1e-4)
    assert changes[2].ratios == pytest.approx((4, 4), rel=1e-4)
    assert changes[3] == Change(0.0, 0.0, (None, None))
    assert seen == [(k, 18) for k in range(1, 19)]


def test_pictures_are_those_of_the_moved_samples(any_generator):
    renderer = Renderer(any_generator, PictureConfig())
    directions = sefa(any_generator)
    shown = look_at_directions(renderer, Sources([3, 8]), directions, [5, 1], DEGREES, cell=64)
    assert [one.number for one in shown] == [5, 1]
    assert all(one.change is None for one in shown)
    for one in shown:
        step = directions.step(one.number, any_generator.num_ws)
        for row, seed in zip(one.pictures, (3, 8), strict=True):
            for picture, degree in zip(row, DEGREES, strict=True):
                ws = renderer.ws_of_seed(seed) + 0.7 * degree * step
                assert abs(picture.astype(int) - renderer.pictures(ws, "fixed")[0]).max() <= 1


def test_pictures_are_shrunk_by_a_whole_factor():
    image = torch.rand(1, 3, 64, 64)
    for cell, side in ((64, 64), (100, 64), (63, 32), (20, 16), (1, 1)):
        small = ranking._small(image, cell)
        assert small.shape == (side, side, 3)
    assert np.array_equal(ranking._small(image, 64), to_uint8(image)[0])


def test_the_change_is_that_of_pictures_which_end_at_black_and_white(halves):
    far = Directions("sefa", 1e4 * torch.eye(8), AXES.layers)
    shown = look_at_directions(halves, Sources([3]), far, [0], (-1.0, 1.0), Left())
    before = halves.generator.synthesize(halves.ws_of_seed(3)).image[0, 0, 0, 0]
    assert shown[0].change.inside == pytest.approx(float((1 - before) ** 2 + (1 + before) ** 2) / 2, rel=1e-4)


def test_samples_without_an_object_are_left_out(halves):
    class First(Left):
        """No object in the second sample, nothing but an object in the third."""

        calls = 0

        def forward(self, features):
            self.calls += 1
            return super().forward(features) if self.calls == 1 else torch.full((1, 1, 64, 64), float(self.calls == 3))

    shown = look_at_directions(halves, Sources([3, 8, 9]), AXES, [2], DEGREES, First())
    assert shown[0].change.ratios == pytest.approx((4,), rel=1e-4)
    assert len(shown[0].pictures) == 3


def test_bad_input_is_one_sentence(halves, monkeypatch):
    sources = Sources([3])
    refuses(ConfigError, "directions 0 to 7, got 8", look_at_directions, halves, sources, AXES, [8], DEGREES)
    refuses(ConfigError, "other than 0", look_at_directions, halves, sources, AXES, [0], (0.0,))
    refuses(ConfigError, "nothing to move", look_at_directions, halves, Sources(), AXES, [0], DEGREES)
    refuses(ConfigError, "got nan", look_at_directions, halves, sources, AXES, [0], (math.nan,))

    class Nothing(nn.Module):
        def forward(self, features):
            return torch.zeros(1, 1, 64, 64)

    refuses(DataError, "finds no object", look_at_directions, halves, sources, AXES, [0], DEGREES, Nothing())
    broken = Directions("sefa", 1e38 * torch.eye(8), AXES.layers)
    refuses(DataError, "seed00003_by-1000 is not", look_at_directions, halves, sources, broken, [0], (-1000.0,))
