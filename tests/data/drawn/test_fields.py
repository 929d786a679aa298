from __future__ import annotations

import numpy as np
import pytest

from labels4free.data.drawn.draws import Draws
from labels4free.data.drawn.fields import smooth_step, surface, texture, waves

AXIS = ((np.arange(64) + 0.5) / 32 - 1).astype(np.float32)


def test_waves_are_sums_of_plane_waves():
    angles, phases = 2 * np.pi * Draws(1).many(6).reshape(2, 3)
    periods = np.array([1, 2, 4])  # from 1 to 4 in equal ratios
    strengths = periods**-0.5 / np.sqrt((1 / periods).sum() / 2)
    x, y = AXIS[None, :, None], AXIS[:, None, None]
    expected = np.sin(np.pi * periods * (x * np.cos(angles) + y * np.sin(angles)) + phases) @ strengths
    np.testing.assert_allclose(waves(Draws(1), AXIS, AXIS, 3, 1, 4), expected, atol=1e-4)


def test_waves_have_mean_0_and_variance_1():
    fields = np.stack([waves(Draws(number), AXIS, AXIS[:5], 16, 1, 8) for number in range(600)])
    assert abs(fields.mean()) < 0.1
    assert fields.var() == pytest.approx(1, abs=0.1)


def test_steps_go_from_0_to_1():
    steps = smooth_step(np.array([-9, -0.5, -0.25, 0, 0.25, 0.5, 9], np.float32), 1)
    np.testing.assert_allclose(steps, [0, 0, 0.15625, 0.5, 0.84375, 1, 1])


def test_textures_of_every_kind_lie_between_0_and_1_and_vary():
    for number in range(40):
        field = texture(Draws(number), AXIS, AXIS[:40])
        assert field.shape == (40, 64)
        assert field.dtype == np.float32
        assert 0 <= field.min() < field.max() <= 1


def test_surfaces_are_coloured_by_their_colours():
    red = np.tile(np.float32([0.8, 0.1, 0.1]), (3, 1))
    field = surface(Draws(0), AXIS, AXIS[:40], red)
    assert field.shape == (3, 40, 64)
    np.testing.assert_allclose(field[0] - field[1], 0.7, atol=1e-5)
