"""Between floats and the bytes of a picture: the one rounding for all files, and PNG files. Imports PyTorch on use."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from labels4free.errors import DataError
from labels4free.files import write_atomically, write_failure

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor


def to_uint8(image: Tensor) -> NDArray[np.uint8]:
    """Convert image tensors for a file: [-1, 1] becomes 0 .. 255, rounded; values outside are clamped.

    Args:
        image: [N, 3, H, W] (or [N, C, H, W]), float, any device.

    Returns:
        [N, H, W, 3], uint8, contiguous.
    """
    # In place from the second operation on: fresh memory costs a CPU more than the arithmetic.
    values = image.detach().float().mul(127.5).add_(127.5).round_().clamp_(0, 255).byte()
    return np.ascontiguousarray(values.permute(0, 2, 3, 1).cpu().numpy())


def from_uint8(pixels: NDArray[np.uint8]) -> Tensor:
    """Convert pixels of a file to image tensors; :func:`to_uint8` undoes it exactly.

    Args:
        pixels: [N, H, W, 3], uint8.

    Returns:
        [N, 3, H, W], float32 in [-1, 1], on the CPU.
    """
    import torch

    values = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)
    return values.to(torch.float32, memory_format=torch.contiguous_format).div(127.5).sub(1.0)


def unit_to_uint8(values: Tensor | NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Convert alphas, or images in [0, 1], for a file: [0, 1] becomes 0 .. 255, rounded; values outside are clamped.

    Args:
        values: Float, any shape; a tensor must lie on the CPU and need no gradient.

    Returns:
        The same shape, uint8.
    """
    with np.errstate(invalid="ignore"):  # a picture of what is no number is for looking at, too
        rounded: NDArray[np.uint8] = np.rint(np.asarray(values).clip(0, 1) * 255).astype(np.uint8)
    return rounded


def uint16_to_uint8(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Scale 16-bit values down to 8 bits, rounded: 65535 becomes 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def write_png(path: str | Path, array: NDArray[np.uint8]) -> None:
    """Write a PNG file that appears complete or not at all; missing folders are made, an older file is replaced.

    Args:
        path: The file.
        array: uint8, [H, W, 3] RGB or [H, W] grey.

    Raises:
        DataError: If the array is something else, or the file cannot be written (no space, read-only folder).
    """
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or 0 in array.shape:
        raise DataError(f"A PNG file needs a uint8 array [H, W, 3] or [H, W], got {array.dtype} {list(array.shape)}.")
    buffer = io.BytesIO()
    # Four times as fast as the default level, for 6 % more bytes.
    Image.fromarray(array).save(buffer, format="PNG", compress_level=2)
    try:
        write_atomically(path, buffer.getbuffer(), sync=False)
    except OSError as error:
        raise DataError(write_failure(path, error)) from error
