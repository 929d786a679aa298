from __future__ import annotations

import importlib.util

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from labels4free import export
from labels4free.checkpoints.native import write_native
from labels4free.errors import CheckpointError, ConfigError
from labels4free.export import export_onnx
from labels4free.networks.merge_network import MergeNetwork
from labels4free.networks.paper_network import PaperNetwork
from labels4free.types import FeatureSpec
from tests.small_pictures import seeded
from tests.small_segmenters import tiny_segmenter, write_segmenter
from tests.tiny_run import write_generator

SPECS = [FeatureSpec(f"b{size}.{name}", 3, size) for size in (8, 16) for name in ("conv0", "conv1")]


@pytest.fixture
def segmenter(tmp_path):
    return write_segmenter(tmp_path / "s.safetensors", tiny_segmenter())


def run(path, inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)})[0]


@pytest.mark.slow
def test_a_segmenter_of_any_batch_and_size(segmenter, tmp_path):
    done = export_onnx(segmenter, tmp_path / "inner" / "s.onnx")
    assert done.kind == "segmenter"
    assert done.inputs == {"image": ["N", 3, "H", "W"]}
    assert done.largest_difference < 1e-4
    network = tiny_segmenter()
    for shape in ((1, 3, 32, 32), (3, 3, 8, 56), (1, 3, 200, 16)):
        x = torch.rand(shape, generator=seeded(2)) * 2 - 1
        np.testing.assert_allclose(run(done.path, [x]), network(x).numpy(), atol=1e-4)
    assert [p.name for p in done.path.parent.iterdir()] == ["s.onnx"]
    text = done.path.read_bytes()
    assert str(tmp_path).encode() not in text
    assert b"site-packages" not in text
    assert b"segmenter.py" not in text


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MergeNetwork, PaperNetwork])
def test_an_alpha_network(tmp_path, kind):
    torch.manual_seed(0)
    network = kind(SPECS, 32).eval().requires_grad_(False)
    for weight in network.parameters():
        weight.normal_()
    source, state = tmp_path / "a.safetensors", network.state_dict()
    write_native(source, kind="alpha_network", family=kind.family, config=network.config(), state=state)
    done = export_onnx(source, tmp_path / "a.onnx")
    assert done.inputs == {s.name: ["N", 3, s.resolution, s.resolution] for s in SPECS}
    maps = [torch.randn(5, 3, s.resolution, s.resolution, generator=seeded(i)) for i, s in enumerate(SPECS)]
    expected = network(maps)
    assert expected.std() > 0.005
    np.testing.assert_allclose(run(done.path, maps), expected.numpy(), atol=1e-5)
    model = onnx.load(done.path)
    assert '"kind": "alpha_network"' in {p.key: p.value for p in model.metadata_props}["labels4free"]


def test_a_file_that_differs_from_pytorch_is_not_written(segmenter, tmp_path, monkeypatch, red_onnx):
    monkeypatch.setattr(export, "_exported", lambda plan: red_onnx.read_bytes())
    with pytest.raises(CheckpointError, match=r"differs from PyTorch by .*nothing was written"):
        export_onnx(segmenter, tmp_path / "s.onnx")
    assert not (tmp_path / "s.onnx").exists()


def test_models_of_another_kind_are_refused(tiny_generator, tmp_path):
    generator = write_generator(tmp_path / "g.safetensors", tiny_generator)
    with pytest.raises(CheckpointError, match=r"g\.safetensors is a generator; exported can be a segmenter or"):
        export_onnx(generator, tmp_path / "g.onnx")
    with pytest.raises(CheckpointError, match="holds neither a segmenter nor an alpha network"):
        export_onnx(tmp_path, tmp_path / "g.onnx")
    with pytest.raises(CheckpointError, match=r"nothing\.pt is neither a file nor a model"):
        export_onnx(tmp_path / "nothing.pt", tmp_path / "g.onnx")
    (tmp_path / "cut.safetensors").write_bytes(generator.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="is truncated"):
        export_onnx(tmp_path / "cut.safetensors", tmp_path / "g.onnx")


def test_missing_libraries_and_folders_are_named(segmenter, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="is a folder; give the name of a file"):
        export_onnx(segmenter, tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(ConfigError, match=r"needs onnxscript: pip install onnxscript"):
        export_onnx(segmenter, tmp_path / "s.onnx")
