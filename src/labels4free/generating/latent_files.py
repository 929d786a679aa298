"""Files of latents: our own, and those that projectors write, which find a photograph's place in a generator.

Read are ``.npz`` with an array ``ws`` or ``w`` (``projected_w.npz`` of NVlabs/stylegan2-ada-pytorch projector.py is
one), ``.npy``, ``.safetensors``, and the ``.pt`` of rosinality/stylegan2-pytorch projector.py. Nothing in them is run.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from labels4free.checkpoints.untrusted.torch_file import read_torch_file
from labels4free.errors import DataError, Labels4FreeError
from labels4free.files import failing_as, opened_atomically, utf8_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from labels4free.generators.base import Generator

_NAMES = ("ws", "w")
_DAMAGE = (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error, SafetensorError)
_LARGEST = 2**31  # bytes of an array: a million latents


def read_latents(path: str | Path, generator: Generator) -> Tensor:
    """Read latents in w.

    Args:
        path: ``.npz`` or ``.safetensors`` with ``ws`` or ``w``, ``.npy``, or ``.pt`` of rosinality's projector. Shapes:
            [N, num_ws, w_dim], or [N, w_dim] or [w_dim], which go to every row alike.
        generator: The generator that they are for.

    Returns:
        ws, [N, num_ws, w_dim], float32, on the CPU.

    Raises:
        DataError: If the file is missing, damaged or of another kind, or its numbers have another shape or are not
            finite.
        CheckpointError: If a .pt is not a file of plain tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file of latents at {path}.")
    readers = {".npz": _read_npz, ".npy": _read_npy, ".safetensors": _read_safetensors, ".pt": _read_pt}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} is no file of latents: its name must end in {', '.join(readers)}.")
    if path.stat().st_size > _LARGEST:
        raise DataError(f"{path} has more than 2 GiB: split its latents into several files.")
    try:
        return torch.cat([_fit(path, values, generator) for values in reader(path)])
    except Labels4FreeError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def write_latents(path: str | Path, ws: Iterable[Tensor], numbers: list[int], w_avg: Tensor) -> None:
    """Write latents as a ``.npz`` that :func:`read_latents` takes; it appears complete or not at all.

    Its arrays: ``ws`` float32 [N, num_ws, w_dim], ``w_avg`` float32 [w_dim], ``seeds`` int64 [N].

    Args:
        path: The file.
        ws: N tensors [1, num_ws, w_dim], used one after the other.
        numbers: The seed of each; -1 where it came from a file.
        w_avg: [w_dim], the generator's.

    Raises:
        DataError: If it cannot be written.
    """
    path = Path(path)
    with failing_as(DataError, path), opened_atomically(path) as file, zipfile.ZipFile(file, "w") as archive:
        header: dict[str, Any] | None = None
        with archive.open(zipfile.ZipInfo("ws.npy"), "w", force_zip64=True) as entry:
            for one in ws:
                rows = one.detach().to("cpu", torch.float32).contiguous().numpy()
                if header is None:
                    header = {"descr": "<f4", "fortran_order": False, "shape": (len(numbers), *rows.shape[1:])}
                    np.lib.format.write_array_header_1_0(entry, header)
                entry.write(rows.astype("<f4").tobytes())
        average = w_avg.detach().to("cpu", torch.float32).numpy().astype("<f4")
        for name, values in (("w_avg", average), ("seeds", np.array(numbers, dtype="<i8"))):
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as entry:
                np.lib.format.write_array(entry, values, allow_pickle=False)


def _read_npz(path: Path) -> list[Tensor]:
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    name = _choose(path, list(sizes))
    if sizes[name] > _LARGEST:
        raise DataError(f"{path} has more than 2 GiB in {name!r}: split its latents into several files.")
    with np.load(path, allow_pickle=False) as arrays:
        return [_tensor(path, arrays[name])]


def _read_npy(path: Path) -> list[Tensor]:
    return [_tensor(path, np.load(path, allow_pickle=False))]


def _read_safetensors(path: Path) -> list[Tensor]:
    with utf8_path(path) as name:
        tensors = load_file(name)
    return [tensors[_choose(path, list(tensors))]]


def _read_pt(path: Path) -> list[Tensor]:
    content = read_torch_file(path)
    if isinstance(content, Tensor):
        return [content]
    entries: list[Any] = []
    if isinstance(content, dict):  # one image's result, or by name those of several
        entries = [content] if "latent" in content else list(content.values())
    if not entries or not all(isinstance(e, dict) and isinstance(e.get("latent"), Tensor) for e in entries):
        raise DataError(
            f"{path} holds no latents: expected a tensor, or for each image an entry 'latent', as rosinality's "
            "projector writes them."
        )
    # One image's latent has no axis of its own: [w_dim], or [num_ws, w_dim] after projecting with --w_plus.
    return [e["latent"][None] if e["latent"].ndim < 3 else e["latent"] for e in entries]


def _choose(path: Path, names: list[str]) -> str:
    found = [name for name in _NAMES if name in names]
    if not found:
        held = ", ".join(sorted(names)[:5]) or "nothing"
        raise DataError(f"{path} holds no latents: expected an array called ws or w, it has {held}.")
    return found[0]


def _tensor(path: Path, values: Any) -> Tensor:
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        kind = getattr(values, "dtype", type(values).__name__)
        raise DataError(f"The latents in {path} must be floating-point numbers, got {kind}.")
    return torch.from_numpy(values.astype(np.float32))


def _fit(path: Path, values: Tensor, generator: Generator) -> Tensor:
    """[N, num_ws, w_dim] from any of the shapes that are taken."""
    rows, width = generator.num_ws, generator.w_dim
    shape = list(values.shape)
    if not values.is_floating_point():
        raise DataError(f"The latents in {path} must be floating-point numbers, got {values.dtype}.")
    if (
        values.ndim not in (1, 2, 3)
        or not values.numel()
        or shape[-1] != width
        or (len(shape) == 3 and shape[1] != rows)
    ):
        raise DataError(
            f"The latents in {path} have shape {shape}; this generator takes [N, {rows}, {width}] or [N, {width}]."
        )
    values = values.to(torch.float32)
    if not bool(values.isfinite().all()):
        raise DataError(f"The latents in {path} are not all finite numbers.")
    values = values if values.ndim > 1 else values[None]
    return values if values.ndim == 3 else values[:, None].expand(-1, rows, -1)


def _damaged(path: Path, error: BaseException) -> DataError:
    reason = str(error).split("\n", 1)[0].removesuffix(".") or type(error).__name__
    if "allow_pickle" in reason:
        reason = "it holds Python objects"
    return DataError(f"{path} cannot be read as a file of latents ({reason}).")
