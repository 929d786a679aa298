"""PyTorch's own files (``torch.save``), read as data: checked by our pickle interpreter first, then loaded by PyTorch.

Both formats of pytorch/pytorch torch/serialization.py: the zip archive (since 1.6) and the legacy one, which is five
pickles (magic number, version, machine, object, storage keys) followed by the storages, each behind its length.
PyTorch's ``weights_only`` loader is the second wall: what reaches it was already found to be plain tensors of sizes
that the file really has.
"""

from __future__ import annotations

import argparse
import io
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import torch

from labels4free.checkpoints.grants import Allowance, plain_tensor_arguments
from labels4free.checkpoints.inert_data import (
    DTYPES,
    STORAGE_TYPES,
    RefusedError,
    check_data,
    check_view,
    opened,
)
from labels4free.checkpoints.pickle_machine import MAX_OPCODES, Grant, Grants, printable, run_pickle
from labels4free.checkpoints.zip_layout import locate_records, read_entries
from labels4free.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

MAX_PICKLE_BYTES = 64_000_000
_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_STORAGE_OPCODES = 1_000  # of each pickle; a storage alone takes about 40
_NO_CHECKPOINT = "is not a PyTorch checkpoint; expected a file that torch.save wrote."


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


class _StorageType(NamedTuple):
    """A storage class that a file names."""

    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class _StorageOutline:
    """A storage that a file has, or says so."""

    key: str
    dtype: torch.dtype
    elements: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.elements * self.dtype.itemsize


class _TensorOutline:
    """A tensor whose place in its storage was checked."""


@dataclass(eq=False)
class _Outlines:
    """The storages that a file refers to, by key."""

    storages: dict[str, _StorageOutline] = field(default_factory=dict)

    def refer(self, identifier: object) -> _StorageOutline:
        """Take a persistent identifier: ("storage", class, key, location, elements), legacy also a view or None."""
        if type(identifier) is not tuple or len(identifier) not in (5, 6) or type(identifier[0]) is not str:
            raise RefusedError("is damaged: it refers to something that makes no sense; fetch it again.")
        if identifier[0] != "storage":
            raise RefusedError("is refused: it holds a whole program object, not a state dict of tensors.")
        kind, key, location, elements, view = (*identifier[1:], None)[:5]
        right = type(kind) is _StorageType and type(key) is str and type(location) is str and type(elements) is int
        if not right or not 0 <= elements < 2**48 or view is not None:
            raise RefusedError("is damaged: it refers to a storage that makes no sense; fetch it again.")
        known = self.storages.setdefault(key, _StorageOutline(key, kind.dtype, elements))
        if (known.dtype, known.elements) != (kind.dtype, elements):
            raise RefusedError("is damaged: it describes the same storage in two ways; fetch it again.")
        return known


def read_torch_file(path: str | Path) -> Any:
    """Read a file of ``torch.save`` as data, on the CPU.

    Args:
        path: A ``.pt`` or ``.pth`` file, in the zip or the legacy format, written on any device.

    Returns:
        What was saved: dicts, lists, tuples, sets, numbers, text, None, ``torch.Tensor`` (without gradient, in the type
        it was saved in) and ``argparse.Namespace``.

    Raises:
        CheckpointError: If the file is missing, unreadable, truncated, damaged, something else, or asks for anything
            but plain tensors and settings.
    """
    with opened(path) as (file, size):
        _check(file, size)
        value = _load(file)
        for tensor in check_data(value):
            _check_tensor(tensor)
            tensor.requires_grad_(False)
    return value


def read_storage(data: bytes) -> Storage:
    """Read a single storage that ``torch.save`` wrote, as ``torch.storage._load_from_bytes`` would.

    Args:
        data: The bytes of the file that was embedded.

    Raises:
        RefusedError: As :func:`read_torch_file`, or if it is anything but one storage.
    """
    file = io.BytesIO(data)
    outline = _check(file, len(data), limit=_STORAGE_OPCODES)
    if type(outline) is not _StorageOutline:
        raise RefusedError("is refused: it has an embedded file in the place of a tensor's memory.")
    try:
        loaded = _load(file)
    except CheckpointError as error:
        raise RefusedError(f"is damaged: {error}") from error
    memory = getattr(loaded, "_untyped_storage", loaded)  # the typed wrapper warns when it is touched
    if type(memory) is not torch.UntypedStorage or memory.nbytes() != outline.size:
        raise RefusedError("is damaged: the memory of a tensor is not as long as it says; fetch it again.")
    return Storage(memory, outline.dtype, outline.elements)


def is_torch_file(start: bytes) -> bool:
    """Whether a file begins (its first 20 bytes) as the two formats of ``torch.save`` do: legacy, or a zip archive."""
    return start.startswith(b"PK\3\4") or start[2:14] == b"\x8a\x0a" + _MAGIC.to_bytes(10, "little")


def _check(file: BinaryIO, size: int, limit: int = MAX_OPCODES) -> object:
    """Run the pickles of a file without building a tensor. Returns the outline of its object."""
    file.seek(0)
    start = file.read(4)
    if start == b"PK\3\4":
        root = _check_archive(file, size, limit)
    elif start[:1] == b"\x80":
        root = _check_legacy(file, size, limit)
    else:
        raise RefusedError(_NO_CHECKPOINT)
    check_data(root, frozenset({_TensorOutline, _StorageOutline}))
    return root


def _check_archive(file: BinaryIO, size: int, limit: int) -> object:
    """Check a zip archive and run its pickle."""
    entries, table = read_entries(file, size)
    names = {entry.name.partition(b"/")[2] for entry in entries}
    if any(entry.name.endswith(b".npy") for entry in entries):
        raise RefusedError("is an archive of NumPy arrays; " + _NO_CHECKPOINT.partition("; ")[2])
    if names & {b"constants.pkl", b"model.json"} or any(name.startswith(b"code/") for name in names):
        raise RefusedError("is a TorchScript program, which is not run here; expected a state dict (torch.save).")
    if b"data.pkl" not in names:
        raise RefusedError(_NO_CHECKPOINT)
    folders = {entry.name.partition(b"/")[0] for entry in entries}
    if len(folders) != 1:
        raise RefusedError("is damaged: its records lie in several folders; fetch it again.")
    folder = folders.pop()
    records = locate_records(file, entries, table)
    begin, count = records[folder + b"/data.pkl"]
    if count > MAX_PICKLE_BYTES:
        raise RefusedError(f"is refused: its data.pkl has {count:,} bytes, at most {MAX_PICKLE_BYTES:,} are read.")
    file.seek(begin)
    outlines = _Outlines()
    root, end = run_pickle(file.read(count), _grants(outlines, size), limit=limit)
    if end != count:
        raise RefusedError(f"is damaged: its data.pkl goes on behind its end at byte {end}; fetch it again.")
    for storage in outlines.storages.values():
        found = records.get(folder + b"/data/" + storage.key.encode(), (0, -1))[1]
        if found != storage.size:
            shown, got = printable(storage.key), "none" if found < 0 else f"{found:,} bytes"
            raise RefusedError(f"is damaged: its storage {shown} should have {storage.size:,} bytes, there are {got}.")
    return root


def _check_legacy(file: BinaryIO, size: int, limit: int) -> object:
    """Run the pickles of a legacy file, and check that the storages behind them are those they speak of."""
    file.seek(0)
    head = file.read(MAX_PICKLE_BYTES)
    outlines = _Outlines()
    nothing = Grants({}, {})
    magic, at = run_pickle(head, nothing, limit=limit)
    if type(magic) is not int or magic != _MAGIC:
        raise RefusedError(_NO_CHECKPOINT)
    version, at = run_pickle(head, nothing, at, limit=limit)
    machine, at = run_pickle(head, nothing, at, limit=limit)
    if type(version) is not int or version != _VERSION or type(machine) is not dict:
        raise RefusedError("has a version of PyTorch's old format that is not known; save it again with torch.save.")
    if machine.get("little_endian") is False:
        raise RefusedError("was written by a machine of other byte order; save it again on an ordinary one.")
    root, at = run_pickle(head, _grants(outlines, size), at, limit=limit)
    keys, at = run_pickle(head, nothing, at, limit=limit)
    if type(keys) is not list or not all(type(k) is str for k in keys) or len(set(keys)) != len(keys):
        raise RefusedError("is damaged: its list of storages is none; fetch it again.")
    if set(keys) != outlines.storages.keys():
        raise RefusedError("is damaged: its list of storages does not fit its tensors; fetch it again.")
    for key in keys:
        storage = outlines.storages[key]
        if at + 8 + storage.size > size:
            raise RefusedError(f"is truncated at byte {size:,}, within a tensor; fetch it again.")
        file.seek(at)
        if int.from_bytes(file.read(8), "little") != storage.elements:
            raise RefusedError("is damaged: a storage is not as long as its tensors say; fetch it again.")
        at += 8 + storage.size
    if at != size:
        raise RefusedError(f"is damaged: there are {size - at:,} bytes behind its end; fetch it again.")
    return root


def _grants(outlines: _Outlines, size: int) -> Grants:
    """What the pickle of a checkpoint may ask for, as outlines without memory."""
    allowance = Allowance(size)

    def set_settings(target: argparse.Namespace, state: object) -> None:
        names = allowance.attributes(state)
        if vars(target) or not all(name.isidentifier() and not name.startswith("_") for name in names):
            raise ValueError
        vars(target).update(names)

    def tensor(
        storage: object, offset: object, shape: object, stride: object, grad: object, hooks: object, *metadata: object
    ) -> _TensorOutline:
        if type(storage) is not _StorageOutline:
            raise TypeError
        plain_tensor_arguments(grad, hooks, metadata)
        allowance.take(tensors=1)
        check_view(storage.elements, offset, shape, stride)
        return _TensorOutline()

    def parameter(data: object, grad: object, hooks: object) -> _TensorOutline:
        if type(data) is not _TensorOutline:
            raise TypeError
        plain_tensor_arguments(grad, hooks, ())
        allowance.take(tensors=1)
        return data

    names: dict[tuple[str, str], object] = {
        **allowance.common_names(),
        ("argparse", "Namespace"): Grant(argparse.Namespace),
        ("torch._utils", "_rebuild_tensor_v2"): Grant(tensor),
        ("torch._utils", "_rebuild_parameter"): Grant(parameter),
        ("torch.storage", "UntypedStorage"): _StorageType(torch.uint8),
        **{("torch", name): _StorageType(dtype) for name, dtype in STORAGE_TYPES.items()},
    }
    return Grants(names, {dict: allowance.ignore_attributes, argparse.Namespace: set_settings}, outlines.refer)


def _load(file: BinaryIO) -> Any:
    """Load a checked file by PyTorch's own loader of data."""
    file.seek(0)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # on a damaged file it can raise anything
        reason = printable(str(error).partition("\n")[0])
        raise CheckpointError(f"PyTorch cannot read it ({type(error).__name__}: {reason}); fetch it again.") from error


def _check_tensor(tensor: torch.Tensor) -> None:
    """Check a loaded tensor: in memory of the CPU, and not larger than its memory."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.dtype in DTYPES.values()
    if not plain or tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        raise RefusedError("is refused: it holds a tensor that is no plain one in its own memory.")
