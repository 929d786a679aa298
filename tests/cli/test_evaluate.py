from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.mask_folders import disc, folders, write

from labels4free import cli
from labels4free.cli import evaluate
from labels4free.evaluation.config import EvaluationConfig

pytestmark = pytest.mark.slow


def words(pred, gt, *more):
    return ["evaluate", "--pred", str(pred), "--gt", str(gt), "--bootstrap", "20", *map(str, more)]


def test_defaults_are_those_of_the_library():
    flags = inspect.signature(evaluate.run).parameters
    defaults = {field.name: field.default for field in fields(EvaluationConfig)}
    del defaults["boundary_tolerance"]  # no flag
    assert {name: flags[name].default for name in defaults} == defaults


def test_says_the_figures(tmp_path, capsys):
    pred, gt = folders(tmp_path, 2)
    assert cli.main(words(pred, gt, "--json", tmp_path / "out" / "a.json")) == cli.SUCCESS
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "2 pairs of masks"
    content = json.loads((tmp_path / "out" / "a.json").read_text())
    for row in ("background", "foreground", "mean"):
        values = content["total"]["pooled"][row]
        expected = [f"{values[name]:.4f}" for name in ("iou", "f1", "precision", "recall", "accuracy")]
        assert next(line for line in lines if line.startswith(row)).split()[1:] == expected
    miou = content["total"]["per_image"]["miou"]
    assert f"{miou['value']:.4f}  {miou['low']:.4f} .. {miou['high']:.4f}" in out
    assert "everything is foreground" in out
    assert "Intervals: 20 resamplings of the images, percentiles 2.5 and 97.5, seed 0." in out
    assert [image["name"] for image in content["images"]] == ["0", "1"]


def test_sub_folders(tmp_path, capsys):
    for group in ("Cats", "Cars"):
        pred, gt = folders(tmp_path, 2, group)
    assert cli.main(words(pred, gt)) == cli.SUCCESS
    out = capsys.readouterr().out
    assert re.findall(r"^(.*): (\d) pairs of masks$", out, re.M) == [
        ("Cars", "2"),
        ("Cats", "2"),
        ("All together", "4"),
    ]


def test_a_star(tmp_path, capsys):
    for group in ("Cats", "Cars"):
        folders(tmp_path / group, 1)
    assert cli.main(words(tmp_path / "*" / "pred", tmp_path / "*" / "gt")) == cli.SUCCESS
    assert "All together: 2 pairs of masks" in capsys.readouterr().out


def test_faithful(shared, tmp_path, capsys):
    root = shared / "data" / "labels4free_custom"
    command = ["evaluate", "--pred", f"{root}/*/pred", "--gt", f"{root}/*/gt", "--faithful"]
    assert cli.main([*command, "--json", str(tmp_path / "a.json")]) == cli.SUCCESS
    expected = json.loads((shared / "fixtures" / "evaluation" / "custom_first5.json").read_text())["classes"]
    printed = [line for name in sorted(expected) for line in (name, *expected[name]["printed_table"], "")]
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(printed)] == printed
    assert lines[len(printed)].startswith("The rows are labelled as the original labels them: read fg as background")
    tables = json.loads((tmp_path / "a.json").read_text())["groups"]
    assert tables == {name: expected[name]["table"] for name in expected}


def test_faithful_pairs_in_natural_order(tmp_path, capsys):
    pred, gt = folders(tmp_path, 2)
    for number in (0, 1):
        (gt / f"{number}.png").rename(gt / f"Face{number}.png")
    assert cli.main(["evaluate", "--pred", str(pred), "--gt", str(gt), "--faithful"]) == cli.SUCCESS
    assert capsys.readouterr().out.count("total(-bg)") == 2  # in the table and in the note
    assert cli.main(["evaluate", "--pred", str(pred), "--gt", str(gt), "--faithful", "--order", "name"]) == cli.FAILURE


def test_the_page(tmp_path, capsys):
    pred, gt = folders(tmp_path, 2)
    for name in ("0", "1"):
        write(tmp_path / "images" / f"{name}.png", np.stack([disc(48)] * 3, axis=2))
    page = tmp_path / "page.html"
    assert cli.main(words(pred, gt, "--html", page, "--images", tmp_path / "images")) == cli.SUCCESS
    assert f"Page: {page}" in capsys.readouterr().out
    assert page.read_text().count("<img") == 2


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--threshold", "1"], "threshold must lie in [0, 1), got 1.0"),
        (["--void", "300"], "void must lie in [0, 255], got 300"),
        (["--bootstrap", "-1"], "bootstrap must lie in [0, 100000], got -1"),
        (["--images", "{gt}", "--faithful"], "--faithful has rules of its own: leave out"),
        (["--faithful"], "--faithful has rules of its own"),  # the words above have a --bootstrap
        (["--json", "{gt}"], "--json names the folder"),
        (["--html", "{gt}"], "--html names the folder"),
        (["--images", "{none}"], "none does not exist: give a folder of images"),
        (["--images", "{empty}"], "holds no readable image"),
    ],
)
def test_bad_flags(tmp_path, refused, more, sentence):
    pred, gt = folders(tmp_path, 1)
    (tmp_path / "empty").mkdir()
    more = [word.format(gt=gt, none=tmp_path / "none", empty=tmp_path / "empty") for word in more]
    assert sentence in refused(words(pred, gt, *more))


def test_bad_folders(tmp_path, refused, said):
    pred, gt = folders(tmp_path, 2)
    (tmp_path / "empty").mkdir()
    for wrong in ("none", "empty"):
        assert wrong in refused(words(tmp_path / wrong, gt))
    write(pred / "2.png", disc())
    lonely = f"{gt} has 2 files and {pred} 3, of which {pred / '2.png'} is without a partner"
    assert lonely in refused(words(pred, gt))
    (pred / "2.png").unlink()
    write(pred / "1.png", disc(12))
    assert "1 of 2 predicted masks have another size" in refused(words(pred, gt))
    assert cli.main(words(pred, gt, "--resize")) == cli.SUCCESS
    Image.new("1", (20_000, 20_000)).save(pred / "1.png")
    for more in ([], ["--resize"]):
        code, _, ours = said(*words(pred, gt, *more))
        assert code == cli.FAILURE
        assert "1.png has more pixels than Pillow's limit" in ours[0]


def test_an_unwritable_place(tmp_path, capsys):
    pred, gt = folders(tmp_path, 1)
    for flag in ("--json", "--html"):
        assert cli.main(words(pred, gt, flag, pred / "0.png" / "x")) == cli.FAILURE
        assert "cannot be written" in capsys.readouterr().err
