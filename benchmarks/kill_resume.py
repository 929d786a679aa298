"""Claim: a training run that is killed again and again ends in the same bits as one that is left alone.

    python benchmarks/kill_resume.py --kills 20 --seed 0
    python benchmarks/kill_resume.py --kills 30 --images PHOTOS     # of a generator's training

Both runs are ``labels4free train`` (or ``train-generator``) in processes of their own. The first one is left alone and
watched: when it renders its cache and when it does which step. That time is cut into equal parts, and the second run is
killed (SIGKILL) at a random moment of each, once it is at work again, and resumed. A tiny generator with random weights
serves by default; ``--generator`` takes a real one. Both use the same number of threads, which decides the last bits of
sums.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import runpy
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from labels4free.checkpoints.native import write_native
from labels4free.training_loop.run_dir import RunDir, state_digest

SETTINGS = {
    "steps": 120,
    "members": 2,
    "batch_size": 2,
    "resolution": 16,
    "checkpoint_interval": 16,
    "picture_interval": 40,
    "cache.size": 320,
    "discriminator.warmup_steps": 60,
    "discriminator.channel_base": 128,
    "discriminator.channel_max": 16,
    "background.filled_from_step": 20,
    "background.filled_full_step": 60,
    "monitor.interval": 40,
    "monitor.samples": 16,
    "monitor.grace_steps": 1_000_000,  # so few steps make no good masks: only warn of it
}
OF_GENERATORS = {
    "images": 1200,
    "resolution": 32,
    "batch_size": 4,
    "network.channel_base": 256,
    "network.channel_max": 16,
    "network.z_dim": 16,
    "network.w_dim": 16,
    "augmentation.interval": 2,
    "checkpoint_images": 48,
    "picture_images": 200,
    "checks.interval": 200,
    "checks.samples": 20,
    "checks.grace": 1_000_000,
}
REAL = {"cache.size": 64, "cache.calibration_samples": 16}  # a real generator takes a second a sample
POLL = 0.002
MARGIN = 3  # steps from the last kill to the end, so that the run cannot end before it is killed


@dataclass(frozen=True)
class Position:
    """How far a run is: files in its cache, lines in its log (one a step)."""

    files: int
    lines: int

    @property
    def phase(self) -> str:
        return "training" if self.lines else "rendering"


@dataclass(frozen=True)
class Moment:
    """When to kill: so many seconds after a position was reached."""

    position: Position
    delay: float


class Training:
    """``labels4free train`` in a process of its own, and what can be seen of it from outside."""

    def __init__(self, command: list[str], out: Path, errors: Path) -> None:
        self.out, self.errors = out, errors
        self.before = self.traces()
        with errors.open("ab") as file:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)

    def traces(self) -> dict[str, int]:
        """When each file that shows progress was written."""
        files = [*(self.out / "cache").glob("[!.]*"), self.out / "log.jsonl"]
        return {path.name: path.stat().st_mtime_ns for path in files if path.exists()}

    def position(self) -> Position:
        log = self.out / "log.jsonl"
        files = sum(1 for _ in (self.out / "cache").glob("[!.]*"))
        return Position(files, log.read_bytes().count(b"\n") if log.exists() else 0)

    def wait_for_work(self) -> bool:
        """Wait until this process, not an earlier one, has written something; False if it ended first."""
        while self.process.poll() is None:
            if self.traces() != self.before:
                return True
            time.sleep(POLL)
        return False

    def wait_for(self, position: Position) -> bool:
        """Wait until a position is reached; False if the process ended first."""
        while self.process.poll() is None:
            now = self.position()
            if now.lines >= position.lines and (now.lines or now.files >= position.files):
                return True
            time.sleep(POLL)
        return False

    def fail(self, what: str) -> SystemExit:
        return SystemExit(f"kill_resume: {what}; it said:\n{self.errors.read_text()[-2000:]}")


def watch(training: Training) -> list[tuple[float, Position]]:
    """Leave a run alone: every position, and when it was reached, in seconds since the first."""
    if not training.wait_for_work():
        raise training.fail("the uninterrupted run did not begin")
    start, seen = time.monotonic(), []
    while training.process.poll() is None:
        now = training.position()
        # The finished run drops its cache: that is no position any more.
        if not seen or now.lines > seen[-1][1].lines or (not now.lines and now.files > seen[-1][1].files):
            seen.append((time.monotonic() - start, now))
        time.sleep(POLL)
    if training.process.returncode != 0:
        raise training.fail("the uninterrupted run failed")
    return seen


def draw_moments(timeline: list[tuple[float, Position]], kills: int, rng: random.Random) -> list[Moment]:
    """A random moment in each of ``kills`` equal parts of the time that a run was at work, in order."""
    steps = timeline[-1][1].lines
    last = max(seconds for seconds, position in timeline if position.lines <= steps - MARGIN)
    moments = []
    for part in range(kills):
        at = last * (part + rng.random()) / kills
        seconds, position = max((mark for mark in timeline if mark[0] <= at), key=lambda mark: mark[0])
        moments.append(Moment(position, at - seconds))
    return moments


def outcome(out: Path) -> dict[str, str]:
    """Digests of all that a run leaves."""
    checkpoint = RunDir(out).latest_checkpoint()
    pictures = sorted((out / "pictures").iterdir())
    return {
        **{path.name: _sha256(path.read_bytes()) for path in sorted(out.glob("*.safetensors"))},
        "final checkpoint": state_digest([checkpoint.step, checkpoint.state]) if checkpoint else "none",
        "log.jsonl": _sha256((out / "log.jsonl").read_bytes()),
        f"{len(pictures)} pictures": _sha256(b"".join(path.name.encode() + path.read_bytes() for path in pictures)),
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def kill_and_resume(command: list[str], out: Path, errors: Path, moments: list[Moment]) -> None:
    """Kill a run at each moment, print what was hit, and let it end."""
    print("kill  phase      cache files  steps done  resumes at step  seconds at work")
    for number, moment in enumerate(moments, start=1):
        training = Training([*command, *(["--resume"] if out.exists() else [])], out, errors)
        if not training.wait_for_work():
            raise training.fail(f"the run ended before kill {number}")
        start = time.monotonic()
        if not training.wait_for(moment.position):
            raise training.fail(f"the run ended before kill {number}")
        time.sleep(moment.delay)
        training.process.kill()
        if training.process.wait() >= 0:
            raise training.fail(f"the run ended before kill {number}")
        at_work = time.monotonic() - start
        hit = training.position()
        checkpoints = [place.step for place, _ in RunDir(out).checkpoint_files()]
        resumes = checkpoints[-1] if checkpoints else 0
        print(f"{number:4}  {hit.phase:9}  {hit.files:10}  {hit.lines:10}  {resumes:15}  {at_work:15.2f}", flush=True)
    training = Training([*command, "--resume"], out, errors)
    if training.process.wait() != 0:
        raise training.fail("the last resumed run failed")


def write_tiny_generator(path: Path) -> Path:
    """Write the generator of the tests as a native checkpoint."""
    tests = Path(__file__).parents[1] / "tests" / "tiny.py"
    generator = runpy.run_path(str(tests))["tiny_generator"]()
    write_native(
        path,
        kind="generator",
        family=generator.family,
        config=generator.config(),
        state=generator.state_dict(),
    )
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how often to kill (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments (default 0)")
    parser.add_argument(
        "--generator", help="a name of the model zoo or a native checkpoint (default: a tiny generator)"
    )
    parser.add_argument("--images", help="train a generator on these images instead of an alpha network")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="another setting")
    arguments = parser.parse_args()
    settings = OF_GENERATORS if arguments.images else {**SETTINGS, **(REAL if arguments.generator else {})}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.images:
            verb, source, what = "train-generator", arguments.images, f"a generator of {arguments.images}"
        else:
            source = arguments.generator or str(write_tiny_generator(folder / "tiny.safetensors"))
            verb, what = "train", arguments.generator or "tiny generator"
        program = [sys.executable, "-m", "labels4free", verb, source]
        words = [word for k, v in settings.items() for word in ("--set", f"{k}={v}")]
        words += [word for setting in arguments.set for word in ("--set", setting)]
        alone, killed, errors = folder / "alone", folder / "killed", folder / "stderr.txt"
        timeline = watch(Training([*program, "--out", str(alone), *words], alone, errors))
        rendering = sum(1 for _, position in timeline if not position.lines)
        first_step = next(seconds for seconds, position in timeline if position.lines)
        print(
            f"{what}: left alone, {first_step:.1f} s of rendering ({rendering} "
            f"marks) and {timeline[-1][0] - first_step:.1f} s of training ({timeline[-1][1].lines} steps)"
        )
        moments = draw_moments(timeline, arguments.kills, random.Random(arguments.seed))
        kill_and_resume([*program, "--out", str(killed), *words], killed, errors, moments)
        expected, found = outcome(alone), outcome(killed)
    same = expected == found
    for key, digest in expected.items():
        print(f"{key:34} {'identical' if found.get(key) == digest else 'DIFFERENT'}  {digest[:16]}")
    print(f"killed {arguments.kills} times: {'bit-identical to' if same else 'DIFFERENT FROM'} the uninterrupted run")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
