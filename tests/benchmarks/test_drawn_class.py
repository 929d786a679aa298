from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.refusals import refuses

from labels4free.data.drawn.picture import drawn_picture
from labels4free.data.images.dataset import open_images
from labels4free.data.pairs.formats import open_pairs
from labels4free.errors import ConfigError
from labels4free.evaluation.config import EvaluationConfig
from labels4free.evaluation.evaluate import evaluate_masks

_SCRIPT = Path(__file__).parents[2] / "benchmarks" / "drawn_class.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("drawn_class_benchmark", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_data_set_is_read_by_everything_that_reads_some(bench, tmp_path, capsys):
    bench.main(tmp_path / "set", num=3, size=32, seed=2, kind="mushroom")
    assert "3 of 3 pictures" in capsys.readouterr().out
    pairs = open_pairs(tmp_path / "set")
    assert len(pairs) == len(open_images(tmp_path / "set/images", 32)) == 3
    for index, pair in enumerate(pairs):
        image, alpha = drawn_picture(2, index, 32, "mushroom")
        np.testing.assert_array_equal(pair.pictures["image"], image)
        np.testing.assert_array_equal(pair.pictures["mask"] == 255, alpha >= 0.5)
        np.testing.assert_array_equal(pair.pictures["alpha"], np.rint(alpha * 255))
    report = evaluate_masks(tmp_path / "set/alpha", tmp_path / "set/masks", config=EvaluationConfig(bootstrap=0))
    assert report.total.pooled_miou.value == 1


def test_the_sheet_has_every_class(bench, tmp_path):
    bench.write_sheet(tmp_path / "sheet.png", seed=0, size=16, columns=2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * 16 + 3 * 6, 12 * 16 + 13 * 6)


def test_bad_numbers_are_refused(bench, tmp_path):
    refuses(ConfigError, "at least 1, got 0 and 1", bench.main, tmp_path, num=0)
    refuses(ConfigError, "no drawn class", lambda: bench.main(tmp_path, kind="horse"))
