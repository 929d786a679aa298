from __future__ import annotations

import functools
import inspect
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image

from labels4free import cli
from labels4free.cli import prepare
from labels4free.data.images.dataset import open_images
from labels4free.data.images.prepare import PrepareConfig


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def photographs(folder, count, size=24):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(folder / f"{number}.bmp")
    return folder


def test_defaults_are_those_of_the_library():
    flags = inspect.signature(prepare.run).parameters
    defaults = {field.name: field.default for field in fields(PrepareConfig)}
    assert prepare._parse_sizes(flags["sizes"].default) == defaults.pop("sizes")
    assert defaults.pop("format") == "lmdb"
    assert {name: flags[name].default for name in defaults} == defaults


def test_says_what_was_done(tmp_path, capsys):
    source, out = photographs(tmp_path / "in", 9), tmp_path / "out"
    for number in range(3, 9):
        (source / f"{number}.bmp").write_text("no image")
    words = ["prepare", str(source), str(out), "--sizes", "32,16", "--workers", "1"]
    assert cli.main(words) == cli.SUCCESS
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        f"3 images of 16, 32 pixels in {out}",
        "3 of them were smaller than 32 pixels and have been enlarged to it.",
        "Skipped: 3.bmp cannot be read as an image (its format is unknown).",
    ]
    assert len(lines) == 8
    assert lines[7] == f"And 1 more; labels4free-images.json in {out} lists them all."
    assert cli.main(words) == cli.SUCCESS
    said = capsys.readouterr()
    assert said.out.startswith(f"{out} is complete already: 3 images of 16, 32 pixels\n")
    assert said.err == ""  # no progress where there is no work
    assert len(open_images(out, 32)) == 3


@pytest.mark.parametrize(
    ("name", "words", "kind"),
    [
        ("out", [], "LmdbSource"),
        ("out.zip", ["--format", "lmdb"], "LmdbSource"),
        ("out", ["--format", "webdataset", "--shard-images", "2"], "ShardSource"),
        ("out", ["--format", "folder", "--encoding", "webp", "--quality", "80", "--resample", "box"], "FolderSource"),
    ],
)
def test_formats(tmp_path, name, words, kind):
    source, out = photographs(tmp_path / "in", 3), tmp_path / name
    assert cli.main(["prepare", str(source), str(out), "--sizes", "16", "--workers", "1", *words]) == cli.SUCCESS
    store = open_images(out, 16)
    assert type(store.source).__name__ == kind
    assert len(store) == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--sizes", "16;32"], "sizes must be numbers with commas between them, such as 128,256; got '16;32'."),
        (["--sizes", "0"], "sizes must be different numbers of pixels from 1 to 16384, such as 128,256; got 0."),
        (["--quality", "0"], "quality must be from 1 to 100, got 0."),
        (["--workers", "0"], "workers must be at least 1, got 0."),
        (["--format", "zip"], "format must be one of lmdb, webdataset, folder; got 'zip'."),
    ],
)
def test_bad_input(tmp_path, capsys, words, sentence):
    source = photographs(tmp_path / "in", 1)
    assert cli.main(["prepare", str(source), str(tmp_path / "out"), *words]) == cli.FAILURE
    assert capsys.readouterr().err == f"labels4free: {sentence}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_zip_file_is_not_written(tmp_path, capsys):
    assert cli.main(["prepare", str(photographs(tmp_path / "in", 1)), str(tmp_path / "out.zip")]) == cli.FAILURE
    assert "Zip files are read, not written, and " in (said := capsys.readouterr().err)
    assert "choose a folder, which becomes an LMDB, or --format webdataset or folder." in said
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_no_source(tmp_path, capsys):
    assert cli.main(["prepare", str(tmp_path / "none"), str(tmp_path / "out")]) == cli.FAILURE
    assert "none does not exist: give a folder of images" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path):
    source, out = photographs(tmp_path / "in", 100, 128), tmp_path / "out"
    words = ["prepare", str(source), str(out), "--sizes", "128,640"]
    command = [sys.executable, "-m", "labels4free", *words, "--workers", "2"]
    # Background jobs of a shell begin deaf to SIGINT, and so would their children.
    listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listening,  # noqa: PLW1509  no other thread runs here
    )
    journal = out / "unfinished.jsonl"
    deadline = time.monotonic() + 60
    while (not journal.exists() or journal.read_bytes().count(b"\n") < 2) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, said = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED
    assert " of 100 images are done; the same command goes on from about there.\n" in said
    assert said.endswith("labels4free: Interrupted.\n")
    assert "Traceback" not in said
    assert cli.main([*words, "--workers", "1"]) == cli.SUCCESS
    assert len(open_images(out, 128)) == 100


def test_what_is_left_out_is_said_and_kept_in_the_manifest(tmp_path, capsys):
    folder = photographs(tmp_path / "in", 2)
    (folder / "d.CR2").write_bytes(b"II*\0")
    (folder / "c.jpg").symlink_to("nowhere")
    words = ["prepare", str(folder), str(tmp_path / "caf\udce9"), "--sizes", "8", "--workers", "1"]
    for _ in range(2):  # the second time it is complete
        assert cli.main(words) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[1:] == [
            f"Skipped: {folder / 'c.jpg'} is a link to nothing.",
            f"Skipped: {folder / 'd.CR2'} is a camera's raw file, which is not read: develop it to JPEG or PNG.",
        ]
    assert len(open_images(tmp_path / "caf\udce9", 8)) == 2
