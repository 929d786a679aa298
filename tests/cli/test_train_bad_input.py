"""Whatever is wrong with the input of a training: one sentence, exit code 2, nothing lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from tests.tiny import tiny_generator as build_tiny_generator
from tests.tiny_run import SETTINGS, any_masks_serve, content, interrupt_at, outcome, write_generator

from labels4free import cli
from labels4free.training.alpha import monitor

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.usefixtures("quick")


def test_unknown_generator(refused: Callable[[list[str]], str], words: Callable[..., list[str]]) -> None:
    said = refused(words(generator="mobilestylegan-cats"))
    assert (
        "mobilestylegan-cats is neither a file nor a model of the zoo; the models are mobilestylegan-ffhq-1024." in said
    )


def test_a_generator_that_is_none(
    refused: Callable[[list[str]], str], words: Callable[..., list[str]], generator_file: Path, tmp_path: Path
) -> None:
    data = generator_file.read_bytes()
    (tmp_path / "short.safetensors").write_bytes(data[:-100])
    assert "short.safetensors is truncated" in refused(words(generator=tmp_path / "short.safetensors"))
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8 no checkpoint")
    assert "photo.jpg is a text file that begins with" in refused(words(generator=tmp_path / "photo.jpg"))
    assert "without an OpenVINO IR" in refused(words(generator=tmp_path))


def test_an_alpha_network_instead_of_a_generator(
    refused: Callable[[list[str]], str], words: Callable[..., list[str]], tmp_path: Path, whole: dict[str, Any]
) -> None:
    (tmp_path / "alpha.safetensors").write_bytes(whole["alpha"])
    said = refused(words(generator=tmp_path / "alpha.safetensors"))
    assert "holds a checkpoint of kind 'alpha_network', expected kind 'generator'" in said


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            ["--set", "resolution=128"],
            "makes images of 64 pixels, which cannot be averaged to a training resolution of 128",
        ),
        (["--set", "resolution=64"], "choose a resolution of at most 32"),
        (["--set", "resolution=48"], "resolution must be a power of two of at least 8, got 48."),
        (["--set", "steps=0"], "steps must be at least 1, got 0."),
        (["--set", "batch_size=-1"], "batch_size must be at least 1, got -1."),
        (["--set", "loss.colour=1"], "Unknown setting 'loss.colour'; the valid names there are binarization, "),
        (["--set", "colour=1"], "Unknown setting 'colour'; the valid names there are steps, batch_size, "),
        (["--set", "loss.coverage=much"], "loss.coverage must be float, got 'much'."),
        (["--set", "steps=1.5"], "steps must be int, got '1.5'."),
        (["--set", "steps"], "A setting must look like section.field=value, got 'steps'."),
        (["--set", "loss=1"], "loss is a section; set one of its fields: loss.binarization, "),
        (["--set", "background.mode=black"], "background.mode must be none or one of zero_first_conv, "),
        (["--device", "tpu"], "Unknown device 'tpu'; use cpu, cuda, cuda:N or mps."),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_settings_that_cannot_serve(
    refused: Callable[[list[str]], str], words: Callable[..., list[str]], more: list[str], sentence: str
) -> None:
    more = [*more, "--set", "discriminator.channel_base=128"]
    assert sentence in refused(words(*more))


def test_a_flag_that_is_no_number(words: Callable[..., list[str]], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words("--steps", "many"))
    assert end.value.code == 2
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("none", "none does not exist: give a folder of images, a zip file, an LMDB or tar shards."),
        ("empty", "empty holds no readable image (no image files in it)"),
        ("damaged", "damaged holds no readable image (the 2 image files in it are damaged)"),
        ("file", "file is a file of another kind: give a folder of images, a zip file, an LMDB or tar shards."),
    ],
)
def test_no_real_images(
    refused: Callable[[list[str]], str], words: Callable[..., list[str]], tmp_path: Path, folder: str, sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "damaged").mkdir()
    for name in ("a.png", "b.jpg"):
        (tmp_path / "damaged" / name).write_text("no image")
    assert sentence in refused(words("--set", f"data={tmp_path / folder}"))


def test_a_corrupt_image_among_good_ones(
    words: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for k in range(3):
        Image.fromarray(np.full((20, 20, 3), 50 * k, dtype=np.uint8)).save(photos / f"{k}.png")
    (photos / "broken.png").write_bytes((photos / "1.png").read_bytes()[:30])
    assert cli.main(words("--set", f"data={photos}")) == cli.SUCCESS
    said = capsys.readouterr().err
    assert f"Skipped 1 image file(s) in {photos}: {photos / 'broken.png'} cannot be read as an image" in said


def test_an_output_folder_that_cannot_serve(
    refused: Callable[[list[str]], str],
    words: Callable[..., list[str]],
    resume: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    assert "There is no run to resume at" in refused(resume)
    run.write_text("a file")
    assert "is a file, but a run needs a folder" in refused(words())
    run.unlink()
    run.mkdir()
    (run / "thesis.txt").write_text("mine")
    assert "is not empty (it holds thesis.txt) and is no run" in refused(words())
    (run / "thesis.txt").unlink()
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        assert cli.main(words()) == cli.INTERRUPTED
    for more in ([], ["--set", "seed=3"]):
        assert "holds a run already: go on with it by --resume, or choose another folder" in refused(words(*more))
    assert cli.main(resume) == cli.SUCCESS
    assert "holds a run already" in refused(words())


def test_resumed_with_other_settings(
    refused: Callable[[list[str]], str],
    words: Callable[..., list[str]],
    resume: list[str],
    tmp_path: Path,
    whole: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        assert cli.main(words()) == cli.INTERRUPTED
    said = refused([*resume, "--steps", "99", "--set", "alpha.width=7"])
    assert "A resumed run keeps its settings; " in said
    assert "has steps=8 (asked for: 99), alpha.width=4 (asked for: 7). Start a new run to change them." in said
    assert "Unknown setting 'alpha.colour'" in refused([*resume, "--set", "alpha.colour=7"])
    other = write_generator(tmp_path / "other.safetensors", build_tiny_generator(seed=1))
    assert "was started on the generator " in refused([*resume[:1], str(other), *resume[2:]])
    assert cli.main([*resume, "--steps", str(SETTINGS.steps), "--set", "alpha.width=4"]) == cli.SUCCESS  # the same ones
    assert outcome(tmp_path / "run") == whole


@pytest.mark.parametrize(
    "name", ["config.json", "cache.json", "previews.safetensors", "step_000005.pt", "alpha.safetensors"]
)
def test_no_space_left(
    words: Callable[..., list[str]],
    resume: list[str],
    tmp_path: Path,
    whole: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    _full_disk(monkeypatch, name)
    assert cli.main(words()) == cli.FAILURE
    said = capsys.readouterr()
    assert said.out == ""
    *_, sentence = said.err.splitlines()
    assert sentence.startswith("labels4free: There is no space left to write ")
    assert said.err.count("labels4free: ") == 1
    assert "Traceback" not in said.err
    assert not list((tmp_path / "run").rglob("*.tmp"))
    monkeypatch.undo()
    any_masks_serve(monkeypatch)
    assert cli.main(words() if name == "config.json" else resume) == cli.SUCCESS
    assert outcome(tmp_path / "run") == whole


def test_no_space_left_for_a_picture(
    words: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _full_disk(monkeypatch, "restart_0_step_000004.png")
    assert cli.main(words()) == cli.FAILURE
    assert "labels4free: There is no space left to write " in capsys.readouterr().err


def _full_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A file of that name finds no space, whether it is synchronised or not."""
    rename = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if Path(target).name == name or (name in Path(target).name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)


def test_a_lost_run_is_one_sentence(
    words: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(monitor, "find_problem", lambda **numbers: "the masks are empty")
    assert cli.main(words("--set", "monitor.max_restarts=1")) == cli.FAILURE
    *_, sentence = capsys.readouterr().err.splitlines()
    assert sentence.startswith("labels4free: Training was lost in attempt 2, the last: the masks are empty. See ")
