from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labels4free.segmenting.cutout import Cutout

_FOLDER = Path(__file__).parents[2] / "benchmarks"


class Brightness:
    """Takes brightness for alpha."""

    def segment(self, pixels):
        return Cutout(pixels, pixels[..., 0])


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(_FOLDER))  # it imports its neighbour uncertainty
    spec = importlib.util.spec_from_file_location("certainty_benchmark", _FOLDER / "certainty.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("uncertainty", "alpha_quality"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_certainty_and_iou_belong_to_the_same_image(bench, tmp_path):
    for folder in ("images", "gt"):
        (tmp_path / folder).mkdir()
    expected = []
    for number, (grey, wrong) in enumerate([(255, 0), (200, 4), (140, 8)]):
        truth, image = np.zeros((2, 16, 16), np.uint8)
        truth[:, :8], image[:, : 8 + wrong] = 255, grey
        Image.fromarray(truth).save(tmp_path / "gt" / f"{number}.png")
        Image.fromarray(image).convert("RGB").save(tmp_path / "images" / f"{number}.png")
        expected.append((8 / (8 + wrong) + (8 - wrong) / 8) / 2)
    certainty, miou = bench.measure(Brightness(), tmp_path / "images", tmp_path / "gt")
    np.testing.assert_allclose(miou, expected, atol=1e-6)
    assert certainty[0] == 1
    assert certainty[0] > certainty[1] > certainty[2]
