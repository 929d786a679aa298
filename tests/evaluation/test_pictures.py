from __future__ import annotations

import numpy as np
from tests.evaluation.mask_folders import disc, write
from tests.refusals import refuses

from labels4free.errors import DataError
from labels4free.evaluation.config import EvaluationConfig
from labels4free.evaluation.pairing import MaskPair
from labels4free.evaluation.pictures import compare


def test_colours_and_soft_values(tmp_path):
    truth = write(tmp_path / "t.png", np.array([[255, 0, 255, 0, 99]], np.uint8))
    predicted = write(tmp_path / "p.png", np.array([[200, 130, 100, 20, 255]], np.uint8))
    pair = MaskPair("", "a", truth, predicted)
    found = compare(pair, EvaluationConfig(void=99))
    assert found.errors[0].tolist() == [[255, 255, 255], [230, 60, 50], [40, 110, 230], [25, 25, 25], [150, 150, 150]]
    assert found.alpha.tolist() == [[200, 130, 100, 20, 255]]
    assert found.truth.tolist() == [[255, 0, 255, 0, 99]]
    lower = compare(pair, EvaluationConfig(threshold=0.3))
    assert lower.errors[0].tolist() == [[255, 255, 255], [230, 60, 50], [255, 255, 255], [25, 25, 25], [230, 60, 50]]


def test_sizes(tmp_path):
    pair = MaskPair("", "a", write(tmp_path / "t.png", disc(8)), write(tmp_path / "p.png", disc(4)))
    refuses(DataError, r"a \(4x4, true mask 8x8\)", compare, pair, EvaluationConfig())
    assert compare(pair, EvaluationConfig(resize=True)).alpha.shape == (8, 8)
    refuses(DataError, "a has no predicted mask", compare, MaskPair("", "a", pair.truth), EvaluationConfig())
