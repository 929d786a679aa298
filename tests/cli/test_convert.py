"""What `labels4free convert` writes, says and refuses."""

from __future__ import annotations

import hashlib
import io
import shutil
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.foreign_files import write_ir, write_original
from tests.tiny import KEEP_ALL, tiny_stylegan2
from tests.tiny_run import content, write_generator

from labels4free import cli
from labels4free.checkpoints import native, self_check
from labels4free.checkpoints.foreign.formats import read_foreign
from labels4free.checkpoints.foreign.rosinality import write_rosinality
from labels4free.checkpoints.loading import load_alpha_network, load_discriminator, load_generator
from labels4free.checkpoints.native import read_native_header, write_native
from labels4free.checkpoints.places import beside
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = {
    "rosinality": "rosinality/tiny_train_checkpoint.pt",
    "nvidia": "nvlabs/ada_cond.pkl",
    "nvidia-tensorflow": "nvlabs/tf_stylegan2.pkl",
}

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.slow]


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Convert, which must succeed: returns what was said on stdout and stderr."""

    def convert(source: Any, destination: str = "out.safetensors", *words: str) -> tuple[str, str]:
        capsys.readouterr()
        code = cli.main(["convert", str(source), str(tmp_path / destination), *words])
        said = capsys.readouterr()
        assert code == cli.SUCCESS, said.err
        return said.out, said.err

    return convert


@pytest.fixture
def source(shared: Path) -> Path:
    return shared / "fixtures" / FILES["rosinality"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def same_state(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# What it writes


@pytest.mark.parametrize("name", FILES)
def test_networks_are_those_of_the_file(name, shared, tmp_path, convert):
    source = shared / "fixtures" / FILES[name]
    convert(source)
    found = read_foreign(source)
    out = tmp_path / "out.safetensors"
    assert names(tmp_path) == ["out.check.png", "out.discriminator.safetensors", "out.safetensors"]
    assert same_state(load_generator(out), found.generator)
    assert load_generator(out).config() == found.generator.config()
    for given in (out, beside(out, "discriminator")):
        assert same_state(load_discriminator(given), found.discriminator)
    info = read_native_header(out, "generator").info
    assert info["source"] == source.name
    assert info["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert info["source_format"] == name
    assert info["notes"] == list(found.notes)
    assert info["ignored"] == dict(found.ignored)
    assert info["self_check"]["layers"].keys() == {spec.name for spec in found.generator.feature_specs}
    generator_hash = state_hash(found.generator)
    own = {"name": str(out), "family": "stylegan2", "state_hash": generator_hash}
    assert read_native_header(beside(out, "discriminator")).info["generator"] == own


def test_picture_shows_the_samples(source, tmp_path, convert):
    convert(source)
    expected = self_check.self_check(load_generator(source)).picture
    assert np.array_equal(np.array(Image.open(tmp_path / "out.check.png")), expected)


def test_openvino_ir(tiny_generator, tmp_path, convert):
    folder = write_ir(tmp_path / "ir", tiny_generator)
    for given in (folder, folder / "SynthesisNetwork.xml"):
        out, _ = convert(given, "out.safetensors", "--overwrite")
        assert "mobile_stylegan" in out
        assert "mean latent\tcomputed" in out
        assert torch.equal(load_generator(tmp_path / "out.safetensors").constant, tiny_generator.constant)
        header = read_native_header(tmp_path / "out.safetensors")
        digest = hashlib.sha256()
        for file in sorted(folder.iterdir()):
            digest.update(file.name.encode() + b"\n" + file.read_bytes())
        assert header.info["source_sha256"] == digest.hexdigest()


def test_alpha_network_alone(shared, tmp_path, convert):
    source = shared / "fixtures" / "alpha" / "labels4free_checkpoint_256.pt"
    out, err = convert(source)
    assert names(tmp_path) == ["out.safetensors"]
    assert same_state(load_alpha_network(tmp_path / "out.safetensors"), read_foreign(source).alpha_network)
    assert "alpha network\tpaper, for generators of 256x256, 14,947 parameters" in out
    assert "Left out: g (g holds 4 tensors, no whole generator)." in out
    assert "--generator GENERATOR" in out.splitlines()[-1]
    assert "generator" not in read_native_header(tmp_path / "out.safetensors").info
    assert err == ""


def test_alpha_network_with_its_generator(tmp_path, convert):
    """As the original's training saves them: the alpha network lies beside its generator and knows it."""
    path = write_original(tmp_path / "original.pt")
    out, _ = convert(path, "out/face.safetensors")
    folder = tmp_path / "out"
    assert names(folder) == ["face.alpha.safetensors", "face.check.png", "face.safetensors"]
    alpha = folder / "face.alpha.safetensors"
    own = read_native_header(alpha).info["generator"]
    assert own["state_hash"] == state_hash(load_generator(folder / "face.safetensors"))
    assert out.splitlines()[-1] == f"Next: labels4free sample {alpha} --out DIR --num 16"
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    words = ["sample", str(moved / alpha.name), "--out", str(tmp_path / "samples"), "--num", "1", *KEEP_ALL]
    assert cli.main(words) == cli.SUCCESS


# The other direction


@pytest.mark.parametrize("first", ["native", "direct"])
def test_there_and_back_again_is_exact(first, source, tmp_path, convert):
    given = source
    if first == "native":
        convert(source)
        given = tmp_path / "out.safetensors"
    out, _ = convert(given, "back.pt", "--to", "rosinality")
    assert f"Wrote {tmp_path / 'back.pt'} (generator and discriminator)." in out
    before, after = read_foreign(source), read_foreign(tmp_path / "back.pt")
    assert same_state(before.generator, after.generator)
    assert same_state(before.discriminator, after.discriminator)


def test_back_without_a_discriminator_says_so(source, tmp_path, convert):
    convert(source)
    beside(tmp_path / "out.safetensors", "discriminator").unlink()
    out, _ = convert(tmp_path / "out.safetensors", "back.pt", "--to", "rosinality")
    assert "(the generator; there is no discriminator)" in out
    assert read_foreign(tmp_path / "back.pt").discriminator is None


def test_what_rosinality_has_no_place_for(tmp_path, tiny_generator, shared):
    mobile = write_generator(tmp_path / "m.safetensors", tiny_generator)
    back = [str(tmp_path / "back.pt"), "--to", "rosinality"]
    said = failing(["convert", str(mobile), *back])
    assert "rosinality's format is for StyleGAN2 generators" in said
    assert "holds a mobile_stylegan" in said
    assert "classes" in failing(["convert", str(shared / "fixtures" / FILES["nvidia"]), *back])
    assert names(tmp_path) == ["m.safetensors"]


def failing(words: list[str]) -> str:
    """Run a command that must fail after it has said what is in the file."""
    error = io.StringIO()
    with redirect_stderr(error), redirect_stdout(io.StringIO()):
        assert cli.main(words) == cli.FAILURE
    return error.getvalue().splitlines()[-1]


# What it says


def test_says_what_was_found_left_out_and_written(source, tmp_path, convert):
    out, err = convert(source)
    for line in (
        "format\tStyleGAN2 of rosinality",
        "image\t32x32",
        "channels\t24 at 4², 24 at 8², 16 at 16², 8 at 32²",
        "classes\tnone",
        "mapping\t8 layers of 32, learning-rate multiplier 0.01",
        "mean latent\tcomputed",
        "Left out: g_optim (state of the generator's optimiser).",
        "Left out: g (the running average g_ema is used).",
        "Note: The file has no mean latent: w_avg is the mean of 10,000 mapped latents.",
        f"Wrote {tmp_path / 'out.safetensors'} (the generator).",
        f"Wrote {tmp_path / 'out.discriminator.safetensors'} (the discriminator).",
        f"Wrote {tmp_path / 'out.check.png'} (samples to look at).",
        f"Next: labels4free train {tmp_path / 'out.safetensors'} --out RUN",
    ):
        assert line in out.splitlines()
    assert f"Look at the picture: {tmp_path / 'out.check.png'}" in err
    assert "- The pixels have a standard deviation of" in err


def test_a_healthy_one_is_said_to_be(tmp_path, convert):
    write_rosinality(tmp_path / "g.pt", tiny_stylegan2())
    out, err = convert(tmp_path / "g.pt")
    assert "Self-check: the numbers are those of a working generator." in out
    assert "Self-check" not in err


# What it refuses


def test_what_is_there_is_not_replaced(source, tmp_path, convert, refused):
    convert(source)
    words = ["convert", str(source), str(tmp_path / "out.safetensors")]
    assert "out.safetensors" in refused(words)
    (tmp_path / "out.safetensors").unlink()
    said = refused(words)
    assert f"{tmp_path / 'out.discriminator.safetensors'} is there already; --overwrite replaces" in said


def test_overwriting_leaves_nothing_of_the_earlier_conversion(source, shared, tmp_path, convert):
    convert(source)
    convert(shared / "fixtures" / "rosinality" / "tiny_converted.pt", "out.safetensors", "--overwrite")
    assert names(tmp_path) == ["out.check.png", "out.safetensors"]
    assert read_native_header(tmp_path / "out.safetensors").info["source"] == "tiny_converted.pt"


@pytest.mark.parametrize(
    ("destination", "words", "said"),
    [
        ("out.pt", [], "DST must end in .safetensors for the native format, got"),
        ("out", [], "out.safetensors would do"),
        ("out.safetensors", ["--to", "rosinality"], "DST must end in .pt for the rosinality format"),
    ],
)
def test_destination_of_another_format(source, tmp_path, refused, destination, words, said):
    assert said in refused(["convert", str(source), str(tmp_path / destination), *words])


def test_destination_that_cannot_be(source, tmp_path, refused):
    (tmp_path / "folder.safetensors").mkdir()
    assert "is a folder; DST is a file" in refused(["convert", str(source), str(tmp_path / "folder.safetensors")])
    own = shutil.copy(source, tmp_path / "own.pt")
    words = ["convert", str(own), str(own), "--to", "rosinality", "--overwrite"]
    assert "would replace its own source" in refused(words)


def test_native_source(source, tmp_path, convert, refused):
    convert(source)
    words = ["convert", str(tmp_path / "out.safetensors"), str(tmp_path / "again.safetensors")]
    assert "is a native checkpoint already; --to rosinality converts it" in refused(words)


@pytest.mark.parametrize("name", ["01_os_system.pkl", "05_namespace_field.pt", "18_truncated.pt", "20_truncated.pkl"])
def test_hostile_and_damaged_files(name, shared, tmp_path, refused, monkeypatch):
    monkeypatch.setenv("L4F_MARKER", str(tmp_path / "marker"))
    refused(["convert", str(shared / "fixtures" / "malicious" / name), str(tmp_path / "out.safetensors")])


def test_what_is_no_checkpoint(tmp_path, refused):
    (tmp_path / "page.pkl").write_text("<!DOCTYPE html><html>Quota exceeded</html>")
    destination = str(tmp_path / "out.safetensors")
    assert "is a web page" in refused(["convert", str(tmp_path / "page.pkl"), destination])
    assert "is neither a file nor a model of the zoo" in refused(["convert", "nothing.pt", destination])
    write_native(tmp_path / "s.safetensors", kind="landscape", family="unet", config={}, state={})
    said = refused(["convert", str(tmp_path / "s.safetensors"), str(tmp_path / "s.pt"), "--to", "rosinality"])
    assert "of kind 'landscape'; generator, discriminator, alpha_network and segmenter are known" in said


# Nothing half-written


def test_a_generator_that_does_not_work_is_not_written(source, tmp_path, monkeypatch):
    def broken(*args: Any, what: str, **options: Any) -> None:
        raise CheckpointError(f"{what} does not work: its image gives values that are NaN or infinite.")

    monkeypatch.setattr(self_check, "self_check", broken)
    assert "does not work" in failing(["convert", str(source), str(tmp_path / "out.safetensors")])
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["discriminator", "generator"])
@pytest.mark.parametrize("error", [CheckpointError("no space"), KeyboardInterrupt()])
def test_a_failure_leaves_everything_as_it_was(kind, error, source, shared, tmp_path, convert, monkeypatch):
    convert(shared / "fixtures" / "rosinality" / "tiny_converted.pt")
    before = content(tmp_path)
    write = native.write_native

    def failing_write(path: Path, **fields: Any) -> None:
        if fields["kind"] == kind:
            raise error
        write(path, **fields)

    monkeypatch.setattr(native, "write_native", failing_write)
    code = cli.main(["convert", str(source), str(tmp_path / "out.safetensors"), "--overwrite"])
    assert code == (cli.FAILURE if isinstance(error, CheckpointError) else cli.INTERRUPTED)
    assert content(tmp_path) == before


def test_missing_folders_are_made(source, tmp_path, convert):
    convert(source, "a/b/out.safetensors")
    assert "out.safetensors" in names(tmp_path / "a" / "b")
