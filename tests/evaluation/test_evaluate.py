from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.picture_files import cut, noise_png
from tests.evaluation.mask_folders import disc, folders, write
from tests.refusals import refuses

from labels4free.errors import DataError
from labels4free.evaluation.config import EvaluationConfig
from labels4free.evaluation.evaluate import evaluate_masks, evaluate_pairs, evaluate_predictor
from labels4free.evaluation.pairing import pair_files

pytestmark = pytest.mark.slow

QUICK = EvaluationConfig(bootstrap=0)
RESIZE = EvaluationConfig(bootstrap=0, resize=True)


def miou(report):
    return report.total.pooled["mean"]["iou"]


def test_folders(tmp_path):
    pred, gt = folders(tmp_path, 3)
    calls = []
    report = evaluate_masks(pred, gt, config=QUICK, progress=lambda done, total: calls.append((done, total)))
    assert report.total.images == 3
    assert report.images.names == ("0", "1", "2")
    assert report.images.scores["miou"][0] == 1
    assert np.all(np.diff(report.images.scores["miou"]) < 0)
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("name", ["Cars", "Cats", "Faces", "Horse"])
def test_the_authors_own_masks(shared, name):
    """Their script's figures, the right way round and without its rounding."""
    folder = shared / "data" / "labels4free_custom" / name
    expected = json.loads((shared / "fixtures" / "evaluation" / f"{name}.json").read_text())
    total = evaluate_masks(folder / "pred", folder / "gt", config=QUICK).total
    counts = total.counts
    (tn, fp), (fn, tp) = expected["confusion_matrix"]
    grey = sum(expected["grey_pixels_gt"])  # to the original, these are background
    assert abs(counts["tp"] - tp) + abs(counts["fn"] - fn) <= grey
    assert abs(counts["tn"] - tn) + abs(counts["fp"] - fp) <= grey
    assert total.pooled["mean"]["iou"] == pytest.approx(expected["unrounded"]["mean_iou"], abs=1e-5)
    words = {"IoU": "iou", "F1": "f1", "Prec": "precision", "recall": "recall", "Acc": "accuracy"}
    for theirs, ours in (("fg", "background"), ("bg", "foreground")):
        for column, score in words.items():
            assert total.pooled[ours][score] == pytest.approx(expected["table"][theirs][column], abs=2e-4)


def test_every_kind_of_file_in_one_set(tmp_path):
    mask = Image.fromarray(disc())
    (tmp_path / "pred").mkdir()
    for number, (mode, ending) in enumerate(
        [("1", "png"), ("RGB", "bmp"), ("LA", "png"), ("P", "gif"), ("CMYK", "tiff")]
    ):
        (mask.convert("RGB") if mode == "CMYK" else mask).convert(mode).save(tmp_path / "pred" / f"{number}.{ending}")
        write(tmp_path / "gt" / f"{number}.png", disc())
    Image.fromarray(disc().astype(np.uint16) * 257).save(tmp_path / "pred" / "5.png")
    write(tmp_path / "gt" / "5.png", disc())
    assert miou(evaluate_masks(tmp_path / "pred", tmp_path / "gt", config=QUICK)) == 1


def test_other_sizes_are_refused(tmp_path):
    pred, gt = folders(tmp_path, 9)
    for number in range(1, 8):
        write(pred / f"{number}.png", disc(12))
    calls = []
    with pytest.raises(DataError) as error:
        evaluate_masks(pred, gt, config=QUICK, progress=lambda *state: calls.append(state))
    wrong = ", ".join(f"{pred / f'{number}.png'} (12x12, true mask 24x24)" for number in range(1, 6))
    assert str(error.value) == (
        f"7 of 9 predicted masks have another size than the true mask, in pixels: {wrong} and 2 more; give files of "
        "one size, or allow resizing the predictions with --resize."
    )
    assert calls == []  # said before the work begins


def test_resizing(tmp_path):
    mask = np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((4, 4), np.uint8))
    write(tmp_path / "gt" / "a.png", mask)
    pred = write(tmp_path / "pred" / "a.png", mask[::4, ::4])
    assert miou(evaluate_masks(pred.parent, tmp_path / "gt", config=RESIZE)) == 1
    write(pred, np.array([[0, 200], [200, 0]], np.uint8))  # soft: bilinear
    report = evaluate_masks(pred.parent, tmp_path / "gt", config=RESIZE)
    assert 0.1 < report.total.per_image["mae"].value < 0.5


def test_void(tmp_path):
    truth = disc()
    truth[:, 12:] = 77
    write(tmp_path / "gt" / "a.png", truth)
    pred = write(tmp_path / "pred" / "a.png", disc()).parent
    assert miou(evaluate_masks(pred, tmp_path / "gt", config=EvaluationConfig(void=77, bootstrap=0))) == 1
    for void in (None, 78):
        with pytest.raises(DataError, match="map of labels, with the values 0, 77, 255"):
            evaluate_masks(pred, tmp_path / "gt", config=EvaluationConfig(void=void, bootstrap=0))


def test_void_labels(tmp_path):
    labels = Image.fromarray(disc() // 255 * 3).convert("P")
    labels.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [9, 200, 9] * 252)
    pixels = np.array(labels)
    pixels[:4] = 255
    voided = Image.fromarray(pixels, "P")
    voided.putpalette(labels.getpalette())
    (tmp_path / "gt").mkdir()
    voided.save(tmp_path / "gt" / "a.png")
    pred = write(tmp_path / "pred" / "a.png", disc()).parent
    assert miou(evaluate_masks(pred, tmp_path / "gt", config=EvaluationConfig(void=255, bootstrap=0))) == 1
    assert miou(evaluate_masks(pred, tmp_path / "gt", config=QUICK)) < 1


@pytest.mark.parametrize(("which", "words"), [("gt", "true"), ("pred", "predicted")])
def test_maps_of_labels_0_and_1_are_refused(tmp_path, which, words):
    pred, gt = folders(tmp_path, 2)
    for number in range(2):
        write(tmp_path / which / f"{number}.png", disc() // 255)
    with pytest.raises(DataError, match=f"The {words} masks hold no value above 1 of 255, as maps of labels do: say"):
        evaluate_masks(pred, gt, config=QUICK)


@pytest.mark.parametrize("values", [(2, 3, 15), (1, 1, 1), (1, 2, 1)])
def test_maps_of_labels_are_read_where_their_values_are_given(tmp_path, values):
    pred, gt = folders(tmp_path, 3)
    for number, value in enumerate(values):
        for folder in (gt, pred) if number else (gt,):  # predictions may be either
            write(folder / f"{number}.png", disc() // 255 * value)
    with pytest.raises(DataError, match=r"maps? of labels"):
        evaluate_masks(pred, gt, config=QUICK)
    assert miou(evaluate_masks(pred, gt, config=EvaluationConfig(bootstrap=0, foreground=()))) == 1
    named = EvaluationConfig(bootstrap=0, foreground=(1, 2, 3, 15))
    assert miou(evaluate_masks(pred, gt, config=named)) == 1
    other = evaluate_masks(pred, gt, config=EvaluationConfig(bootstrap=0, foreground=(77,)))
    assert other.images.scores["miou"][1] == 1  # there is no 77 in either
    assert other.images.scores["miou"][0] < 1  # the prediction is a mask, and has an object


def test_true_masks_that_are_all_grey_are_refused(tmp_path):
    pred, gt = folders(tmp_path, 1)
    write(gt / "0.png", np.add.outer(np.arange(24), np.arange(24)).astype(np.uint8))  # shades up to 46
    with pytest.raises(DataError, match="The true masks hold no value above 46 of 255"):
        evaluate_masks(pred, gt, config=QUICK)


def test_masks_without_an_object_are_taken(tmp_path):
    write(tmp_path / "gt" / "a.png", disc() * 0)
    write(tmp_path / "pred" / "a.png", disc() * 0)
    assert miou(evaluate_masks(tmp_path / "pred", tmp_path / "gt", config=QUICK)) == 1


@pytest.mark.parametrize("config", [QUICK, RESIZE])
def test_broken_files_are_named(tmp_path, config):
    pred, gt = folders(tmp_path, 2)
    (pred / "1.png").write_text("no image")
    with pytest.raises(DataError, match=r"pred.1\.png cannot be read as an image \(its format is unknown\)"):
        evaluate_masks(pred, gt, config=config)
    noise_png(pred / "1.png")
    cut(pred / "1.png")
    write(gt / "1.png", disc(64))
    refuses(DataError, r"pred.1\.png cannot be read as an image", evaluate_masks, pred, gt, config=config)
    Image.new("1", (20_000, 20_000)).save(pred / "1.png")
    refuses(DataError, r"pred.1\.png has more pixels than Pillow's limit", evaluate_masks, pred, gt, config=config)
    noise_png(pred / "1.png")
    refuses(DataError, r"pred.1\.png is no mask", evaluate_masks, pred, gt, config=config)


def images(root, count=3):
    """Images whose red tells the object, with true masks."""
    for number in range(count):
        mask = disc(shift=number)
        write(root / "images" / f"{number}.png", np.stack([mask, mask // 2, 0 * mask], axis=2))
        write(root / "gt" / f"{number}.png", mask)
    return pair_files(root / "gt", images=root / "images")


@pytest.mark.parametrize("convert", [torch.from_numpy, np.float64], ids=["tensor", "array"])
def test_a_predictor(tmp_path, convert):
    seen = []

    def predict(image):
        seen.append((image.shape, image.dtype))
        return convert(image[:, :, 0] / 255)

    report = evaluate_predictor(predict, images(tmp_path), QUICK)
    assert miou(report) == 1
    assert seen == [((24, 24, 3), np.uint8)] * 3


def test_what_a_predictor_gets_wrong(tmp_path):
    pairs = images(tmp_path, 1)
    with pytest.raises(DataError, match=r"predicted mask of 0 must have shape \[H, W\], got \[1, 24, 24\]"):
        evaluate_predictor(lambda image: image[None, :, :, 0] / 255, pairs, QUICK)
    with pytest.raises(DataError, match="predicted mask of 0 must hold numbers from 0 to 1, got 0 to 255"):
        evaluate_predictor(lambda image: image[:, :, 0], pairs, QUICK)
    with pytest.raises(DataError, match=r"1 of 1 predicted masks .* 0 \(12x12, true mask 24x24\)"):
        evaluate_predictor(lambda image: image[::2, ::2, 0] / 255, pairs, QUICK)
    assert miou(evaluate_predictor(lambda image: image[::2, ::2, 0] / 255, pairs, RESIZE)) > 0.7
    faint = evaluate_predictor(lambda image: image[:, :, 0] * (1 / 255**2), pairs, QUICK)  # sees nobody: no labels
    assert faint.total.pooled["foreground"]["iou"] == 0


def test_pairs_that_lack_a_file(tmp_path):
    pairs = images(tmp_path, 1)
    refuses(DataError, "0 has no predicted mask", evaluate_pairs, pairs)
    with pytest.raises(DataError, match="0 has no image; give the folder of the images"):
        evaluate_predictor(lambda image: image, pair_files(tmp_path / "gt"), QUICK)
    refuses(DataError, "There is no image to score", evaluate_pairs, [])
