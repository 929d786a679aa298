from __future__ import annotations

import errno
import hashlib
import os

import pytest

from labels4free.data.pairs.base import MeasuredFile, write_entry
from labels4free.data.pairs.record import FileEntry
from labels4free.errors import DataError


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_in_pieces(tmp_path, sync):
    path = tmp_path / "a" / "file.bin"
    file = MeasuredFile(path, sync=sync)
    file.write(b"one")
    assert not path.exists()
    file.write(b"two")
    assert file.commit() == FileEntry(6, hashlib.sha256(b"onetwo").hexdigest())
    file.discard()
    assert path.read_bytes() == b"onetwo"
    assert os.listdir(path.parent) == ["file.bin"]


def test_a_file_that_fails_at_the_end(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    path.write_bytes(b"older")

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DataError, match=r"There is no space left to write .*file\.bin"):
        write_entry(path, [b"newer"])
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_file_that_is_given_up(tmp_path):
    file = MeasuredFile(tmp_path / "file.bin")
    file.write(b"half")
    file.discard()
    file.discard()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError])
def test_pieces_that_fail(tmp_path, failure):
    def pieces():
        yield b"half"
        raise failure

    with pytest.raises(failure):
        write_entry(tmp_path / "file.bin", pieces())
    assert os.listdir(tmp_path) == []
