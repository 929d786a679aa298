"""What an untrusted file may hold once it is read: containers, numbers, text, tensors, arrays. Nothing that runs."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeGuard

import numpy as np
import torch

from labels4free.errors import CheckpointError
from labels4free.files import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 100
"""Containers within containers: NVIDIA's networks need about 20, and whoever walks the data may recurse this deep."""
MAX_VALUES = 2_000_000
"""Values that a walk of the data meets, a shared container counted as often as it is referred to."""
MAX_DIMENSIONS = 16

STORAGE_TYPES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""PyTorch's storage classes by name (pytorch/pytorch torch/storage.py), and what their elements are."""

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in STORAGE_TYPES.values()}
"""Element types of a tensor, by name."""


class RefusedError(Exception):
    """A file is damaged or asks for what is not granted. The text lacks its subject, the file: ``is damaged: ...``."""


@dataclass(eq=False)
class PersistentObject:
    """An object of NVIDIA's networks, as data (NVlabs/stylegan2-ada-pytorch torch_utils/persistence.py).

    Attributes:
        class_name: Its class: ``Generator``, ``SynthesisBlock``, ...
        state: Its attributes by name. Sub-modules are in ``_modules``, tensors in ``_parameters`` and ``_buffers``.
            Python source that the file carries for it is dropped, never run.
    """

    class_name: str
    state: dict[str, Any] = field(repr=False)


@dataclass(eq=False)
class TensorflowNetwork:
    """A ``dnnlib.tflib.network.Network``, as data (NVlabs/stylegan2 dnnlib/tflib/network.py).

    Attributes:
        state: ``name``, ``static_kwargs``, ``components``, ``build_func_name``, ``variables``: list of (name, array).
            Python source that the file carries for it is dropped, never run.
    """

    state: dict[str, Any] = field(default_factory=dict, repr=False)


_LEAVES: frozenset[type] = frozenset(
    {type(None), bool, int, float, str, bytes, np.ndarray, torch.Tensor, torch.nn.Parameter}
    | {torch.dtype, torch.device, torch.Size, set, frozenset}  # the elements of sets were checked as keys
)


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open an untrusted file: gives it and its size, and turns refusals into errors that name the file.

    Raises:
        CheckpointError: If the file is missing, empty, a folder, may not be read, is damaged or refused.
    """
    path = Path(path)
    try:
        # A pipe or a device would wait for ever, or never end.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise CheckpointError(f"{path} is no ordinary file, expected a checkpoint file.")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise CheckpointError(f"{path} is empty; fetch it again.")
            yield file, size
    except RefusedError as error:
        raise CheckpointError(f"{path} {error}") from error
    except MemoryError as error:
        raise CheckpointError(f"{path} needs more memory than there is; use a machine that has more.") from error
    except OSError as error:
        raise CheckpointError(unreadable(path, error)) from error


def check_view(
    elements: int, offset: object, shape: object, stride: object
) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Check that a tensor lies within its storage and has no more elements than it.

    Args:
        elements: Length of the storage.
        offset: First element of the tensor.
        shape: Extent of each axis.
        stride: Step of each axis, in elements.

    Returns:
        Offset, shape and stride.

    Raises:
        RefusedError: If they are no such numbers, or reach beyond the storage, or repeat its elements.
    """
    if not (type(offset) is int and _are_counts(shape) and _are_counts(stride)):
        raise RefusedError("is damaged: it has a tensor whose shape or stride is not a list of numbers.")
    shape, stride = tuple(shape), tuple(stride)
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=False)) if count else offset - 1
    if len(shape) != len(stride) or not 0 <= offset <= last + 1 <= elements or count > elements:
        raise RefusedError(
            f"is damaged or made to harm: a tensor of shape {list(shape)} and stride {list(stride)} at {offset} does "
            f"not fit its storage of {elements} elements."
        )
    return offset, shape, stride


def check_data(root: object) -> None:
    """Check that a value is inert, without cycles, and small enough for anyone to walk.

    Args:
        root: What was read.

    Raises:
        RefusedError: If it holds anything else, itself, or too much.
    """
    done: dict[int, tuple[int, int]] = {}  # container -> values in it, levels in it
    open_ids: set[int] = set()
    todo: list[tuple[object, bool]] = [(root, False)]
    while todo:
        value, seen = todo.pop()
        children = _children(value)
        if children is None or (not seen and id(value) in done):
            continue
        if not seen:
            if id(value) in open_ids:
                raise RefusedError("is refused: it holds a container that contains itself, which no network does.")
            open_ids.add(id(value))
            todo.append((value, True))
            todo.extend((child, False) for child in children)
            continue
        open_ids.discard(id(value))
        known = [done.get(id(child), (1, 0)) for child in children]
        values, levels = 1 + sum(n for n, _ in known), 1 + max((n for _, n in known), default=0)
        if levels > MAX_DEPTH:
            raise RefusedError(f"is refused: its data is nested deeper than {MAX_DEPTH} levels, as no network is.")
        if values > MAX_VALUES:
            raise RefusedError(f"is refused: its data unfolds to more than {MAX_VALUES:,} values, as no network does.")
        done[id(value)] = (values, levels)


def _are_counts(value: object) -> TypeGuard[tuple[int, ...] | list[int]]:
    """Whether a value is a sequence of non-negative integers that could be a shape."""
    if not isinstance(value, tuple | list) or len(value) > MAX_DIMENSIONS:
        return False
    return all(type(n) is int and 0 <= n < 2**48 for n in value)


def _children(value: object) -> list[object] | None:
    """What a container holds; None for a leaf. Raises RefusedError for anything else."""
    kind = type(value)
    if kind in _LEAVES:
        return None
    if kind is dict or kind is OrderedDict:
        return list(value.values())  # type: ignore[attr-defined]
    if kind is list or kind is tuple:
        return value  # type: ignore[return-value]
    if kind is PersistentObject or kind is TensorflowNetwork:
        return [value.state]  # type: ignore[attr-defined]
    if kind is argparse.Namespace:
        return [vars(value)]
    if kind is memoryview:
        raise RefusedError("is refused: it holds raw bytes outside any tensor, which no network does.")
    raise RefusedError("is refused: it holds something that is neither a number, text, a tensor nor a container.")
