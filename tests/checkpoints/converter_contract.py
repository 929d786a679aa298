"""What every converter of foreign files must satisfy; each one's test class inherits it."""

from __future__ import annotations

import pytest
import torch
from tests.checkpoints.refusals import says


class ConverterContract:
    """A tensor that is missing, left over, misshapen or no ordinary number is named, and every one is needed.

    An inheriting class has a fixture ``data``, the content of a file that may be changed, :meth:`convert`, and says how
    tensors lie in it: :meth:`names`, :meth:`get`, :meth:`put`. ``example`` is a part, one of its tensors and the shape
    that messages give.
    """

    parts: tuple[str, ...]
    example: tuple[str, str, list[int]]
    file = "x.pt"
    strangers: tuple[object, ...] = ()
    """Contents that are not its own, though they look a little like it."""

    def convert(self, data):
        """Convert the content of ``file``."""
        raise NotImplementedError

    def matches(self, data):
        """Whether a content is its own."""
        raise NotImplementedError

    def names(self, data, part):
        """Names of a part's tensors that it cannot be without."""
        return list(data[part])

    def get(self, data, part, name):
        """A tensor."""
        return data[part][name]

    def put(self, data, part, name, value):
        """Set a tensor; None takes it out."""
        data[part][name] = value
        if value is None:
            del data[part][name]

    def missing(self, name, shape):
        """What is said of a tensor that is not there."""
        return f"lacks the tensor {name}, expected of shape {shape}; it has"

    def left_over(self, name):
        """What is said of a tensor too many."""
        return f"has 1 tensors that no StyleGAN2 of its size has: {name}."

    def is_named_when_missing(self, name):
        """Whether a tensor's absence is said by its name (or, of marks of the architecture, in other words)."""
        return True

    def odd_values(self, good):
        """Values that stand for no floating-point tensor, and what is said of each."""
        return [
            (torch.zeros(good.shape, dtype=torch.int64), "has numbers of type int64, expected floating-point ones"),
            (torch.zeros(good.shape, dtype=torch.complex64), "has numbers of type complex64"),
            (torch.zeros(good.shape).to_sparse(), "expected floating-point ones"),
            (torch.full(good.shape, torch.nan), "has values that are not finite in float32"),
            (torch.full(good.shape, -torch.inf), "has values that are not finite in float32"),
            (torch.full(good.shape, 1e300, dtype=torch.float64), "has values that are not finite in float32"),
            (3.0, "is a float, expected a tensor"),
            ([1.0], "is a list, expected a tensor"),
        ]

    def refused(self, data, *texts):
        """Converting must fail and say this."""
        with says(*texts):
            self.convert(data)

    @pytest.mark.slow
    def test_every_single_tensor_is_needed_in_its_shape(self, data):
        for part in self.parts:
            for name in self.names(data, part):
                value = self.get(data, part, name)
                self.put(data, part, name, None)
                if self.is_named_when_missing(name):
                    self.refused(data, name)
                self.put(data, part, name, value[None])
                self.refused(data, name)
                self.put(data, part, name, value)
        self.convert(data)

    def test_a_missing_tensor_is_named(self, data):
        part, name, shape = self.example
        self.put(data, part, name, None)
        self.refused(data, f"{part} of {self.file} {self.missing(name, shape)}")

    def test_a_tensor_too_many_is_named(self, data):
        for part in self.parts:
            self.put(data, part, "extra", self.get(data, *self.example[:2]))
            self.refused(data, f"{part} of {self.file} {self.left_over('extra')}")
            self.put(data, part, "extra", None)

    def test_a_tensor_of_another_shape_is_named(self, data):
        part, name, shape = self.example
        value = self.get(data, part, name)
        self.put(data, part, name, value[..., :-1])
        found = [*value.shape[:-1], value.shape[-1] - 1]
        self.refused(data, f"{part} of {self.file}: {name} has shape {found}, expected {shape}.")

    def test_what_is_no_floating_point_tensor_is_named(self, data):
        part, name, _ = self.example
        good = self.get(data, part, name)
        for value, text in self.odd_values(good):
            self.put(data, part, name, value)
            self.refused(data, f"{part} of {self.file}: {name} ", text)

    @pytest.mark.parametrize("kind", ["float16", "float64"])
    def test_other_precisions_become_float32(self, data, kind):
        part, name, _ = self.example
        self.put(data, part, name, self.in_type(self.get(data, part, name), kind))
        converted = self.convert(data)
        for network in (converted.generator, converted.alpha_network):
            assert network is None or {v.dtype for v in network.state_dict().values()} == {torch.float32}
        assert f"1 tensors of {part} of {self.file} are {kind} there and float32 here." in converted.notes

    def in_type(self, value, kind):
        """A tensor in another type of floating-point numbers."""
        return value.to(getattr(torch, kind))

    def test_other_content_does_not_match(self):
        for other in (None, 3, [], {}, {1: 2}, {"a": 1}, *self.strangers):
            assert not self.matches(other)
