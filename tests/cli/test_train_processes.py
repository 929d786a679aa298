"""``labels4free train`` in several processes: one of them speaks, and a launcher can start them again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.tiny_run import TOTAL, as_settings, assert_same, outcome, tiny_config
from tests.two_processes import Pair, results, spoken

from labels4free import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = tiny_config(batch_size=8, monitor={"grace_steps": 1000})  # so few steps make no good masks


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


def command(generator: Path, out: Path, *more: str) -> list[str]:
    return ["train", str(generator), "--out", str(out), *as_settings(SETTINGS), *more]


@pytest.fixture(scope="module")
def whole(pair: Pair, generator_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What both said, and what they left."""
    out = tmp_path_factory.mktemp("whole") / "run"
    said = results(pair(spoken, cli.main, command(generator_file, out), joined=False))
    return {"result": said, **outcome(out)}


def test_one_of_them_speaks(whole: dict[str, Any]) -> None:
    (code, out, err), *others = whole["result"]
    assert code == cli.SUCCESS
    assert f"{TOTAL} steps; masks cover" in out
    assert f"{TOTAL}/{TOTAL}" in err
    assert err.count("alpha is nearly the same everywhere") == 3  # two checks, and at the end
    assert others == [(cli.SUCCESS, "", "")]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--set", "loss.colour=1"], "labels4free: Unknown setting 'loss.colour'; "),
        (["--set", "batch_size=3"], "labels4free: A batch of 3 images cannot be shared evenly by 2 processes; set "),
        (["--device", "cuda:0"], "labels4free: 2 processes cannot share the device cuda:0: give --device cuda, "),
        (["--set", "background.mode=black"], "labels4free: background.mode must be none or one of "),
    ],
)
def test_errors_are_said(pair: Pair, generator_file: Path, tmp_path: Path, more: list[str], sentence: str) -> None:
    words = command(generator_file, tmp_path / "run", *more)
    said = results(pair(spoken, cli.main, words, joined=False))
    assert [code for code, *_ in said] == [cli.FAILURE] * 2
    errors = [err for *_, err in said if err]
    assert all(err.startswith(sentence) and err.count("\n") == 1 for err in errors)
    assert len(errors) == (2 if "--device" in more else 1)  # once, where they have met
    assert not (tmp_path / "run").exists()


def test_a_launcher_starts_them_again_when_one_is_killed(
    whole: dict[str, Any], generator_file: Path, tmp_path: Path
) -> None:
    """The first time, process 1 kills itself in step 7; what torchrun starts then ends in the same bits."""
    script, out, killed = tmp_path / "train.py", tmp_path / "run", tmp_path / "killed"
    script.write_text(
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from labels4free import cli\n"
        "from labels4free.training.alpha.trainer import AlphaTrainer\n"
        "step, killed = AlphaTrainer.step, Path(sys.argv[1])\n"
        "def fatal(self):\n"
        "    if os.environ['RANK'] == '1' and self.iteration == 6 and not killed.exists():\n"
        "        killed.touch()\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return step(self)\n"
        "AlphaTrainer.step = fatal\n"
        "sys.exit(cli.main(sys.argv[2:]))\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch += ["--max-restarts", "1", str(script), str(killed), *command(generator_file, out, "--resume", "auto")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(launch, capture_output=True, text=True, env=environment, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    assert killed.exists()
    said = re.findall(r"^Another process of this run has ended or cannot be reached .* auto\.$", ended.stderr, re.M)
    assert len(said) == 1
    assert_same(out, whole)
