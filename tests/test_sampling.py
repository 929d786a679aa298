from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from labels4free import sampling
from labels4free.data.sample_folder import FOLDERS, MANIFEST
from labels4free.errors import ConfigError, DataError, RunError
from labels4free.generators.base import sample_z
from labels4free.layered import LayeredGenerator, composite
from labels4free.networks.alpha_network import MergeNetwork
from labels4free.sampling import SampleConfig, sample_dataset
from tests.soft_disc import SoftDisc
from tests.tiny import tiny_generator, tiny_stylegan2

if TYPE_CHECKING:
    from pathlib import Path


def _layered(**settings: float) -> LayeredGenerator:
    return LayeredGenerator(tiny_generator(), SoftDisc(**settings)).eval()


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _grey(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.array(image)


def test_batch_size_changes_no_byte(tmp_path: Path) -> None:
    for batch_size in (1, 3):
        sample_dataset(_layered(), tmp_path / str(batch_size), 4, SampleConfig(seed=5, batch_size=batch_size))
    one, three = _files(tmp_path / "1"), _files(tmp_path / "3")
    assert len(one) == 4 * 5 + 2
    assert one == three


def test_cpu_renders_one_sample_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    forward = LayeredGenerator.forward
    monkeypatch.setattr(
        LayeredGenerator, "forward", lambda self, ws, **rest: (batches.append(len(ws)), forward(self, ws, **rest))[1]
    )
    sample_dataset(_layered(), tmp_path / "out", 3, SampleConfig(batch_size=3))
    assert batches == [1, 1, 1]


def test_sample_depends_on_seed_and_index_alone(tmp_path: Path) -> None:
    sample_dataset(_layered(), tmp_path / "few", 2, SampleConfig(seed=5))
    sample_dataset(_layered(), tmp_path / "many", 3, SampleConfig(seed=5))
    sample_dataset(_layered(), tmp_path / "other", 2, SampleConfig(seed=6))
    few, many, other = (_files(tmp_path / name) for name in ("few", "many", "other"))
    for name in (f"{folder}/0000{i}.png" for folder in ("images", "composites", "backgrounds") for i in (0, 1)):
        assert few[name] == many[name]
        assert few[name] != other[name]


def test_files_hold_what_the_layered_generator_says(tmp_path: Path) -> None:
    layered = _layered()
    sample_dataset(layered, tmp_path / "out", 2, SampleConfig(seed=2, truncation_psi=0.5, threshold=0.4))
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


def test_size_is_a_box_filter_of_everything(tmp_path: Path) -> None:
    sample_dataset(_layered(), tmp_path / "full", 1)
    sample_dataset(_layered(), tmp_path / "half", 1, SampleConfig(size=32))
    alpha = _grey(tmp_path / "full" / "alpha" / "00000.png").reshape(32, 2, 32, 2).mean((1, 3))
    half = _grey(tmp_path / "half" / "alpha" / "00000.png")
    assert np.abs(alpha - half).max() <= 1
    assert (_grey(tmp_path / "half" / "masks" / "00000.png")[half > 0.91 * 255] == 255).all()
    for folder in FOLDERS:
        with Image.open(tmp_path / "half" / folder / "00000.png") as picture:
            assert picture.size == (32, 32)


def test_summary_and_manifest(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out"
    summary = sample_dataset(
        _layered(),
        out,
        3,
        SampleConfig(seed=9),
        generator_name="tiny",
        progress=lambda done, num: seen.append((done, num)),
    )
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    coverages = [_grey(out / "masks" / f"0000{i}.png").mean() / 255 for i in range(3)]
    assert summary.coverage_mean == pytest.approx(np.mean(coverages), abs=1e-6)
    assert summary.coverage_sd == pytest.approx(np.std(coverages), abs=1e-6)
    assert (summary.num, summary.rendered, summary.empty, summary.full, summary.inverted) == (3, 3, (), (), ())
    assert summary.contact_sheet.is_file()
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["complete"]
    assert manifest["settings"] == {
        "seed": 9,
        "truncation_psi": 0.7,
        "threshold": 0.9,
        "size": 64,
        "background": "zero_first_conv",
        "label": None,
        "noise": "fixed",
    }
    assert manifest["generator"]["name"] == "tiny"
    assert manifest["alpha_network"]["parameters"] == 8
    assert set(manifest["versions"]) == {"python", "labels4free", "torch", "pillow"}
    assert [sample["coverage"] for sample in manifest["samples"]] == pytest.approx(coverages, abs=1e-6)


class _StopError(Exception):
    pass


def _stop_after(samples: int) -> Any:
    def progress(done: int, num: int) -> None:
        if done >= samples:
            raise _StopError

    return progress


def test_interrupted_and_continued_equals_uninterrupted(tmp_path: Path) -> None:
    config = SampleConfig(seed=1)
    sample_dataset(_layered(), tmp_path / "whole", 4, config)
    with pytest.raises(_StopError):
        sample_dataset(_layered(), tmp_path / "cut", 4, config, progress=_stop_after(2))
    left = _files(tmp_path / "cut")
    assert not json.loads(left[MANIFEST])["complete"]
    assert not any(name.endswith(".tmp") for name in left)
    (tmp_path / "cut" / "alpha" / "00001.png").unlink()
    summary = sample_dataset(_layered(), tmp_path / "cut", 4, config)
    assert 1 <= summary.rendered <= 3
    assert _files(tmp_path / "cut") == _files(tmp_path / "whole")


def test_finished_data_set_is_not_rendered_again_and_grows(tmp_path: Path) -> None:
    assert sample_dataset(_layered(), tmp_path / "out", 2).rendered == 2
    before = _files(tmp_path / "out")
    assert sample_dataset(_layered(), tmp_path / "out", 2, SampleConfig(batch_size=1)).rendered == 0
    assert _files(tmp_path / "out") == before
    assert sample_dataset(_layered(), tmp_path / "out", 3).rendered == 1


@pytest.mark.parametrize(
    ("layered", "config", "said"),
    [
        ({}, SampleConfig(seed=1), "made with seed 0, asked for was 1"),
        ({}, SampleConfig(threshold=0.5), "made with threshold 0.9, asked for was 0.5"),
        ({}, SampleConfig(background="zero_constant"), "background zero_first_conv, asked for was zero_constant"),
    ],
)
def test_refuses_a_folder_of_other_settings(
    tmp_path: Path, layered: dict[str, float], config: SampleConfig, said: str
) -> None:
    sample_dataset(_layered(), tmp_path / "out", 1)
    before = _files(tmp_path / "out")
    with pytest.raises(RunError, match=said):
        sample_dataset(_layered(**layered), tmp_path / "out", 1, config)
    assert _files(tmp_path / "out") == before


def test_refuses_a_folder_of_another_alpha_network(tmp_path: Path) -> None:
    sample_dataset(_layered(), tmp_path / "out", 1)
    other = _layered()
    with torch.no_grad():
        next(other.alpha_network.parameters()).add_(1)
    with pytest.raises(RunError, match="of another alpha network"):
        sample_dataset(other, tmp_path / "out", 1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"truncation_psi": 2.5}, r"truncation_psi must lie in \[-2, 2\], got 2.5"),
        ({"truncation_psi": float("nan")}, "truncation_psi"),
        ({"threshold": -0.1}, r"threshold must lie in \[0, 1\], got -0.1"),
        ({"threshold": 1.5}, "threshold"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"size": 0}, "size must be at least 1 pixel, got 0"),
    ],
)
def test_config_refuses_values_out_of_range(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SampleConfig(**settings)


@pytest.mark.parametrize(
    ("num", "config", "said"),
    [
        (0, SampleConfig(), "num must be at least 1 sample, got 0"),
        (1, SampleConfig(size=48), "size must divide the generator's resolution 64, got 48"),
        (1, SampleConfig(size=128), "got 128"),
        (1, SampleConfig(background="none"), "Unknown background mode 'none'; mobile_stylegan has zero_first_conv"),
    ],
)
def test_refuses_before_it_makes_a_folder(tmp_path: Path, num: int, config: SampleConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sample_dataset(_layered(), tmp_path / "out", num, config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"radius": -9.0}, "empty", "2 of 2 masks are empty: 00000, 00001"),
        ({"radius": 9.0}, "full", "2 of 2 masks are full"),
        ({"sign": -1.0}, "inverted", "2 of 2 masks are probably inverted"),
    ],
)
def test_warns_of_masks_that_cannot_be_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, float], kind: str, said: str
) -> None:
    with caplog.at_level(logging.WARNING):
        summary = sample_dataset(_layered(**settings), tmp_path / "out", 2)
    assert said in caplog.text
    assert {name: getattr(summary, name) for name in ("empty", "full", "inverted")} == {
        name: ((0, 1) if name == kind else ()) for name in ("empty", "full", "inverted")
    }


def test_no_space_is_one_sentence_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def write_until_full(out: Path, index: int, pictures: Any) -> Any:
        if index == 2:
            raise DataError("no space left")
        written.append(index)
        return write(out, index, pictures)

    write = sampling.write_sample
    monkeypatch.setattr(sampling, "write_sample", write_until_full)
    with pytest.raises(DataError, match="no space left"):
        sample_dataset(_layered(), tmp_path / "out", 9)
    monkeypatch.undo()
    assert set(written) >= {0, 1}
    assert sample_dataset(_layered(), tmp_path / "out", 9).rendered == 9 - len(written)


# Classes


def _with_classes() -> LayeredGenerator:
    generator = tiny_stylegan2(c_dim=3)
    torch.manual_seed(0)
    return LayeredGenerator(generator, MergeNetwork(generator.feature_specs, 64, width=2)).eval()


def test_label_gives_every_sample_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layered, seen = _with_classes(), []
    draw_ws = type(layered.generator).draw_ws
    monkeypatch.setattr(
        type(layered.generator), "draw_ws", lambda self, *a, **k: (seen.append(k["label"]), draw_ws(self, *a, **k))[1]
    )
    sample_dataset(layered, tmp_path / "one", 2, SampleConfig(label=1))
    assert seen == [1, 1, 1, 1]
    manifest = json.loads((tmp_path / "one" / MANIFEST).read_text())
    assert manifest["settings"]["label"] == 1
    assert manifest["latents"].endswith("background z = sample_z(z_dim, seed, 2 * i + 1); class 1 for both")
    sample_dataset(layered, tmp_path / "drawn", 2)
    assert seen[4:] == [None] * 4
    manifest = json.loads((tmp_path / "drawn" / MANIFEST).read_text())
    assert manifest["settings"]["label"] is None
    assert "class = sample_label(c_dim, seed, 2 * i), background class with 2 * i + 1" in manifest["latents"]
    assert _files(tmp_path / "one")["images/00000.png"] != _files(tmp_path / "drawn")["images/00001.png"]


def test_generators_without_classes_say_nothing_of_them(tmp_path: Path) -> None:
    sample_dataset(_layered(), tmp_path / "out", 1)
    assert "class" not in json.loads((tmp_path / "out" / MANIFEST).read_text())["latents"]


def test_another_label_is_another_data_set(tmp_path: Path) -> None:
    sample_dataset(_with_classes(), tmp_path / "out", 1, SampleConfig(label=1))
    with pytest.raises(RunError, match="label 1, asked for was 2"):
        sample_dataset(_with_classes(), tmp_path / "out", 1, SampleConfig(label=2))
    with pytest.raises(RunError, match="label 1, asked for was None"):
        sample_dataset(_with_classes(), tmp_path / "out", 1)


@pytest.mark.parametrize(
    ("layered", "label", "said"),
    [
        (_layered, 0, "This generator has no classes, so leave the label out; got label 0."),
        (_with_classes, 3, "This generator has classes 0 to 2; got label 3."),
    ],
)
def test_label_that_the_generator_has_not(tmp_path: Path, layered: Any, label: int, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sample_dataset(layered(), tmp_path / "out", 1, SampleConfig(label=label))
    assert str(caught.value) == said
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="label must be the number of a class, from 0, got -1"):
        SampleConfig(label=-1)
