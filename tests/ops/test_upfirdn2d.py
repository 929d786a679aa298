from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from labels4free.ops.upfirdn2d import fir_kernel, upfirdn2d

LOPSIDED = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 17]], dtype=torch.float64) / 20


def naive(x: torch.Tensor, kernel: torch.Tensor, up: int, down: int, pad: tuple[int, int]) -> torch.Tensor:
    """The definition, sample by sample."""
    n, c, height, width = x.shape
    taps = len(kernel)
    out_h, out_w = ((size * up + sum(pad) - taps) // down + 1 for size in (height, width))
    stuffed = torch.zeros(n, c, height * up, width * up, dtype=x.dtype)
    stuffed[:, :, ::up, ::up] = x
    y = torch.zeros(n, c, out_h, out_w, dtype=x.dtype)
    for i, j, a, b in itertools.product(range(out_h), range(out_w), range(taps), range(taps)):
        row, column = i * down + taps - 1 - a - pad[0], j * down + taps - 1 - b - pad[0]
        if 0 <= row < height * up and 0 <= column < width * up:
            y[:, :, i, j] += kernel[a, b] * stuffed[:, :, row, column]
    return y


def test_kernel_by_hand():
    assert torch.equal(fir_kernel()[0] * 64, torch.tensor([1.0, 3, 3, 1]))
    assert fir_kernel().sum() == 1
    assert torch.equal(fir_kernel(gain=4.0), 4 * fir_kernel())
    assert torch.equal(fir_kernel((1.0,), gain=2.0), torch.tensor([[2.0]]))


def test_by_hand():
    kernel = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    point = torch.tensor([[[[1.0]]]])
    assert torch.equal(upfirdn2d(point, kernel, pad=(1, 1))[0, 0], kernel)  # convolved, so not flipped
    assert torch.equal(upfirdn2d(point, kernel, up=2, pad=(1, 0))[0, 0], kernel)
    assert torch.equal(upfirdn2d(point, kernel, pad=(1, 1), down=2)[0, 0], kernel[:1, :1])
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert torch.equal(upfirdn2d(x, torch.ones(1, 1), pad=(-1, -2))[0, 0], x[0, 0, 1:2, 1:2])


@pytest.mark.slow
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(1, 3),
    st.integers(1, 3),
    st.tuples(st.integers(-1, 5), st.integers(-1, 5)),
)
def test_equals_the_definition(size, up, down, pad):
    if min(size) * up + sum(pad) < 4:
        return
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = naive(x, LOPSIDED, up, down, pad)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        y = upfirdn2d(x.to(memory_format=memory_format), LOPSIDED, up, down, pad)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


def test_a_constant_map_stays_constant_inside():
    x = torch.full((1, 2, 8, 8), 3.0)
    up = upfirdn2d(x, fir_kernel(gain=4.0), up=2, pad=(2, 1))
    down = upfirdn2d(x, fir_kernel(), down=2, pad=(1, 1))
    assert up.shape == (1, 2, 16, 16)
    assert down.shape == (1, 2, 4, 4)
    torch.testing.assert_close(up[:, :, 2:-2, 2:-2], torch.full((1, 2, 12, 12), 3.0))
    torch.testing.assert_close(down[:, :, 1:-1, 1:-1], torch.full((1, 2, 2, 2), 3.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("up", "down", "pad"), [(1, 1, (2, 2)), (1, 2, (1, 1)), (2, 1, (2, 1)), (2, 3, (4, -1)), (1, 1, (-1, 3))]
)
def test_gradients_of_first_and_second_order(up, down, pad):
    x = torch.randn(1, 2, 3, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: upfirdn2d(x, LOPSIDED, up, down, pad), (x,))
    assert gradgradcheck(lambda x: upfirdn2d(x, LOPSIDED, up, down, pad) ** 2, (x,))


def test_keeps_channels_last_and_dtype():
    x = torch.randn(2, 4, 8, 8, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    for up, down, pad in ((1, 1, (2, 1)), (1, 2, (1, 1)), (2, 1, (2, 1))):
        y = upfirdn2d(x, fir_kernel(), up, down, pad)
        assert y.dtype == torch.bfloat16
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_gradient_under_autocast():
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        upfirdn2d(x, fir_kernel(), down=2, pad=(1, 1)).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize(("up", "down", "pad"), [(2, 1, (2, 1)), (1, 2, (1, 1)), (1, 1, (2, 1))])
def test_autocast_changes_nothing(up, down, pad):
    x = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = upfirdn2d(x, fir_kernel(), up, down, pad)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(upfirdn2d(x, fir_kernel(), up, down, pad), expected)
        rounded = upfirdn2d(x.bfloat16(), fir_kernel(), up, down, pad)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), expected, rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3, 8, 8), fir_kernel()), r"\[N, C, H, W\].*got \[3, 8, 8\]"),
        ((torch.zeros(1, 3, 8, 8), torch.zeros(4)), r"kernel \[K, K\], got .* \[4\]"),
        ((torch.zeros(1, 3, 8, 8), fir_kernel(), 0), "at least 1, got up=0, down=1"),
        ((torch.zeros(1, 3, 8, 8), fir_kernel(), 1, 0), "at least 1, got up=1, down=0"),
        ((torch.zeros(1, 3, 8, 2), fir_kernel(), 1, 1, (1, 0)), "2 samples .* shorter than the kernel's 4 taps"),
        ((torch.zeros(1, 3, 8, 8), fir_kernel().requires_grad_()), "constant"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        upfirdn2d(*arguments)
