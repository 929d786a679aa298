"""Every format of other projects, from the file to samples: three steps of training and two images by command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from tests.foreign_files import write_ir, write_original
from tests.tiny import tiny_generator, tiny_stylegan2
from tests.tiny_run import any_masks_serve, as_settings, tiny_config, write_generator

from labels4free import cli
from labels4free.checkpoints.loading import load_generator
from labels4free.checkpoints.native import read_native_header
from labels4free.checkpoints.state_hash import state_hash
from labels4free.data.names import MANIFEST, PARTS
from labels4free.generators.stylegan2 import StyleGAN2

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

FIXTURES = {
    "rosinality": "rosinality/tiny_train_checkpoint.pt",
    "rosinality, before PyTorch 1.6": "rosinality/tiny_converted_with_d_legacy_format.pt",
    "NVIDIA": "nvlabs/ada_uncond.pkl",
    "NVIDIA with classes": "nvlabs/ada_cond.pkl",
    "NVIDIA, mixed precision": "nvlabs/ada_fp16_clamp.pkl",
    "NVIDIA, TensorFlow": "nvlabs/tf_stylegan2.pkl",
}
THREE_STEPS = tiny_config(
    steps=3,
    resolution=8,
    checkpoint_interval=3,
    picture_interval=3,
    cache={"size": 8, "calibration_samples": 2},
    discriminator={"warmup_steps": 1},
    background={"filled_from_step": 1, "filled_full_step": 2},
    monitor={"interval": 3, "samples": 2},
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    any_masks_serve(monkeypatch)


@pytest.fixture(params=[*FIXTURES, "OpenVINO IR", "native", "native StyleGAN2", "converted"])
def generator(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A generator of each format."""
    if request.param == "native":
        return write_generator(tmp_path / "g.safetensors", tiny_generator())
    if request.param == "native StyleGAN2":
        return write_generator(tmp_path / "g.safetensors", tiny_stylegan2())
    if request.param == "OpenVINO IR":
        return write_ir(tmp_path / "ir", tiny_generator())
    shared: Path = request.getfixturevalue("shared")
    if request.param == "converted":
        source, path = shared / "fixtures" / FIXTURES["NVIDIA with classes"], tmp_path / "g.safetensors"
        assert cli.main(["convert", str(source), str(path)]) == cli.SUCCESS
        return path
    return shared / "fixtures" / FIXTURES[request.param]


def test_train_and_sample(generator: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "samples"
    assert cli.main(["train", str(generator), "--out", str(run), *as_settings(THREE_STEPS)]) == cli.SUCCESS
    loaded = load_generator(generator)
    own = read_native_header(run / "alpha.safetensors", "alpha_network").info["generator"]
    assert own["name"] == str(generator)
    assert own["state_hash"] == state_hash(loaded)
    words = ["sample", str(run), "--out", str(out), "--num", "2", "--preset", "paper"]  # so few steps: no filters
    words += ["--label", "1"] if loaded.c_dim else []
    assert cli.main(words) == cli.SUCCESS
    parts = ("image", "alpha", "mask", "composite", "background")
    assert all(len(list((out / PARTS[part]).glob("*.png"))) == 2 for part in parts)
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["generator"]["name"] == str(generator.resolve())
    assert manifest["generator"]["resolution"] == loaded.resolution
    assert manifest["settings"]["label"] == (1 if loaded.c_dim else None)


def test_sample_with_an_alpha_network_of_the_original(shared: Path, tmp_path: Path) -> None:
    """Its generator of 256 pixels is given apart: the fixture holds a few of the generator's tensors only."""
    channels = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128}
    wide = StyleGAN2(channels, z_dim=8, w_dim=8, mapping_widths=[8])
    for value in wide.state_dict().values():
        value.normal_(generator=torch.Generator().manual_seed(0))
    generator = write_generator(tmp_path / "g.safetensors", wide)
    alpha = shared / "fixtures" / "alpha" / "labels4free_checkpoint_256.pt"
    words = ["sample", str(alpha), "--generator", str(generator), "--out", str(tmp_path / "out"), "--num", "1"]
    assert cli.main([*words, "--size", "64", "--preset", "paper"]) == cli.SUCCESS
    assert (tmp_path / "out" / "contact_sheet.png").exists()


def test_sample_with_a_whole_checkpoint_of_the_original(tmp_path: Path) -> None:
    """It holds its generator, so that nothing else need be named."""
    checkpoint = write_original(tmp_path / "original.pt")
    out = tmp_path / "out"
    words = ["sample", str(checkpoint), "--out", str(out), "--num", "2", "--size", "32", "--preset", "paper"]
    assert cli.main(words) == cli.SUCCESS
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["generator"]["name"] == str(checkpoint.resolve())
    assert manifest["generator"]["state_hash"] == state_hash(load_generator(checkpoint))


def test_an_alpha_network_of_the_original_that_does_not_fit(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alpha = shared / "fixtures" / "alpha" / "labels4free_checkpoint_256.pt"
    generator = shared / "fixtures" / FIXTURES["NVIDIA"]
    words = ["sample", str(alpha), "--out", str(tmp_path / "out"), "--num", "1"]
    assert cli.main([*words, "--generator", str(generator)]) == cli.FAILURE
    said = capsys.readouterr().err
    assert "This alpha network fits generators of 256x256 pixels whose last 12 feature maps are" in said
    assert cli.main(words) == cli.FAILURE
    assert "does not say which generator it belongs to; name it with --generator." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
