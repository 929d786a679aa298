"""Every hostile file of the shared data, and mutations of good ones: an error of ours or plain data; nothing runs."""

from __future__ import annotations

import importlib.util
import io
import pickle
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.checkpoints.untrusted.pickle_writer import Call, Name, dumps
from tests.checkpoints.untrusted.test_safe_pickle import NETWORK, array, persistent, tensor

from labels4free.checkpoints.untrusted.safe_pickle import read_pickle
from labels4free.checkpoints.untrusted.torch_file import read_torch_file
from labels4free.errors import CheckpointError

FILES = {
    "01_os_system.pkl": "asks for posix.system",
    "02_builtins_eval.pkl": "asks for __builtin__.eval",
    "03_nested_in_state_dict.pt": "asks for posix.system",
    "04_namespace_subclass.pt": "asks for __builtin__.exec",
    "05_namespace_field.pt": "asks for __builtin__.eval",
    "06_load_from_bytes.pt": "asks for torch.storage._load_from_bytes",
    "07_load_from_bytes.pkl": "asks for posix.system",
    "08_rebuild_from_type.pt": "asks for torch._tensor._rebuild_from_type_v2",
    "09_getattr_chain.pkl": "asks for builtins.getattr",
    "10_dotted_name.pkl": "asks for torch.serialization.os.system",
    "11_old_opcodes.pkl": "is not a pickle of protocol 2 to 5",
    "12_object_array.npy": "",
    "13_object_array.npz": "",
    "14_object_array_in_pickle.pkl": "an array of something else than numbers",
    "15_swapped_data_pkl.pt": "asks for posix.system",
    "16_persistent_module_src.pkl": None,
    "17_tf_build_module_src.pkl": None,
    "18_truncated.pt": "is truncated",
    "19_truncated_legacy.pt": "is truncated",
    "20_truncated.pkl": "is truncated",
    "21_tensor_past_storage.pt": "does not fit its storage of 4 elements",
}
MUTANTS = 60


@pytest.fixture
def marker(tmp_path, monkeypatch):
    path = tmp_path / "marker"
    monkeypatch.setenv("L4F_MARKER", str(path))
    return path


def readers_of(path):
    own = {".pkl": [read_pickle], ".pt": [read_torch_file]}
    return own.get(path.suffix, [read_pickle, read_torch_file])


def test_every_hostile_file_is_listed(shared):
    found = {path.name for path in (shared / "fixtures" / "malicious").iterdir() if path.suffix != ".md"}
    assert found == FILES.keys()


@pytest.mark.parametrize("name", FILES)
def test_hostile_files(shared, marker, name):
    path = shared / "fixtures" / "malicious" / name
    for read in readers_of(path):
        began = time.process_time()
        if FILES[name] is None:
            read(path)  # as data: the source in it is dropped
        else:
            with pytest.raises(CheckpointError) as caught:
                read(path)
            assert str(caught.value).startswith(f"{path} ")
            assert FILES[name] in str(caught.value)
        assert time.process_time() - began < 5
    assert not marker.exists()


def test_the_source_in_a_file_is_dropped(shared):
    folder = shared / "fixtures" / "malicious"
    assert "src" not in str(vars(read_pickle(folder / "16_persistent_module_src.pkl")["G_ema"]))
    assert "build_module_src" not in read_pickle(folder / "17_tf_build_module_src.pkl").state


@pytest.mark.parametrize("name", FILES)
def test_each_reader_refuses_the_other_kinds_too(shared, marker, name):
    path = shared / "fixtures" / "malicious" / name
    if FILES[name] is not None:
        for read in (read_pickle, read_torch_file):
            with pytest.raises(CheckpointError):
                read(path)
    assert not marker.exists()


def good_files():
    """A small file of each format."""
    state = {"g_ema": {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2).half()}, "iter": 3}
    archive, legacy = io.BytesIO(), io.BytesIO()
    torch.save(state, archive)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    network = persistent("Generator", {"_parameters": {"w": tensor(torch.ones(2, 2))}, "gain": np.float64(1.5).item()})
    variables = [("w", array(np.ones((2, 2), np.float32)))]
    return {
        "archive.pt": archive.getvalue(),
        "legacy.pt": legacy.getvalue(),
        "ada.pkl": dumps({"G_ema": network, "set": {"a"}}, 3),
        "stylegan3.pkl": dumps({"G_ema": network, "set": {"a"}}, 4),
        "tensorflow.pkl": dumps((Call(NETWORK, new=True, state={"name": "G", "variables": variables}),), 4),
    }


@pytest.fixture(scope="module")
def mutations():
    path = Path(__file__).parents[3] / "tools" / "mutations.py"
    spec = importlib.util.spec_from_file_location("mutations", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutations"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutations"]


@pytest.mark.slow
@pytest.mark.parametrize("name", good_files())
def test_mutations_of_small_files(mutations, tmp_path, marker, name):
    seeds = {name: mutations.take_apart(data) for name, data in good_files().items()}
    check_mutants(mutations, seeds[name], list(seeds.values()), tmp_path / name, MUTANTS)
    assert not marker.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["nvlabs/tf_stylegan2.pkl", "nvlabs/ada_fp16_clamp.pkl", "alpha/labels4free_checkpoint_256.pt"]
)
def test_mutations_of_real_files(mutations, shared, tmp_path, marker, name):
    path = shared / "fixtures" / name
    check_mutants(mutations, mutations.take_apart(path.read_bytes()), [], tmp_path / path.name, MUTANTS // 3)
    assert not marker.exists()


def check_mutants(mutations, seed, others, path, count):
    (read,) = readers_of(path)
    path.write_bytes(seed.data)
    read(path)
    outcomes = {"read": 0, "refused": 0}
    for index in range(count):
        path.write_bytes(mutations.mutate(seed, others, random.Random(f"{path.name}/{index}")))
        try:
            read(path)
            outcomes["read"] += 1
        except CheckpointError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > count // 4, "the mutations do not do much"


HOSTILE = ["posix.system", "os.popen", "subprocess.getoutput", "builtins.eval", "builtins.exec"]


@pytest.mark.parametrize("wanted", HOSTILE)
def test_the_payloads_of_the_mutations_do_run_if_they_are_let(mutations, marker, wanted):
    module, name, argument = next(entry for entry in mutations.HOSTILE if f"{entry[0]}.{entry[1]}" == wanted)
    result = pickle.loads(dumps(Call(Name(module, name), argument), 2))
    if wanted == "os.popen":
        result.close()
    assert marker.exists()


def test_the_mutations_have_payloads(mutations):
    seed = mutations.take_apart(good_files()["ada.pkl"])
    mutants = [mutations.mutate(seed, [], random.Random(index)) for index in range(800)]
    for wanted in HOSTILE:
        module, _, name = wanted.partition(".")
        assert any(f"c{module}\n{name}\n".encode() in data for data in mutants), wanted
    assert len(set(mutants)) > 700
