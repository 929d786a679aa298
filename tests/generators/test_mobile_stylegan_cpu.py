"""The fast path of the CPU against the plain one, which is ``MobileStyleGAN._synthesize``."""

from __future__ import annotations

import pytest
import torch
from tests.generators.contract import ACCURACY, some_ws

from labels4free.generators.mobile_stylegan import MobileStyleGAN
from labels4free.ops import strips


@pytest.fixture(params=[2, 6, 16], ids="strips of {} rows".format)
def small_strips(request, monkeypatch):
    """Cut even the small maps of the tiny generator, 32 rows at most, into several strips."""
    monkeypatch.setattr(strips, "_STRIP_ROWS", request.param)
    monkeypatch.setattr(strips, "_STRIP_VALUES", 1)


def assert_same(a, b):
    torch.testing.assert_close(a.image, b.image, **ACCURACY)
    for x, y in zip(a.features, b.features, strict=True):
        torch.testing.assert_close(x, y, **ACCURACY)


@pytest.mark.usefixtures("small_strips")
@pytest.mark.parametrize("noise", ["fixed", "random", "none"])
@pytest.mark.parametrize("background", [None, *MobileStyleGAN.background_modes])
def test_equals_the_plain_path(tiny_generator, noise, background):
    ws = some_ws(tiny_generator, 1)
    fast = tiny_generator.synthesize(ws, noise=noise, background=background, rng=torch.Generator().manual_seed(3))
    plain = tiny_generator._synthesize(ws, noise, background, torch.Generator().manual_seed(3))
    assert_same(fast, plain)


@pytest.mark.usefixtures("small_strips")
@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_does_not_matter(tiny_generator, threads):
    ws = some_ws(tiny_generator, 2)
    alone = tiny_generator.synthesize(ws)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = tiny_generator.synthesize(ws)
    finally:
        torch.set_num_threads(before)
    assert_same(together, alone)


def test_a_sample_has_the_very_same_values_in_any_batch(tiny_generator):
    ws = some_ws(tiny_generator, 3)
    batch = tiny_generator.synthesize(ws)
    for k in range(3):
        single = tiny_generator.synthesize(ws[k : k + 1])
        assert torch.equal(single.image[0], batch.image[k])
        assert all(torch.equal(a[0], b[k]) for a, b in zip(single.features, batch.features, strict=True))


def test_an_empty_batch_gives_empty_results(tiny_generator):
    image, features = tiny_generator.synthesize(some_ws(tiny_generator, 1)[:0])
    assert image.shape == (0, 3, 64, 64)
    assert [len(f) for f in features] == [0] * len(tiny_generator.feature_specs)


def test_features_are_channels_last_and_images_contiguous_as_on_the_plain_path(tiny_generator):
    ws = some_ws(tiny_generator, 1)
    for image, features in (tiny_generator.synthesize(ws), tiny_generator._synthesize(ws, "fixed", None, None)):
        assert image.is_contiguous()
        assert all(f.is_contiguous(memory_format=torch.channels_last) for f in features)


def test_it_takes_over_only_where_no_gradient_is_wanted(tiny_generator):
    ws = some_ws(tiny_generator, 1)
    assert not tiny_generator.synthesize(ws).image.requires_grad
    ws.requires_grad_()
    assert tiny_generator.synthesize(ws).image.requires_grad
    with torch.no_grad():
        assert not tiny_generator.synthesize(ws).image.requires_grad
    assert_same(tiny_generator.synthesize(ws), tiny_generator.synthesize(ws.detach()))


def test_results_of_one_call_are_not_touched_by_the_next(tiny_generator):
    first, second = some_ws(tiny_generator, 2).split(1)
    kept = tiny_generator.synthesize(first)
    copies = [f.clone() for f in (kept.image, *kept.features)]
    tiny_generator.synthesize(second)
    assert all(torch.equal(a, b) for a, b in zip((kept.image, *kept.features), copies, strict=True))
