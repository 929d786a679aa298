"""The table of contents of an untrusted zip archive, read so strictly that every other reader sees the same archive.

PyTorch writes archives without compression, comments or anything before, between or behind (pytorch/pytorch
caffe2/serialize/inline_container.cc); whatever deviates is refused. Layout: PKWARE's APPNOTE.TXT, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from labels4free.checkpoints.untrusted.inert_data import RefusedError

MAX_RECORDS = 20_000
MAX_TABLE_BYTES = 16_000_000

_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 0x2041  # bits of the flags: encrypted, strongly encrypted, masked headers
_DAMAGED = "is damaged: its zip archive contradicts itself ({}); fetch it again."


@dataclass(frozen=True)
class Entry:
    """One line of the table of contents.

    Attributes:
        name: Name of the record, as written.
        header: Where its own header begins.
        size: Its bytes in the file.
        unpacked: Its bytes once unpacked.
        method: How it is packed; 0 is not at all.
        flags: The general purpose bits.
    """

    name: bytes
    header: int
    size: int
    unpacked: int
    method: int
    flags: int


def read_entries(file: BinaryIO, size: int) -> tuple[list[Entry], int]:
    """Read the table of contents.

    Args:
        file: The archive.
        size: Its bytes.

    Returns:
        The entries in their order, and where the table begins.

    Raises:
        RefusedError: If there is no complete table at the end of the file, or it exceeds a limit.
    """
    count, table_size, begin, end = _locate_table(file, size)
    if count > MAX_RECORDS or table_size > MAX_TABLE_BYTES:
        raise RefusedError(f"is refused: its zip archive has {count:,} records, at most {MAX_RECORDS:,} are read.")
    if begin + table_size != end:
        raise RefusedError(_DAMAGED.format("the table of contents is not where it should be"))
    table = _read(file, begin, table_size)
    entries, at = [], 0
    while at < table_size:
        entry, at = _parse_entry(table, at)
        entries.append(entry)
    if len(entries) != count:
        raise RefusedError(_DAMAGED.format(f"{count} records announced, {len(entries)} listed"))
    return entries, begin


def locate_records(file: BinaryIO, entries: list[Entry], table: int) -> dict[bytes, tuple[int, int]]:
    """Find where each record's bytes are, and check that none is packed, twice there or shares bytes with another.

    Args:
        file: The archive.
        entries: Its table of contents.
        table: Where the table begins.

    Returns:
        Name -> first byte and number of bytes.

    Raises:
        RefusedError: If a check fails.
    """
    found: dict[bytes, tuple[int, int]] = {}
    # Some readers, PyTorch's among them, do not tell upper from lower case in names.
    if len({entry.name.lower() for entry in entries}) != len(entries):
        raise RefusedError(_DAMAGED.format("two records have the same name"))
    free = 0
    for entry in sorted(entries, key=lambda e: e.header):
        shown = repr(entry.name[-40:])
        if entry.method or entry.size != entry.unpacked or entry.flags & _ENCRYPTED:
            raise RefusedError(f"is refused: its record {shown} is packed or encrypted, which PyTorch never does.")
        if entry.header < free:
            raise RefusedError(_DAMAGED.format(f"the record {shown} overlaps another"))
        signature, *_, name_size, extra_size = _LOCAL.unpack(_read(file, entry.header, _LOCAL.size))
        name = _read(file, entry.header + _LOCAL.size, name_size)
        begin = entry.header + _LOCAL.size + name_size + extra_size
        free = begin + entry.size
        if signature != b"PK\3\4" or name != entry.name or free > table:
            raise RefusedError(_DAMAGED.format(f"the record {shown} is not where it should be"))
        found[entry.name] = (begin, entry.size)
    return found


def _locate_table(file: BinaryIO, size: int) -> tuple[int, int, int, int]:
    """Number of records, bytes and beginning of the table, and where what follows the table begins."""
    end = size - _END.size
    if end < 0:
        raise RefusedError("is truncated: a zip archive without its end; fetch it again.")
    signature, disk, disk_2, here, count, table_size, begin, comment = _END.unpack(_read(file, end, _END.size))
    if signature != b"PK\5\6" or comment:
        raise RefusedError("is truncated or has something behind it: a zip archive without its end; fetch it again.")
    values = (count, table_size, begin)
    locator_at = end - _LOCATOR_64.size
    if locator_at >= 0:
        locator, _, end_64, _ = _LOCATOR_64.unpack(_read(file, locator_at, _LOCATOR_64.size))
        if locator == b"PK\6\7":
            if end_64 + _END_64.size != locator_at:
                raise RefusedError(_DAMAGED.format("its 64-bit end is not where it should be"))
            signature, _, _, _, disk, disk_2, here, *large = _END_64.unpack(_read(file, end_64, _END_64.size))
            fits = all(n in (m, 2 ** (8 * b) - 1) for n, m, b in zip(values, large, (2, 4, 4), strict=True))
            if signature != b"PK\6\6" or not fits:
                raise RefusedError(_DAMAGED.format("its two ends differ"))
            values, end = (large[0], large[1], large[2]), end_64
    if disk or disk_2 or here not in (values[0], 0xFFFF):
        raise RefusedError(_DAMAGED.format("it continues in another file"))
    return *values, end


def _parse_entry(table: bytes, at: int) -> tuple[Entry, int]:
    """The entry at a place of the table, and the place of the next."""
    if at + _ENTRY.size > len(table):
        raise RefusedError(_DAMAGED.format("the table of contents ends early"))
    fields = _ENTRY.unpack_from(table, at)
    flags, method, packed, unpacked = fields[3], fields[4], fields[8], fields[9]
    name_size, extra_size, comment_size, header = fields[10], fields[11], fields[12], fields[16]
    name_at = at + _ENTRY.size
    extra_at = name_at + name_size
    end = extra_at + extra_size + comment_size
    if fields[0] != b"PK\1\2" or end > len(table) or comment_size or fields[13]:
        raise RefusedError(_DAMAGED.format("an entry of the table of contents is none"))
    extra = table[extra_at : extra_at + extra_size]
    unpacked, packed, header = _large([unpacked, packed, header], extra)
    return Entry(table[name_at:extra_at], header, packed, unpacked, method, flags), end


def _large(values: list[int], extra: bytes) -> list[int]:
    """Replace the values that do not fit 32 bits by those of the 64-bit field (APPNOTE 4.5.3)."""
    missing = [i for i, value in enumerate(values) if value == 0xFFFFFFFF]
    at = 0
    while missing and at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            if size < 8 * len(missing) or at + 4 + size > len(extra):
                break
            for place, i in enumerate(missing):
                values[i] = int(struct.unpack_from("<Q", extra, at + 4 + 8 * place)[0])
            return values
        at += 4 + size
    if missing:
        raise RefusedError(_DAMAGED.format("a 64-bit size is missing"))
    return values


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    """Bytes of the archive, all of them."""
    if offset >= 2**62:
        raise RefusedError(_DAMAGED.format("an offset lies outside the file"))
    file.seek(offset)
    found = file.read(count)
    if len(found) != count:
        raise RefusedError(_DAMAGED.format("an offset lies outside the file"))
    return found
