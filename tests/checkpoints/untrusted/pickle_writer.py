"""Pickles of things that cannot be imported here: NVIDIA's objects, and calls that no honest file makes."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from typing import Any, NamedTuple


class Name(NamedTuple):
    """A name, written without looking it up."""

    module: str
    name: str


class Call:
    """What a pickle makes by calling a name; ``new`` uses NEWOBJ instead of REDUCE, ``state`` adds BUILD."""

    def __init__(self, name: Name, *arguments: Any, state: Any = None, new: bool = False) -> None:
        self.name, self.arguments, self.state, self.new = name, arguments, state, new


class _Pickler(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012  as its parent has it

    def save_name(self, value):
        if self.proto >= 4:
            self.save(value.module)
            self.save(value.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())

    def save_call(self, value):
        self.save(value.name)
        self.save(tuple(value.arguments))
        self.write(pickle.NEWOBJ if value.new else pickle.REDUCE)
        self.memoize(value)
        if value.state is not None:
            self.save(value.state)
            self.write(pickle.BUILD)

    dispatch[Name] = save_name
    dispatch[Call] = save_call


def dumps(value: Any, protocol: int = 4) -> bytes:
    """Pickle a value in which Names and Calls may occur."""
    out = io.BytesIO()
    _Pickler(out, protocol).dump(value)
    return out.getvalue()


def text(value: str) -> bytes:
    """The instruction that pushes a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def archive(pickled: bytes, storages: dict[str, bytes], *, packed: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive as torch.save writes it, around a given ``data.pkl``."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packed) as file:
        records = {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n"}
        records.update({f"data/{key}": value for key, value in storages.items()})
        for name, value in records.items():
            file.writestr(zipfile.ZipInfo(f"archive/{name}"), value, packed)
    return out.getvalue()


class StorageId(NamedTuple):
    """The persistent identifier of a storage of a torch file."""

    kind: str = "FloatStorage"
    key: str = "0"
    elements: Any = 4
    location: str = "cpu"


_STORAGE = StorageId()


def tensor_program(
    size: Any, stride: Any, offset: Any = 0, *, storage: StorageId = _STORAGE, tail: bytes = b""
) -> bytes:
    """The ``data.pkl`` of one tensor. ``tail`` goes behind it, in front of STOP."""

    def plain(value: Any) -> bytes:
        return pickle.dumps(value, 2)[2:-1]

    identifier = b"(" + text("storage") + f"ctorch\n{storage.kind}\n".encode() + text(storage.key)
    identifier += text(storage.location) + plain(storage.elements) + b"tQ"
    arguments = b"(" + identifier + plain(offset) + plain(size) + plain(stride) + b"\x89ccollections\nOrderedDict\n)Rt"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R" + tail + b"."
