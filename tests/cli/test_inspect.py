"""What `labels4free inspect` says of each kind of file, and its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.foreign_files import write_ir
from tests.tiny_run import content, write_generator

from labels4free import cli
from labels4free.checkpoints.native import write_native
from labels4free.checkpoints.self_check import self_check
from labels4free.checkpoints.state_hash import state_hash
from labels4free.networks.merge_network import MergeNetwork

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[dict[str, list[str]], str, str]]:
    """Inspect, which must succeed: the rows of the table by name, stdout, stderr."""

    def inspect(*words: Any) -> tuple[dict[str, list[str]], str, str]:
        capsys.readouterr()
        code = cli.main(["inspect", *map(str, words)])
        said = capsys.readouterr()
        assert code == cli.SUCCESS, said.err
        rows: dict[str, list[str]] = {}
        for line in said.out.splitlines():
            name, tab, value = line.partition("\t")
            if tab:
                rows.setdefault(name, []).append(value)
        return rows, said.out, said.err

    return inspect


@pytest.fixture
def alpha_file(tmp_path: Path, tiny_generator: Any, generator_file: Path) -> Callable[..., Path]:
    def write(**own: Any) -> Path:
        torch.manual_seed(0)
        network = MergeNetwork(tiny_generator.feature_specs, tiny_generator.resolution, width=4)
        own = {"name": str(generator_file), "state_hash": state_hash(tiny_generator)} | own
        info = {"generator": own, "train": {"steps": 8, "seed": 0, "loss": {"coverage": 5.0}}}
        path = tmp_path / "run" / "alpha.safetensors"
        config, state = network.config(), network.state_dict()
        write_native(path, kind="alpha_network", family="merge", config=config, state=state, info=info)
        return path

    return write


@pytest.mark.slow
def test_rosinality(shared, inspect):
    source = shared / "fixtures" / "rosinality" / "tiny_train_checkpoint.pt"
    rows, out, err = inspect(source)
    assert rows["file"] == [str(source)]
    assert rows["format"] == ["StyleGAN2 of rosinality"]
    assert rows["generator"] == ["stylegan2, 39,091 parameters"]
    assert rows["image"] == ["32x32"]
    assert rows["latents"] == ["z 32, w 32 in 8 rows"]
    assert rows["noise"][0].startswith("7 fixed maps, strength -0.132 to 0.142")
    assert rows["discriminator"] == ["32x32, 33,777 parameters"]
    assert "g_optim (state of the generator's optimiser)" in rows["left out"]
    settings = rows["training settings"][0].split(", ")
    assert {"size=32", "batch=16", "lr=0.002", "augment=False"} <= set(settings)
    assert "Picture: tiny_train_checkpoint.inspect.png" in out
    assert "Unusual: The pixels have a standard deviation of" in err


@pytest.mark.slow
def test_nvidia(shared, inspect):
    rows, _, _ = inspect(shared / "fixtures" / "nvlabs" / "ada_cond.pkl", "--no-picture")
    assert rows["classes"] == ["3"]
    assert rows["discriminator"] == ["32x32, 48,392 parameters, 3 classes"]
    assert rows["mapping"] == ["2 layers of 64, learning-rate multiplier 0.01"]
    assert "max_size=1000" in rows["training settings"][0]
    rows, _, _ = inspect(shared / "fixtures" / "nvlabs" / "ada_fp16_clamp.pkl", "--no-picture")
    assert rows["limit"] == ["every layer to ±1.25, as mixed-precision training had it"]
    assert any("float16" in note for note in rows["note"])


@pytest.mark.slow
def test_tensorflow(shared, inspect):
    rows, _, _ = inspect(shared / "fixtures" / "nvlabs" / "tf_stylegan2.pkl", "--no-picture")
    assert rows["format"] == ["StyleGAN2 of NVIDIA (TensorFlow)"]
    assert rows["mean latent"] == ["as in the file"]
    assert "training settings" not in rows


def test_original_alpha_network(shared, inspect, tmp_path):
    rows, _, err = inspect(shared / "fixtures" / "alpha" / "labels4free_checkpoint_256.pt")
    assert rows["alpha network"] == ["paper, for generators of 256x256, 14,947 parameters"]
    assert "generator" not in rows
    assert "loss_multiplier=3.0" in rows["training settings"][0]
    assert "No picture: it takes a generator, which is not in this file." in err
    assert content(tmp_path) == {}


def test_openvino_ir(tiny_generator, tmp_path, inspect):
    folder = write_ir(tmp_path / "ir", tiny_generator)
    for given in (folder, folder / "MappingNetwork.xml"):
        rows, _, _ = inspect(given, "--no-picture")
        assert rows["generator"][0].startswith("mobile_stylegan")
        assert rows["mapping"] == ["2 layers of 8"]


@pytest.mark.slow
def test_native_generator_and_what_lies_beside_it(generator_file, tmp_path, inspect, shared):
    rows, _, _ = inspect(generator_file, "--no-picture")
    assert rows["format"] == ["native checkpoint of labels4free, version 1"]
    assert rows["channels"] == ["16 at 4², 16 at 8², 16 at 16², 8 at 32²"]
    assert "discriminator" not in rows
    source = shared / "fixtures" / "rosinality" / "tiny_train_checkpoint.pt"
    assert cli.main(["convert", str(source), "g.safetensors"]) == cli.SUCCESS
    rows, _, _ = inspect("g.safetensors", "--no-picture")
    assert rows["discriminator"] == ["32x32, 33,777 parameters, in g.discriminator.safetensors"]
    assert rows["source"] == ["tiny_train_checkpoint.pt"]
    assert rows["note"] == ["The file has no mean latent: w_avg is the mean of 10,000 mapped latents."]
    rows, _, err = inspect("g.discriminator.safetensors")
    assert rows["discriminator"] == ["32x32, 33,777 parameters"]
    assert "No picture" in err


@pytest.mark.slow
def test_run_folder_and_its_alpha_network(alpha_file, generator_file, tiny_generator, tmp_path, inspect):
    path = alpha_file()
    for given in (path, path.parent):
        rows, out, _ = inspect(given)
        assert rows["file"] == [str(path)]
        assert rows["alpha network"][0].startswith("merge, for generators of 64x64")
        assert rows["trained on"] == [str(generator_file)]
        assert rows["training settings"] == ["seed=0, steps=8"]
        assert "Picture: alpha.inspect.png" in out
        assert (tmp_path / "alpha.inspect.png").exists()
        (tmp_path / "alpha.inspect.png").unlink()


@pytest.mark.parametrize("own", [{"name": "/no/such/file"}, {"name": ""}, {"state_hash": "another"}])
def test_alpha_network_without_its_generator(alpha_file, own, inspect):
    _, out, err = inspect(alpha_file(**own))
    assert "Picture" not in out
    assert "No picture: it takes a generator" in err


def test_a_generator_that_would_have_to_be_fetched_is_not(alpha_file, inspect, monkeypatch, tmp_path):
    monkeypatch.setenv("LABELS4FREE_HOME", str(tmp_path / "empty"))
    _, _, err = inspect(alpha_file(name="mobilestylegan-ffhq-1024"))
    assert "No picture" in err


@pytest.mark.slow
def test_picture(generator_file, tiny_generator, tmp_path, inspect):
    _, out, _ = inspect(generator_file)
    assert "Picture: tiny.inspect.png" in out
    expected = self_check(tiny_generator).picture
    assert np.array_equal(np.array(Image.open("tiny.inspect.png")), expected)
    _, out, _ = inspect(generator_file, "--picture", "a/b.png")
    assert "Picture: a/b.png" in out
    assert np.array_equal(np.array(Image.open("a/b.png")), expected)
    (tmp_path / "tiny.inspect.png").unlink()
    inspect(generator_file, "--no-picture")
    assert not (tmp_path / "tiny.inspect.png").exists()


def test_on_a_terminal(generator_file, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")
    assert cli.main(["inspect", str(generator_file), "--no-picture"]) == cli.SUCCESS
    out = capsys.readouterr().out
    assert "16 at 4², 16 at 8², 16 at 16², 8 at 32²" in out
    assert "\t" not in out


def test_what_is_refused(shared, tmp_path, refused, generator_file, monkeypatch):
    monkeypatch.setenv("L4F_MARKER", str(tmp_path / "marker"))
    assert "--picture or --no-picture" in refused(
        ["inspect", str(generator_file), "--picture", "p.png", "--no-picture"]
    )
    assert "nothing of the file was run" in refused(
        ["inspect", str(shared / "fixtures/malicious/02_builtins_eval.pkl")]
    )
    assert "is a text file" in refused(["inspect", str(shared / "fixtures" / "README.md")])
    assert "is neither a file nor a model of the zoo" in refused(["inspect", "nothing"])
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.json").write_text("{}")
    assert "its run has no good check yet; go on with --resume" in refused(["inspect", str(tmp_path / "unfinished")])
    assert "without an OpenVINO IR" in refused(["inspect", str(tmp_path)])


def test_a_picture_that_cannot_be_written(tmp_path, tiny_generator, capsys):
    path = write_generator(tmp_path / "g.safetensors", tiny_generator)
    (tmp_path / "file").write_text("")
    assert cli.main(["inspect", str(path), "--picture", str(tmp_path / "file" / "p.png")]) == cli.FAILURE
    assert "cannot be written" in capsys.readouterr().err.splitlines()[-1]
