from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
from tests.refusals import refuses

from labels4free.checkpoints.loading import load_segmenter
from labels4free.errors import CheckpointError, ConfigError
from labels4free.segmenting.runtimes import OnnxRuntime, TorchRuntime


def images(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (2, 3, 16, 40)])
def test_both_compute_the_networks_logits(red_file, red_onnx, shape):
    import torch

    x = images(*shape)
    expected = load_segmenter(red_file)(torch.from_numpy(x)).numpy()
    for runtime in (TorchRuntime(red_file), OnnxRuntime(red_onnx)):
        assert (runtime.working_size, runtime.multiple) == (32, 8)
        np.testing.assert_allclose(runtime.logits(x), expected, atol=1e-4)
    assert expected.std() > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "library", "file", "message"),
    [
        (TorchRuntime, "torch", "red_file", "needs PyTorch, which cannot be imported here.*export"),
        (OnnxRuntime, "onnxruntime", "red_onnx", r"needs onnxruntime: pip install onnxruntime"),
    ],
)
def test_a_missing_library_is_named(monkeypatch, request, kind, library, file, message):
    path = request.getfixturevalue(file)
    monkeypatch.setitem(sys.modules, library, None)
    refuses(ConfigError, message, kind, path)


def test_files_that_are_none_are_refused(tmp_path, red_file, red_onnx):
    refuses(CheckpointError, "There is no checkpoint at", OnnxRuntime, tmp_path / "none.onnx")
    other = tmp_path / "other.onnx"
    other.write_bytes(red_file.read_bytes())
    refuses(CheckpointError, r"other\.onnx is not a model that onnxruntime can load \(", OnnxRuntime, other)
    model = onnx.load(red_onnx)
    onnx.helper.set_model_props(model, {})
    onnx.save(model, other)
    refuses(CheckpointError, "is an ONNX file without labels4free's metadata", OnnxRuntime, other)
    onnx.helper.set_model_props(
        model, {"labels4free": '{"format":1,"kind":"segmenter","family":"","config":{},"info":{}}'}
    )
    onnx.save(model, other)
    refuses(CheckpointError, "its configuration lacks 'working_size'; export it again", OnnxRuntime, other)
    alpha = '{"format":1,"kind":"alpha_network","family":"","config":{},"info":{}}'
    onnx.helper.set_model_props(model, {"labels4free": alpha})
    onnx.save(model, other)
    refuses(CheckpointError, "of kind 'alpha_network', expected kind 'segmenter'", OnnxRuntime, other)


def test_a_device_that_is_not_there_is_refused(red_onnx, red_file):
    with pytest.raises(ConfigError, match=r"Device mps was asked for; this onnxruntime has .*CPU.*: use cpu"):
        OnnxRuntime(red_onnx, "mps")
    refuses(ConfigError, "Unknown device 'abacus'", TorchRuntime, red_file, "abacus")
