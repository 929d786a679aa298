"""Small image files of every kind."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zlib
from typing import TYPE_CHECKING

import lmdb
import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from labels4free.data.images.dataset import ImageStore

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def save(path, colour=RED, size=(8, 8), mode="RGB", **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, **options)


def noise_png(path, size=64) -> None:
    """A PNG whose data are long enough to be cut behind the header."""
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def png_chunk(kind, data) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_rows(width, rows, depth, colour_type, beside=b"") -> bytes:
    """A PNG of packed rows, of depths that Pillow does not write; ``beside`` are chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = png_chunk(b"IHDR", header) + beside + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png16(path, colour_type, values) -> Path:
    """A PNG of one pixel with 16 bits a value."""
    path.write_bytes(png_of_rows(1, [struct.pack(f">{len(values)}H", *values)], 16, colour_type))
    return path


def jpeg(seed: int, size: int = 8) -> bytes:
    """A JPEG file whose content depends on the seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="jpeg", quality=100)
    return buffer.getvalue()


def tar_file(path: Path, members: Mapping[str, bytes], mode="w", **options) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, mode, **options) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pixels_in_another_process(store: ImageStore) -> Tensor:
    """The first image, read by a forked child of this process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, store[0].numpy().tobytes())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as file:
        return torch.frombuffer(bytearray(file.read()), dtype=torch.float32).view(3, store.resolution, -1)


def store_content(out: Path) -> dict[str, bytes]:
    """Every file of a store of images by name; of an LMDB its entries."""
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    if files.pop("data.mdb", None) is not None:
        files.pop("lock.mdb", None)
        with lmdb.open(str(out), readonly=True, lock=False) as environment, environment.begin() as transaction:
            files |= {bytes(key).decode(): bytes(value) for key, value in transaction.cursor()}
    return files
