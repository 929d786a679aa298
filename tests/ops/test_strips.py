from __future__ import annotations

import gc
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from labels4free.ops import strips
from labels4free.ops.strips import large_empty, pointwise, strip_runner, strips_of

WIDE = (1, 64, 64, 512)  # 4 strips


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_strips_of_a_wide_map_have_16_rows():
    assert strips_of(torch.empty(WIDE)) == [(0, 16), (16, 32), (32, 48), (48, 64)]


def test_strips_of_a_narrow_map_hold_as_many_values_as_fit():
    assert strips_of(torch.empty(1, 16, 200, 128)) == [(0, 128), (128, 200)]


@pytest.mark.parametrize("height", [1, 4, 15, 16])
def test_a_small_map_is_one_strip(height):
    assert strips_of(torch.empty(1, 512, height, 16)) == [(0, height)]


@given(c=st.integers(1, 70), h=st.integers(1, 300), w=st.integers(1, 600))
def test_strips_cover_every_row_once_and_start_at_even_rows(c, h, w):
    with torch.device("meta"):
        parts = strips_of(torch.empty(1, c, h, w))
    assert [row for top, bottom in parts for row in range(top, bottom)] == list(range(h))
    assert all(top % 2 == 0 for top, _ in parts)


def test_the_runner_does_each_strip_once(threads):
    done = []
    with strip_runner() as run:
        run(lambda top, bottom: done.append((top, bottom)), strips_of(torch.empty(WIDE)))
        assert sorted(done) == strips_of(torch.empty(WIDE))
        run(lambda top, bottom: done.append((top, bottom)), strips_of(torch.empty(1, 1, 2, 2)))
    assert done[-1] == (0, 2)


def test_pytorch_uses_one_thread_within_the_runner_and_as_many_as_before_after_it(threads):
    seen = []
    with strip_runner() as run:
        run(lambda *_: seen.append(torch.get_num_threads()), strips_of(torch.empty(WIDE)))
        seen.append(torch.get_num_threads())
    assert set(seen) == {1}
    assert torch.get_num_threads() == threads


def test_an_error_in_the_work_comes_out_and_the_threads_are_restored(threads):
    def work(top: int, _: int) -> None:
        if top == 32:
            raise ValueError("row 32")

    with pytest.raises(ValueError, match="row 32"), strip_runner() as run:
        run(work, strips_of(torch.empty(WIDE)))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("shape", [WIDE, (1, 1, 2, 2)])
def test_the_work_runs_without_autograd(threads, shape):
    x = torch.ones(1, requires_grad=True)
    seen = []
    with strip_runner() as run:
        run(lambda *_: seen.append((x * 2).requires_grad), strips_of(torch.empty(shape)))
    assert set(seen) == {False}
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("inference", [False, True])
def test_the_work_runs_in_the_inference_mode_of_its_caller(threads, inference):
    seen = []
    with torch.inference_mode(inference), strip_runner() as run:
        run(lambda *_: seen.append(torch.is_inference_mode_enabled()), strips_of(torch.empty(WIDE)))
    assert set(seen) == {inference}


SMALL, LARGE = (2, 3), (2, 1024, 1025)  # LARGE is no whole number of pages


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("shape", [(0, 4), SMALL, LARGE])
def test_large_empty_is_a_common_tensor(shape, dtype):
    x = large_empty(torch.empty(0, dtype=dtype), *shape)
    assert (x.shape, x.dtype, x.device.type) == (shape, dtype, "cpu")
    assert x.is_contiguous()
    assert not x.requires_grad
    assert x.fill_(1).sum(dtype=torch.float64) == math.prod(shape)


@pytest.mark.slow
def test_large_memory_lives_as_long_as_a_view_of_it():
    x = large_empty(torch.empty(0), *LARGE).fill_(3)[1, 5:]
    others = [large_empty(torch.empty(0), *LARGE).fill_(k) for k in range(3)]
    gc.collect()
    assert (x == 3).all()
    assert [int(other.amax()) for other in others] == [0, 1, 2]


def test_large_empty_does_without_huge_pages_where_the_kernel_has_none(monkeypatch):
    monkeypatch.setattr(strips.mmap, "MADV_HUGEPAGE", 12345, raising=False)  # refused as such a kernel refuses 14
    assert large_empty(torch.empty(0), *LARGE).fill_(1).amin() == 1


def test_large_empty_maps_no_memory_on_other_systems(monkeypatch):
    monkeypatch.setattr(strips.sys, "platform", "darwin")
    monkeypatch.setattr(strips, "mmap", None)
    assert large_empty(torch.empty(0), *LARGE).shape == LARGE


@pytest.mark.parametrize("rows", [1, 15, 16, 20])
def test_pointwise_is_a_1x1_convolution(rows):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 6, 20, 5, generator=rng).contiguous(memory_format=torch.channels_last)[:, :, :rows]
    weight, bias = torch.randn(7, 6, 1, 1, generator=rng), torch.randn(7, generator=rng)
    y = pointwise(x, weight, bias)
    torch.testing.assert_close(y, F.conv2d(x, weight, bias))
    assert y.is_contiguous(memory_format=torch.channels_last)
