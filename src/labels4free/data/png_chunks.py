"""PNG files without what stands beside their pixels, which then cannot keep them from being read.

Pillow gives up a whole file for a text that is too long, a colour profile that is damaged or the wrong checksum of a
remark. Left are the chunks of pixels, and where Pillow can read them the orientation and a colour profile.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO

from PIL.PngImagePlugin import MAX_TEXT_CHUNK

if TYPE_CHECKING:
    from typing import Any

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"})
_BESIDE = frozenset({b"eXIf", b"iCCP", b"iTXt", b"zTXt", b"tEXt"})
_ORIENTATION = frozenset({b"XML:com.adobe.xmp", b"Raw profile type exif"})  # texts that may hold it


def pixel_chunks(file: BinaryIO) -> BinaryIO:
    """A PNG file's chunks of pixels, its orientation and its colour profile, as a file; another file as it is.

    Nothing is copied: the result reads from ``file``, which must stay open.
    """
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        file.seek(0)
        return file
    stretches, kept = [(0, len(_SIGNATURE))], set[bytes]()
    while len(header := file.read(8)) == 8:
        start, (length, kind) = file.tell() - 8, struct.unpack(">I4s", header)
        if not kind.isalpha():  # no chunk: that is for Pillow to judge, and what follows
            stretches.append((start, file.seek(0, io.SEEK_END)))
            break
        end = start + 12 + length
        told = None if kind in _PIXELS else _what_it_tells(kind, length, file)
        if kind in _PIXELS or (told is not None and told not in kept):
            if told is not None:
                kept.add(told)  # once: Pillow counts what all texts take together
            if stretches[-1][1] == start:
                start = stretches.pop()[0]
            stretches.append((start, end))
        if kind == b"IEND":
            break
        file.seek(end)
    return io.BufferedReader(_Stretches(file, stretches))


def _what_it_tells(kind: bytes, length: int, file: BinaryIO) -> bytes | None:
    """What a chunk tells of the picture, if that is something of use that Pillow can read; its data are read."""
    if kind not in _BESIDE or length > MAX_TEXT_CHUNK:
        return None
    data, checksum = file.read(length), file.read(4)
    name, _, rest = data.partition(b"\0")
    if checksum != struct.pack(">I", zlib.crc32(kind + data)):
        return None
    if kind == b"eXIf":
        return kind
    if kind != b"iCCP" and name not in _ORIENTATION:
        return None
    # What is compressed stands behind the number of the method, 0; before an iTXt, that is whether it is compressed.
    plain = kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0")
    if not plain and (kind == b"iTXt" or rest[:1] != b"\0" or not _inflates(rest[1:])):
        return None
    return kind if kind == b"iCCP" else name


def _inflates(data: bytes) -> bool:
    """Whether compressed data can be unpacked, to no more than Pillow's limit."""
    decoder = zlib.decompressobj()
    try:
        decoder.decompress(data, MAX_TEXT_CHUNK)
    except zlib.error:
        return False
    return not decoder.unconsumed_tail


class _Stretches(io.RawIOBase):
    """Stretches of a file, (start, end) each, as if they followed upon each other."""

    def __init__(self, file: BinaryIO, stretches: list[tuple[int, int]]) -> None:
        self._file, self._stretches, self._place = file, stretches, 0
        self._length = sum(end - start for start, end in stretches)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._length}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        before = 0
        for start, end in self._stretches:
            inside = self._place - before
            if inside < end - start:
                self._file.seek(start + inside)
                data = self._file.read(min(len(buffer), end - start - inside))
                buffer[: len(data)] = data
                self._place += len(data)
                return len(data)
            before += end - start
        return 0
