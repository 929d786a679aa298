"""A data set whose processes are killed again and again must end in the same bytes as one that is left alone.

    python tools/kill_sampling.py --kills 30 --seed 0

Both are made by two processes that share the work as torchrun would have them (RANK and WORLD_SIZE), 500 pairs by
default from a tiny generator with random weights. In the second run one of the two, or both, are killed (SIGKILL) at
random moments and started again, with the kills spread over the whole work. What is left in the end is compared file by
file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from labels4free.checkpoints.native import write_native
from labels4free.networks.merge_network import MergeNetwork

WORLD = 2
POLL = 0.005


class Ranks:
    """The processes that make one data set."""

    def __init__(self, command: list[str], out: Path, errors: Path) -> None:
        self.command, self.out, self.errors = command, out, errors
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start every rank that is not running."""
        for rank in range(WORLD):
            process = self.processes.get(rank)
            if process is None or process.poll() is not None:
                environment = os.environ | {"RANK": str(rank), "WORLD_SIZE": str(WORLD), "OMP_NUM_THREADS": "1"}
                with self.errors.open("ab") as file:
                    self.processes[rank] = subprocess.Popen(
                        [*self.command, "--out", str(self.out)], stdout=file, stderr=file, env=environment
                    )

    def wait(self) -> None:
        """Let all of them end well."""
        for process in self.processes.values():
            if process.wait() != 0:
                raise SystemExit(f"kill_sampling: a process failed; it said:\n{self.errors.read_text()[-2000:]}")

    def kill(self, ranks: list[int]) -> int:
        """Kill some ranks; returns how many were still running."""
        hit = 0
        for rank in ranks:
            self.processes[rank].kill()
            hit += self.processes[rank].wait() < 0
        return hit

    def finished(self) -> int:
        """Shards that are finished."""
        return sum(1 for _ in (self.out / "shards").glob("[0-9]*.json"))

    def at_work(self, before: dict[str, int]) -> bool:
        """Whether something was written since, or everything has ended."""
        return self.traces() != before or all(process.poll() is not None for process in self.processes.values())

    def traces(self) -> dict[str, int]:
        """When the files that change most often were written."""
        found = {}
        for path in (*self.out.glob("masks"), *self.out.glob("shards"), *self.out.glob("*.tar")):
            try:
                found[path.name] = path.stat().st_mtime_ns
            except OSError:
                continue
        return found


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of every file, by name."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_models(folder: Path) -> str:
    """Write the generator of the tests with an alpha network; returns the latter's file."""
    generator = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "tiny.py"))["tiny_generator"]()
    name = folder / "generator.safetensors"
    config, state = generator.config(), generator.state_dict()
    write_native(name, kind="generator", family=generator.family, config=config, state=state)
    torch.manual_seed(0)
    network = MergeNetwork(generator.feature_specs, generator.resolution, width=4)
    alpha = folder / "alpha.safetensors"
    write_native(
        alpha,
        kind="alpha_network",
        family="merge",
        config=network.config(),
        state=network.state_dict(),
        info={"generator": {"name": str(name)}},
    )
    return str(alpha)


def kill_often(ranks: Ranks, kills: int, shards: int, rng: random.Random) -> int:
    """Kill processes while they are at work, at evenly spread stages; returns how many processes were hit."""
    hit = 0
    for number in range(kills):
        before = ranks.traces()
        ranks.start()
        goal = number * shards // kills
        while ranks.finished() < goal or not ranks.at_work(before):
            if all(process.poll() is not None for process in ranks.processes.values()):
                break
            time.sleep(POLL)
        time.sleep(rng.random() * 0.5)
        chosen = rng.choice([[0], [1], [0, 1]])
        hit += ranks.kill(chosen)
        left = sum(1 for _ in ranks.out.rglob("*.tmp"))
        print(
            f"kill {number + 1:2} of rank {' and '.join(map(str, chosen)):7}  finished shards {ranks.finished():3} of "
            f"{shards}  files left half-written {left}",
            flush=True,
        )
    return hit


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="how often to kill (default 30)")
    parser.add_argument("--pairs", type=int, default=500, help="candidates of the data set (default 500)")
    parser.add_argument("--shard-size", type=int, default=10, help="candidates of a shard (default 10)")
    parser.add_argument("--format", default="folder", help="format of the data set (default folder)")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments (default 0)")
    arguments = parser.parse_args()
    shards = -(-arguments.pairs // arguments.shard_size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "labels4free", "sample", write_models(folder), "--format", arguments.format]
        command += ["--num", str(arguments.pairs), "--shard-size", str(arguments.shard_size), "--threshold", "0.1"]
        command += [
            "--min-foreground-ratio",
            "0.12",
            "--max-foreground-ratio",
            "1",
            "--min-largest-component-fraction",
            "0",
        ]
        command += ["--uncertainty", "mixing:1", "--max-uncertainty-quantile", "0.9", "--calibration", "32"]
        alone = Ranks(command, folder / "alone", folder / "alone.txt")
        start = time.monotonic()
        alone.start()
        alone.wait()
        print(f"left alone: {time.monotonic() - start:.1f} s, {len(digests(alone.out))} files", flush=True)
        killed = Ranks(command, folder / "killed", folder / "killed.txt")
        hit = kill_often(killed, arguments.kills, shards, random.Random(arguments.seed))
        killed.start()
        killed.wait()
        expected, found = digests(alone.out), digests(killed.out)
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    for name in wrong[:20]:
        print(f"{name}: {'missing' if name not in found else 'too many' if name not in expected else 'different'}")
    print(f"{arguments.kills} kills, {hit} processes hit: {len(wrong)} of {len(expected)} files differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
