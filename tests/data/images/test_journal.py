from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from labels4free.data.images.journal import Journal, Progress
from labels4free.errors import DataError

SETTINGS = {"sizes": [8], "format": "lmdb"}


def steps(path):
    journal = Journal(path, SETTINGS)
    journal.append(Progress(4, 3, 100, {"a": "bad"}, 1))
    journal.append(Progress(8, 6, 200, {"b": "bad"}, 2))
    journal.close()
    return path


def test_a_new_one(tmp_path):
    journal = Journal(tmp_path / "new" / "j", SETTINGS)
    assert journal.settings == SETTINGS
    assert journal.progress == Progress()
    journal.close()


def test_numbers_are_the_last_and_what_is_new_adds_up(tmp_path):
    journal = Journal(steps(tmp_path / "j"), {"sizes": [16]})
    assert journal.settings == SETTINGS  # those that it was begun with
    assert journal.progress == Progress(8, 6, 200, {"a": "bad", "b": "bad"}, 3)
    journal.close()


def test_a_torn_line_is_dropped(tmp_path):
    path = steps(tmp_path / "j")
    whole = path.read_bytes()
    ends = [i for i in range(len(whole) + 1) if whole[:i].endswith(b"\n")]
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        journal = Journal(path, SETTINGS)
        lines = sum(end <= cut for end in ends)
        assert journal.progress.done == {0: 0, 1: 0, 2: 4}[lines]
        journal.close()
        assert path.read_bytes() == whole[: ends[max(lines, 1) - 1]]


@pytest.mark.parametrize(
    "content", [b"[]\n", b"text\n", b'{"kind": "other"}\n', b'{"kind": "labels4free_images"}\n[]\n']
)
def test_something_else(tmp_path, content):
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(DataError, match=r"j is no journal of prepared images \(.*\): remove it"):
        Journal(tmp_path / "j", SETTINGS)


def test_a_second_process_is_kept_out(tmp_path):
    program = (
        "import sys; from labels4free.data.images.journal import Journal; "
        "Journal(__import__('pathlib').Path(sys.argv[1]), {})"
    )
    journal = Journal(tmp_path / "j", SETTINGS)
    second = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "j")], capture_output=True, text=True, check=False
    )
    assert f"DataError: Another process is at work on {tmp_path}: wait for it, or end it." in second.stderr
    journal.close()
    Journal(tmp_path / "j", SETTINGS).close()


def test_a_disk_without_locks(tmp_path, monkeypatch):
    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    Journal(tmp_path / "j", SETTINGS).close()
    monkeypatch.setitem(sys.modules, "fcntl", None)  # Windows
    Journal(tmp_path / "j", SETTINGS).close()
