from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from tests.refusals import refuses

from labels4free.errors import ConfigError, RunError
from labels4free.generating.directions import sefa
from labels4free.generating.images import Sources
from labels4free.generating.interpolation import FilmConfig, write_interpolation
from labels4free.generating.moves import Move, MovedSources, parse_degrees, write_moves
from labels4free.generating.rendering import PictureConfig, Renderer
from labels4free.generators.base import sample_z


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        ("3", (3,)),
        ("-3..3", (-3, -2, -1, 0, 1, 2, 3)),
        ("2..-1", (2, 1, 0, -1)),
        ("-0.3..0.3:0.1", (-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3)),
        (" -5, 0 ,.5,1e1,+7", (-5, 0, 0.5, 10, 7)),
        ("-1..1,4..8:2", (-1, 0, 1, 4, 6, 8)),
        ("1..1", (1,)),
    ],
)
def test_degrees(text, degrees):
    assert parse_degrees(text) == degrees


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Degrees are numbers and ranges"),
        ("a", "got 'a'"),
        ("1,,2", "got ''"),
        ("nan", r"Degrees lie in \[-1000, 1000\], got nan"),
        ("1,inf", "got inf"),
        ("-1e9", "got -1e"),
        ("1001", "got 1001"),
        ("1,1.0", "Degrees must differ, 1 comes twice"),
        ("0..1:0.3", "by steps that lead there"),
        ("0..1:0", "by steps that lead there"),
        ("0..1:-1", "by steps that lead there"),
        ("0..1000:0.001", "at most 1000"),
        ("nan..3", "got 'nan..3'"),
        ("0..900,0..900", "1000 degrees at once"),
    ],
)
def test_bad_degrees_are_one_sentence(text, message):
    refuses(ConfigError, message, parse_degrees, text)


def test_a_move_has_finite_degrees():
    for degrees in ((), (math.nan,), (1.0, math.inf)):
        with pytest.raises(ConfigError, match=r"degrees|Degrees"):
            Move("0", torch.zeros(2, 2), degrees)


def test_w_is_moved_and_truncated_then(any_generator):
    """As apply_factor.py: its generator truncates ``latent + degree * eigvec``."""
    step = sefa(any_generator).step(2, any_generator.num_ws)
    renderer = Renderer(any_generator, PictureConfig(truncation_psi=0.6, label=1 if any_generator.c_dim else None))
    moved = MovedSources.of(Sources([4, 9]), Move("2", step, (-2.0, 0.0, 3.0)))
    assert len(moved) == 6
    assert [moved.name(k) for k in (0, 1, 5)] == ["seed00004_by-2", "seed00004_by0", "seed00009_by+3"]
    assert [moved.number(k) for k in range(6)] == [4, 4, 4, 9, 9, 9]
    labels = torch.eye(3)[[1]] if any_generator.c_dim else None
    for k, (seed, degree) in enumerate([(s, d) for s in (4, 9) for d in (-2, 0, 3)]):
        w = any_generator.map(sample_z(8, seed, 0)[None], labels=labels)[:, 0] + degree * step[0]
        truncated = torch.lerp(any_generator.w_avg, w, 0.6)
        expected = truncated[:, None].expand(-1, any_generator.num_ws, -1)
        torch.testing.assert_close(moved.ws(k, renderer), expected)
    assert torch.equal(moved.ws(1, renderer), renderer.ws_of_seed(4))


def test_rows_beyond_the_cutoff_and_given_latents_move_in_full(any_generator):
    step = sefa(any_generator, [1, 2, 3]).step(0, any_generator.num_ws)
    latents = torch.randn(1, any_generator.num_ws, 8)
    sources, move = Sources([1], latents), Move("0", step, (2.0,))
    renderer = Renderer(any_generator, PictureConfig(truncation_psi=0.5, truncation_cutoff=2))
    for k in range(2):
        change = MovedSources.of(sources, move).ws(k, renderer) - sources.ws(k, renderer)
        expected = 2 * step
        expected[:2] *= 0.5
        torch.testing.assert_close(change[0], expected)
    plain = Renderer(any_generator, PictureConfig())
    changes = [MovedSources.of(sources, move).ws(k, plain) - sources.ws(k, plain) for k in range(2)]
    torch.testing.assert_close(changes[0][0], 0.7 * 2 * step)
    torch.testing.assert_close(changes[1][0], 2 * step)


@pytest.mark.slow
def test_grid(tmp_path, any_generator):
    renderer, seen = Renderer(any_generator, PictureConfig(size=32)), []
    move = Move("1", sefa(any_generator).step(1, any_generator.num_ws), (-3.0, 0.0, 3.0))
    path = write_moves(renderer, tmp_path / "out", Sources([5, 6]), move, progress=lambda *state: seen.append(state))
    assert path == tmp_path / "out" / "direction_1.png"
    assert sorted(file.name for file in path.parent.iterdir()) == ["direction_1.png", "pictures.json"]
    assert seen == [(k, 6) for k in range(1, 7)]
    with Image.open(path) as picture:
        grid = np.array(picture)
    top, left = grid.shape[0] - 2 * 38, grid.shape[1] - 3 * 38
    for row, seed in enumerate((5, 6)):
        cells = [grid[top + 38 * row :, left + 38 * c :][:32, :32] for c in range(3)]
        assert np.array_equal(cells[1], renderer.pictures(renderer.ws_of_seed(seed), "fixed")[0])
        for c, degree in ((0, -3), (2, 3)):
            ws = renderer.ws_of_seed(seed) + 0.7 * degree * move.step
            assert np.array_equal(cells[c], renderer.pictures(ws, "fixed")[0])
    refuses(ConfigError, "nothing to move", write_moves, renderer, tmp_path / "x", Sources(), move)
    other = Renderer(any_generator, PictureConfig(size=16))
    refuses(RunError, "made with size 32", write_moves, other, path.parent, Sources([5]), move)


@pytest.mark.slow
def test_film_through_the_steps(tmp_path, tiny_generator):
    renderer = Renderer(tiny_generator, PictureConfig(size=16))
    move = Move("0", sefa(tiny_generator).step(0, 11), (-3.0, 0.0, 3.0))
    moved = MovedSources.of(Sources([1]), move)
    layout = write_interpolation(tmp_path / "film.apng", renderer, moved, FilmConfig(frames=2, curve="linear"))
    assert layout.frames == 5
    with Image.open(tmp_path / "film.apng") as film:
        for frame, degree in ((0, -3), (1, -1.5), (2, 0), (4, 3)):
            film.seek(frame)
            ws = renderer.ws_of_seed(1) + 0.7 * degree * move.step
            got, expected = np.array(film.convert("RGB")).astype(int), renderer.pictures(ws, "fixed")[0]
            assert abs(got - expected).max() <= 1
    refuses(
        ConfigError, "z needs seeds", write_interpolation, tmp_path / "z.gif", renderer, moved, FilmConfig(space="z")
    )
