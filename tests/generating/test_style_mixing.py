from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tests.refusals import refuses
from tests.tiny import tiny_stylegan2

from labels4free.errors import ConfigError
from labels4free.generating import rendering
from labels4free.generating.picture_folder import FileFormat
from labels4free.generating.rendering import PictureConfig, Renderer
from labels4free.generating.style_mixing import Mixing, mixing_grid, usual_layers, write_mixing

pytestmark = pytest.mark.slow


@pytest.fixture
def renderer(any_generator):
    return Renderer(any_generator, PictureConfig())


def mixed(renderer, row, column, layers):
    ws = renderer.ws_of_seed(row).clone()
    for layer in layers:
        ws[:, layer] = renderer.ws_of_seed(column)[:, layer]
    return renderer.pictures(ws, "fixed")[0]


def cells(grid, rows, columns, side=64):
    """The pictures of a grid, from its lower right corner: what is left of them are titles."""
    step = side + 6
    top, left = grid.shape[0] - rows * step, grid.shape[1] - columns * step
    return [
        [grid[top + r * step : top + r * step + side, left + c * step : left + c * step + side] for c in range(columns)]
        for r in range(rows)
    ]


def test_grid_has_the_sources_at_its_edges_and_the_mixed_pictures_inside(renderer):
    layers = [0, 1, 4]
    singles, seen = {}, []
    grid = mixing_grid(
        renderer,
        [1, 2],
        [10, 11, 12],
        layers,
        single=lambda row, column, picture: singles.update({(row, column): picture}),
        progress=lambda *state: seen.append(state),
    )
    shown = cells(grid, 3, 4)
    assert (shown[0][0] == 255).all()
    for c, column in enumerate((10, 11, 12), start=1):
        assert np.array_equal(shown[0][c], renderer.pictures(renderer.ws_of_seed(column), "fixed")[0])
        for r, row in enumerate((1, 2), start=1):
            assert np.array_equal(shown[r][c], mixed(renderer, row, column, layers))
            assert np.array_equal(shown[r][c], singles[row, column])
    for r, row in enumerate((1, 2), start=1):
        assert np.array_equal(shown[r][0], renderer.pictures(renderer.ws_of_seed(row), "fixed")[0])
    assert len(singles) == 6
    assert seen == [(k, 11) for k in range(1, 12)]


def test_all_layers_give_the_column(renderer):
    num_ws = renderer.generator.num_ws
    shown = cells(mixing_grid(renderer, [1], [2], range(num_ws)), 2, 2)
    assert np.array_equal(shown[1][1], shown[0][1])
    assert not np.array_equal(shown[1][1], shown[1][0])


def test_large_grids_are_shrunk(renderer, monkeypatch):
    monkeypatch.setattr(rendering, "_GRID_PIXELS", 4 * 32 * 32)
    grid = mixing_grid(renderer, [1], [2], [0])
    assert grid.shape[0] < 2 * (32 + 6) + 40
    shown = cells(grid, 2, 2, side=32)
    assert shown[1][1].shape == (32, 32, 3)


def test_files(tmp_path, renderer):
    path = write_mixing(renderer, tmp_path, Mixing([1], [2, 3], [2, 0, 1], singles=True), FileFormat("webp", 90))
    assert path == tmp_path / "mix_0-2.png"
    with Image.open(path) as picture:
        shown = cells(np.array(picture), 2, 3)
    assert np.array_equal(shown[1][2], mixed(renderer, 1, 3, [0, 1, 2]))
    assert sorted(p.name for p in (tmp_path / "mix_0-2").iterdir()) == [
        "seed00001_seed00002.webp",
        "seed00001_seed00003.webp",
    ]


def test_no_files_of_single_pictures_unless_asked(tmp_path, renderer):
    write_mixing(renderer, tmp_path, Mixing([1], [2], [0]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mix_0.png", "pictures.json"]


def test_usual_layers(tmp_path, renderer):
    assert usual_layers(18) == [0, 1, 2, 3, 4, 5, 6]
    assert usual_layers(1) == [0]
    assert write_mixing(renderer, tmp_path, Mixing([1], [2])).name == "mix_0-3.png"


def test_sources_are_truncated_and_random_noise_is_that_of_the_row():
    generator = tiny_stylegan2()
    strict = Renderer(generator, PictureConfig(truncation_psi=0.0, noise="random"))
    shown = cells(mixing_grid(strict, [1, 2], [3], [0, 1]), 3, 2)
    assert np.array_equal(shown[1][0], shown[1][1])  # all styles are the average; the noise stays
    assert not np.array_equal(shown[1][0], shown[2][0])
    assert torch.equal(strict.ws_of_seed(1), strict.ws_of_seed(3))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([], [1], [0]), "got no rows"),
        (([1], [], [0]), "got no columns"),
        (([1], [2], []), "got no layers"),
        (([1], [2], [3, 11]), r"has layers 0 to (9|10) to mix, got 3,11"),
        (([1], [2], [-1]), "has layers 0 to"),
    ],
)
def test_grids_that_cannot_be(renderer, arguments, said):
    refuses(ConfigError, said, mixing_grid, renderer, *arguments)


def test_a_layer_too_many_writes_nothing(tmp_path, renderer):
    refuses(ConfigError, "to mix, got 40", write_mixing, renderer, tmp_path / "o", Mixing([1], [2], [40]))
    assert not (tmp_path / "o").exists()
