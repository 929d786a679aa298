from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

import pytest

from labels4free.files import (
    in_full,
    opened_atomically,
    read_text,
    remove_leftovers,
    temporary_path,
    temporary_pattern,
    unreadable,
    utf8_path,
    write_atomically,
    write_failure,
)


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


def test_a_file_written_bit_by_bit_appears_at_the_end(tmp_path):
    path = tmp_path / "new" / "file.bin"
    with opened_atomically(path) as file:
        file.write(b"....")
        file.write(b"cd")
        file.seek(0)
        file.write(b"ab")
        assert not path.exists()
    assert path.read_bytes() == b"ab..cd"
    assert os.listdir(path.parent) == ["file.bin"]


def test_a_failure_between_two_bits_leaves_the_older_file(tmp_path):
    path = tmp_path / "file.bin"
    write_atomically(path, b"older")

    def fail():
        with opened_atomically(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["file.bin"]


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "There is no space left to write out/a.png"),
        (errno.EDQUOT, "There is no space left"),
        (errno.EROFS, "out/a.png cannot be written: .*make its folder writable"),
        (errno.EIO, "out/a.png cannot be written: Input/output error"),
        (None, r"^out/a.png cannot be written: the cable is out\.$"),
    ],
)
def test_failure_in_a_sentence(number, sentence):
    error = OSError("the cable is out") if number is None else OSError(number, os.strerror(number))
    assert re.search(sentence, write_failure("out/a.png", error))


def test_leftovers_go_unless_somebody_is_writing_them(tmp_path):
    from labels4free import files

    def left(path, process, age=0.0, machine=None):
        name = temporary_path(path).name.replace(f"-{os.getpid()}-", f"-{process}-")
        name = name if machine is None else name.replace(files._machine(), machine)
        found = path.with_name(name)
        found.parent.mkdir(exist_ok=True)
        found.write_bytes(b"half")
        os.utime(found, (time.time() - age, time.time() - age))
        return found

    dead, day = 2**22 + 1, 86400.0
    gone = [
        left(tmp_path / "a" / "00001.png", dead),
        left(tmp_path / "manifest.json", dead),
        left(tmp_path / "a" / "00002.png", os.getpid(), age=day + 60),
        left(tmp_path / "a" / "00003.png", os.getpid(), age=day + 60, machine="00000000"),
    ]
    kept = [
        left(tmp_path / "a" / "00004.png", os.getpid()),
        left(tmp_path / "a" / "00005.png", 1),  # somebody else's
        left(tmp_path / "a" / "00006.png", dead, age=day - 60, machine="00000000"),
        tmp_path / "a" / "mine.tmp",
    ]
    kept[-1].write_bytes(b"x")
    os.utime(kept[-1], (0, 0))
    assert remove_leftovers(tmp_path) == len(gone)
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FileNotFoundError(), "There is no checkpoint at a.pt."),
        (IsADirectoryError(), "a.pt is a folder, expected a checkpoint file."),
        (PermissionError(errno.EACCES, "Permission denied"), "a.pt cannot be read: Permission denied."),
    ],
)
def test_what_cannot_be_read_in_a_sentence(error, sentence):
    assert unreadable("a.pt", error) == sentence


def test_a_file_in_full_and_any_other_word_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert [in_full(word) for word in ("here", "nowhere", "")] == [str(tmp_path.resolve() / "here"), "nowhere", ""]


@pytest.mark.parametrize(
    "name",
    ["a", "a.png", "n" * 143, "n" * 251 + ".png", "\u590f" * 84 + ".ng", "\udce9" * 255, "e\u0301" * 85],
)
def test_a_temporary_name_is_no_longer_than_a_long_name(tmp_path, name):
    path = tmp_path / name
    temporary = temporary_path(path)
    assert len(os.fsencode(temporary.name)) <= max(100, len(os.fsencode(name)))
    temporary.name.encode()  # no half a character
    temporary.touch()
    assert list(tmp_path.glob(temporary_pattern(path))) == [temporary]
    assert not list(tmp_path.glob(temporary_pattern(tmp_path / f"x{name[1:]}"))) or len(name) == 1
    temporary.unlink()
    write_atomically(path, b"x")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_texts_as_editors_write_them(tmp_path, encoding):
    (tmp_path / "a.txt").write_text("caf\u00e9 = 3\n", encoding=encoding)
    assert read_text(tmp_path / "a.txt") == "caf\u00e9 = 3\n"
    (tmp_path / "a.txt").write_bytes("\ufeff\u590f".encode("utf-16-be"))
    assert read_text(tmp_path / "a.txt") == "\u590f"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"caf\xe9", "its encoding is not UTF-8 .*: save it as UTF-8"),
        ("seed = 3".encode("utf-16-le"), "it holds null characters, as UTF-16 without its mark does"),
        (b"\xff\xfea", "its encoding is not UTF-16"),
    ],
)
def test_texts_in_other_encodings(tmp_path, data, said):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(ValueError, match=said):
        read_text(tmp_path / "a.txt")


def test_a_name_in_utf_8_for_every_file(tmp_path):
    for name in ("\u590f.bin", "caf\udce9.bin"):
        (tmp_path / name).write_bytes(name.encode(errors="surrogateescape"))
        with utf8_path(tmp_path / name) as path:
            assert Path(path.encode().decode()).read_bytes() == os.fsencode(name)
    with pytest.raises(FileNotFoundError), utf8_path(tmp_path / "\udce9"):
        pass
