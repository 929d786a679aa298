from __future__ import annotations

import io
import struct
import zipfile

import pytest
import torch

from labels4free.checkpoints.untrusted import zip_layout
from labels4free.checkpoints.untrusted.inert_data import RefusedError
from labels4free.checkpoints.untrusted.zip_layout import locate_records, read_entries

RECORDS = {"a/one": b"first", "a/two": b"", "a/three": b"third" * 9}


def write(records=RECORDS, *, packed=zipfile.ZIP_STORED, comment=b"", names=None):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packed) as archive:
        for name, value in records.items():
            archive.writestr(zipfile.ZipInfo(name), value, packed)
        archive.comment = comment
    return bytearray(out.getvalue())


def read(data):
    file = io.BytesIO(bytes(data))
    entries, table = read_entries(file, len(data))
    return {name.decode(): bytes(data[at : at + n]) for name, (at, n) in locate_records(file, entries, table).items()}


def refusal(data):
    with pytest.raises(RefusedError) as caught:
        read(data)
    return str(caught.value)


def table_of(data):
    return data.index(b"PK\1\2")


def test_records():
    assert read(write()) == RECORDS


def test_pytorch_archives_with_their_64_bit_end_and_padding():
    out = io.BytesIO()
    torch.save({"a": torch.arange(3.0), "b": torch.arange(1000)}, out)
    data = out.getvalue()
    assert b"PK\6\6" in data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert read(data) == {name: archive.read(name) for name in archive.namelist()}


def large(field, *, extra_size=8, kind=1):
    """An archive whose first entry keeps one 32-bit value in its 64-bit field instead."""
    data = write({"a/one": b"first"})
    at = table_of(data)
    value = struct.unpack_from("<I", data, at + field)[0]
    struct.pack_into("<I", data, at + field, 0xFFFFFFFF)
    struct.pack_into("<H", data, at + 30, 4 + extra_size)
    name_end = at + 46 + len("a/one")
    data[name_end:name_end] = struct.pack("<2H", kind, extra_size) + value.to_bytes(8, "little")[:extra_size]
    struct.pack_into("<I", data, len(data) - 10, len(data) - 22 - at)
    return data


@pytest.mark.parametrize("field", [20, 24, 42], ids=["packed", "unpacked", "header"])
def test_64_bit_fields(field):
    assert read(large(field)) == {"a/one": b"first"}


@pytest.mark.parametrize("damage", [{"extra_size": 4}, {"kind": 2}])
def test_a_64_bit_field_that_is_missing(damage):
    assert "a 64-bit size is missing" in refusal(large(24, **damage))


def test_packed_records():
    assert "its record b'a/three' is packed or encrypted" in refusal(
        write({"a/three": bytes(10_000_000)}, packed=zipfile.ZIP_DEFLATED)
    )


def test_encrypted_records():
    data = write()
    data[table_of(data) + 8] |= 1
    assert "is packed or encrypted" in refusal(data)


@pytest.mark.parametrize("names", [("a/one", "a/one"), ("a/one", "a/ONE")])
def test_two_records_of_the_same_name(names):
    data = write({"a/one": b"1", "a/two": b"2"})
    for place in (data.index(b"a/two"), data.rindex(b"a/two")):
        data[place : place + 5] = names[1].encode()
    assert "two records have the same name" in refusal(data)


def test_overlapping_records():
    data = write()
    second = data.index(b"PK\1\2", table_of(data) + 4)
    struct.pack_into("<I", data, second + 42, 0)  # its header is the first one's
    assert "overlaps another" in refusal(data)
    struct.pack_into("<I", data, second + 42, 3)
    assert "overlaps another" in refusal(data)


def test_a_record_that_reaches_into_the_table():
    data = write({"a/one": b"first"})
    for field in (20, 24):
        struct.pack_into("<I", data, table_of(data) + field, 50)
    assert "is not where it should be" in refusal(data)


@pytest.mark.parametrize(("at", "value"), [(0, b"PX"), (30, b"b")])
def test_a_header_that_differs_from_the_table(at, value):
    data = write()
    data[at : at + len(value)] = value
    assert "the record b'a/one' is not where it should be" in refusal(data)


def test_something_before_between_or_behind():
    assert "is not where it should be" in refusal(b"xx" + write())
    assert "has something behind it" in refusal(write() + b"x")
    assert "has something behind it" in refusal(write(comment=b"hello"))
    assert "has something behind it" in refusal(patched(write(), {-2: 1}))  # a comment that is not there
    data = write()
    at = table_of(data)
    assert "the table of contents is not where it should be" in refusal(data[:at] + b"x" + data[at:])


def test_every_truncation_is_refused():
    data = write()
    for end in range(len(data)):
        assert "fetch it again" in refusal(data[:end])


def test_number_of_records(monkeypatch):
    assert "2 records announced, 3 listed" in refusal(patched(write(), {-14: 2, -12: 2}))
    assert "4 records announced, 3 listed" in refusal(patched(write(), {-14: 4, -12: 4}))
    assert "continues in another file" in refusal(patched(write(), {-14: 2}))
    assert "continues in another file" in refusal(patched(write(), {-18: 1}))
    monkeypatch.setattr(zip_layout, "MAX_RECORDS", 2)
    assert "has 3 records, at most 2 are read" in refusal(write())


def patched(data, numbers):
    for at, value in numbers.items():
        struct.pack_into("<H", data, len(data) + at, value)
    return data


def test_size_of_the_table(monkeypatch):
    monkeypatch.setattr(zip_layout, "MAX_TABLE_BYTES", 50)
    assert "is refused" in refusal(write())


def test_an_entry_that_is_none():
    data = write()
    at = table_of(data)
    data[at + 2] = 9
    assert "an entry of the table of contents is none" in refusal(data)
    data = write()
    struct.pack_into("<H", data, at + 32, 5)  # comments, which push the next entry off its place
    assert "an entry of the table of contents is none" in refusal(data)


def test_two_ends_that_differ():
    out = io.BytesIO()
    torch.save(torch.zeros(2), out)
    data = bytearray(out.getvalue())
    end = data.index(b"PK\6\6")
    for at, value in ((end, b"PX"), (end + 32, b"\xee"), (end + 40, b"\xee"), (end + 48, b"\xee")):
        changed = bytearray(data)
        changed[at : at + len(value)] = value
        assert "its two ends differ" in refusal(changed)
    changed = bytearray(data)
    changed[len(data) - 22 - 12] ^= 1
    assert "its 64-bit end is not where it should be" in refusal(changed)


def test_offsets_outside_the_file():
    data = large(42)
    at = data.index(b"a/one", table_of(data)) + 5 + 4
    for value in (10**6, 2**62, 2**64 - 1):
        struct.pack_into("<Q", data, at, value)
        assert "an offset lies outside the file" in refusal(data)
