"""The book-keeping that every converter shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.checkpoints.refusals import says
from tests.tiny import tiny_stylegan2
from torch import nn

from labels4free.checkpoints.foreign.conversion import (
    MAX_RESOLUTION,
    Place,
    TensorSource,
    build,
    holds_tensors,
    ignore_entries,
    listed,
    mean_w,
    resolutions,
)
from labels4free.checkpoints.untrusted.inert_data import PersistentObject
from labels4free.errors import ConfigError
from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.ops.upfirdn2d import fir_kernel


def source(**tensors):
    return TensorSource(tensors, "g of x.pt")


@pytest.mark.parametrize(("tensors", "got"), [([1], "a list"), (None, "a NoneType"), ({1: 2}, "a dict"), (3, "an int")])
def test_tensors_come_by_name(tensors, got):
    with says(f"g of x.pt is no state dict: expected tensors by name, got {got}."):
        TensorSource(tensors, "g of x.pt")


def test_names_cannot_play_with_the_terminal():
    with says("g of x.pt is damaged: it has tensors with names like ?[2J."):
        source(**{"w": torch.zeros(1), "\x1b[2J": torch.zeros(1)})
    with says("g of x.pt is damaged: it has tensors with names like " + "x" * 97 + "....") as caught:
        source(**{"x" * 5000: torch.zeros(1)})
    assert len(str(caught.value)) < 200
    assert ignore_entries({"\x1b[2J": 3}, {}, (), "x.pt") == {"?[2J": "no tensors in it"}


def test_a_tensor_serves_once():
    found = source(w=torch.zeros(2))
    found.take("w", (2,))
    with says("g of x.pt: w would be used twice; it is damaged."):
        found.take("w", (2,))


def test_ignored():
    found = source(**{"a.1": torch.zeros(1), "a.2": torch.zeros(1), "b": torch.zeros(1)})
    found.ignore(r"a\.\d", "not needed")
    found.ignore("b", "neither")
    found.ignore("c", "is not there")
    assert found.ignored == {"a.1, ... (2 tensors)": "not needed", "b": "neither"}
    assert found.finish() == ()


def test_ignore_takes_whole_names():
    found = source(ab=torch.zeros(1))
    found.ignore("a", "not needed")
    with says("has 1 tensors that no StyleGAN2 of its size has: ab."):
        found.finish()


def test_extent():
    found = source(w=torch.zeros(3, 4), empty=torch.zeros(3, 0))
    assert (found.extent("w", 0, 2), found.extent("w", 1, 2)) == (3, 4)
    with says("g of x.pt: w has shape [3, 4], expected 3 axes, none empty."):
        found.extent("w", 0, 3)
    with says("g of x.pt: empty has shape [3, 0], expected 2 axes, none empty."):
        found.extent("empty", 0, 2)
    with says("g of x.pt lacks the tensor b; it has w, empty."):
        found.extent("b", 0, 1)


def test_count_is_by_the_highest_number():
    found = source(**{"fc.0.w": 1, "fc.2.w": 1, "fc.2.b": 1, "other.7.w": 1})
    assert found.count(r"fc\.([0-9]{1,6})\.") == 3
    assert found.count(r"none\.([0-9]{1,6})\.") == 0
    with says("g of x.pt is damaged: it counts up to 7 with 4 tensors."):
        found.count(r"other\.([0-9]{1,6})\.")


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_filter(gain):
    source(k=fir_kernel(gain=gain)).take_fir("k", gain)
    source(k=fir_kernel(gain=gain).half()).take_fir("k", gain)
    for other in (fir_kernel(gain=5 - gain), fir_kernel((1, 2, 2, 1), gain), 1.01 * fir_kernel(gain=gain)):
        with says("g of x.pt: k is another resampling filter than (1, 3, 3, 1), the only one supported."):
            source(k=other).take_fir("k", gain)
    with says("g of x.pt: k has shape [3, 3], expected [4, 4]."):
        source(k=fir_kernel((1, 2, 1))).take_fir("k", gain)


class Small(nn.Module):
    """A module of one parameter and one buffer."""

    def __init__(self, size=2):
        super().__init__()
        if size > 100:
            raise ConfigError(f"{size} is too large.")
        self.weight = nn.Parameter(torch.randn(size, 3))
        self.register_buffer("offset", torch.zeros(size))


@pytest.mark.slow
def test_build():
    found = source(there=torch.arange(6.0).reshape(3, 2))

    def place(key, shape):
        assert shape == {"weight": (2, 3), "offset": (2,)}[key]
        return torch.ones(shape) if key == "offset" else Place("there", shape[::-1], lambda value: value.T)

    state = torch.random.get_rng_state()
    module = build(Small, found, place)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert module.weight.tolist() == [[0, 2, 4], [1, 3, 5]]
    assert module.weight.is_contiguous()
    assert module.weight.requires_grad
    assert module.offset.tolist() == [1, 1]
    assert {value.device.type for value in module.state_dict().values()} == {"cpu"}


@pytest.mark.slow
def test_build_reshapes():
    module = build(
        Small, source(w=torch.arange(6.0)), lambda key, shape: Place("w", (6,)) if key == "weight" else torch.ones(2)
    )
    assert module.weight.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_build_says_what_does_not_fit():
    with says("g of x.pt does not fit together: 101 is too large."):
        build(lambda: Small(101), source(), Place)
    with says("g of x.pt lacks the tensor weight, expected of shape [2, 3]; it has nothing."):
        build(Small, source(), Place)


def test_nothing_is_allocated_before_the_tensors_are_seen():
    """These would be 4 TB."""
    with says("noise has shape [1, 1, 8, 8], expected [1, 1, 1048576, 1048576]."):
        make = lambda: StyleGAN2({4 << k: 4 for k in range(19)}, z_dim=2, w_dim=2)  # noqa: E731
        there = {key: torch.zeros(1) for key in ()} | {"noise": torch.zeros(1, 1, 8, 8)}
        build(
            make,
            source(**there),
            lambda key, shape: Place("noise", shape) if shape[-1:] == (1 << 20,) else torch.empty(shape, device="meta"),
        )


@pytest.mark.slow
def test_mean_w_of_a_mapping_that_is_constant():
    """With weights of 0, w is the bias through the activation: 0.2 sqrt(2) times a negative one."""
    generator = tiny_stylegan2(mapping_widths=[8])
    generator.mapping[0].weight.zero_()
    generator.mapping[0].bias.copy_(torch.arange(-4.0, 4.0) / generator.mapping_lr_multiplier)
    bias = torch.arange(-4.0, 4.0)
    expected = torch.where(bias > 0, bias, 0.2 * bias) * 2**0.5
    torch.testing.assert_close(mean_w(generator).float(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("c_dim", [0, 3])
def test_mean_w(c_dim):
    generator = tiny_stylegan2(c_dim=c_dim)
    found = mean_w(generator)
    assert (found.dtype, found.shape) == (torch.float64, (8,))
    assert torch.equal(mean_w(generator), found)
    assert generator.w_avg.dtype == torch.float32
    labels = torch.eye(c_dim).repeat(4000, 1) if c_dim else None
    w = generator.map(torch.randn(12_000, 8, generator=torch.Generator().manual_seed(2)), labels=labels)[:, 0]
    assert (found - w.mean(0)).abs().max() < 0.06 * w.std()


@pytest.mark.slow
def test_mean_w_is_of_known_latents():
    """The same z as ever, computed in float32."""
    generator = tiny_stylegan2()
    z = np.random.Generator(np.random.PCG64(0)).standard_normal((10_000, 8), np.float32)
    w = generator.map(torch.from_numpy(z))[:, 0]
    torch.testing.assert_close(mean_w(generator).float(), w.mean(0), rtol=1e-4, atol=1e-5)


def test_holds_tensors():
    assert holds_tensors({"a": [1, (2, {"b": torch.zeros(1)})]})
    assert holds_tensors([np.zeros(2)])
    assert holds_tensors(PersistentObject("X", {"_buffers": {"a": torch.zeros(1)}}))
    for nothing in (None, 3, "text", [], {"a": [1, None]}, PersistentObject("X", {"n": 1})):
        assert not holds_tensors(nothing)


def test_ignore_entries():
    data = {"g": {"w": torch.zeros(1)}, "optim": torch.zeros(2), "step": 3}
    assert ignore_entries(data, {"optim": "state", "absent": "why"}, ("g",), "x.pt") == {
        "optim": "state",
        "step": "no tensors in it",
    }
    with says(
        "x.pt has the entry 'optim' with tensors in it, which is unknown to this format; its entries are g, optim"
    ):
        ignore_entries(data, {}, ("g",), "x.pt")


def test_tensors_are_taken_as_they_look_into_memory_of_their_own():
    base = torch.arange(6.0)
    given = {"w": base.reshape(2, 3), "turned": base.reshape(2, 3).T, "spread": torch.ones(1).expand(4)}
    given["parameter"] = nn.Parameter(torch.zeros(2))
    found = source(**given)
    for name, value in given.items():
        taken = found.take(name, tuple(value.shape))
        assert taken.is_contiguous()
        assert not taken.requires_grad
        assert torch.equal(taken, value)
        assert taken.data_ptr() != value.data_ptr()
    taken[0] = 2
    assert given["parameter"].tolist() == [0, 0]
    assert found.finish() == ()


@pytest.mark.parametrize("value", [np.zeros(2, "i4"), None])
def test_only_tensors_can_be_taken(value):
    kind = "a NoneType" if value is None else "an array of int32"
    with says(f"g of x.pt: w is {kind}, expected a tensor."):
        source(w=value).take("w", (2,))


def test_what_is_left_over_is_counted_and_noted():
    found = source(**{name: torch.zeros(1).to(torch.bfloat16 if name in "bc" else torch.float32) for name in "abcdefg"})
    found.take("b", (1,))
    with says("g of x.pt has 6 tensors that no StyleGAN2 of its size has: a, c, d, e, ... (6)."):
        found.finish()
    for name in "acdefg":
        found.take(name, (1,))
    assert found.finish() == ("2 tensors of g of x.pt are bfloat16 there and float32 here.",)


def test_resolutions():
    assert [resolutions(1, "g"), resolutions(4, "g"), resolutions(12, "g")[-1:]] == [
        [4],
        [4, 8, 16, 32],
        [MAX_RESOLUTION],
    ]
    for blocks in (0, 13, 10**9):
        with says(f"g has {blocks} resolutions, expected 4x4, 8x8, ... up to 8192²."):
            resolutions(blocks, "g")


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], ""),
        ("abcd", "a, b, c, d"),
        ("abcde", "a, b, c, d, ... (5)"),
        (["a\n\x1bb", "x" * 100], "a??b, " + "x" * 100),
    ],
)
def test_listed(names, shown):
    assert listed(names) == shown
