"""Processes that are killed (SIGKILL) while they make a data set, for real."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.folders import content
from tests.soft_disc import SoftDisc
from tests.tiny import tiny_generator

from labels4free.layered import LayeredGenerator
from labels4free.sampling.config import SampleConfig
from labels4free.sampling.dataset import sample_dataset
from labels4free.sampling.filters import FilterConfig
from labels4free.sampling.uncertainty import UncertaintyConfig

ROOT = Path(__file__).parents[2]
NUM = 60
CONFIG = SampleConfig(
    shard_size=4,
    format="webdataset",
    uncertainty=UncertaintyConfig(mixing=1),
    filters=FilterConfig(max_uncertainty_quantile=0.8, calibration=8),
)
PROGRAM = f"""
import sys
sys.path[:0] = {[str(ROOT), str(ROOT / "src")]!r}
from tests.sampling.test_killed import CONFIG, NUM, make
make(sys.argv[1])
"""


def make(out):
    sample_dataset(LayeredGenerator(tiny_generator(), SoftDisc()).eval(), out, NUM, CONFIG)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_killed_twice_and_continued_equals_uninterrupted(tmp_path):
    make(tmp_path / "whole")
    whole, out = content(tmp_path / "whole"), tmp_path / "killed"
    for at_least in (1, 6):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(out)])
        deadline = time.monotonic() + 100
        while len(list(out.glob("shards/0*.json"))) < at_least and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(0.02)
        process.kill()
        assert process.wait() < 0
    left = content(out)
    assert len(left) < len(whole)
    assert "records.jsonl" not in left
    make(out)
    assert content(out) == whole
