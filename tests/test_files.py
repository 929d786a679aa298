from __future__ import annotations

import errno
import os

import pytest

from labels4free.files import write_atomically, write_failure


@pytest.mark.parametrize("sync", [True, False])
def test_writes_replaces_and_makes_folders(tmp_path, sync):
    path = tmp_path / "a" / "b" / "file.bin"
    write_atomically(path, b"one", sync=sync)
    write_atomically(path, memoryview(b"two"), sync=sync)
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file.bin"]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failure_leaves_the_older_file_and_nothing_else(tmp_path, monkeypatch, failure):
    path = tmp_path / "file.bin"
    write_atomically(path, b"older")

    def fail(descriptor):
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(failure)):
        write_atomically(path, b"newer")
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["file.bin"]


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "There is no space left to write out/a.png"),
        (errno.EDQUOT, "There is no space left"),
        (errno.EROFS, "out/a.png cannot be written: .*make its folder writable"),
        (errno.EIO, "out/a.png cannot be written: Input/output error"),
    ],
)
def test_failure_in_a_sentence(number, sentence):
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(write_failure("out/a.png", OSError(number, os.strerror(number))))
