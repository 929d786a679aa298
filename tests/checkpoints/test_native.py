from __future__ import annotations

import errno
import json
import os
import pickle
import stat
import struct
import subprocess
import sys
from contextlib import suppress

import pytest
import torch
from safetensors.torch import save

from labels4free.checkpoints.native import (
    NativeHeader,
    is_native,
    read_native_header,
    read_tensors,
    write_atomically,
    write_native,
)
from labels4free.errors import CheckpointError

HEADER = {"format": 1, "kind": "generator", "family": "f", "config": {"a": [1, 2.5, None]}, "info": {"b": "ü"}}


def write(path, **changes):
    fields = {"kind": "generator", "family": "f", "config": {"a": [1, 2.5, None]}, "info": {"b": "ü"}, **changes}
    state = fields.pop("state", {"x": torch.arange(6.0).view(2, 3), "y": torch.tensor(7)})
    write_native(path, state=state, **fields)


def foreign(path, metadata, state=None):
    path.write_bytes(save({"x": torch.zeros(2)} if state is None else state, metadata))
    return path


def fail_with(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


def test_round_trip(path):
    write(path)
    header, state = read_native_header(path, "generator"), read_tensors(path, "generator")
    assert header == NativeHeader("generator", "f", HEADER["config"], HEADER["info"])
    assert state.keys() == {"x", "y"}
    assert torch.equal(state["x"], torch.tensor([[0.0, 1, 2], [3, 4, 5]]))
    assert state["y"].shape == ()
    assert state["y"].dtype == torch.int64


def test_header_alone(path):
    write(path, info=None)
    header = read_native_header(str(path))
    assert header == NativeHeader("generator", "f", HEADER["config"], {})


def test_types_are_kept_views_and_shared_storage_are_written_out(path):
    base = torch.arange(12.0).view(3, 4)
    channels_last = torch.arange(16.0).view(1, 2, 2, 4).to(memory_format=torch.channels_last)
    state = {"all": base, "turned": base.T, "row": base[1], "spread": base[:1].expand(5, 4), "last": channels_last}
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.bool)
    state |= {str(kind): torch.tensor([0, 1, 1]).to(kind) for kind in kinds}
    write(path, state=state)
    read = read_tensors(path)
    for name, value in state.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value), name
    write(path, state={})
    assert read_tensors(path) == {}


def test_same_content_same_bytes(tmp_path):
    for name, state in (
        ("a", {"x": torch.ones(2), "y": torch.zeros(3)}),
        ("b", {"y": torch.zeros(3), "x": torch.ones(2)}),
    ):
        write(tmp_path / name, state=state)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_is_a_safetensors_file_with_our_metadata(path):
    from safetensors import safe_open

    write(path)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["labels4free"]) == HEADER


def test_reading_the_header_needs_no_torch(path):
    write(path)
    program = (
        "import sys\nfrom labels4free.checkpoints.native import read_native_header\n"
        "read_native_header(sys.argv[1])\nassert not {'torch', 'numpy', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)


@pytest.mark.parametrize("config", [{"a": float("nan")}, {"a": float("inf")}])
def test_values_that_are_no_json(path, config):
    with pytest.raises(ValueError, match="Out of range float values"):
        write(path, config=config)
    with pytest.raises(TypeError):
        write(path, config={"a": object()})
    assert not path.exists()


# Reading what is not a native checkpoint


def reject(path, message, kind=None):
    for read in (read_native_header, read_tensors):
        with pytest.raises(CheckpointError, match=message) as caught:
            read(path, kind)
        assert str(path) in str(caught.value)


OTHER = "is not a safetensors file; expected a checkpoint written by labels4free"
DAMAGED = "is damaged: its labels4free metadata cannot be understood; write or fetch it again"
UNMARKED = "is a safetensors file without labels4free's metadata; expected a checkpoint written by labels4free"
NO_FILES = [
    pickle.dumps({"g_ema": [1.0] * 50}),
    b"PK\x03\x04" + bytes(100),
    b"a text that is longer than eight bytes",
    struct.pack("<Q", 12) + b"[1, 2, 3, 4]",
    struct.pack("<Q", 12) + b"{not json..}",
    struct.pack("<Q", 8) + b'{"x": 1}',
    struct.pack("<Q", 25) + b'{"x": {"data_offsets":1}}',
    struct.pack("<Q", 36) + b'{"x": {"data_offsets":[0, "many"]}}  ',
    struct.pack("<Q", 2**63) + b"{" * 100,
    struct.pack("<Q", 50_000) + b'{"x":' * 10_000,
]
NO_HEADERS = [
    *("not json", "[]", "{}", "3", "[" * 100_000),
    *(json.dumps({k: v for k, v in HEADER.items() if k != missing}) for missing in HEADER),
    *(json.dumps({**HEADER, "format": version}) for version in (0, "1", None, 1.5, -1)),
    *(json.dumps({**HEADER, field: 3}) for field in ("kind", "family", "config", "info")),
]
LATER = json.dumps({"format": 2, "kind": {"changed": True}})
REFUSED = {
    **{f"file {i}": (content, OTHER) for i, content in enumerate(NO_FILES)},
    **{f"metadata {i}": ({"labels4free": text}, DAMAGED) for i, text in enumerate(NO_HEADERS)},
    "no metadata": (None, UNMARKED),
    "metadata of others": ({"format": "pt"}, UNMARKED),
    "later format": (
        {"labels4free": LATER},
        "is in format 2 of a later labels4free, this one reads up to 1; upgrade it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_native_checkpoint(path, name):
    """Of other files their content is given, of safetensors files their metadata."""
    content, message = REFUSED[name]
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        foreign(path, content)
    reject(path, message)


def test_files_that_cannot_be_read_or_are_others(path, tmp_path, monkeypatch):
    reject(path, "There is no checkpoint at")
    reject(tmp_path, "is a folder, expected a checkpoint file")
    write(path)
    assert read_native_header(path, None).kind == "generator"
    reject(path, "holds a checkpoint of kind 'generator', expected kind 'alpha_network'", "alpha_network")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"\0")
    reject(path, f"is damaged: it has {size + 1} bytes, its header lists {size}; write or fetch it again")
    monkeypatch.setattr("pathlib.Path.open", fail_with(PermissionError(errno.EACCES, "Permission denied")))
    reject(path, "cannot be read: Permission denied")


def test_truncated_anywhere(path):
    write(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="is truncated: it"):
            read_tensors(path)


def test_damaged_table(path):
    write(path)
    content = path.read_bytes()
    assert b'"F32"' in content
    path.write_bytes(content.replace(b'"F32"', b'"F99"'))
    read_native_header(path)  # which does not look at types
    with pytest.raises(CheckpointError, match=r"a\.safetensors is damaged: .*; write or fetch it again"):
        read_tensors(path)


def test_any_changed_byte_of_the_header_is_understood_or_reported(path):
    write(path)
    content = bytearray(path.read_bytes())
    length = 8 + int.from_bytes(content[:8], "little")
    for position in range(length):
        for change in (0x01, 0x80):
            damaged = bytearray(content)
            damaged[position] ^= change
            path.write_bytes(damaged)
            with suppress(CheckpointError):  # no other error, and no crash
                read_tensors(path, "generator")


def test_is_native(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"\x80\2}.")
    assert not is_native(tmp_path / "a.pt")
    assert not is_native(tmp_path)
    assert not is_native(tmp_path / "nowhere.pt")
    assert is_native(tmp_path / "nowhere.safetensors")  # its reader knows best what is wrong with it
    (tmp_path / "b.pt").write_bytes((1 << 40).to_bytes(8, "little") + b"{")
    assert not is_native(tmp_path / "b.pt")


# Writing where it is not possible


def test_an_older_file_is_replaced(path):
    write(path, family="old")
    write(path, family="new")
    assert read_native_header(path).family == "new"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "There is no space left to write .*a.safetensors; free some or choose another disk"),
        (errno.EDQUOT, "There is no space left to write"),
        (errno.EACCES, "a.safetensors cannot be written: .*; make its folder writable or choose another one"),
        (errno.EROFS, "a.safetensors cannot be written: .*; make its folder writable or choose another one"),
        (errno.EIO, r"a.safetensors cannot be written: Input/output error\.$"),
    ],
)
@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.open", "pathlib.Path.mkdir"])
def test_a_failed_write_leaves_the_older_file_and_nothing_else(path, monkeypatch, code, message, step):
    write(path, family="old")
    with monkeypatch.context() as patch:
        patch.setattr(step, fail_with(OSError(code, os.strerror(code))))
        with pytest.raises(CheckpointError, match=message):
            write(path, family="new")
    assert os.listdir(path.parent) == [path.name]
    assert read_native_header(path).family == "old"


def test_leftovers_of_killed_writers_are_removed_after_an_hour(path):
    names = (f".{path.name}.7-ab.tmp", f".{path.name}.8-cd.tmp", ".b.tmp")
    old, recent, other = (path.with_name(name) for name in names)
    for file in (old, recent, other):
        file.write_bytes(b"half a checkpoint")
    for file in (old, other):
        os.utime(file, (0, 0))
    write(path)
    assert set(os.listdir(path.parent)) == {path.name, recent.name, other.name}


def test_a_disk_that_is_really_full(path):
    resource = pytest.importorskip("resource", reason="limits of file sizes are POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(CheckpointError, match="There is no space left"):
            write(path, state={"x": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(path.parent) == []


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_readable_by_whom_the_user_says(path):
    mask = os.umask(0o027)
    try:
        write_atomically(path, b"x")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_where_a_folder_should_be_and_the_other_way_round(path):
    path.write_text("in the way")
    with pytest.raises(CheckpointError, match=r"b\.safetensors cannot be written: .*"):
        write(path / "b.safetensors")
    assert path.read_text() == "in the way"
    path.unlink()
    path.mkdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        write(path)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("name", ["caf\udce9.safetensors", "n" * 243 + ".safetensors"])
def test_names_as_file_systems_allow_them(tmp_path, name):
    """safetensors itself takes only UTF-8."""
    write(tmp_path / name)
    assert read_native_header(tmp_path / name).kind
    assert read_tensors(tmp_path / name).keys() == {"x", "y"}
    assert [path.name for path in tmp_path.iterdir()] == [name]
