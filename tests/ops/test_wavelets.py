from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labels4free.ops.wavelets import haar, inverse_haar


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(
    ("band", "block"),
    [
        ("LL", [[0.5, 0.5], [0.5, 0.5]]),
        ("LH", [[0.5, 0.5], [-0.5, -0.5]]),  # changes from row to row
        ("HL", [[0.5, -0.5], [0.5, -0.5]]),  # changes from column to column
        ("HH", [[0.5, -0.5], [-0.5, 0.5]]),
    ],
)
def test_each_band_by_hand(band, block):
    bands = torch.zeros(1, 4, 1, 1)
    bands[0, ["LL", "LH", "HL", "HH"].index(band)] = 1
    assert inverse_haar(bands)[0, 0].tolist() == block
    assert torch.equal(haar(torch.tensor([[block]])), bands)


def test_bands_are_grouped_by_kind_then_by_channel():
    bands = torch.zeros(1, 8, 1, 1)
    bands[0, 1] = 2  # LL of channel 1
    bands[0, 2] = 2  # LH of channel 0
    out = inverse_haar(bands)
    assert out[0, 0].tolist() == [[1, 1], [-1, -1]]
    assert out[0, 1].tolist() == [[1, 1], [1, 1]]


def test_blocks_stand_where_their_bands_stood():
    bands = torch.zeros(1, 4, 2, 3)
    bands[0, 0, 1, 2] = 2
    expected = torch.zeros(4, 6)
    expected[2:, 4:] = 1
    assert torch.equal(inverse_haar(bands)[0, 0], expected)


@given(n=st.integers(0, 3), c=st.integers(1, 4), h=st.integers(1, 5), w=st.integers(1, 5))
def test_round_trips_and_energy(n, c, h, w):
    image, bands = normal(n, c, 2 * h, 2 * w), normal(n, 4 * c, h, w)
    torch.testing.assert_close(inverse_haar(haar(image)), image)
    torch.testing.assert_close(haar(inverse_haar(bands)), bands)
    torch.testing.assert_close(haar(image).square().sum(), image.square().sum())


@pytest.mark.parametrize("transform", [haar, inverse_haar])
def test_gradients(transform):
    assert torch.autograd.gradcheck(transform, normal(2, 4, 2, 4, dtype=torch.float64).requires_grad_())


@pytest.mark.parametrize("transform", [haar, inverse_haar])
def test_channels_last_gives_the_same_values(transform):
    x = normal(2, 8, 4, 6)
    assert torch.equal(transform(x.contiguous(memory_format=torch.channels_last)), transform(x))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_inverse_with_a_scale_has_the_same_values_with_and_without_autograd(memory_format):
    x, scale = normal(2, 8, 4, 6).contiguous(memory_format=memory_format), normal(2, 8, 1, 1)
    plain = inverse_haar(x * scale)
    torch.testing.assert_close(inverse_haar(x, scale), plain)
    for bands, factor in ((x.clone().requires_grad_(), scale), (x, scale.clone().requires_grad_())):
        out = inverse_haar(bands, factor)
        assert out.requires_grad
        torch.testing.assert_close(out, plain)
        with torch.no_grad():
            torch.testing.assert_close(inverse_haar(bands, factor), plain)


def test_inverse_keeps_the_memory_format():
    x, channels_last = normal(2, 8, 4, 6), torch.channels_last
    assert inverse_haar(x).is_contiguous()
    assert inverse_haar(x.contiguous(memory_format=channels_last)).is_contiguous(memory_format=channels_last)


@pytest.mark.parametrize("transform", [haar, inverse_haar])
def test_the_input_is_not_changed(transform):
    x = normal(1, 4, 2, 2)
    before = x.clone()
    transform(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_inverse_refuses_channels_that_four_does_not_divide(channels):
    with pytest.raises(ValueError, match=f"needs 4 bands a channel, got {channels} channels"):
        inverse_haar(torch.zeros(1, channels, 2, 2))


@pytest.mark.parametrize(("height", "width"), [(3, 2), (2, 5), (1, 1)])
def test_haar_refuses_odd_sides(height, width):
    with pytest.raises(ValueError, match=f"needs even sides, got {height}x{width}"):
        haar(torch.zeros(1, 1, height, width))
