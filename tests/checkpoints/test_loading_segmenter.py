from __future__ import annotations

import pytest
import torch
from tests.small_segmenters import tiny_segmenter, write_segmenter

from labels4free.checkpoints import loading
from labels4free.checkpoints.loading import load_segmenter
from labels4free.checkpoints.native import read_tensors, write_native
from labels4free.errors import CheckpointError


@pytest.fixture
def network():
    return tiny_segmenter()


def test_a_segmenter_comes_back_from_its_file(network, tmp_path):
    loaded = load_segmenter(write_segmenter(tmp_path / "s.safetensors", network))
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded(x), network(x), rtol=0, atol=0)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_half_precision_takes_half_the_bytes_and_loads_as_float(network, tmp_path):
    whole = write_segmenter(tmp_path / "whole.safetensors", network)
    half = write_segmenter(tmp_path / "half.safetensors", network, half=True)
    stored, before = read_tensors(half), read_tensors(whole)
    for name, value in stored.items():
        assert value.dtype == (torch.float16 if value.ndim > 1 else before[name].dtype)
    sizes = [sum(v.nbytes for v in s.values() if v.ndim > 1) for s in (before, stored)]
    assert sizes[0] == 2 * sizes[1]
    loaded = load_segmenter(half)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    difference = (loaded(x) - network(x)).abs().max()
    assert 0 < difference < 0.01 * network(x).abs().max()


def test_values_beyond_half_precision_are_refused(tmp_path):
    path = tmp_path / "big.safetensors"
    with pytest.raises(CheckpointError, match="kernel holds values beyond 65504"):
        write_native(path, kind="x", family="y", config={}, state={"kernel": torch.full((1, 1), 1e5)}, half=True)
    assert not path.exists()


def test_a_finished_runs_folder_serves(network, tmp_path):
    write_segmenter(tmp_path / "run" / "segmenter.safetensors", network)
    assert load_segmenter(tmp_path / "run").config() == network.config()


def test_the_shipped_one_goes_by_its_name(network, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "__file__", str(tmp_path / "checkpoints" / "loading.py"))
    monkeypatch.chdir(tmp_path)
    write_segmenter(tmp_path / "weights" / "faces.segmenter.safetensors", network)
    assert load_segmenter().config() == network.config()


def test_what_is_no_segmenter_is_refused(network, tmp_path):
    with pytest.raises(CheckpointError, match=r"There is no segmenter at .*nothing"):
        load_segmenter(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"holds no segmenter\.safetensors"):
        load_segmenter(tmp_path)
    other = tmp_path / "other.safetensors"
    write_native(other, kind="alpha_network", family="merge", config={}, state={"x": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="of kind 'alpha_network', expected kind 'segmenter'"):
        load_segmenter(other)


def test_a_configuration_that_does_not_fit_the_tensors_is_refused(network, tmp_path):
    path = tmp_path / "s.safetensors"
    config = network.config() | {"head_width": 2000}
    write_native(path, kind="segmenter", family="compact", config=config, state=network.state_dict())
    with pytest.raises(CheckpointError, match="does not fit its own configuration"):
        load_segmenter(path)
    write_native(path, kind="segmenter", family="vast", config=config, state=network.state_dict())
    with pytest.raises(CheckpointError, match="family 'vast'; the families are compact"):
        load_segmenter(path)
