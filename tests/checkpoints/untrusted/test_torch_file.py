from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import struct
import time
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from tests.checkpoints.untrusted.pickle_writer import StorageId, archive, tensor_program, text

from labels4free.checkpoints.untrusted import torch_file
from labels4free.checkpoints.untrusted.inert_data import RefusedError
from labels4free.checkpoints.untrusted.torch_file import is_torch_file, read_storage, read_torch_file
from labels4free.errors import CheckpointError

FOUR = np.arange(4, dtype=np.float32).tobytes()
LEGACY = {"zip": False, "legacy": True}
both_formats = pytest.mark.parametrize("legacy", LEGACY.values(), ids=LEGACY)


def saved(value, *, legacy=False):
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


@pytest.fixture
def read(tmp_path):
    def from_bytes(data):
        path = tmp_path / "file.pt"
        path.write_bytes(data)
        return read_torch_file(path)

    return from_bytes


@pytest.fixture
def refusal(read, tmp_path):
    def of_bytes(data):
        with pytest.raises(CheckpointError) as caught:
            read(data)
        assert str(caught.value).startswith(f"{tmp_path / 'file.pt'} ")
        return str(caught.value)

    return of_bytes


def everything():
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "state": OrderedDict(a=base, view=base[1:3, ::2], row=base[2], transposed=base.T),
        "kinds": [torch.arange(3).to(kind) for kind in (torch.half, torch.bfloat16, torch.float64, torch.int64)],
        "small": [torch.arange(3).to(kind) for kind in (torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(1.5),
        "module": torch.nn.Linear(2, 3).state_dict(),  # an OrderedDict with an attribute
        "args": argparse.Namespace(size=256, name="ä", betas=(0.0, 0.99), sub=argparse.Namespace(x=None)),
        "plain": [1, 2.5, "text", None, True, (1, 2), {3: "x"}],
        "device": torch.device("cuda", 1),
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
    }


@both_formats
def test_everything_comes_back(read, legacy):
    expected = everything()
    found = read(saved(expected, legacy=legacy))
    assert found["state"].keys() == expected["state"].keys()
    for group in ("kinds", "small"):
        assert [t.dtype for t in found[group]] == [t.dtype for t in expected[group]]
        assert all(torch.equal(a, b) for a, b in zip(found[group], expected[group], strict=True))
    for name, tensor in expected["state"].items():
        assert torch.equal(found["state"][name], tensor)
    assert torch.equal(found["module"]["weight"], expected["module"]["weight"])
    assert torch.equal(found["parameter"], torch.ones(2))
    assert not found["parameter"].requires_grad
    assert found["empty"].shape == (0, 3)
    assert found["number"].item() == 1.5
    assert found["args"] == expected["args"]
    assert type(found["args"].sub) is argparse.Namespace
    for name in ("plain", "device", "dtype", "size"):
        assert found[name] == expected[name]


@both_formats
def test_files_written_on_a_gpu(read, legacy):
    data = saved({"a": torch.arange(4.0).half()}, legacy=legacy)
    pickled = text("cpu")
    assert pickled in data
    if legacy:
        data = data.replace(pickled, text("cuda:0"))
    else:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            program = file.read("archive/data.pkl").replace(pickled, text("cuda:0"))
            data = archive(program, {"0": file.read("archive/data/0")})
    found = read(data)["a"]
    assert torch.equal(found, torch.arange(4.0).half())
    assert found.device.type == "cpu"


def test_a_hand_made_archive(read):
    assert torch.equal(read(archive(tensor_program((2, 2), (2, 1)), {"0": FOUR})), torch.arange(4.0).reshape(2, 2))
    untyped = tensor_program((3,), (1,), storage=StorageId("UntypedStorage", elements=3))
    with pytest.raises(CheckpointError, match=r"asks for torch\.UntypedStorage"):
        read(archive(untyped, {"0": b"abc"}))


def test_pytorch_s_own_loader_is_never_asked(read, monkeypatch):
    monkeypatch.setattr(torch, "load", None)
    for legacy in LEGACY.values():
        assert torch.equal(read(saved({"a": torch.ones(2)}, legacy=legacy))["a"], torch.ones(2))


def test_an_archive_of_other_byte_order(refusal):
    program, records = tensor_program((4,), (1,)), {"archive/byteorder": b"big", "archive/data/0": FOUR}
    assert "written by a machine of other byte order" in refusal(several({"archive/data.pkl": program} | records))


def hostile_archive(tail):
    return archive(tensor_program((4,), (1,), tail=b"0" + tail), {"0": FOUR})


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("posix", "system"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._tensor", "_rebuild_from_type_v2"),
        ("torch._utils", "_rebuild_wrapper_subclass"),
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch._utils", "_rebuild_meta_tensor_no_storage"),
        ("collections", "Counter"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("model", "Generator"),
    ],
)
def test_other_names_are_refused(refusal, module, name):
    message = f"is refused: it asks for {module}.{name} when it is read, which can run any code."
    assert message in refusal(hostile_archive(f"c{module}\n{name}\n".encode()))


@both_formats
def test_a_whole_module_is_refused(refusal, legacy):
    assert "it asks for torch.nn.modules.linear.Linear" in refusal(saved(torch.nn.Linear(1, 1), legacy=legacy))


@both_formats
def test_numpy_is_refused(refusal, legacy):
    assert "it asks for numpy" in refusal(saved({"a": np.float64(1)}, legacy=legacy))


NAMESPACE = b"cargparse\nNamespace\n)\x81"


@pytest.mark.parametrize(
    "state",
    [
        b"}" + text("__class__") + b"Ns",
        b"}" + text("_get_args") + b"Ns",
        b"}" + text("no name") + b"Ns",
        b"}K\x01Ns",
        b"]",
        b"}" + text("a") + b"Nsb}" + text("b") + b"Ns",  # twice
    ],
)
def test_settings_that_are_none(refusal, state):
    assert "BUILD" in refusal(hostile_archive(NAMESPACE + state + b"b"))


def test_settings_hold_nothing_that_runs(refusal):
    tail = NAMESPACE + b"}" + text("path") + b"cbuiltins\neval\n" + text("1") + b"\x85Rsb"
    assert "it asks for builtins.eval" in refusal(hostile_archive(tail))


def stored(*kind, **more):
    """One element of a storage."""
    return tensor_program((1,), (1,), storage=StorageId(*kind, **more))


TENSORS = {
    "past its storage": (tensor_program((4096,), (1,)), "shape [4096] and stride [1] at 0 does not fit its storage of"),
    "stride 0": (tensor_program((10**12,), (0,)), "does not fit its storage of 4 elements"),
    "behind its storage": (tensor_program((1,), (1,), 4), "does not fit"),
    "negative": (tensor_program((1,), (-1,)), "whose shape or stride is not a list of numbers"),
    "text": (tensor_program("1", (1,)), "whose shape or stride"),
    "huge storage": (stored(elements=2**60), "a storage that makes no sense"),
    "large storage": (stored(elements=2**40), "should have 4,398,046,511,104 bytes"),
    "no count": (stored(elements=4.0), "a storage that makes no sense"),
    "short storage": (stored("DoubleStorage"), "should have 32 bytes, there are 16"),
    "long storage": (stored(elements=3), "should have 12 bytes, there are 16"),
    "no storage": (stored(key="7"), "its storage 7 should have 16 bytes, there are none"),
    "other kind": (stored("QInt8Storage"), "asks for torch.QInt8Storage"),
    "no kind": (stored("float32"), "a storage that makes no sense"),
    "hooks": (tensor_program((1,), (1,)).replace(b")Rt", b")RK\x01Nst"), "REDUCE"),
    "metadata": (tensor_program((1,), (1,)).replace(b")Rt", b")R" + b"}K\x01Ns" + b"t"), "REDUCE"),
    "identifier": (b"\x80\x02K\x01Q.", "it refers to something that makes no sense"),
    "module": (b"\x80\x02(" + text("module") + b"NNNNtQ.", "it holds a whole program object"),
    "behind its end": (tensor_program((1,), (1,)) + b"N.", "goes on behind its end"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_impossible_tensors(refusal, name):
    program, message = TENSORS[name]
    assert message in refusal(archive(program, {"0": FOUR}))


def test_one_storage_described_in_two_ways(refusal):
    first, second = tensor_program((1,), (1,)), tensor_program((1,), (1,), storage=StorageId("IntStorage"))
    assert "the same storage in two ways" in refusal(archive(first[:-1] + second[2:-1] + b"\x86.", {"0": FOUR}))


@pytest.mark.slow
def test_zip_bomb(refusal):
    data = archive(tensor_program((1,), (1,)), {"0": FOUR, "1": bytes(50_000_000)}, packed=zipfile.ZIP_DEFLATED)
    assert len(data) < 100_000
    assert "is packed or encrypted, which PyTorch never does" in refusal(data)


def test_a_program_that_is_too_long(refusal, monkeypatch):
    monkeypatch.setattr(torch_file, "MAX_PICKLE_BYTES", 50)
    assert "its data.pkl has" in refusal(archive(tensor_program((1,), (1,)), {"0": FOUR}))


def test_the_same_tensor_a_million_times(refusal):
    program = tensor_program((4,), (1,))[:-1] + b"q\x010ctorch._utils\n_rebuild_parameter\nq\x000(h\x01\x89}tq\x020"
    program += b"](" + b"h\x00h\x02R" * 30_000 + b"e."
    assert "far more memory or work" in refusal(archive(program, {"0": FOUR}))


def several(records):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, value in records.items():
            file.writestr(name, value)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"hello world, this is no checkpoint", "is not a PyTorch checkpoint; expected a file that torch.save wrote."),
        (pickle.dumps({"a": 1}, 4), "is not a PyTorch checkpoint"),
        (several({"a.txt": b"x"}), "is not a PyTorch checkpoint"),
        (several({"w.npy": b"x"}), "is an archive of NumPy arrays; expected a file that torch.save wrote."),
        (several({"m/data.pkl": b"x", "m/constants.pkl": b"x"}), "is a TorchScript program, which is not run here"),
        (several({"m/data.pkl": b"x", "m/code/a.py": b"x"}), "is a TorchScript program"),
        (several({"m/data.pkl": b"x", "n/version": b"x"}), "its records lie in several folders"),
        (saved({"a": 1})[:-30], "is truncated"),
    ],
)
def test_something_else(refusal, data, message):
    assert message in refusal(data)


def legacy_parts(value):
    data = saved(value, legacy=True)
    ends, at = [], 0
    for _ in range(5):
        stream = io.BytesIO(data)
        stream.seek(at)
        at = [position for _, _, position in pickletools.genops(stream)][-1] + 1
        ends.append(at)
    starts = [0, *ends]
    return [data[a:b] for a, b in zip(starts, [*ends, len(data)], strict=True)]


def pickled(value):
    return pickle.dumps(value, 2)


LEGACY_DAMAGE = {
    "version": (1, pickled(1002), "a version of PyTorch's old format that is not known"),
    "machine": (2, pickled([]), "a version of PyTorch's old format that is not known"),
    "byte order": (2, pickled({"little_endian": False}), "written by a machine of other byte order"),
    "keys": (4, pickled(["x"]), "its list of storages does not fit its tensors"),
    "no keys": (4, pickled([]), "its list of storages does not fit its tensors"),
    "keys of another kind": (4, pickled([1]), "its list of storages is none"),
    "keys twice": (4, pickled(["0", "0"]), "its list of storages is none"),
    "count": (5, struct.pack("<Q", 5) + FOUR, "a storage is not as long as its tensors say"),
    "huge count": (5, struct.pack("<Q", 2**60) + FOUR, "a storage is not as long as its tensors say"),
    "behind": (5, struct.pack("<Q", 4) + FOUR + b"xyz", "there are 3 bytes behind its end"),
    "cut": (5, struct.pack("<Q", 4) + FOUR[:-1], "is truncated at byte"),
    "global": (3, b"\x80\x02cposix\nsystem\n.", "it asks for posix.system"),
    "hostile machine": (2, b"\x80\x02cposix\nsystem\n.", "it asks for posix.system"),
    "hostile keys": (4, b"\x80\x02cposix\nsystem\n.", "it asks for posix.system"),
}


@pytest.mark.parametrize("name", LEGACY_DAMAGE)
def test_damaged_legacy_files(refusal, name):
    parts = legacy_parts(torch.arange(4.0))
    which, replacement, message = LEGACY_DAMAGE[name]
    parts[which] = replacement
    assert message in refusal(b"".join(parts))


def test_a_view_of_a_storage_in_a_legacy_file_is_refused(refusal):
    parts = legacy_parts(torch.arange(4.0))
    key = parts[4][parts[4].index(b"X") + 5 :].partition(b"q")[0].decode()
    identifier = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + b"K\x04"
    parts[3] = b"\x80\x02" + identifier + text("v") + b"K\x00K\x04\x87tQ."
    assert "a storage that makes no sense" in refusal(b"".join(parts))


def test_legacy_truncations(read):
    data = saved({"a": torch.arange(4.0)}, legacy=True)
    for end in range(1, len(data)):
        with pytest.raises(CheckpointError):
            read(data[:end])


@both_formats
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.int64])
def test_read_storage(legacy, kind):
    found = read_storage(saved(torch.arange(5).to(kind)._typed_storage(), legacy=legacy))
    assert (found.dtype, found.elements) == (kind, 5)
    assert torch.equal(torch.empty(0, dtype=kind).set_(found.memory, 0, (5,), (1,)), torch.arange(5).to(kind))


def test_read_storage_of_something_else():
    with pytest.raises(RefusedError, match="it has an embedded file in the place of a tensor's memory"):
        read_storage(saved(torch.zeros(2), legacy=True))
    with pytest.raises(RefusedError, match=r"it asks for posix\.system"):
        read_storage(b"\x80\x02cposix\nsystem\n.")
    with pytest.raises(RefusedError, match=r"more than 1,000 instructions"):
        read_storage(saved([0] * 2000, legacy=True))


def test_is_torch_file(shared):
    assert is_torch_file(saved(1)[:20])
    assert is_torch_file(saved(1, legacy=True)[:20])
    assert not is_torch_file(pickle.dumps({}, 2)[:20])
    assert not is_torch_file(b"")
    for path in (shared / "fixtures").glob("*/*.p[kt]*"):
        expected = path.suffix == ".pt"
        assert is_torch_file(path.read_bytes()[:20]) == expected, path.name


@pytest.mark.parametrize("folder", ["alpha", "rosinality"])
def test_the_real_files_load(shared, folder):
    for path in sorted((shared / "fixtures" / folder).glob("*.pt")):
        began = time.process_time()
        found = read_torch_file(path)
        assert time.process_time() - began < 10
        reference = torch.load(path, map_location="cpu", weights_only=False)
        assert same(found, reference), path.name
        assert ("args" in found) == (type(found.get("args")) is argparse.Namespace)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
