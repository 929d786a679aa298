from __future__ import annotations

import errno
import logging

import pytest
import torch

from labels4free.errors import RunError
from labels4free.training_loop import chunks
from labels4free.training_loop.chunks import read_chunk, write_chunk


def a_chunk() -> dict[str, torch.Tensor]:
    return {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(4, dtype=torch.float16)}


@pytest.mark.parametrize("name", ["x.safetensors", "caf\udce9.safetensors"])
def test_round_trip(tmp_path, name):
    write_chunk(tmp_path / name, a_chunk())
    found = read_chunk(tmp_path / name)
    assert list(found) == ["a", "b"]
    assert all(
        torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in a_chunk().items()
    )


def test_nothing_there(tmp_path, caplog):
    assert read_chunk(tmp_path / "x.safetensors") is None
    assert caplog.text == ""


def test_a_flipped_bit_or_a_torn_file_counts_as_not_there(tmp_path, caplog):
    path = tmp_path / "x.safetensors"
    write_chunk(path, a_chunk())
    whole = path.read_bytes()
    with caplog.at_level(logging.WARNING, "labels4free"):
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert read_chunk(path) is None
        assert "does not have the checksum" in caplog.text
        path.write_bytes(whole[: len(whole) // 2])
        assert read_chunk(path) is None
    assert caplog.text.count("is rendered again") == 2


def test_a_full_disk(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(chunks, "write_atomically", full)
    with pytest.raises(RunError, match=r"x\.safetensors"):
        write_chunk(tmp_path / "x.safetensors", a_chunk())
