from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from tests.folders import content
from tests.refusals import refuses
from tests.sampling.data_sets import ALL, discs, sample
from tests.tiny import tiny_stylegan2

from labels4free.data.names import MANIFEST
from labels4free.data.pairs.shard_records import read_shard
from labels4free.errors import ConfigError, RunError
from labels4free.generators.base import sample_z
from labels4free.layered import LayeredGenerator, composite
from labels4free.networks.merge_network import MergeNetwork
from labels4free.sampling.config import SampleConfig
from labels4free.sampling.filters import NO_FILTERS, FilterConfig
from labels4free.sampling.shards import Partition

pytestmark = pytest.mark.slow


def _grey(path):
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.array(image)


# What is in it


def test_sample_depends_on_seed_and_index_alone(tmp_path):
    for name, num, seed in (("few", 2, 5), ("many", 3, 5), ("other", 2, 6)):
        sample(tmp_path / name, num, seed=seed, parts=ALL)
    few, many, other = (content(tmp_path / name) for name in ("few", "many", "other"))
    for name in (f"{folder}/0000{i}.png" for folder in ("images", "composites", "backgrounds") for i in (0, 1)):
        assert few[name] == many[name]
        assert few[name] != other[name]


def test_files_hold_what_the_layered_generator_says(tmp_path):
    layered = discs()
    psi = {"min_truncation_psi": 0.5, "max_truncation_psi": 0.5}
    sample(tmp_path / "out", 2, layered, seed=2, threshold=0.4, parts=ALL, **psi)
    generator = layered.generator
    with torch.inference_mode():
        ws, background_ws = (generator.map(sample_z(8, 2, i)[None], 0.5) for i in (2, 3))
        expected = layered(ws, background_ws=background_ws, noise="fixed", background=generator.default_background)
        shown = composite(*expected)
    for folder, image in (("images", expected.foreground), ("backgrounds", expected.background), ("composites", shown)):
        with Image.open(tmp_path / "out" / folder / "00001.png") as picture:
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 127.5 - 1
        assert (pixels - image[0].clamp(-1, 1)).abs().max() <= 0.51 / 127.5
    alpha = _grey(tmp_path / "out" / "alpha" / "00001.png")
    assert np.abs(alpha / 255 - expected.alpha[0, 0].numpy()).max() <= 0.51 / 255
    mask = _grey(tmp_path / "out" / "masks" / "00001.png")
    assert (mask == np.where(expected.alpha[0, 0].numpy() > 0.4, 255, 0)).all()
    assert 0 < mask.mean() < 255
    assert not torch.equal(expected.background, layered(ws).background)  # another latent's
    with np.load(tmp_path / "out" / "latents" / "00001.npz") as latents:
        assert np.array_equal(latents["ws"], ws[0].numpy())
        assert np.array_equal(latents["background_ws"], background_ws[0].numpy())


def test_summary_and_manifest(tmp_path):
    seen = []
    out = tmp_path / "out"
    names = {"generator_name": "tiny", "alpha_name": "disc"}
    summary = sample(out, 3, seed=9, shard_size=100, progress=lambda *numbers: seen.append(numbers), **names)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    coverages = [_grey(out / "masks" / f"0000{i}.png").mean() / 255 for i in range(3)]
    assert summary.foreground_ratio_mean == pytest.approx(np.mean(coverages), abs=1e-6)
    assert summary.foreground_ratio_sd == pytest.approx(np.std(coverages), abs=1e-6)
    assert (summary.num, summary.rendered, summary.kept, summary.dropped) == (3, 3, 3, {})
    assert summary.contact_sheet.is_file()
    assert not summary.dropped_sheet.exists()
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["complete"]
    settings = manifest["settings"]
    assert settings["parts"] == ["image", "alpha", "mask"]
    assert settings["filters"]["min_foreground_ratio"] == 0.02
    assert [settings[k] for k in ("seed", "min_truncation_psi", "size", "background", "noise", "label")] == [
        9,
        0.7,
        64,
        "zero_first_conv",
        "fixed",
        None,
    ]
    assert "batch_size" not in settings
    assert SampleConfig.from_json(settings) == SampleConfig(seed=9, size=64, background="zero_first_conv")
    assert (manifest["generator"]["name"], manifest["alpha_network"]["name"]) == ("tiny", "disc")
    assert manifest["alpha_network"]["parameters"] == 8
    assert set(manifest["versions"]) == {"python", "labels4free", "torch", "pillow"}
    shard = read_shard(out, 0)
    assert shard is not None
    assert [record.foreground_ratio for record in shard.records] == pytest.approx(coverages, abs=1e-6)
    assert manifest["shards"][0][2:] == [3, sum(entry.bytes for entry in shard.files.values())]


# What is left out


def test_filters_drop_and_say_why(tmp_path):
    out = tmp_path / "out"
    sample(out / "all", 6)
    records = [r for s in range(3) for r in read_shard(out / "all", s).records]
    limit = sorted(record.foreground_ratio for record in records)[2]
    small = [record.index for record in records if record.foreground_ratio < limit]
    assert len(small) == 2
    summary = sample(out / "some", 6, filters=FilterConfig(min_foreground_ratio=limit))
    assert (summary.kept, summary.dropped) == (4, {f"foreground ratio below {limit:g}": 2})
    assert summary.dropped_sheet.is_file()
    assert not any((out / "some" / "images" / f"{index:05d}.png").exists() for index in small)
    dropped = [one.index for s in range(3) for one, _ in read_shard(out / "some", s).dropped]
    assert dropped == small
    lines = (out / "some" / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [i for i in range(6) if i not in small]


def test_nothing_left_is_an_error_that_says_so(tmp_path, caplog):
    said = r"None of the 3 candidates passed the filters \(3 foreground ratio below 0.9\).*contact_sheet_dropped.png"
    for _ in range(2):
        with pytest.raises(RunError, match=said):
            sample(tmp_path / "out", 3, filters=FilterConfig(min_foreground_ratio=0.9))
    assert (tmp_path / "out" / "contact_sheet_dropped.png").is_file()
    assert not (tmp_path / "out" / "contact_sheet.png").exists()


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"radius": -9.0}, "empty", "2 of 2 masks are empty: 00000, 00001"),
        ({"radius": 9.0}, "full", "2 of 2 masks are full"),
        ({"sign": -1.0}, "inverted", "2 of 2 masks are probably inverted"),
    ],
)
def test_warns_of_masks_that_cannot_be_right(tmp_path, caplog, settings, kind, said):
    with caplog.at_level(logging.WARNING):
        summary = sample(tmp_path / "out", 2, discs(**settings), filters=NO_FILTERS)
    assert said in caplog.text
    assert {name: getattr(summary, name) for name in ("empty", "full", "inverted")} == {
        name: ((2, (0, 1)) if name == kind else (0, ())) for name in ("empty", "full", "inverted")
    }


# Folders that cannot serve


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"seed": 1}, "made with seed 0, asked for was 1"),
        ({"threshold": 0.5}, "made with threshold 0.9, asked for was 0.5"),
        ({"background": "zero_constant"}, "background zero_first_conv, asked for was zero_constant"),
        ({"filters": NO_FILTERS}, "made with filters.max_foreground_ratio 0.98, asked for was 1.0"),
        ({"shard_size": 3}, "made with shard_size 2, asked for was 3"),
        ({"format": "coco"}, "made with format folder, asked for was coco"),
    ],
)
def test_refuses_a_folder_of_other_settings(tmp_path, settings, said):
    sample(tmp_path / "out", 1)
    before = content(tmp_path / "out")
    refuses(RunError, said, sample, tmp_path / "out", 1, **settings)
    assert content(tmp_path / "out") == before


def test_refuses_a_folder_of_another_alpha_network_or_of_more(tmp_path):
    sample(tmp_path / "out", 2)
    other = discs()
    with torch.no_grad():
        next(other.alpha_network.parameters()).add_(1)
    refuses(RunError, "of another alpha network", sample, tmp_path / "out", 2, other)
    refuses(RunError, "is for 2 samples of the same settings, asked for were 1", sample, tmp_path / "out", 1)


def test_refuses_foreign_folders(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    refuses(RunError, "not empty and holds no earlier samples", sample, tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize(
    ("num", "settings", "said"),
    [
        (0, {}, "num must be at least 1 sample, got 0"),
        (1, {"label": 0}, "^This generator has no classes, so leave the label out; got label 0.$"),
        (1, {"size": 48}, "size must divide the generator's resolution 64, got 48"),
        (1, {"background": "none"}, "Unknown background mode 'none'; mobile_stylegan has"),
        (1, {"format": "coco", "parts": ("image",)}, "mask was not asked for"),
        (5, {"partition": Partition(first=1, last=3)}, "shards 1-3 were asked for, the data set has 0-2"),
    ],
)
def test_refuses_before_it_makes_a_folder(tmp_path, num, settings, said):
    refuses(ConfigError, said, sample, tmp_path / "out", num, **settings)
    assert not (tmp_path / "out").exists()


# Classes


def _with_classes():
    generator = tiny_stylegan2(c_dim=3)
    torch.manual_seed(0)
    return LayeredGenerator(generator, MergeNetwork(generator.feature_specs, 64, width=2)).eval()


def test_label_gives_every_sample_its_class(tmp_path):
    sample(tmp_path / "one", 2, _with_classes(), filters=NO_FILTERS, label=1)
    manifest = json.loads((tmp_path / "one" / MANIFEST).read_text())
    assert manifest["settings"]["label"] == 1
    assert manifest["latents"].endswith("; class 1 for both")
    sample(tmp_path / "drawn", 8, _with_classes(), filters=NO_FILTERS)
    manifest = json.loads((tmp_path / "drawn" / MANIFEST).read_text())
    assert "class = sample_label(c_dim, seed, 2 * i), background class with 2 * i + 1" in manifest["latents"]
    labels = [json.loads(line)["label"] for line in (tmp_path / "drawn" / "records.jsonl").read_text().splitlines()]
    assert set(labels) == {0, 1, 2}
    one, drawn = content(tmp_path / "one"), content(tmp_path / "drawn")
    for index in range(2):
        name = f"images/0000{index}.png"
        assert (one[name] == drawn[name]) == (labels[index] == 1)


def test_generators_without_classes_say_nothing_of_them(tmp_path):
    sample(tmp_path / "out", 1)
    assert "class" not in json.loads((tmp_path / "out" / MANIFEST).read_text())["latents"]
    assert "label" not in (tmp_path / "out" / "records.jsonl").read_text()


def test_label_that_the_generator_has_not(tmp_path):
    said = "This generator has classes 0 to 2; got label 3."
    refuses(ConfigError, f"^{said}$", sample, tmp_path / "out", 1, _with_classes(), label=3)
    assert not (tmp_path / "out").exists()
