"""Files of other projects: which converter takes them, and what is said of those that none takes."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.checkpoints.ir_writer import ir_files
from tests.tiny import tiny_stylegan2

from labels4free.checkpoints.contents import Checkpoint
from labels4free.checkpoints.foreign import formats as foreign
from labels4free.checkpoints.foreign.formats import CONVERTERS, read_foreign
from labels4free.checkpoints.foreign.rosinality import to_rosinality, write_rosinality
from labels4free.checkpoints.native import is_native, write_native
from labels4free.checkpoints.untrusted.torch_file import read_torch_file
from labels4free.errors import CheckpointError
from labels4free.generators.mobile_stylegan import MobileStyleGAN
from labels4free.networks.discriminator import Discriminator
from labels4free.networks.paper_network import PaperNetwork

GOOD = {
    "rosinality/tiny_train_checkpoint.pt": ("rosinality", True, True, False),
    "rosinality/tiny_converted.pt": ("rosinality", True, False, False),
    "rosinality/tiny_converted_with_d_legacy_format.pt": ("rosinality", True, True, False),
    "alpha/labels4free_checkpoint_256.pt": ("labels4free", False, False, True),
    "alpha/labels4free_checkpoint_256_bg_extractor.pt": ("labels4free", False, False, True),
    "alpha/labels4free_checkpoint_256_distributed.pt": ("labels4free", False, False, True),
    "nvlabs/ada_uncond.pkl": ("nvidia", True, True, False),
    "nvlabs/ada_cond.pkl": ("nvidia", True, True, False),
    "nvlabs/ada_fp16_clamp.pkl": ("nvidia", True, True, False),
    "nvlabs/tf_stylegan2.pkl": ("nvidia-tensorflow", True, True, False),
}


@pytest.fixture
def refused(tmp_path):
    """Write a file and give the reason why it is refused."""

    def refused(content, name="x.pt"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            read_foreign(path)
        return str(caught.value).replace(str(tmp_path), "DIR")

    return refused


def saved(data, **options):
    file = io.BytesIO()
    torch.save(data, file, **options)
    return file.getvalue()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_good_files(shared, name):
    found = read_foreign(shared / "fixtures" / name)
    parts = (found.generator, found.discriminator, found.alpha_network)
    assert (found.format, *(part is not None for part in parts)) == GOOD[name]
    assert found.format in CONVERTERS
    assert not is_native(shared / "fixtures" / name)
    if found.generator is not None:
        assert not found.generator.training
        assert {value.dtype for value in found.generator.state_dict().values()} == {torch.float32}


def test_names_of_the_converters():
    assert set(CONVERTERS) == {"rosinality", "labels4free", "nvidia", "nvidia-tensorflow", "openvino-ir"}
    assert all(converter.title for converter in CONVERTERS.values())


def test_openvino_folder_and_files(tiny_generator, tmp_path):
    names = ("MappingNetwork.xml", "MappingNetwork.bin", "SynthesisNetwork.xml", "SynthesisNetwork.bin")
    for name, content in zip(names, ir_files(tiny_generator), strict=True):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "labels.txt").write_text("x")
    for given in (tmp_path, tmp_path / names[0], tmp_path / names[2], str(tmp_path)):
        found = read_foreign(given)
        assert found.format == "openvino-ir"
        assert isinstance(found.generator, MobileStyleGAN)
        assert torch.equal(found.generator.constant, tiny_generator.constant)
        assert any("10,000 mapped latents" in note for note in found.notes)
        assert not is_native(given)
    with pytest.raises(CheckpointError, match=r"is the file of an OpenVINO IR's constants: give .*Mapping.*xml or the"):
        read_foreign(tmp_path / names[1])
    (tmp_path / names[3]).unlink()
    with pytest.raises(CheckpointError, match=r"There is no checkpoint at .*SynthesisNetwork\.bin\."):
        read_foreign(tmp_path)
    (tmp_path / names[2]).rename(tmp_path / "other.xml")
    with pytest.raises(CheckpointError, match="is no OpenVINO IR of a generator: expected the files Mapping"):
        read_foreign(tmp_path)


def test_another_graph_beside_a_generator(tmp_path):
    for name in ("mapping.xml", "synthesis.xml", "segmenter.xml"):
        (tmp_path / name).write_text("<net/>")
    with pytest.raises(
        CheckpointError, match=r"segmenter\.xml is no OpenVINO IR of a generator: .*, which has mapping"
    ):
        read_foreign(tmp_path / "segmenter.xml")


def test_large_graphs_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "_MAX_XML_BYTES", 5)
    for name in ("mapping.xml", "synthesis.xml"):
        (tmp_path / name).write_text("<net/>")
    with pytest.raises(CheckpointError, match=r"mapping\.xml has 6 bytes, at most 5 are read\."):
        read_foreign(tmp_path)


@pytest.mark.slow
def test_alpha_checkpoint_with_whole_networks(shared, tmp_path):
    """As the original writes them: everything in one file."""
    generator = tiny_stylegan2()
    networks = to_rosinality(generator, Discriminator(64, {4: 3, 8: 3, 16: 3, 32: 3, 64: 3}))
    data = read_torch_file(shared / "fixtures" / "alpha" / "labels4free_checkpoint_256_distributed.pt")
    data |= {"g": networks["g_ema"], "d": networks["d"]}
    torch.save(data, tmp_path / "x.pt")
    found = read_foreign(tmp_path / "x.pt")
    assert isinstance(found.alpha_network, PaperNetwork)
    assert torch.equal(found.generator.constant, generator.constant)
    assert found.discriminator.resolution == 64
    assert set(found.ignored) == {"bg_extractor", "g_optim", "d_optim", "args", "ada_aug_p"}
    assert not any("g_ema" in note for note in found.notes)
    del data["g"]["style.2.bias"]
    torch.save(data, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"g of .*x\.pt lacks the tensor style\.2\.bias"):
        read_foreign(tmp_path / "x.pt")


def test_alpha_checkpoint_with_parts_of_networks(shared):
    found = read_foreign(shared / "fixtures" / "alpha" / "labels4free_checkpoint_256.pt")
    assert found.ignored["g"] == "g holds 4 tensors, no whole generator"
    assert found.ignored["d"] == "d holds 3 tensors, no whole discriminator"


def test_bare_alpha_network(shared, tmp_path):
    data = read_torch_file(shared / "fixtures" / "alpha" / "labels4free_checkpoint_256.pt")
    torch.save(data["bg_extractor"], tmp_path / "x.pt")
    assert isinstance(read_foreign(tmp_path / "x.pt").alpha_network, PaperNetwork)


@pytest.mark.slow
def test_written_rosinality_file(tmp_path):
    generator = tiny_stylegan2()
    write_rosinality(tmp_path / "sub" / "x.pt", generator)
    found = read_foreign(tmp_path / "sub" / "x.pt")
    for name, value in generator.state_dict().items():
        assert torch.equal(found.generator.state_dict()[name], value), name
    assert found.notes == ()


def test_missing_and_empty(refused, tmp_path):
    assert refused(None, "nowhere.pt") == "There is no checkpoint at DIR/nowhere.pt."
    assert refused(None, "nowhere.xml") == "There is no checkpoint at DIR/nowhere.xml."
    assert refused(b"") == "DIR/x.pt is empty; fetch it again."


def test_folders(refused, tmp_path):
    (tmp_path / "run").mkdir()
    assert "DIR/run is a folder of nothing, without an OpenVINO IR" in refused(None, "run")
    (tmp_path / "run" / "config.json").write_text("{}")
    assert "is a folder of config.json, without an OpenVINO IR (.xml and .bin files); give" in refused(None, "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "name", "what"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "x.pt", "a PNG picture: it cannot be converted; expected a checkpoint of"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "x.pkl", "a JPEG picture"),
        (b"GIF89a" + bytes(40), "x.pkl", "a GIF picture"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "x.pkl", "a WebP picture"),
        (b"%PDF-1.7\n", "x.pkl", "a PDF document"),
        (b"\x93NUMPY\1\0" + bytes(40), "x.npy", "a NumPy array (.npy)"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "x.h5", "an HDF5 file (Keras or h5py)"),
        (b"GGUF\3\0\0\0" + bytes(40), "x.pt", "a GGUF language model"),
        (gzip.compress(b"x" * 50, mtime=0), "x.pt", "a gzip archive: unpack it and give the checkpoint in it."),
        (b"7z\xbc\xaf'\x1c" + bytes(9), "x.pt", "a 7-Zip archive"),
        (b"PK\5\6" + bytes(18), "x.pt", "an empty zip archive: fetch it again."),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "x.pkl",
            "a Git LFS pointer: fetch the file that it stands for: git lfs pull",
        ),
        (
            b"\n<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>",
            "x.pkl",
            "a web page: the download saved an error or confirmation page; it is not the network; fetch the file",
        ),
        (b"<?xml version='1.0'?><html lang='en'></html>", "x.pt", "a web page"),
        (b"hello\nthere", "x.pt", "a text file that begins with 'hello\\nthere'"),
        ("größer als".encode(), "x.txt", "a text file that begins with 'größer als'"),
        (json.dumps({"a": 1}).encode(), "x.pt", "a text file that begins with '{\"a\": 1}'"),
        (b"\x08\x07\x12\x07pytorch\x1a\x051.13:" + bytes(90), "x.pt", "an ONNX model"),
        (b"\x08\x07\x12\x04tf2o\x1a\x051.13:" + bytes(90), "x.onnx", "an ONNX model"),
        (b"\x1c\0\0\0TFL3" + bytes(90), "x.tflite", "a TensorFlow Lite model"),
        (bytes(90) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "model.ckpt", "part of a TensorFlow checkpoint"),
        (bytes(90), "model.ckpt.data-00000-of-00001", "part of a TensorFlow checkpoint"),
        (b'model_checkpoint_path: "m"', "checkpoint", "part of a TensorFlow checkpoint: of TensorFlow's files only"),
        (b"(dp0\nS'a'\np1\n.", "x.pkl", "no pickle of protocol 2 to 5"),
        (bytes(range(1, 200)), "x.pt", "a binary file of a kind that is not known"),
        (b"\0", "x.pt", "a binary file of a kind that is not known"),
    ],
)
def test_what_other_files_look_like(refused, content, name, what):
    assert refused(content, name).startswith(f"DIR/{name} is {what}")


def test_archives(refused):
    file = io.BytesIO()
    np.savez(file, w=np.zeros(2))
    assert refused(file.getvalue()).startswith("DIR/x.pt is an archive of NumPy arrays (.npz): it cannot be converted")
    text = refused(zipped(network__model_dot_pt=b"x", readme_dot_txt=b"y"))
    assert text == (
        "DIR/x.pt is a zip archive of network/model.pt, readme.txt, not one of PyTorch's: unpack it and give the "
        "checkpoint in it."
    )
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    assert refused(file.getvalue()).startswith("DIR/x.pt is a tar archive: unpack it and give the checkpoint in it; of")


def test_torchscript(refused):
    """A program, not weights; written by hand, since torch.jit is on its way out."""
    content = zipped(m__data_dot_pkl=b"\x80\x02}.", m__constants_dot_pkl=b"\x80\x02).", m__code__x_dot_py=b"")
    assert "TorchScript" in refused(content)


def test_safetensors(tmp_path, tiny_generator):
    save_file({"w": torch.zeros(2)}, tmp_path / "w.bin")
    assert is_native(tmp_path / "w.bin")
    with pytest.raises(
        CheckpointError, match=r"w\.bin is a safetensors file of another project: it cannot be converted"
    ):
        read_foreign(tmp_path / "w.bin")
    fields = {"family": tiny_generator.family, "config": tiny_generator.config(), "state": tiny_generator.state_dict()}
    write_native(tmp_path / "g.safetensors", kind="generator", **fields)
    assert is_native(str(tmp_path / "g.safetensors"))
    with pytest.raises(CheckpointError, match="is a native file of kind 'generator' already: there is nothing to conv"):
        read_foreign(tmp_path / "g.safetensors")


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_of_other_projects(refused, legacy):
    state = {f"encoder.{i}.weight": torch.zeros(1) for i in range(6)}
    text = refused(saved({"state_dict": state, "opts": {"n": 1}}, _use_new_zipfile_serialization=not legacy))
    assert text.startswith(
        "DIR/x.pt holds a dictionary with the entries state_dict, opts, 'state_dict' with encoder.0.weight, "
        "encoder.1.weight, encoder.2.weight, encoder.3.weight, ... (6); expected a checkpoint of rosinality"
    )
    assert refused(saved([1, 2])).startswith("DIR/x.pt holds a list; expected")
    assert refused(saved({})).startswith("DIR/x.pt holds a dictionary with the entries (none); expected")
    assert refused(saved(torch.zeros(2))).startswith("DIR/x.pt holds a Tensor; expected")
    text = refused(saved({"synthesis.b4.const": torch.zeros(2), "mapping.w_avg": torch.zeros(2)}))
    assert "without its settings (give the .pkl they come from)" in text


def test_pickles_of_other_projects(refused):
    assert refused(pickle.dumps({"a": 1}, 4), "x.pkl").startswith(
        "DIR/x.pkl holds a dictionary with the entries a; exp"
    )
    assert refused(pickle.dumps("text", 2), "x.pkl").startswith("DIR/x.pkl holds a str; expected")


def test_a_file_without_networks(refused):
    data = {"g": {"w": torch.zeros(1)}}
    assert re.search(r"g of DIR/x.pt lacks the tensor style\.1\.weight; it has w\.", refused(saved(data)))


def test_no_usable_network(tmp_path, monkeypatch):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": 1}, 4))
    nothing = foreign.Converter("n", lambda _: True, lambda _, what: Checkpoint(ignored={"D": "is another."}))
    monkeypatch.setattr(foreign, "CONVERTERS", {"n": nothing})
    with pytest.raises(CheckpointError, match=r"x\.pkl holds no network that can be used\. D: is another\."):
        read_foreign(tmp_path / "x.pkl")


def test_hostile_files_are_refused(shared, tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    monkeypatch.setenv("L4F_MARKER", str(marker))
    files = sorted((shared / "fixtures" / "malicious").glob("[0-9]*"))
    assert len(files) == 21
    for path in files:
        with pytest.raises(CheckpointError, match=re.escape(path.name)):
            read_foreign(path)
        assert not marker.exists()
