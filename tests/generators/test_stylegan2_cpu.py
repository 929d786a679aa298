"""The fast path of the CPU against the plain one, which is the one for gradients."""

from __future__ import annotations

import pytest
import torch
from tests.generators.contract import assert_same, some_labels, some_noise, some_ws
from tests.tiny import tiny_stylegan2

from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.ops import strips
from labels4free.types import GeneratorOutput

ODD = {4: 5, 8: 3, 16: 7, 32: 1}
LARGE = {4: 8, 8: 8, 16: 6, 32: 6, 64: 5, 128: 3}


@pytest.fixture(scope="module")
def generator() -> StyleGAN2:
    return tiny_stylegan2()


@pytest.fixture(params=[2, 6, 16], ids="strips of {} rows".format)
def small_strips(request, monkeypatch):
    """Cut even small maps into several strips."""
    monkeypatch.setattr(strips, "_STRIP_ROWS", request.param)
    monkeypatch.setattr(strips, "_STRIP_VALUES", 1)


def plain(generator: StyleGAN2, ws: torch.Tensor, **options) -> GeneratorOutput:
    with torch.enable_grad():
        image, features = generator.synthesize(ws.clone().requires_grad_(), **options)
    assert image.requires_grad
    return GeneratorOutput(image.detach(), tuple(f.detach() for f in features))


def assert_equal_paths(generator: StyleGAN2, ws: torch.Tensor, **options) -> None:
    fast, slow = (
        path(generator, ws, **options, rng=torch.Generator().manual_seed(3)) for path in (StyleGAN2.synthesize, plain)
    )
    assert_same(fast, slow)


@pytest.mark.parametrize("clamp", [None, 0.8])
@pytest.mark.parametrize("background", [None, *StyleGAN2.background_modes])
@pytest.mark.parametrize("noise", ["fixed", "random", "none", "given", "given for all"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_equals_the_plain_path_at_odd_widths(count, noise, background, clamp):
    generator = tiny_stylegan2(channels=ODD, conv_clamp=clamp)
    if noise.startswith("given"):
        noise = some_noise(generator, 1 if noise == "given for all" else count)
    assert_equal_paths(generator, some_ws(generator, count), noise=noise, background=background)


@pytest.mark.usefixtures("small_strips")
@pytest.mark.parametrize("noise", ["fixed", "random", "given"])
def test_equals_the_plain_path_in_small_strips(generator, noise):
    ws = some_ws(generator, 2)
    assert_equal_paths(generator, ws, noise=some_noise(generator, 2) if noise == "given" else noise)


@pytest.mark.parametrize("background", [None, *StyleGAN2.background_modes])
@pytest.mark.parametrize("count", [1, 2])
def test_equals_the_plain_path_on_large_maps(count, background):
    generator = tiny_stylegan2(channels=LARGE)
    assert_equal_paths(generator, some_ws(generator, count), noise="random", background=background)


@pytest.mark.parametrize("last", [48, 50])
def test_equals_the_plain_path_where_strips_come_by_themselves(last):
    """A layer of more values than a strip of the real size has, so that its rows are cut."""
    generator = tiny_stylegan2(channels={4: 8, 8: 8, 16: 8, 32: 8, 64: 8, 128: last})
    features = generator.synthesize(some_ws(generator, 1)).features
    assert len(strips.strips_of(features[-1])) > 1
    assert_equal_paths(generator, some_ws(generator, 1))


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
    calls = []
    monkeypatch.setattr("labels4free.generators.stylegan2.stylegan2_cpu.synthesize", lambda *given: calls.append(given))
    ws = some_ws(generator, 1)
    assert generator.synthesize(ws) is None
    with torch.no_grad():
        assert generator.synthesize(ws.clone().requires_grad_()) is None
    with torch.inference_mode():
        assert generator.synthesize(ws) is None
    assert len(calls) == 3
    assert generator.synthesize(ws.requires_grad_()).image.requires_grad
    assert len(calls) == 3


def test_it_works_in_inference_mode(generator):
    ws = some_ws(generator, 2)
    with torch.inference_mode():
        fast = generator.synthesize(ws)
    assert_same(fast, generator.synthesize(ws))


def test_results_of_one_call_are_not_touched_by_the_next(generator):
    first, second = some_ws(generator, 2).split(1)
    kept = generator.synthesize(first)
    copies = [f.clone() for f in (kept.image, *kept.features)]
    generator.synthesize(second)
    assert all(torch.equal(a, b) for a, b in zip((kept.image, *kept.features), copies, strict=True))


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_equals_the_plain_path_at_extreme_styles(factor):
    generator = tiny_stylegan2(channels=ODD)
    ws = some_ws(generator, 2) * factor
    fast, slow = generator.synthesize(ws), plain(generator, ws)
    for a, b in zip((fast.image, *fast.features), (slow.image, *slow.features), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))
