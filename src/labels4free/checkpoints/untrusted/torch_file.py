"""PyTorch's own files (``torch.save``), read as data: our pickle interpreter builds the tensors, PyTorch loads nothing.

Both formats of pytorch/pytorch torch/serialization.py: the zip archive (since 1.6) and the legacy one, which is five
pickles (magic number, version, machine, object, storage keys) followed by the storages, each behind its length. A
tensor is a view of a storage that the file really has, checked to lie within it.
"""

from __future__ import annotations

import argparse
import io
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import torch

from labels4free.checkpoints.untrusted.grants import Allowance, Storage
from labels4free.checkpoints.untrusted.inert_data import STORAGE_TYPES, RefusedError, check_data, opened
from labels4free.checkpoints.untrusted.pickle_machine import MAX_OPCODES, Grant, Grants, printable, run_pickle
from labels4free.checkpoints.untrusted.zip_layout import locate_records, read_entries
from labels4free.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

MAX_PICKLE_BYTES = 64_000_000
_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_STORAGE_OPCODES = 1_000  # of each pickle; a storage alone takes about 40
_NO_CHECKPOINT = "is not a PyTorch checkpoint; expected a file that torch.save wrote."
_OTHER_ORDER = "was written by a machine of other byte order; save it again on an ordinary one."


class _StorageType(NamedTuple):
    """A storage class that a file names."""

    dtype: torch.dtype


class _Storages:
    """The storages that a file refers to, by key: made when they are first referred to, filled afterwards.

    Args:
        size: Bytes of the file; the storages cannot have more.
    """

    def __init__(self, size: int) -> None:
        self.by_key: dict[str, Storage] = {}
        self._size = self._left = size

    def refer(self, identifier: object) -> Storage:
        """Take a persistent identifier: ("storage", class, key, location, elements), legacy also a view or None."""
        if type(identifier) is not tuple or len(identifier) not in (5, 6) or type(identifier[0]) is not str:
            raise RefusedError("is damaged: it refers to something that makes no sense; fetch it again.")
        if identifier[0] != "storage":
            raise RefusedError("is refused: it holds a whole program object, not a state dict of tensors.")
        kind, key, location, elements, view = (*identifier[1:], None)[:5]
        right = type(kind) is _StorageType and type(key) is str and type(location) is str and type(elements) is int
        if not right or not 0 <= elements < 2**48 or view is not None:
            raise RefusedError("is damaged: it refers to a storage that makes no sense; fetch it again.")
        if key not in self.by_key:
            self.by_key[key] = self._made(key, kind.dtype, elements)
        known = self.by_key[key]
        if (known.dtype, known.elements) != (kind.dtype, elements):
            raise RefusedError("is damaged: it describes the same storage in two ways; fetch it again.")
        return known

    def _made(self, key: str, dtype: torch.dtype, elements: int) -> Storage:
        count = elements * dtype.itemsize
        self._left -= count
        if self._left < 0:
            raise RefusedError(
                f"is truncated at byte {self._size:,} or damaged: its storage {printable(key)} should have {count:,} "
                "bytes, which are not all there; fetch it again."
            )
        return Storage(torch.UntypedStorage(count), dtype, elements)

    @staticmethod
    def fill(storage: Storage, file: BinaryIO, begin: int) -> None:
        """Read the bytes of a storage, all of which must be there."""
        if storage.elements:
            memory = torch.empty(0, dtype=torch.uint8).set_(storage.memory).numpy()
            file.seek(begin)
            if file.readinto(memory.data) != memory.nbytes:  # type: ignore[attr-defined]  # every open file has it
                raise RefusedError("is truncated within a tensor; fetch it again.")


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
        value = _read(file, size)
        check_data(value)
    return value


def read_torch_bytes(data: bytes, name: str) -> Any:
    """:func:`read_torch_file` for the content of a file, which ``name`` stands for in messages."""
    try:
        value = _read(io.BytesIO(data), len(data))
        check_data(value)
    except RefusedError as error:
        raise CheckpointError(f"{name} {error}") from error
    return value


def read_storage(data: bytes) -> Storage:
    """Read a single storage that ``torch.save`` wrote, as ``torch.storage._load_from_bytes`` would.

    Args:
        data: The bytes of the file that was embedded.

    Raises:
        RefusedError: As :func:`read_torch_file`, or if it is anything but one storage.
    """
    found = _read(io.BytesIO(data), len(data), limit=_STORAGE_OPCODES)
    if type(found) is not Storage:
        raise RefusedError("is refused: it has an embedded file in the place of a tensor's memory.")
    return found


def is_torch_file(start: bytes) -> bool:
    """Whether a file begins (its first 20 bytes) as the two formats of ``torch.save`` do: legacy, or a zip archive."""
    return start.startswith(b"PK\3\4") or start[2:14] == b"\x8a\x0a" + _MAGIC.to_bytes(10, "little")


def _read(file: BinaryIO, size: int, limit: int = MAX_OPCODES) -> object:
    """Run the pickles of a file and fill the tensors. What comes back still has to be checked."""
    file.seek(0)
    start = file.read(4)
    if start == b"PK\3\4":
        return _read_archive(file, size, limit)
    if start[:1] == b"\x80":
        return _read_legacy(file, size, limit)
    raise RefusedError(_NO_CHECKPOINT)


def _read_archive(file: BinaryIO, size: int, limit: int) -> object:
    """Check a zip archive, run its pickle and fill the tensors."""
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
    if (order := records.get(folder + b"/byteorder")) is not None:
        file.seek(order[0])
        if file.read(min(order[1], 10)) == b"big":
            raise RefusedError(_OTHER_ORDER)
    file.seek(begin)
    storages = _Storages(size)
    root, end = run_pickle(file.read(count), _grants(storages, size), limit=limit)
    if end != count:
        raise RefusedError(f"is damaged: its data.pkl goes on behind its end at byte {end}; fetch it again.")
    for key, storage in storages.by_key.items():
        begin, found = records.get(folder + b"/data/" + key.encode(), (0, -1))
        if found != storage.memory.nbytes():
            shown, got = printable(key), "none" if found < 0 else f"{found:,} bytes"
            raise RefusedError(
                f"is damaged: its storage {shown} should have {storage.memory.nbytes():,} bytes, there are {got}."
            )
        storages.fill(storage, file, begin)
    return root


def _read_legacy(file: BinaryIO, size: int, limit: int) -> object:
    """Run the pickles of a legacy file, and fill its tensors from the storages behind them."""
    file.seek(0)
    head = file.read(MAX_PICKLE_BYTES)
    storages = _Storages(size)
    nothing = Grants({}, {})
    magic, at = run_pickle(head, nothing, limit=limit)
    if type(magic) is not int or magic != _MAGIC:
        raise RefusedError(_NO_CHECKPOINT)
    version, at = run_pickle(head, nothing, at, limit=limit)
    machine, at = run_pickle(head, nothing, at, limit=limit)
    if type(version) is not int or version != _VERSION or type(machine) is not dict:
        raise RefusedError("has a version of PyTorch's old format that is not known; save it again with torch.save.")
    if machine.get("little_endian") is False:
        raise RefusedError(_OTHER_ORDER)
    root, at = run_pickle(head, _grants(storages, size), at, limit=limit)
    keys, at = run_pickle(head, nothing, at, limit=limit)
    if type(keys) is not list or not all(type(k) is str for k in keys) or len(set(keys)) != len(keys):
        raise RefusedError("is damaged: its list of storages is none; fetch it again.")
    if set(keys) != storages.by_key.keys():
        raise RefusedError("is damaged: its list of storages does not fit its tensors; fetch it again.")
    for key in keys:
        storage = storages.by_key[key]
        if at + 8 + storage.memory.nbytes() > size:
            raise RefusedError(f"is truncated at byte {size:,}, within a tensor; fetch it again.")
        file.seek(at)
        if int.from_bytes(file.read(8), "little") != storage.elements:
            raise RefusedError("is damaged: a storage is not as long as its tensors say; fetch it again.")
        storages.fill(storage, file, at + 8)
        at += 8 + storage.memory.nbytes()
    if at != size:
        raise RefusedError(f"is damaged: there are {size - at:,} bytes behind its end; fetch it again.")
    return root


def _grants(storages: _Storages, size: int) -> Grants:
    """What the pickle of a checkpoint may ask for."""
    allowance = Allowance(size)

    def set_settings(target: argparse.Namespace, state: object) -> None:
        names = allowance.attributes(state)
        if vars(target) or not all(name.isidentifier() and not name.startswith("_") for name in names):
            raise ValueError
        vars(target).update(names)

    names: dict[tuple[str, str], object] = {
        **allowance.common_names(),
        ("argparse", "Namespace"): Grant(argparse.Namespace),
        ("torch", "device"): Grant(torch.device),
        **{("torch", name): _StorageType(dtype) for name, dtype in STORAGE_TYPES.items()},
    }
    return Grants(names, {dict: allowance.ignore_attributes, argparse.Namespace: set_settings}, storages.refer)
