from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.refusals import refuses
from tests.tiny import tiny_generator, tiny_stylegan2
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.generating.rendering import USUAL_PSI, PictureConfig, Renderer, shrunk
from labels4free.pictures.pixels import to_uint8


@pytest.fixture(scope="module", params=["mobile_stylegan", "stylegan2", "conditional"])
def generator(request):
    if request.param == "mobile_stylegan":
        return tiny_generator()
    return tiny_stylegan2(c_dim=3 if request.param == "conditional" else 0)


def picture(generator, seed=5, **settings):
    renderer = Renderer(generator, PictureConfig(**settings))
    return renderer.pictures(renderer.ws_of_seed(seed), renderer.noise_of([seed]))[0]


@pytest.mark.slow
def test_a_seed_is_sample_0_of_its_series(generator):
    with torch.inference_mode():
        ws = generator.draw_ws(5, 0, USUAL_PSI)
        expected = to_uint8(generator.synthesize(ws).image)[0]
    got = picture(generator)
    assert got.shape == (64, 64, 3)
    assert got.dtype == np.uint8
    assert np.array_equal(got, expected)
    assert not np.array_equal(got, picture(generator, seed=6))


def test_truncation(generator):
    renderer = Renderer(generator, PictureConfig(truncation_psi=0.5, truncation_cutoff=4))
    ws = renderer.ws_of_seed(5)
    full = generator.draw_ws(5, 0)
    torch.testing.assert_close(ws[:, :4], generator.w_avg + 0.5 * (full[:, :4] - generator.w_avg))
    assert ws[:, 4:].equal(full[:, 4:])
    given = renderer.truncate(full)
    torch.testing.assert_close(given, ws)
    everywhere = Renderer(generator, PictureConfig(truncation_psi=0.5))
    torch.testing.assert_close(everywhere.truncate(full), everywhere.ws_of_seed(5))


def test_given_latents_are_truncated_only_if_asked(generator):
    ws = torch.randn(2, generator.num_ws, generator.w_dim)
    assert Renderer(generator, PictureConfig()).truncate(ws).equal(ws)
    assert Renderer(generator, PictureConfig(truncation_psi=1.0)).truncate(ws).equal(ws)
    average = Renderer(generator, PictureConfig(truncation_psi=0.0)).truncate(ws)
    torch.testing.assert_close(average, generator.w_avg.expand_as(ws))


@pytest.mark.slow
def test_size_is_a_box_filter(generator):
    with torch.inference_mode():
        image = generator.synthesize(generator.draw_ws(5, 0, USUAL_PSI)).image
    assert np.array_equal(picture(generator, size=16), to_uint8(F.avg_pool2d(image, 4))[0])


@pytest.mark.slow
def test_background_modes(generator):
    whole, default = picture(generator), picture(generator, background="default")
    assert np.array_equal(default, picture(generator, background=generator.default_background))
    assert not np.array_equal(whole, default)
    for mode in generator.background_modes:
        with torch.inference_mode():
            expected = generator.synthesize(generator.draw_ws(5, 0, USUAL_PSI), background=mode).image
        assert np.array_equal(picture(generator, background=mode), to_uint8(expected)[0])


def test_noise_modes(generator):
    fixed, none, random = (picture(generator, noise=mode) for mode in ("fixed", "none", "random"))
    assert not np.array_equal(fixed, none)
    assert not np.array_equal(fixed, random)
    assert not np.array_equal(none, random)
    assert np.array_equal(random, picture(generator, noise="random"))


def test_random_noise_belongs_to_its_picture_whatever_the_batch(generator):
    renderer = Renderer(generator, PictureConfig(noise="random"))
    seeds = [3, 4]
    ws = torch.cat([renderer.ws_of_seed(s) for s in seeds])
    both = renderer.pictures(ws, renderer.noise_of(seeds))
    for row, seed in enumerate(seeds):
        alone = renderer.pictures(ws[row : row + 1], renderer.noise_of([seed]))[0]
        assert np.abs(both[row].astype(int) - alone).max() <= 1
    other = renderer.pictures(ws[:1], renderer.noise_of([4]))[0]
    assert np.abs(both[0].astype(int) - other).max() > 1


def test_random_noise_is_normal(generator):
    maps = Renderer(generator, PictureConfig(noise="random")).noise_of([0, 1])
    assert [m.shape for m in maps] == [(2, 1, s.resolution, s.resolution) for s in generator.feature_specs]
    assert abs(float(maps[-1].std()) - 1) < 0.05
    assert not maps[0][0].equal(maps[0][1])


@pytest.mark.slow
def test_labels():
    generator = tiny_stylegan2(c_dim=3)
    pictures = [picture(generator, label=k) for k in range(3)]
    assert not np.array_equal(pictures[0], pictures[1])
    assert any(np.array_equal(picture(generator), one) for one in pictures)  # drawn from the seed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"truncation_psi": 2.5}, r"truncation_psi must lie in \[-2, 2\], got 2.5"),
        ({"truncation_psi": float("nan")}, "got nan"),
        ({"truncation_cutoff": -1}, "truncation_cutoff must be at least 0, got -1"),
        ({"noise": "loud"}, "noise must be one of fixed, random, none, got 'loud'"),
        ({"label": -1}, "label must be at least 0, got -1"),
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_values_out_of_range(settings, said):
    refuses(ConfigError, said, PictureConfig, **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 48}, "size must divide the generator's resolution 64, got 48"),
        ({"size": 128}, "size must divide the generator's resolution 64, got 128"),
        ({"background": "sky"}, "Unknown background mode 'sky'; .* has default, "),
        ({"label": 3}, "This generator has .*; got label 3"),
        ({"truncation_cutoff": 12}, r"truncation_cutoff must lie in \[0, 1[01]\], .*; got 12"),
    ],
)
def test_settings_that_do_not_fit_the_generator(generator, settings, said):
    refuses(ConfigError, said, Renderer, generator, PictureConfig(**settings))


@pytest.mark.slow
def test_a_label_needs_classes():
    with pytest.raises(ConfigError, match="no classes, so leave the label out; got label 0"):
        Renderer(tiny_stylegan2(), PictureConfig(label=0))
    refuses(ConfigError, "classes 0 to 2; got label 3", Renderer, tiny_stylegan2(c_dim=3), PictureConfig(label=3))


def test_shrunk():
    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    picture[::2, ::2] = 200
    assert shrunk(picture, 2).tolist() == [[[50] * 3] * 2] * 2
    assert shrunk(picture, 8) is picture
