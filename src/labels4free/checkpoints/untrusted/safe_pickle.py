"""NVIDIA's network pickles, read as data: nothing that they name is imported, nothing in them is run.

Granted are the names that these writers use, each by a function of ours: NVlabs/stylegan2-ada-pytorch and
NVlabs/stylegan3 (torch_utils/persistence.py, dnnlib/util.py) with the tensors of PyTorch and the numbers of NumPy, and
NVlabs/stylegan2 (dnnlib/tflib/network.py).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from labels4free.checkpoints.untrusted.grants import Allowance, Storage, empty_dict
from labels4free.checkpoints.untrusted.inert_data import (
    PersistentObject,
    RefusedError,
    TensorflowNetwork,
    check_data,
    opened,
)
from labels4free.checkpoints.untrusted.pickle_machine import Grant, Grants, run_pickle
from labels4free.checkpoints.untrusted.torch_file import read_storage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

_PERSISTENCE = "torch_utils.persistence"
_NUMBER = re.compile(r"[iuf][248]|[iub]1")


def read_pickle(path: str | Path) -> Any:
    """Read an NVIDIA ``.pkl`` as data.

    Args:
        path: A pickle of StyleGAN2-ADA or of the StyleGAN3 repository (PyTorch), or of StyleGAN2 (TensorFlow).

    Returns:
        What was pickled: dicts, lists, tuples, sets, numbers, text, None, ``torch.Tensor`` on the CPU,
        ``numpy.ndarray``, :class:`PersistentObject` and :class:`TensorflowNetwork`.

    Raises:
        CheckpointError: If the file is missing, unreadable, truncated, damaged, something else, or asks for anything
            that no such file needs.
    """
    with opened(path) as (file, size):
        start = file.read(4)
        if start == b"PK\3\4":
            raise RefusedError("is a zip archive, expected a network pickle; PyTorch's checkpoints end in .pt.")
        file.seek(0)
        data = file.read() if start[:1] == b"\x80" else start
        value, end = run_pickle(data, _Grantor(size).grants())
        if end != len(data):
            raise RefusedError(f"is damaged or no network: there are {len(data) - end:,} bytes behind its pickle.")
        check_data(value)
    return value


@dataclass(eq=False)
class _NumberType:
    """A ``numpy.dtype`` of plain numbers under construction.

    Attributes:
        code: Kind and bytes: ``f4``.
        order: ``<``, ``>``, ``=`` or ``|`` (of no consequence).
    """

    code: str
    order: str = "="

    def dtype(self) -> np.dtype[Any]:
        """As NumPy's own."""
        return np.dtype(self.order + self.code)


class _ArrayClass:
    """The class ``numpy.ndarray``, as an argument."""


class _ObjectClass:
    """The class ``object``, as an argument."""


class _Grantor(Allowance):
    """What stands for the functions that cost memory or work, each use of which is counted."""

    def storage(self, data: object) -> Storage:
        """``torch.storage._load_from_bytes``: a whole file of ``torch.save``, with the memory of a tensor in it."""
        if not isinstance(data, bytes | memoryview):
            raise TypeError
        self.take(data=len(data), tensors=1)
        return read_storage(bytes(data))

    def array(self, kind: object, shape: object, data: object, *, fortran: object = False) -> NDArray[Any]:
        """An array of numbers from its bytes."""
        if type(kind) is not _NumberType or type(fortran) is not bool or not isinstance(data, bytes | memoryview):
            raise TypeError
        if type(shape) is not tuple or len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
            raise ValueError
        dtype = kind.dtype()
        if math.prod(shape) * dtype.itemsize != len(data):
            raise RefusedError(
                f"is damaged: an array of {dtype} of shape {list(shape)} cannot have {len(data):,} bytes; fetch it "
                "again."
            )
        self.take(data=len(data))
        found = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
        return found.astype(dtype.newbyteorder("="))

    def encode(self, text: object, encoding: object) -> bytes:
        """``_codecs.encode``: how protocol 2 writes bytes."""
        if type(text) is not str or type(encoding) is not str or encoding != "latin1":
            raise TypeError
        self.take(data=len(text))
        return text.encode("latin1")

    def build_array(self, target: NDArray[Any], state: object) -> None:
        """The state of an array: version, shape, type, whether columns come first, bytes."""
        if type(state) is not tuple or len(state) != 5 or target.size:
            raise TypeError
        found = self.array(state[2], state[1], state[4], fortran=state[3])
        # In place: the file may already hold references to the empty array.
        set_state: Callable[[object], None] = target.__setstate__  # type: ignore[assignment]  # NumPy's stub wants its own bool
        set_state((1, found.shape, found.dtype, False, found.tobytes()))

    def array_of_buffer(self, data: object, kind: object, shape: object, order: object) -> NDArray[Any]:
        """``_frombuffer``: how protocol 5 writes arrays."""
        return self.array(kind, shape, data, fortran=type(order) is str and order == "F")

    def scalar(self, kind: object, data: object) -> Any:
        """A number of NumPy's, as one of Python's."""
        return self.array(kind, (), data).item()

    def persistent_object(self, meta: object) -> PersistentObject:
        """An object of NVIDIA's: its attributes are kept, its source is not."""
        meta = self.attributes(meta)
        kind, name = meta.get("type"), meta.get("class_name")
        if type(kind) is not str or kind != "class" or type(name) is not str:
            raise RefusedError("is damaged: it has a persistent object that is not of a class; fetch it again.")
        # A copy: what is checked here must not change afterwards.
        state = dict(self.attributes(meta.get("state")))
        return PersistentObject(name, state)

    def set_network(self, target: TensorflowNetwork, state: object) -> None:
        """The attributes of a network, without its source."""
        if target.state:
            raise TypeError
        target.state = dict(self.attributes(state))
        target.state.pop("build_module_src", None)

    def set_of(self, items: object = ()) -> set[Any]:
        """A set, written as a list."""
        if type(items) not in (list, tuple):
            raise TypeError
        found: list[Any] | tuple[Any, ...] = items  # type: ignore[assignment]
        self.take(items=len(found))
        if any(type(item) not in (str, bool, type(None)) for item in found):
            raise TypeError
        return set(found)

    def parameter_with_state(self, data: object, grad: object, hooks: object, state: object) -> torch.Tensor:
        """A parameter: its tensor. Attributes that were set on it are dropped."""
        if not (state is None or type(state) is dict):
            raise TypeError
        return self.parameter(data, grad, hooks)

    def grants(self) -> Grants:
        """What a network pickle may ask for."""
        names: dict[tuple[str, str], object] = {
            **self.common_names(),
            (_PERSISTENCE, "_reconstruct_persistent_obj"): Grant(self.persistent_object),
            ("dnnlib.tflib.network", "Network"): Grant(_new_network),
            ("dnnlib.util", "EasyDict"): Grant(empty_dict),
            ("dnnlib", "EasyDict"): Grant(empty_dict),
            ("_codecs", "encode"): Grant(self.encode),
            ("torch.storage", "_load_from_bytes"): Grant(self.storage),
            ("torch._utils", "_rebuild_parameter_with_state"): Grant(self.parameter_with_state),
            ("numpy", "dtype"): Grant(_number_type),
            ("numpy", "ndarray"): _ArrayClass,
        }
        for core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
            names[f"{core}.multiarray", "scalar"] = Grant(self.scalar)
            names[f"{core}.multiarray", "_reconstruct"] = Grant(_empty_array)
            names[f"{core}.numeric", "_frombuffer"] = Grant(self.array_of_buffer)
        for builtins, copyreg in (("builtins", "copyreg"), ("__builtin__", "copy_reg")):  # protocol 2 says the latter
            names[builtins, "set"] = Grant(self.set_of)
            names[builtins, "bytes"] = Grant(_no_bytes)
            names[builtins, "object"] = _ObjectClass
            names[copyreg, "_reconstructor"] = Grant(_reconstructed)
        build: dict[type, Callable[[Any, object], None]] = {
            dict: self.ignore_attributes,
            np.ndarray: self.build_array,
            _NumberType: _set_order,
            TensorflowNetwork: self.set_network,
        }
        return Grants(names, build)


def _new_network() -> TensorflowNetwork:
    """A network that BUILD will fill."""
    return TensorflowNetwork()


def _no_bytes() -> bytes:
    """How protocol 2 writes an empty byte string."""
    return b""


def _reconstructed(kind: object, base: object, state: object) -> object:
    """``copyreg._reconstructor``: an object of a granted class, without arguments."""
    if type(kind) is not Grant or kind.call not in (_new_network, empty_dict):
        raise TypeError
    if base is not _ObjectClass or state is not None:
        raise TypeError
    return kind.call()


def _number_type(code: object, *_: object) -> _NumberType:
    """``numpy.dtype``: numbers only; arrays of objects would hold pickles of their own."""
    if type(code) is not str or not _NUMBER.fullmatch(code):
        raise RefusedError("is refused: it has an array of something else than numbers, which can run any code.")
    return _NumberType(code)


def _set_order(target: _NumberType, state: object) -> None:
    """The byte order of a number type; structures are refused."""
    if type(state) is not tuple or not 5 <= len(state) <= 9 or any(part is not None for part in state[2:5]):
        raise TypeError
    if type(state[1]) is not str or state[1] not in ("<", ">", "=", "|"):
        raise ValueError
    target.order = state[1]


def _empty_array(kind: object, *_: object) -> NDArray[Any]:
    """``_reconstruct``: an array that BUILD will fill."""
    if kind is not _ArrayClass:
        raise TypeError
    return np.empty(0, np.uint8)
