from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny import tiny_generator

from labels4free.checkpoints.native import write_native
from labels4free.layered import LayeredGenerator
from labels4free.networks.merge_network import MergeNetwork
from labels4free.sampling.filters import FilterConfig

_FOLDER = Path(__file__).parents[2] / "benchmarks"


class LeftHalf(torch.nn.Module):
    """Foreground is the left half, with a border that follows the finest maps a little."""

    def check_fits(self, specs):
        pass

    def forward(self, features):
        x = torch.nn.functional.interpolate(features[-1][:, :1], size=64)
        return torch.sigmoid(torch.linspace(9, -9, 64) + (x - x.mean()) / x.std())


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(_FOLDER))  # it imports its neighbour alpha_quality
    spec = importlib.util.spec_from_file_location("uncertainty_benchmark", _FOLDER / "uncertainty.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "uncertainty_benchmark", module)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("alpha_quality", None)


def test_spearman_by_hand(bench):
    x = np.array([0.1, 5.0, 2.0, 9.0])
    assert bench.spearman(x, np.exp(x)) == pytest.approx(1)
    assert bench.spearman(x, -x) == pytest.approx(-1)
    assert bench.spearman(x, np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(1 - 6 * 2 / 60)  # ranks 1 3 2 4
    # equal values share a rank: 1.5 1.5 3 against 1 2 3
    assert bench.spearman(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 2.0])) == pytest.approx(1.5 / 3**0.5)
    assert bench.spearman(np.zeros(3), np.arange(3.0)) == 0


def test_risk_coverage_keeps_the_most_certain(bench):
    uncertainty = np.linspace(0, 1, 20)
    miou = np.where(uncertainty < 0.5, 1.0, 0.5)
    curve = dict(zip(bench.FRACTIONS, bench.risk_coverage(uncertainty[::-1], miou[::-1]), strict=True))
    assert curve[1.0] == 0.75
    assert curve[0.5] == 1.0
    assert curve[0.8] == pytest.approx((10 + 6 * 0.5) / 16)


def test_compare_splits_at_the_default_quantile(bench):
    miou = np.linspace(1.0, 0.81, 20)
    row = bench.compare({"perfect": -miou, "wrong": miou}, miou, np.arange(20.0)[::-1] ** 2 % 7)
    assert row["perfect"]["spearman"] == pytest.approx(1)
    assert row["wrong"]["spearman"] == pytest.approx(-1)
    assert row["perfect"]["dropped"] == pytest.approx((0.81 + 0.82) / 2)
    assert row["wrong"]["dropped"] == pytest.approx((1.0 + 0.99) / 2)
    assert row["perfect"]["kept"] > row["wrong"]["kept"]


def test_what_the_size_of_the_mask_explains_is_taken_off(bench):
    assert bench.partial(0.5, 0.0, 0.0) == 0.5
    assert bench.partial(0.6 * 0.8, 0.6, 0.8) == pytest.approx(0)
    assert bench.partial(0.9, 1.0, 0.9) == 0
    miou, foreground_ratio = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([0.1, 0.4, 0.2, 0.9, 0.3])
    row = bench.compare({"size": foreground_ratio, "perfect": -miou}, miou, foreground_ratio)
    assert row["size"]["partial"] == 0
    assert row["perfect"]["partial"] == pytest.approx(1)


def test_filters_are_counted(bench):
    mask = np.zeros((3, 40, 40), dtype=np.uint8)
    mask[0, :20] = 255
    mask[1, :5], mask[1, 20:24] = 255, 255
    records = [bench.measure(k, values, values) for k, values in enumerate(mask)]
    found = bench.filtered(records, np.array([0.9, 0.6, 0.2]), FilterConfig(max_components=1))
    assert found == {
        "kept": 1,
        "kept_miou": pytest.approx(0.9),
        "dropped_miou": pytest.approx(0.4),
        "reasons": {"foreground ratio below 0.02": 1, "more than 1 component": 1},
    }


@pytest.mark.slow
def test_command(bench, tmp_path, monkeypatch, capsys):
    generator = tiny_generator()
    layered = LayeredGenerator(generator, LeftHalf())
    torch.manual_seed(0)
    other = MergeNetwork(generator.feature_specs, 64, width=4)
    write_native(
        tmp_path / "other.st", kind="alpha_network", family="merge", config=other.config(), state=other.state_dict()
    )
    (tmp_path / "gt").mkdir()
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "latents.npz", w=rng.standard_normal((5, 8)).astype(np.float32))
    for k in range(5):
        Image.fromarray(np.full((32, 32), 255, dtype=np.uint8)).save(tmp_path / "gt" / f"{k:03d}.png")
    monkeypatch.setattr(bench, "load_layered", lambda source, generator, device: (layered, "tiny"))
    monkeypatch.setattr(bench, "REFINEMENTS", ({"side": 64, "method": "guided", "radius": 2, "eps": 1e-3},))
    bench.main(
        "run", tmp_path, ensemble=(tmp_path / "other.st",), augmentations=1, limit=4, json_file=tmp_path / "r.json"
    )
    said, result = capsys.readouterr().out, json.loads((tmp_path / "r.json").read_text())
    assert "silver" in said
    assert result["images"] == len(result["faces"]) == 4
    for kind in ("noise", "mixing", "ensemble, 1 others"):
        assert 0 < result["measures"][kind]["mean"] < 1
    assert result["measures"]["as if the mIoU were known"]["spearman"] == pytest.approx(1)
    bench.main("run", tmp_path, refine=True, limit=2, json_file=tmp_path / "refined.json")
    refined = json.loads((tmp_path / "refined.json").read_text())["refinements"]
    assert list(refined) == ["none", "guided at 64, radius 2, eps 0.001"]
    assert refined["none"]["better"] == refined["none"]["worse"] == 0
    assert "guided at 64, radius 2, eps 0.001" in capsys.readouterr().out
