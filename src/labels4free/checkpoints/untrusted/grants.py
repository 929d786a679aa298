"""What every kind of untrusted file may name, and an allowance that keeps a small file from asking for much."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from labels4free.checkpoints.untrusted.inert_data import DTYPES, MAX_DIMENSIONS, RefusedError, check_view
from labels4free.checkpoints.untrusted.pickle_machine import Grant

MAX_TENSORS = 20_000  # the largest real files have some 5,000
MAX_ITEMS = 1_000_000


class Storage(NamedTuple):
    """The memory of tensors.

    Attributes:
        memory: Its bytes.
        dtype: What its elements are.
        elements: How many.
    """

    memory: torch.UntypedStorage
    dtype: torch.dtype
    elements: int


class Allowance:
    """What one file may still ask for. Names can be called again and again on the same data: each use is counted.

    Args:
        size: Bytes of the file. Data may be in it once; asking for more than about twice its size is refused.
    """

    def __init__(self, size: int) -> None:
        self._bytes = 2 * size + 1_000_000
        self._items = MAX_ITEMS
        self._tensors = MAX_TENSORS

    def take(self, *, data: int = 0, items: int = 0, tensors: int = 0) -> None:
        """Account for a use.

        Args:
            data: Bytes that it copies.
            items: Entries of containers that it looks at.
            tensors: Tensors that it makes.

        Raises:
            RefusedError: If that is more than is left.
        """
        self._bytes -= data
        self._items -= items
        self._tensors -= tensors
        if min(self._bytes, self._items, self._tensors) < 0:
            raise RefusedError("is refused: it asks for far more memory or work than a network of its size needs.")

    def attributes(self, state: object) -> dict[str, Any]:
        """Check the attributes of an object: a dictionary by name.

        Raises:
            TypeError: If it is anything else.
        """
        if type(state) is not dict:
            raise TypeError
        self.take(items=len(state))
        if not all(type(name) is str for name in state):
            raise TypeError
        return state

    def common_names(self) -> dict[tuple[str, str], object]:
        """The names that PyTorch's checkpoints and NVIDIA's pickles share: dictionaries, tensors, shapes, types."""
        return {
            ("torch._utils", "_rebuild_tensor_v2"): Grant(self.tensor),
            ("torch._utils", "_rebuild_parameter"): Grant(self.parameter),
            ("collections", "OrderedDict"): Grant(empty_dict),
            ("torch", "Size"): Grant(_shape),
            ("torch", "device"): Grant(_device),
            **{("torch", name): dtype for name, dtype in DTYPES.items()},
        }

    def tensor(
        self, storage: object, offset: object, shape: object, stride: object, grad: object, hooks: object, *more: object
    ) -> torch.Tensor:  # fmt: skip
        """``_rebuild_tensor_v2``: a view of a storage."""
        if type(storage) is not Storage:
            raise TypeError
        plain_tensor_arguments(grad, hooks, more)
        self.take(tensors=1)
        place = check_view(storage.elements, offset, shape, stride)
        return torch.empty(0, dtype=storage.dtype).set_(storage.memory, *place)

    def parameter(self, data: object, requires_grad: object, hooks: object) -> torch.Tensor:
        """``_rebuild_parameter``: its tensor."""
        if type(data) is not torch.Tensor:
            raise TypeError
        plain_tensor_arguments(requires_grad, hooks, ())
        self.take(tensors=1)
        return data

    def ignore_attributes(self, _: dict[Any, Any], state: object) -> None:
        """Drop the attributes of a dictionary: a state dict has ``_metadata`` with the versions of its modules."""
        self.attributes(state)


def empty_dict() -> dict[Any, Any]:
    """A dictionary of any class: it is pickled as an empty one that is filled afterwards."""
    return {}


def is_absent(value: object) -> bool:
    """Whether an argument is None or an empty dictionary, as hooks and metadata of plain tensors are."""
    return value is None or (type(value) is dict and not value)


def _shape(dimensions: object) -> tuple[int, ...]:
    """``torch.Size``."""
    if type(dimensions) is not tuple or len(dimensions) > MAX_DIMENSIONS or {type(n) for n in dimensions} - {int}:
        raise TypeError
    return dimensions


def _device(kind: object, index: object = 0) -> str:
    """``torch.device``, as text."""
    if type(kind) is not str or type(index) is not int:
        raise TypeError
    return f"{kind}:{index}"


def plain_tensor_arguments(requires_grad: object, hooks: object, metadata: tuple[object, ...]) -> None:
    """Check the arguments of ``torch._utils._rebuild_tensor_v2`` that have no meaning for a plain tensor.

    Raises:
        TypeError: If they ask for hooks or flags.
    """
    if type(requires_grad) is not bool or not is_absent(hooks) or not all(is_absent(value) for value in metadata):
        raise TypeError
