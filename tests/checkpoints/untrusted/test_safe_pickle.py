from __future__ import annotations

import io
import json
import math
import pickle
import runpy
import struct

import numpy as np
import pytest
import torch
from tests.checkpoints.untrusted.pickle_writer import Call, Name, dumps

from labels4free.checkpoints.untrusted.grants import MAX_TENSORS
from labels4free.checkpoints.untrusted.inert_data import PersistentObject, TensorflowNetwork
from labels4free.checkpoints.untrusted.safe_pickle import read_pickle
from labels4free.errors import CheckpointError

RECONSTRUCT = Name("torch_utils.persistence", "_reconstruct_persistent_obj")
NETWORK = Name("dnnlib.tflib.network", "Network")
EASY = Name("dnnlib.util", "EasyDict")
DTYPE, NDARRAY = Name("numpy", "dtype"), Name("numpy", "ndarray")
SCALAR, ARRAY = Name("numpy.core.multiarray", "scalar"), Name("numpy.core.multiarray", "_reconstruct")
LOAD = Name("torch.storage", "_load_from_bytes")
TENSOR, PARAMETER = Name("torch._utils", "_rebuild_tensor_v2"), Name("torch._utils", "_rebuild_parameter")
protocols = pytest.mark.parametrize("protocol", [2, 3, 4, 5])


@pytest.fixture
def read(tmp_path):
    def from_bytes(data):
        path = tmp_path / "network.pkl"
        path.write_bytes(data)
        return read_pickle(path)

    return from_bytes


@pytest.fixture
def refusal(read, tmp_path):
    def of_value(value, protocol=4):
        with pytest.raises(CheckpointError) as caught:
            read(value if isinstance(value, bytes) else dumps(value, protocol))
        assert str(caught.value).startswith(f"{tmp_path / 'network.pkl'} ")
        return str(caught.value)

    return of_value


def persistent(name, attributes, **more):
    meta = {"type": "class", "version": 6, "module_src": "raise SystemExit", "class_name": name, "state": attributes}
    return Call(RECONSTRUCT, meta | more)


def kind(code="f4", order="<"):
    return Call(DTYPE, code, False, True, state=(3, order, None, None, None, -1, -1, 0))


def array(value, code="f4", order="<", fortran=False):
    state = (1, value.shape, kind(code, order), fortran, value.tobytes("F" if fortran else "C"))
    return Call(ARRAY, NDARRAY, (0,), b"b", state=state)


def storage_bytes(value):
    out = io.BytesIO()
    torch.save(value._typed_storage(), out, _use_new_zipfile_serialization=False)
    return out.getvalue()


def tensor(value, *, size=None, stride=None, offset=None, name=TENSOR, hooks=None):
    empty = Call(Name("collections", "OrderedDict"))
    place = (
        value.storage_offset() if offset is None else offset,
        tuple(value.shape) if size is None else size,
        value.stride() if stride is None else stride,
    )
    return Call(name, Call(LOAD, storage_bytes(value)), *place, False, empty if hooks is None else hooks)


@protocols
def test_persistent_objects(read, protocol):
    weight = Call(PARAMETER, tensor(torch.arange(4.0)), True, {})
    inner = persistent("Layer", {"_parameters": {"w": weight}, "_modules": {}})
    outer = persistent("Generator", {"z_dim": 512, "_modules": {"b4": inner, "again": inner}})
    found = read(dumps({"G_ema": outer}, protocol))
    generator = found["G_ema"]
    assert type(generator) is PersistentObject
    assert generator.class_name == "Generator"
    assert generator.state["z_dim"] == 512
    layer = generator.state["_modules"]["b4"]
    assert layer.class_name == "Layer"
    assert generator.state["_modules"]["again"] is layer
    assert torch.equal(layer.state["_parameters"]["w"], torch.arange(4.0))
    assert not layer.state["_parameters"]["w"].requires_grad
    assert "SystemExit" not in repr(vars(generator))


@pytest.mark.parametrize(
    "wrong",
    [{"type": "function"}, {"type": None}, {"class_name": 3}, {"state": None}, {"state": {1: 2}}, {"state": [1]}],
)
def test_objects_that_are_none(refusal, wrong):
    assert "is damaged" in refusal(persistent("G", {}, **wrong))


def test_attributes_are_fixed_once_they_were_checked(read):
    # meta = {..., "state": s}; the object is made, and afterwards s[1] = 2
    program = b"\x80\x04}\x940" + f"c{RECONSTRUCT.module}\n{RECONSTRUCT.name}\n".encode()
    meta = b"}(\x8c\x04type\x8c\x05class\x8c\x0aclass_name\x8c\x01G\x8c\x05stateh\x00u"
    data = program + meta + b"\x85R\x94h\x00K\x01K\x02s\x86."
    found = read(data)
    assert found[0].state == {}


@protocols
def test_tensorflow_networks(read, protocol):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    part = Call(NETWORK, new=True, state={"name": "synthesis", "variables": [("w", array(weight))]})
    state = {"version": 4, "static_kwargs": Call(EASY), "components": {"synthesis": part}}
    state["build_module_src"] = "raise SystemExit"
    generator, other = read(dumps((Call(NETWORK, new=True, state=state), part), protocol))
    assert type(generator) is TensorflowNetwork
    assert "build_module_src" not in generator.state
    assert generator.state["static_kwargs"] == {}
    assert generator.state["components"]["synthesis"] is other
    np.testing.assert_array_equal(other.state["variables"][0][1], weight, strict=True)


@pytest.mark.parametrize("names", [("builtins", "copyreg"), ("__builtin__", "copy_reg")])
def test_objects_of_the_oldest_protocols(read, refusal, names):
    base, reconstructor = Name(names[0], "object"), Name(names[1], "_reconstructor")
    found = read(dumps(Call(reconstructor, NETWORK, base, None, state={"name": "G"}), 2))
    assert (type(found), found.state) == (TensorflowNetwork, {"name": "G"})
    for wrong in ((LOAD, base, None), (NETWORK, NETWORK, None), (NETWORK, base, 1), (base, base, None)):
        assert "REDUCE" in refusal(Call(reconstructor, *wrong))


def test_a_network_is_filled_once(refusal):
    assert "NEWOBJ" in refusal(Call(NETWORK, {"a": 1}, new=True))
    assert "BUILD" in refusal(dumps(Call(NETWORK, new=True, state={"a": 1}))[:-1] + b"}\x8c\x01bNsb.")
    assert "BUILD" in refusal(Call(NETWORK, new=True, state={1: 1}))


@protocols
def test_real_numpy_values(read, protocol):
    values = {
        "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
        "f64": np.linspace(0, 1, 5),
        "f16": np.ones((2, 0, 3), np.float16),
        "i64": np.array(7),
        "u8": np.arange(200, dtype=np.uint8),
        "bool": np.array([True, False]),
        "fortran": np.asfortranarray(np.arange(12, dtype=np.int32).reshape(3, 4)),
        "big": np.arange(3, dtype=">f4"),
    }
    found = read(pickle.dumps(values, protocol))
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value, strict=name != "big")
        assert found[name].flags.writeable


@protocols
def test_real_numpy_numbers_become_ordinary_ones(read, protocol):
    found = read(pickle.dumps([np.float64(1.5), np.float32(0.25), np.int64(-3), np.bool_(True)], protocol))
    assert found == [1.5, 0.25, -3, True]
    assert [type(value) for value in found] == [float, float, int, bool]


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_both_names_of_numpy(read, core):
    found = read(dumps(Call(Name(f"{core}.multiarray", "scalar"), kind(), struct.pack("<f", 0.5))))
    assert found == 0.5
    buffer = Name(f"{core}.numeric", "_frombuffer")
    found = read(dumps(Call(buffer, struct.pack("<2f", 1, 2), kind(), (2,), "C"), 5))
    np.testing.assert_array_equal(found, np.float32([1, 2]), strict=True)


FOUR = np.zeros(4, np.float32)


def filled(shape, number_type, data, *, fortran=False):
    return Call(ARRAY, NDARRAY, (0,), b"b", state=(1, shape, number_type, fortran, data))


TWICE = dumps(filled((4,), kind(), bytes(16)), 2)[:-1] + dumps((1, (0,), kind(), False, b""), 2)[2:-1] + b"b."
BAD_NUMPY = {
    "objects": (Call(DTYPE, "O8", False, True), "an array of something else than numbers, which can run any code"),
    "records": (Call(DTYPE, "V8", False, True), "something else than numbers"),
    "text type": (Call(DTYPE, "U4", False, True), "something else than numbers"),
    "odd type": (Call(DTYPE, "f4,i4", False, True), "something else than numbers"),
    "long double": (Call(DTYPE, "f16", False, True), "something else than numbers"),
    "fields": (Call(DTYPE, "f4", state=(3, "<", None, ("a",), {}, -1, -1, 0)), "BUILD"),
    "order": (Call(DTYPE, "f4", state=(3, "f4,", None, None, None, -1, -1, 0)), "BUILD"),
    "type alone": (kind(), "neither a number"),
    "class alone": (NDARRAY, "neither a number"),
    "no class": (Call(ARRAY, DTYPE, (0,), b"b"), "REDUCE"),
    "list of objects": (filled((4,), kind(), [1, 2, 3, 4]), "BUILD"),
    "filled twice": (
        dumps(filled((4,), kind(), bytes(16)), 2)[:-1] + dumps((1, (0,), kind(), False, b""), 2)[2:-1] + b"b.",
        "BUILD",
    ),
    "too few bytes": (filled((5,), kind(), bytes(16)), "cannot have 16 bytes"),
    "too many bytes": (filled((3,), kind(), bytes(16)), "cannot have 16 bytes"),
    "negative": (filled((-4, -1), kind(), bytes(16)), "BUILD"),
    "huge": (filled((2**62, 4), kind(), bytes(16)), "BUILD"),
    "huge and empty": (filled((0, *[2**31 - 1] * 9), kind(), b""), "BUILD"),
    "array as order": (filled((4,), kind(), bytes(16), fortran=array(FOUR)), "BUILD"),
    "array as type": (filled((4,), array(FOUR), bytes(16)), "BUILD"),
    "long number": (Call(SCALAR, kind(), bytes(8)), "cannot have 8 bytes"),
    "number of objects": (Call(SCALAR, Call(DTYPE, "O8", False, True), b"x"), "something else than numbers"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_NUMPY)
def test_numpy_values_that_are_refused(refusal, name):
    value, message = BAD_NUMPY[name]
    assert message in refusal(value)


@protocols
def test_tensors_as_pytorch_pickles_them(read, protocol):
    base = torch.arange(24.0).reshape(4, 6)
    values = {
        "base": base,
        "view": base[1:3, ::2],
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "half": torch.arange(3).half(),
        "bfloat": torch.ones(2).bfloat16(),
        "long": torch.arange(3),
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0),
        "number": torch.tensor(2.5),
        "large": torch.arange(40_000.0),
        "shape": torch.Size([1, 2]),
        "device": torch.device("cuda", 0),
        "kind": torch.float16,
    }
    found = read(pickle.dumps(values, protocol))
    assert (found.pop("shape"), found.pop("device"), found.pop("kind")) == ((1, 2), "cuda:0", torch.float16)
    for name, value in found.items():
        assert type(value) is torch.Tensor
        assert value.dtype == values[name].dtype
        assert torch.equal(value, values[name])
        assert not value.requires_grad


ONES = torch.ones(4)
BAD_TENSORS = {
    "past its storage": (tensor(ONES, size=(4096,)), "does not fit its storage of 4 elements"),
    "stride 0": (tensor(ONES, size=(10**12,), stride=(0,)), "does not fit its storage"),
    "negative": (tensor(ONES, stride=(-1,)), "whose shape or stride is not a list of numbers"),
    "offset": (tensor(ONES, offset=1), "does not fit its storage"),
    "hooks": (tensor(ONES, hooks={1: 2}), "REDUCE"),
    "tensor as hooks": (tensor(ONES, hooks=tensor(ONES)), "REDUCE"),
    "tensor as storage": (Call(TENSOR, tensor(ONES), 0, (4,), (1,), False, None), "REDUCE"),
    "storage alone": (Call(LOAD, storage_bytes(ONES)), "neither a number"),
    "parameter of a number": (Call(PARAMETER, 1, True, {}), "REDUCE"),
    "hostile storage": (Call(LOAD, b"\x80\x02cposix\nsystem\n."), "it asks for posix.system"),
    "storage of text": (Call(LOAD, "abc"), "REDUCE"),
    "storage within a storage": (Call(LOAD, dumps(Call(LOAD, storage_bytes(ONES)), 2)), "asks for torch.storage."),
    "other rebuilding": (
        tensor(ONES, name=Name("torch._utils", "_rebuild_qtensor")),
        "asks for torch._utils._rebuild_q",
    ),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_tensors_that_are_refused(refusal, name):
    value, message = BAD_TENSORS[name]
    found = refusal(value)
    assert message in found


def test_parameters_with_attributes(read):
    value = Call(Name("torch._utils", "_rebuild_parameter_with_state"), tensor(ONES), True, {}, {"tag": 1})
    assert torch.equal(read(dumps(value)), ONES)


def test_other_plain_names(read, refusal):
    builtins = Name("builtins", "set")
    value = {
        "set": Call(builtins, ["a", "b"]),
        "old": Call(Name("__builtin__", "set"), []),
        "bytes": Call(Name("_codecs", "encode"), "\xe4\xff", "latin1"),
        "none": Call(Name("__builtin__", "bytes")),
        "easy": Call(Name("dnnlib", "EasyDict"), new=True),
    }
    assert read(dumps(value)) == {"set": {"a", "b"}, "old": set(), "bytes": b"\xe4\xff", "none": b"", "easy": {}}
    assert "REDUCE" in refusal(Call(builtins, [(1, 2)]))
    assert "REDUCE" in refusal(Call(builtins, "ab"))
    assert "REDUCE" in refusal(Call(Name("_codecs", "encode"), "a", "rot13"))
    assert "REDUCE" in refusal(Call(Name("_codecs", "encode"), "中", "latin1"))


NESTED = storage_bytes(torch.zeros(2))
REPEATED = b"\x80\x04" + f"c{LOAD.module}\n{LOAD.name}\n".encode() + b"\x94B" + struct.pack("<I", len(NESTED)) + NESTED
REPEATED += b"\x94](" + b"h\x00h\x01\x85R" * (MAX_TENSORS + 1) + b"e."
BOMBS = {
    "the same storage again and again": (REPEATED, "far more memory or work"),
    "the same text encoded again and again": (
        dumps([Call(Name("_codecs", "encode"), text, "latin1") for text in ["x" * 1_000_000] * 9]),
        "far more memory or work",
    ),
    "persistent identifier": (b"\x80\x04K\x01Q.", "it refers to data outside itself"),
    "extension": (b"\x80\x04\x82\x01.", "the pickle instruction EXT1"),
    "list in itself": (b"\x80\x04]\x94h\x00a.", "a container that contains itself"),
    "object in itself": (b"\x80\x04}\x94\x8c\x01ah\x00s.", "a container that contains itself"),
    "raw bytes": (dumps({"a": bytes(100_000)}), "it holds raw bytes outside any tensor"),
    "several pickles": (dumps({}) + dumps({}), "bytes behind its pickle"),
    "zip archive": (b"PK\3\4" + bytes(40), "is a zip archive, expected a network pickle"),
    "text": (b"hello world", "is not a pickle of protocol 2 to 5"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_and_other_files(refusal, name):
    data, message = BOMBS[name]
    found = refusal(data)
    assert message in found


def test_the_real_tensorflow_network_has_the_arrays_of_the_filling_rules(shared):
    folder = shared / "fixtures"
    rules = runpy.run_path(str(folder / "fill.py"))
    described = json.loads((folder / "nvlabs" / "tf_stylegan2.describe.json").read_text(encoding="utf-8"))
    found = read_pickle(folder / "nvlabs" / "tf_stylegan2.pkl")
    assert [network.state["name"] for network in found] == ["G", "D", "Gs"]
    count = 0
    for network, tree in zip(found, described["networks_tree"], strict=True):
        salt = described["salts"][network.state["name"]]
        parts = [("", network, tree)]
        parts += [(f"{name}/", part, tree["components"][name]) for name, part in network.state["components"].items()]
        for path, part, expected in parts:
            assert part.state["build_func_name"] == expected["build_func_name"]
            assert dict(part.state["static_kwargs"]) == expected["static_kwargs"]
            for (name, value), (key, shape, _) in zip(part.state["variables"], expected["variables"], strict=True):
                assert (name, list(np.shape(value))) == (key, shape)
                filled = rules["fill"](path + key, shape, salt)
                assert filled is None or np.array_equal(value, filled), path + key
                count += math.prod(shape)
    assert count > 100_000
