from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from labels4free.errors import DataError

_PATH = Path(__file__).parents[2] / "benchmarks" / "alpha_quality.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("alpha_quality", _PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["alpha_quality"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["alpha_quality"]


def _half_alpha(features: Any) -> torch.Tensor:
    """Left half foreground, undecided in a quarter of it."""
    alpha = torch.zeros(len(features[0]), 1, 64, 64)
    alpha[..., :32] = 1.0
    alpha[..., :16] = 0.7
    return alpha


@pytest.fixture
def layered(tiny_generator: Any) -> Any:
    return SimpleNamespace(generator=tiny_generator, alpha_network=_half_alpha)


def _write_faces(folder: Path, masks: list[np.ndarray], w_dim: int = 8) -> Path:
    (folder / "gt").mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.savez(folder / "latents.npz", w=rng.standard_normal((len(masks), w_dim)).astype(np.float32))
    for k, mask in enumerate(masks):
        Image.fromarray(mask).save(folder / "gt" / f"{k:03d}.png")
    return folder


def _left(columns: int, side: int = 32) -> np.ndarray:
    mask = np.zeros((side, side), dtype=np.uint8)
    mask[:, :columns] = 255
    return mask


def test_figures_by_hand(bench: Any) -> None:
    alpha = torch.zeros(2, 1, 4, 4)
    alpha[..., :2] = 0.95
    alpha[1, :, :, 2] = 0.6
    truth = torch.zeros(2, 4, 4, dtype=torch.bool)
    truth[..., :2] = True
    result = bench.evaluate(alpha, truth, (0.5, 0.9))
    low, high = result["masks"]["alpha > 0.5"], result["masks"]["alpha > 0.9"]
    assert high["pooled"] == {"miou": 1.0, "iou_foreground": 1.0, "iou_background": 1.0}
    assert low["pooled"]["iou_foreground"] == pytest.approx(16 / 20)
    assert low["pooled"]["iou_background"] == pytest.approx(12 / 16)
    assert low["pooled"]["miou"] == pytest.approx((0.8 + 0.75) / 2)
    second = (8 / 12 + 4 / 8) / 2
    assert low["per_image"]["miou"] == pytest.approx((1 + second) / 2)
    assert low["per_image_miou_sd"] == pytest.approx((1 - second) / 2)
    assert low["worst"] == [1, 0]
    assert low["worst_miou"] == pytest.approx([second, 1.0])
    assert low["foreground_ratio"] == pytest.approx(20 / 32)
    assert result["masks"]["all foreground"]["pooled"]["miou"] == pytest.approx(0.25)
    assert result["masks"]["mean of the given masks"]["pooled"]["miou"] == 1.0
    assert result["foreground_ratio_given"] == 0.5
    assert result["sharpness"] == pytest.approx(1 - 2 * (16 * 0.05 + 4 * 0.4) / 32, abs=1e-6)


def test_command_prints_and_writes(
    bench: Any, layered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = _write_faces(tmp_path / "faces", [_left(16), _left(16), _left(8), _left(16), _left(16)])
    monkeypatch.setattr(bench, "load_layered", lambda source, generator, device: (layered, "tiny"))
    bench.main("run", faces, sheet=tmp_path / "docs" / "sheet.png", json_file=tmp_path / "new" / "figures.json")
    said = capsys.readouterr().out
    result = json.loads((tmp_path / "new" / "figures.json").read_text())
    pooled = (4 * 512 + 256) / (5 * 512)
    assert result["masks"]["alpha > 0.5"]["pooled"]["iou_foreground"] == pytest.approx(pooled)
    assert result["masks"]["alpha > 0.9"]["foreground_ratio"] == 0.25  # the undecided quarter is out
    assert f"{pooled:7.4f}" in said
    assert "  002  " in said  # the worst image
    assert "silver" in said
    assert result["generator"] == "tiny"
    with Image.open(tmp_path / "docs" / "sheet.png") as sheet:
        assert sheet.width > 2 * 112
        assert sheet.height > 3 * 112  # 5 images in rows of 2


def test_images_are_those_of_the_latents(bench: Any, layered: Any, tmp_path: Path) -> None:
    faces = bench.read_faces(_write_faces(tmp_path / "faces", [_left(16)] * 2))
    images, alpha = bench.render(layered, faces, lambda text: None)
    ws = faces.w[1].expand(1, layered.generator.num_ws, -1)
    whole = layered.generator.synthesize(ws).image
    assert torch.allclose(images[1], whole.reshape(3, 32, 2, 32, 2).mean((2, 4)), atol=1e-5)
    assert alpha.shape == (2, 1, 32, 32)
    assert not torch.equal(images[0], images[1])


def test_refuses_what_does_not_fit(bench: Any, layered: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no latents\.npz"):
        bench.read_faces(tmp_path)
    faces = _write_faces(tmp_path / "a", [_left(16)] * 2)
    (faces / "gt" / "001.png").unlink()
    with pytest.raises(DataError, match="2 latents and 1 masks"):
        bench.read_faces(faces)
    (faces / "latents.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match=r"no latents\.npz"):
        bench.read_faces(faces)
    faces = _write_faces(tmp_path / "b", [_left(16), _left(16, side=16)])
    with pytest.raises(DataError, match="differ in size"):
        bench.read_faces(faces)
    for name, masks, w_dim in (("c", [_left(16)], 9), ("d", [_left(16, side=48)], 8)):
        with pytest.raises(DataError, match="needs latents of 8 numbers and square masks whose side divides 64"):
            bench.render(layered, bench.read_faces(_write_faces(tmp_path / name, masks, w_dim)), lambda text: None)
