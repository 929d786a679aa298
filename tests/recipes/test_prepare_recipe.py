"""Preparing images, killed again and again, ends as if nothing had happened; what it wrote serves to train."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.picture_files import store_content

from labels4free.data.images.base import JOURNAL, MANIFEST
from labels4free.data.images.dataset import open_images
from labels4free.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

KILLS = 4
COUNT = 300
GOOD = COUNT - COUNT // 50


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path, compress_level=0)
        if number % 50 == 7:
            path.write_bytes(path.read_bytes()[:1000])
    return folder


def wait_for_work(process: subprocess.Popen[bytes], out: Path) -> bool:
    """Wait until this process has noted progress; False if it ended first."""
    journal = out / JOURNAL

    def lines() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    before = max(lines(), 1)  # the first line comes before the workers
    while process.poll() is None:
        if lines() > before:
            return True
        time.sleep(0.002)
    return False


def seconds_at_work(command: list[str], out: Path) -> float:
    """Run a preparation to its end; returns the time from its first note to that."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_work(process, out)
    start = time.monotonic()
    assert process.wait() == 0
    return time.monotonic() - start


@pytest.mark.parametrize(
    ("kind", "workers"), [("lmdb", 1), ("webdataset", 1), ("folder", 1), ("lmdb", 2), ("webdataset", 2)]
)
def test_killed_at_random_moments(source: Path, tmp_path: Path, kind: str, workers: int) -> None:
    command = [sys.executable, "-m", "labels4free", "prepare", str(source)]
    words = ["--format", kind, "--sizes", "16,64", "--workers", str(workers), "--shard-images", "50"]
    whole, parts = tmp_path / "whole" / "x", tmp_path / "parts" / "x"
    seconds = seconds_at_work([*command, str(whole), *words], whole)
    rng = random.Random(kind)
    kills = 0
    while kills < KILLS:
        process = subprocess.Popen([*command, str(parts), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not wait_for_work(process, parts):
            break  # it got through: kills do not come on the dot
        time.sleep(rng.uniform(0, 0.8 / KILLS) * seconds)
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
        if not (parts / MANIFEST).exists():
            with pytest.raises(DataError, match="is unfinished: go on with the same"):
                open_images(parts, 64)
    assert kills
    last = subprocess.run([*command, str(parts), *words], check=True, capture_output=True, text=True)
    assert f"{GOOD} images of 16, 64 pixels" in last.stdout
    assert store_content(parts) == store_content(whole)
    assert [path.name for path in parts.parent.iterdir()] == ["x"]
    store = open_images(parts, 64)
    assert len(store) == GOOD
    assert not torch.equal(store[0], store[1])


def test_a_chain_of_formats_keeps_every_pixel(source: Path, tmp_path: Path) -> None:
    """Folder → LMDB → folder → zip → shards → folder, without loss where nothing is resized."""
    command = [sys.executable, "-m", "labels4free", "prepare"]
    places = [source, tmp_path / "lmdb", tmp_path / "files", tmp_path / "shards", tmp_path / "folder"]
    kinds = ["lmdb", "folder", "webdataset", "folder"]
    for before, after, kind in zip(places, places[1:], kinds, strict=False):
        if kind == "webdataset":
            before = shutil.make_archive(str(before), "zip", before)
        words = [str(before), str(after), "--format", kind, "--sizes", "32", "--encoding", "png", "--workers", "1"]
        subprocess.run([*command, *words], check=True, capture_output=True)
    first, last = open_images(places[1], 32), open_images(places[-1], 32)
    indices = range(0, GOOD, 7)
    assert torch.equal(first.batch(indices), last.batch(indices))
