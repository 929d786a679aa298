"""Native checkpoints: one safetensors file with the configuration inside. Data only, nothing in it is ever executed.

The safetensors metadata holds one key, ``labels4free``, whose value is JSON::

    {"format": 1, "kind": "generator", "family": "mobile_stylegan", "config": {...}, "info": {...}}

``kind`` says what the file serves as, ``family`` and ``config`` rebuild the module, ``info`` says where it came from.
Tensors may be stored in half precision (``write_native(..., half=True)``): their types alone say so, and a module that
is filled with them keeps its own types.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labels4free.errors import CheckpointError
from labels4free.files import temporary_pattern, unreadable, utf8_path, write_atomically, write_failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

FORMAT = 1
"""Version of the metadata that this package writes; it reads every version up to this one."""

SNAPSHOT = "snapshot.safetensors"
"""File in the folder of a run that is not finished: the network as it was when a check last found it good."""

_METADATA_KEY = "labels4free"
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
_LEFTOVER_SECONDS = 3600
_AGAIN = "write or fetch it again."
_EXPECTED = "expected a checkpoint written by labels4free."


@dataclass(frozen=True)
class NativeHeader:
    """What a native checkpoint says about itself.

    Attributes:
        kind: What it serves as: ``generator``, ``alpha_network``, ...
        family: Name of the class to build, in the table of its kind.
        config: What that class needs to be built, as JSON values.
        info: Where it came from: source, licence, training figures; nothing needs it.
    """

    kind: str
    family: str
    config: dict[str, Any]
    info: dict[str, Any]


def is_native(path: str | Path) -> bool:
    """Whether a file is to be read as one of this package: a safetensors file, by its name or by its content."""
    path = Path(path)
    if path.suffix == ".safetensors":
        return True
    try:
        with path.open("rb") as file:
            return is_safetensors(file.read(9))
    except OSError:
        return False


def is_safetensors(start: bytes) -> bool:
    """Whether a file begins (its first 9 bytes) as a safetensors file: the header's length, then JSON."""
    return len(start) > 8 and int.from_bytes(start[:8], "little") <= _MAX_HEADER_BYTES and start[8:9] == b"{"


def header_metadata(header: NativeHeader) -> dict[str, str]:
    """The header as it stands in a file: one key, whose value is JSON. ONNX files that are exported carry the same.

    Raises:
        TypeError, ValueError: If ``config`` or ``info`` cannot be JSON; NaN and infinity are not JSON.
    """
    values = {
        "format": FORMAT,
        "kind": header.kind,
        "family": header.family,
        "config": header.config,
        "info": header.info,
    }
    return {_METADATA_KEY: json.dumps(values, sort_keys=True, allow_nan=False)}


def write_native(
    path: str | Path,
    *,
    kind: str,
    family: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    info: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write a native checkpoint: the file appears complete or not at all. Missing folders are made.

    Args:
        path: File to write; an older one is replaced.
        kind: What the checkpoint serves as.
        family: Name of the class that ``state`` belongs to.
        config: What that class needs to be built, as JSON values.
        state: Tensors by name, on any device; views and shared storage are written out in full.
        info: Where it came from, as JSON values.
        half: Store kernels (float tensors of two dimensions and more) in float16, for half the bytes; biases and
            statistics, which are few, stay as they are.

    Raises:
        CheckpointError: If the file cannot be written (no space, read-only folder), or a kernel does not fit into
            float16; an older file is then untouched.
        TypeError, ValueError: If ``config`` or ``info`` cannot be JSON; NaN and infinity are not JSON.
    """
    import torch
    from safetensors.torch import save

    metadata = header_metadata(NativeHeader(kind, family, dict(config), dict(info or {})))
    # safetensors refuses views and shared storage, so each tensor gets its own.
    tensors = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in state.items()}
    if half:
        tensors = {k: _in_half(k, v) if v.ndim > 1 and v.is_floating_point() else v for k, v in tensors.items()}
    _remove_leftovers(Path(path))
    try:
        write_atomically(path, save(tensors, metadata))
    except OSError as error:
        raise CheckpointError(write_failure(path, error)) from error


def read_native_header(path: str | Path, kind: str | None = None) -> NativeHeader:
    """Read what a native checkpoint says about itself, and check that the file is complete, without its tensors.

    Needs neither torch nor safetensors, so that listing files is quick.

    Args:
        path: File to read.
        kind: The kind that is wanted; None accepts any.

    Raises:
        CheckpointError: If the file is missing, unreadable, truncated, not a safetensors file, not written by this
            package, written in a later format, or of another kind.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            start = file.read(min(length, _MAX_HEADER_BYTES))
    except OSError as error:
        raise CheckpointError(unreadable(path, error)) from error
    layout = _parse_layout(path, size, length, start)
    return parse_metadata(path, layout.get("__metadata__", {}), kind)


def read_tensors(path: str | Path, kind: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a native checkpoint: its state dict, on the CPU, in the types they were written in.

    Args:
        path: File to read.
        kind: The kind that is wanted; None accepts any.

    Raises:
        CheckpointError: As :func:`read_native_header`, or if the tensors' table is damaged.
    """
    read_native_header(path, kind)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with utf8_path(path) as name:
            return load_file(name, device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; {_AGAIN}") from error


def _in_half(name: str, kernel: Tensor) -> Tensor:
    stored = kernel.half()
    if not bool(stored.isfinite().all()):
        raise CheckpointError(
            f"{name} holds values beyond 65504, the most that half precision has; write it in full precision."
        )
    return stored


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of this file that a killed writer left more than an hour ago."""
    for leftover in path.parent.glob(temporary_pattern(path)):
        with contextlib.suppress(OSError):  # another writer may have been quicker
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_SECONDS:
                leftover.unlink()


def _parse_layout(path: Path, size: int, length: int, start: bytes) -> dict[str, Any]:
    """The safetensors header of a file of ``size`` bytes, which must hold exactly the tensors that it lists."""
    if size < 8 or (size < 8 + length and length <= _MAX_HEADER_BYTES and start[:1] in (b"", b"{")):
        raise CheckpointError(f"{path} is truncated: it ends inside its header, at byte {size}; {_AGAIN}")
    foreign = CheckpointError(f"{path} is not a safetensors file; {_EXPECTED}")
    if len(start) != length or not start.startswith(b"{"):
        raise foreign
    try:
        layout: dict[str, Any] = json.loads(start)  # starts with a brace, so an object if it parses
        ends = [0] + [entry["data_offsets"][1] for name, entry in layout.items() if name != "__metadata__"]
        expected = 8 + length + max(ends)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise foreign from error
    if size != expected:
        what = "truncated" if size < expected else "damaged"
        raise CheckpointError(f"{path} is {what}: it has {size} bytes, its header lists {expected}; {_AGAIN}")
    return layout


def parse_metadata(
    path: Path, metadata: object, kind: str | None = None, what: str = "a safetensors file"
) -> NativeHeader:
    """Understand our part of a file's metadata.

    Args:
        path: The file, for messages.
        metadata: All of its metadata, as a table of texts.
        kind: The kind that is wanted; None accepts any.
        what: What the file is, for messages.

    Raises:
        CheckpointError: If there is none of ours, it is damaged, of a later format or of another kind.
    """
    if not isinstance(metadata, dict) or _METADATA_KEY not in metadata:
        raise CheckpointError(f"{path} is {what} without labels4free's metadata; {_EXPECTED}")
    damaged = CheckpointError(f"{path} is damaged: its labels4free metadata cannot be understood; {_AGAIN}")
    try:
        header = json.loads(metadata[_METADATA_KEY])
        version = header["format"]
        if type(version) is int and version > FORMAT:
            raise CheckpointError(
                f"{path} is in format {version} of a later labels4free, this one reads up to {FORMAT}; upgrade it."
            )
        found = NativeHeader(kind=header["kind"], family=header["family"], config=header["config"], info=header["info"])
    except CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise damaged from error
    texts, tables = (found.kind, found.family), (found.config, found.info)
    if version != FORMAT or not all(isinstance(t, str) for t in texts) or not all(isinstance(t, dict) for t in tables):
        raise damaged
    if kind is not None and found.kind != kind:
        raise CheckpointError(f"{path} holds a checkpoint of kind {found.kind!r}, expected kind {kind!r}.")
    return found
