from __future__ import annotations

import itertools

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from labels4free.ops.modulated_conv2d import demodulation, modulated_conv2d

KINDS = [(False, False), (False, True), (True, False), (True, True)]  # demodulate, up


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def naive(x, weight, style, *, demodulate, up):
    """The definition, number by number."""
    n, c_in, height, width = x.shape
    c_out, _, taps, _ = weight.shape
    out = []
    for sample in range(n):
        w = weight.clone()
        for i in range(c_in):
            w[:, i] *= style[sample, i] / (c_in * taps**2) ** 0.5
        if demodulate:
            for o in range(c_out):
                w[o] /= ((w[o] ** 2).sum() + 1e-8) ** 0.5
        y = torch.zeros(c_out, height * 2 + taps, width * 2 + taps, dtype=x.dtype)  # more than is used
        half = taps // 2
        for o, i, r, c, a, b in itertools.product(*map(range, (c_out, c_in, height, width, taps, taps))):
            value = x[sample, i, r, c]
            if up:
                y[o, 2 * r + a, 2 * c + b] += value * w[o, i, a, b]
            elif 0 <= r + half - a < height and 0 <= c + half - b < width:  # x[r] meets tap a of the output at r - a
                y[o, r + half - a, c + half - b] += value * w[o, i, a, b]
        y = y[:, : 2 * height + 1, : 2 * width + 1]
        out.append(naive_blur(y) if up else y[:, :height, :width])
    return torch.stack(out)


def naive_blur(x):
    """The FIR filter behind an up-sampling, from 2H + 1 to 2H: one zero around, the kernel's sum is 4."""
    line = [1, 3, 3, 1]
    padded = torch.zeros(len(x), x.shape[1] + 2, x.shape[2] + 2, dtype=x.dtype)
    padded[:, 1:-1, 1:-1] = x
    out = torch.zeros(len(x), x.shape[1] - 1, x.shape[2] - 1, dtype=x.dtype)
    for r, c, a, b in itertools.product(range(out.shape[1]), range(out.shape[2]), range(4), range(4)):
        out[:, r, c] += padded[:, r + a, c + b] * line[a] * line[b] * 4 / 64
    return out


# By hand


def test_three_taps_up_by_hand():
    weight = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    point, style = torch.ones(1, 1, 1, 1), torch.tensor([[3.0]])
    y = modulated_conv2d(point, weight, style, demodulate=False, up=True)
    # one sample spreads the kernel, not turned round, over 3x3; then taps (1, 3, 3, 1) / 4 along both axes
    filtered = torch.tensor([[3.0, 3.0, 1.0], [1.0, 3.0, 3.0]]) / 4
    torch.testing.assert_close(y[0, 0], filtered @ weight[0, 0] @ filtered.T)


def test_demodulation_by_hand():
    weight = torch.tensor([[3.0, 4.0], [0.0, 1.0]]).view(2, 2, 1, 1)
    style = torch.tensor([[1.0, 1.0], [0.5, 0.0]])
    expected = torch.tensor([[1 / 5, 1.0], [1 / 1.5, 1e4]])  # a kernel of zeros: 1 / sqrt(1e-8)
    torch.testing.assert_close(demodulation(weight, style), expected)


# Against the definition


@pytest.mark.slow
@pytest.mark.parametrize(("demodulate", "up"), KINDS)
@pytest.mark.parametrize(
    ("n", "c_in", "c_out", "taps", "size"),
    [(1, 1, 1, 3, (1, 1)), (2, 3, 2, 3, (4, 3)), (3, 2, 5, 3, (2, 5)), (2, 3, 2, 1, (4, 6)), (2, 3, 2, 5, (4, 6))],
)
def test_equals_the_definition(n, c_in, c_out, taps, size, demodulate, up):
    x, weight, style = normal(n, c_in, *size), normal(c_out, c_in, taps, taps, seed=1), normal(n, c_in, seed=2)
    up = up and taps == 3
    expected = naive(x, weight, style, demodulate=demodulate, up=up)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        y = modulated_conv2d(x.to(memory_format=memory_format), weight, style, demodulate=demodulate, up=up)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("demodulate", "up"), KINDS)
@pytest.mark.parametrize("n", [1, 4])
def test_single_precision_agrees_with_double(n, demodulate, up):
    x, weight, style = normal(n, 17, 16, 16), normal(9, 17, 3, 3, seed=1), normal(n, 17)
    expected = modulated_conv2d(x, weight, style, demodulate=demodulate, up=up)
    found = modulated_conv2d(x.float(), weight.float(), style.float(), demodulate=demodulate, up=up)
    assert found.shape == ((n, 9, 32, 32) if up else (n, 9, 16, 16))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)


def test_unit_variance_in_gives_unit_variance_out():
    single = {"dtype": torch.float32}
    x, weight = normal(2, 32, 34, 34, **single), normal(32, 32, 3, 3, seed=1, **single)
    for style, demodulate in ((normal(2, 32, seed=2, **single) * 30, True), (torch.ones(2, 32), False)):
        y = modulated_conv2d(x, weight, style, demodulate=demodulate)[:, :, 1:-1, 1:-1]
        variance = y.var(dim=(2, 3))
        assert (variance - 1).abs().mean() < 0.1
        assert abs(variance.mean() - 1) < 0.02


# Extremes


@pytest.mark.parametrize("up", [False, True])
def test_a_zero_style_gives_zero_and_finite_gradients(up):
    x, weight = normal(1, 2, 4, 4, dtype=torch.float32), normal(3, 2, 3, 3, seed=1, dtype=torch.float32)
    style = torch.zeros(1, 2, requires_grad=True)
    y = modulated_conv2d(x, weight, style, up=up)
    assert torch.equal(y, torch.zeros_like(y))
    (first,) = torch.autograd.grad(y.square().sum() + y.sum(), style, create_graph=True)
    assert first.any()
    (second,) = torch.autograd.grad(first.square().sum(), style)
    assert first.isfinite().all()
    assert second.isfinite().all()


@pytest.mark.parametrize("factor", [100.0, 1e6, 1e15])
def test_demodulation_takes_the_size_of_the_style_away(factor):
    single = {"dtype": torch.float32}
    x, weight, style = normal(2, 8, 6, 6, **single), normal(4, 8, 3, 3, seed=1, **single), normal(2, 8, **single)
    y = modulated_conv2d(x, weight, factor * style)
    torch.testing.assert_close(y, modulated_conv2d(x, weight, style), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y, -modulated_conv2d(x, weight, -factor * style))


def test_a_tiny_style_is_held_by_the_epsilon():
    x, weight, style = normal(1, 2, 3, 3), normal(2, 2, 3, 3, seed=1), 1e-4 * normal(1, 2, seed=2)
    y = modulated_conv2d(x, weight, style)
    torch.testing.assert_close(y, naive(x, weight, style, demodulate=True, up=False), rtol=1e-9, atol=0)
    assert y.abs().max() < 0.9 * modulated_conv2d(x, weight, 1e4 * style).abs().max()


@pytest.mark.parametrize(("demodulate", "up"), KINDS)
def test_gain_and_bias_act_on_what_comes_out(demodulate, up):
    x, weight, style, bias = normal(2, 3, 4, 4), normal(2, 3, 3, 3, seed=1), normal(2, 3, seed=2), normal(2, seed=3)
    plain = modulated_conv2d(x, weight, style, demodulate=demodulate, up=up)
    found = modulated_conv2d(x, weight, style, bias, gain=-3.0, demodulate=demodulate, up=up)
    torch.testing.assert_close(found, -3 * plain + bias[:, None, None])


# Gradients


@pytest.mark.slow
@pytest.mark.parametrize(("demodulate", "up"), KINDS)
@pytest.mark.parametrize(
    "wanted", [c for k in (1, 2, 3) for c in itertools.combinations(("x", "weight", "style"), k)], ids="-".join
)
def test_gradients_of_first_and_second_order(wanted, demodulate, up):
    inputs = {"x": normal(2, 2, 2, 1), "weight": normal(1, 2, 3, 3, seed=1), "style": normal(2, 2, seed=2)}

    def function(*given):
        parts = inputs | dict(zip(wanted, given, strict=True))
        return modulated_conv2d(**parts, demodulate=demodulate, up=up)

    leaves = tuple(inputs[name].clone().requires_grad_() for name in wanted)
    assert gradcheck(function, leaves)
    assert gradgradcheck(lambda *given: function(*given) ** 2, leaves)
