"""The fast paths of a CPU, in strips, against the plain ones, which are those for gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tests.generators.contract import assert_same, some_labels, some_noise, some_ws
from tests.tiny import tiny_generator, tiny_stylegan2

from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.ops import strips
from labels4free.types import GeneratorOutput

if TYPE_CHECKING:
    from labels4free.generators.base import Generator

FAMILIES = {"mobile_stylegan": tiny_generator, "stylegan2": tiny_stylegan2}
ODD = {4: 5, 8: 3, 16: 7, 32: 1}
LARGE = {4: 8, 8: 8, 16: 6, 32: 6, 64: 5, 128: 3}


@pytest.fixture(scope="module", params=FAMILIES.values(), ids=FAMILIES)
def generator(request) -> Generator:
    return request.param()


@pytest.fixture(params=[2, 6, 16], ids="strips of {} rows".format)
def small_strips(request, monkeypatch):
    """Cut even small maps, of 32 rows at most, into several strips."""
    monkeypatch.setattr(strips, "_STRIP_ROWS", request.param)
    monkeypatch.setattr(strips, "_STRIP_VALUES", 1)


def plain(generator: Generator, ws: torch.Tensor, **options) -> GeneratorOutput:
    with torch.enable_grad():
        image, features = generator.synthesize(ws.clone().requires_grad_(), **options)
    assert image.requires_grad
    return GeneratorOutput(image.detach(), tuple(f.detach() for f in features))


def assert_equal_paths(generator: Generator, ws: torch.Tensor, **options) -> None:
    fast, slow = (
        path(generator, ws, **options, rng=torch.Generator().manual_seed(3))
        for path in (type(generator).synthesize, plain)
    )
    assert not fast.image.requires_grad
    assert_same(fast, slow)


# Every family


@pytest.mark.slow
@pytest.mark.usefixtures("small_strips")
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("noise", ["fixed", "random", "none", "given"])
def test_equals_the_plain_path_in_small_strips(generator, noise, count):
    ws = some_ws(generator, count)
    for background in (None, *generator.background_modes):
        maps = some_noise(generator, count) if noise == "given" else noise
        assert_equal_paths(generator, ws, noise=maps, background=background)


@pytest.mark.slow
@pytest.mark.usefixtures("small_strips")
@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_does_not_matter(generator, threads):
    ws = some_ws(generator, 2)
    alone = generator.synthesize(ws)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = generator.synthesize(ws)
    finally:
        torch.set_num_threads(before)
    assert_same(together, alone)


def test_an_empty_batch_gives_empty_results(generator):
    for ws in (some_ws(generator, 1)[:0], some_ws(generator, 1)[:0].requires_grad_()):
        image, features = generator.synthesize(ws)
        assert image.shape == (0, 3, 64, 64)
        assert [len(f) for f in features] == [0] * len(generator.feature_specs)


def test_features_are_channels_last_as_on_the_plain_path(generator):
    ws = some_ws(generator, 2)
    for output in (generator.synthesize(ws), plain(generator, ws)):
        assert all(f.is_contiguous(memory_format=torch.channels_last) for f in output.features)
    assert generator.synthesize(ws).image.is_contiguous()


def test_it_takes_over_only_where_no_gradient_is_wanted(generator, monkeypatch):
    ws = some_ws(generator, 1)
    wanting = ws.clone().requires_grad_()
    assert generator.synthesize(wanting).image.requires_grad
    monkeypatch.setattr(type(generator), "synthesize_plainly", None)
    expected = generator.synthesize(ws)
    with torch.no_grad():
        assert_same(generator.synthesize(wanting), expected)
    with torch.inference_mode():
        assert_same(generator.synthesize(ws), expected)
    with pytest.raises(TypeError, match="not callable"):
        generator.synthesize(wanting)


def test_results_of_one_call_are_not_touched_by_the_next(generator):
    first, second = some_ws(generator, 2).split(1)
    kept = generator.synthesize(first)
    copies = [f.clone() for f in (kept.image, *kept.features)]
    generator.synthesize(second)
    assert all(torch.equal(a, b) for a, b in zip((kept.image, *kept.features), copies, strict=True))


# StyleGAN2's widths and depths


@pytest.mark.slow
@pytest.mark.parametrize("clamp", [None, 0.8])
@pytest.mark.parametrize("background", [None, *StyleGAN2.background_modes])
@pytest.mark.parametrize("noise", ["fixed", "random", "none", "given", "given for all"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_equals_the_plain_path_at_odd_widths(count, noise, background, clamp):
    generator = tiny_stylegan2(channels=ODD, conv_clamp=clamp)
    if noise.startswith("given"):
        noise = some_noise(generator, 1 if noise == "given for all" else count)
    assert_equal_paths(generator, some_ws(generator, count), noise=noise, background=background)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_equals_the_plain_path_on_large_maps(count):
    generator = tiny_stylegan2(channels=LARGE)
    for background in (None, *StyleGAN2.background_modes):
        assert_equal_paths(generator, some_ws(generator, count), noise="random", background=background)


@pytest.mark.slow
@pytest.mark.parametrize("last", [48, 50])
def test_equals_the_plain_path_where_strips_come_by_themselves(last):
    """A layer of more values than a strip of the real size has, so that its rows are cut."""
    generator = tiny_stylegan2(channels={4: 8, 8: 8, 16: 8, 32: 8, 64: 8, 128: last})
    features = generator.synthesize(some_ws(generator, 1)).features
    assert len(strips.strips_of(features[-1])) > 1
    assert_equal_paths(generator, some_ws(generator, 1))


@pytest.mark.slow
@pytest.mark.parametrize("channels", [{4: 1}, {4: 3}, {4: 2, 8: 1}, {4: 40, 8: 64, 16: 33}])
def test_equals_the_plain_path_at_the_smallest_sizes_and_at_more_channels(channels):
    generator = tiny_stylegan2(channels=channels)
    for count in (1, 3, 40):
        assert_equal_paths(generator, some_ws(generator, count))


def test_equals_the_plain_path_with_labels():
    generator = tiny_stylegan2(channels=ODD, c_dim=3)
    ws = generator.map(torch.randn(3, 8), 0.6, truncation_cutoff=3, labels=some_labels(generator, 3))
    assert_equal_paths(generator, ws)


def test_equals_the_plain_path_in_double_precision():
    generator = tiny_stylegan2(channels=ODD)
    ws = some_ws(generator, 2).double()
    generator.double()
    fast = generator.synthesize(ws)
    assert fast.image.dtype == torch.float64
    assert_same(fast, plain(generator, ws), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_equals_the_plain_path_at_extreme_styles(factor):
    generator = tiny_stylegan2(channels=ODD)
    ws = some_ws(generator, 2) * factor
    fast, slow = generator.synthesize(ws), plain(generator, ws)
    for a, b in zip((fast.image, *fast.features), (slow.image, *slow.features), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))
