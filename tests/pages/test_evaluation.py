from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.mask_folders import folders, write

from labels4free.evaluation.config import EvaluationConfig
from labels4free.evaluation.evaluate import evaluate_pairs
from labels4free.evaluation.pairing import MaskPair, pair_files
from labels4free.pages.evaluation import WORST, _picture, format_report, write_page

pytestmark = pytest.mark.slow

CONFIG = EvaluationConfig(bootstrap=20)


def pictures(page):
    return [Image.open(io.BytesIO(base64.b64decode(code))) for code in re.findall(r"base64,([^\"]+)", page)]


def test_the_worst_images_are_shown_worst_first(tmp_path):
    pred, gt = folders(tmp_path, WORST + 3)
    pairs = pair_files(gt, pred)
    report = evaluate_pairs(pairs, CONFIG)
    write_page(tmp_path / "a.html", report, pairs)
    page = (tmp_path / "a.html").read_text()
    captions = re.findall(r"<figcaption>([^:<]*): mean IoU of foreground and background ([\d.]+)", page)
    assert len(captions) == len(pictures(page)) == WORST
    assert captions[0][0] == str(report.images.worst(1)[0])
    assert captions[0][0] not in ("0", "1", "2")  # those are the best
    values = [float(value) for _, value in captions]
    assert values == sorted(values)
    assert f"{report.total.pooled_miou.value:.4f}" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_names_are_escaped_and_groups_have_their_tables(tmp_path):
    for group in ("a", "<b>"):
        pred, gt = folders(tmp_path, 1, group)
    pairs = pair_files(gt, pred)
    write_page(tmp_path / "a.html", evaluate_pairs(pairs, CONFIG), pairs)
    page = (tmp_path / "a.html").read_text()
    assert "<b>: " not in page
    assert "<h2>&lt;b&gt;: 1 pair of masks, pixel by pixel</h2>" in page
    assert "<h2>All together: 2 pairs of masks, pixel by pixel</h2>" in page
    assert page.count("everything is foreground") == 3


def test_the_map_of_errors(tmp_path):
    truth = np.array([[255, 0, 255, 0, 99]], np.uint8).repeat(5, 0)
    predicted = np.array([[255, 255, 0, 0, 255]], np.uint8).repeat(5, 0)
    pair = MaskPair("", "a", write(tmp_path / "t.png", truth), write(tmp_path / "p.png", predicted))
    sheet = _picture(pair, EvaluationConfig(void=99))
    colours = [tuple(int(c) for c in sheet[-150, x]) for x in range(sheet.shape[1] - 306 + 30, sheet.shape[1] - 6, 60)]
    assert colours == [(255, 255, 255), (230, 60, 50), (40, 110, 230), (25, 25, 25), (150, 150, 150)]
    assert sheet.shape[1] == 3 * 306 + 6  # no image was given
    image = write(tmp_path / "i.png", np.full((5, 5, 3), 7, np.uint8))
    assert _picture(MaskPair("", "a", pair.truth, pair.prediction, image), EvaluationConfig()).shape[1] == 4 * 306 + 6


def test_text_without_intervals(tmp_path):
    pred, gt = folders(tmp_path, 2)
    text = format_report(evaluate_pairs(pair_files(gt, pred), EvaluationConfig(bootstrap=0, void=7, threshold=0.25)))
    assert re.search(r"^mean IoU of foreground and background +0\.\d{4} +-$", text, re.M)
    assert "Intervals" not in text
    assert "Predicted foreground is above 0.25, true above 0.5. True pixels of 7 do not count." in text


@pytest.mark.parametrize("number", [1, 2])
def test_few_images(tmp_path, number):
    pred, gt = folders(tmp_path, number)
    pairs = pair_files(gt, pred)
    write_page(tmp_path / "a.html", evaluate_pairs(pairs, CONFIG), pairs)
    assert len(pictures((tmp_path / "a.html").read_text())) == number
