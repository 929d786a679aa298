from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from tests.refusals import refuses
from tests.tiny import tiny_stylegan2

from labels4free.errors import ConfigError
from labels4free.generating.images import Sources
from labels4free.generating.interpolation import FilmConfig, point_on_curve, slerp, write_interpolation
from labels4free.generating.rendering import PictureConfig, Renderer


@pytest.fixture
def renderer(any_generator):
    return Renderer(any_generator, PictureConfig(size=32))


def frames_of(path):
    with Image.open(path) as film:
        frames = []
        for k in range(film.n_frames):
            film.seek(k)
            frames.append(np.array(film.convert("RGB")))
        return frames


@pytest.mark.slow
@pytest.mark.parametrize("space", ["w", "z"])
@pytest.mark.parametrize("curve", ["spline", "linear"])
def test_the_film_meets_every_picture(tmp_path, renderer, space, curve):
    path = tmp_path / "film.apng"
    seen = []
    config = FilmConfig(frames=3, fps=12, space=space, curve=curve)
    layout = write_interpolation(path, renderer, Sources([4, 9, 2]), config, progress=lambda *state: seen.append(state))
    frames = frames_of(path)
    assert (layout.frames, layout.fps, layout.size) == (7, 12, (32, 32))
    assert len(frames) == 7
    for k, seed in enumerate((4, 9, 2)):
        assert np.array_equal(frames[3 * k], renderer.pictures(renderer.ws_of_seed(seed), "fixed")[0])
    between = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)]
    ends = np.abs(frames[0].astype(int) - frames[3]).mean()
    assert min(between) > 0
    assert max(between[:3]) < ends
    assert seen[-1] == (7, 7)


@pytest.mark.slow
@pytest.mark.parametrize("space", ["w", "z"])
def test_a_loop_goes_back_to_its_beginning(tmp_path, renderer, space):
    path = tmp_path / "film.apng"
    config = FilmConfig(frames=4, loop=True, space=space, curve="linear")
    assert write_interpolation(path, renderer, Sources([4, 9]), config).frames == 8
    frames = frames_of(path)
    closing = np.abs(frames[-1].astype(int) - frames[0]).mean()
    opening = np.abs(frames[1].astype(int) - frames[0]).mean()
    assert closing == pytest.approx(opening, rel=0.05)  # there and back on one way
    assert np.array_equal(frames[4], renderer.pictures(renderer.ws_of_seed(9), "fixed")[0])


@pytest.mark.slow
def test_latents_take_part_in_w(tmp_path, renderer):
    latents = torch.randn(2, renderer.generator.num_ws, renderer.generator.w_dim)
    path = tmp_path / "film.apng"
    write_interpolation(path, renderer, Sources([1], latents), FilmConfig(frames=2))
    frames = frames_of(path)
    assert np.array_equal(frames[2], renderer.pictures(latents[:1], "fixed")[0])
    assert np.array_equal(frames[4], renderer.pictures(latents[1:], "fixed")[0])


def test_random_noise_stays_the_same(tmp_path, tiny_generator):
    still = Renderer(tiny_generator, PictureConfig(size=32, truncation_psi=0.0, noise="random"))
    path = tmp_path / "film.apng"
    write_interpolation(path, still, Sources([1, 2]), FilmConfig(frames=2))
    frames = frames_of(path)
    assert len(frames) in (1, 3)  # equal frames may be counted as one
    assert all(np.array_equal(frame, frames[0]) for frame in frames)
    assert np.array_equal(frames[0], still.pictures(still.ws_of_seed(1), still.noise_of([1]))[0])


@pytest.mark.slow
def test_a_label_of_its_own_holds_in_z(tmp_path):
    generator = tiny_stylegan2(c_dim=3)
    renderer = Renderer(generator, PictureConfig(size=32, label=2))
    path = tmp_path / "film.apng"
    write_interpolation(path, renderer, Sources([1, 2]), FilmConfig(frames=2, space="z"))
    assert np.array_equal(frames_of(path)[2], renderer.pictures(renderer.ws_of_seed(2), "fixed")[0])


KEYS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [3.0, 1.0]])


@pytest.mark.parametrize("curve", ["spline", "linear"])
@pytest.mark.parametrize("loop", [False, True])
def test_curves_pass_through_their_keys(curve, loop):
    config = FilmConfig(curve=curve, loop=loop)
    for step in range(len(KEYS)):
        assert point_on_curve(KEYS, step, 0.0, config).equal(KEYS[step])
        before = point_on_curve(KEYS, step - 1, 1 - 1e-6, config) if step else KEYS[0]
        torch.testing.assert_close(before, KEYS[step], atol=1e-5, rtol=0)


def test_linear_is_a_straight_line():
    got = point_on_curve(KEYS, 1, 0.25, FilmConfig(curve="linear"))
    torch.testing.assert_close(got, torch.tensor([1.0, 0.25]))
    closing = point_on_curve(KEYS, 3, 0.5, FilmConfig(curve="linear", loop=True))
    torch.testing.assert_close(closing, torch.tensor([1.5, 0.5]))


def test_spline_by_hand():
    """Catmull-Rom at the middle: (-a + 9 b + 9 c - d) / 16."""
    a, b, c, d = KEYS
    got = point_on_curve(KEYS, 1, 0.5, FilmConfig())
    torch.testing.assert_close(got, (-a + 9 * b + 9 * c - d) / 16)


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_spline_has_no_bend_at_a_key(step):
    config, h = FilmConfig(loop=True), 1e-3
    keys = KEYS.double()
    into = (keys[step] - point_on_curve(keys, step - 1, 1 - h, config)) / h
    out = (point_on_curve(keys, step, h, config) - keys[step]) / h
    torch.testing.assert_close(into, out, atol=0.02, rtol=0)
    slope = (keys[(step + 1) % 4] - keys[step - 1]) / 2
    torch.testing.assert_close(out, slope, atol=0.02, rtol=0)


def test_slerp_by_hand():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0])
    assert slerp(a, b, 0.0).equal(a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    torch.testing.assert_close(slerp(a, b, 0.5), torch.tensor([2**0.5, 2**0.5]))  # 45 degrees, length 2
    torch.testing.assert_close(slerp(a, b, 1 / 3), (5 / 3) * torch.tensor([3**0.5 / 2, 0.5]))


def test_slerp_of_equal_and_of_opposite_directions():
    a = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(slerp(a, 2 * a, 0.5), 1.5 * a)
    assert slerp(a, -a, 0.25).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"fps": 0}, "fps must be at least 1, got 0"),
        ({"space": "x"}, "space must be one of w, z, got 'x'"),
        ({"curve": "wild"}, "curve must be one of spline, linear, got 'wild'"),
    ],
)
def test_values_out_of_range(settings, said):
    refuses(ConfigError, said, FilmConfig, **settings)


@pytest.mark.slow
def test_films_that_cannot_be(tmp_path, renderer):
    latents = torch.zeros(1, renderer.generator.num_ws, renderer.generator.w_dim)
    for sources, config, said in (
        (Sources([1]), FilmConfig(), "A film needs two pictures or more to go between, got 1"),
        (Sources([1], latents), FilmConfig(space="z"), "Latents from files are in w, a film in z needs seeds"),
        (Sources([1, 2]), FilmConfig(fps=99), r"fps must lie in \[1, 50\] for .gif, got 99"),
    ):
        refuses(ConfigError, said, write_interpolation, tmp_path / "film.gif", renderer, sources, config)
    assert list(tmp_path.iterdir()) == []


def test_count():
    assert FilmConfig(frames=60).count(3) == 121
    assert FilmConfig(frames=60, loop=True).count(3) == 180
