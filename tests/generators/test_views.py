from __future__ import annotations

import pytest
import torch

from labels4free.generators.base import mix_styles
from labels4free.generators.views import first_fine_row, noise_maps, render_again
from labels4free.seeds import OTHER_STYLES, series


@pytest.mark.parametrize(("rows", "first"), [(23, 14), (18, 11), (10, 6), (2, 1), (1, 0)])
def test_the_finest_two_fifths_are_exchanged(rows, first):
    assert first_fine_row(rows) == first


def test_other_noise_leaves_the_styles_and_changes_the_image(tiny_generator):
    ws = tiny_generator.draw_ws(0, 3)
    plain, again = tiny_generator.synthesize(ws), render_again(tiny_generator, "noise", ws, 0, 3, 1.0)
    assert not torch.equal(again.image, plain.image)
    assert torch.equal(again.image, render_again(tiny_generator, "noise", ws, 0, 3, 1.0).image)
    assert not torch.equal(again.image, render_again(tiny_generator, "noise", ws, 0, 4, 1.0).image)
    assert not torch.equal(again.image, render_again(tiny_generator, "noise", ws, 1, 3, 1.0).image)


def test_mixing_changes_the_fine_styles_alone(tiny_generator):
    ws = tiny_generator.draw_ws(0, 3)
    plain, again = tiny_generator.synthesize(ws), render_again(tiny_generator, "mixing", ws, 0, 3, 1.0)
    assert torch.equal(again.features[0], plain.features[0])
    assert not torch.equal(again.features[-1], plain.features[-1])
    other = tiny_generator.draw_ws(series(0, OTHER_STYLES), 3, 1.0)
    expected = tiny_generator.synthesize(mix_styles(ws, other, first_fine_row(tiny_generator.num_ws)))
    assert torch.equal(again.image, expected.image)


def test_noise_maps_fit_every_layer_and_depend_on_the_seed(tiny_generator):
    maps = noise_maps(tiny_generator, 3)
    assert [tuple(m.shape) for m in maps] == [(1, 1, s.resolution, s.resolution) for s in tiny_generator.feature_specs]
    assert all(torch.equal(a, b) for a, b in zip(maps, noise_maps(tiny_generator, 3), strict=True))
    assert not torch.equal(maps[0], noise_maps(tiny_generator, 4)[0])
