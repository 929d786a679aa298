"""Claim: without a label, a segmenter finds a drawn class nearly as well as one that was shown the exact masks.

    python benchmarks/drawn_class.py TRAIN --num 20000 --size 64 --seed 0
    python benchmarks/drawn_class.py TEST --num 500 --size 64 --seed 1
    labels4free train-generator TRAIN/images --out GAN --preset tiny --mirror
    python benchmarks/drawn_end_to_end.py GAN TRAIN TEST --out WORK

From the generator's run on: alpha network, segmenter on pairs of the two, and beside it the same segmenter with the
same settings on the drawn pictures with their exact masks (the ceiling); pooled mean IoU of both on TEST. Every stage
is a command, which is printed; those that are done are not done again.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path  # noqa: TC003  tyro reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from collections.abc import Sequence

OF_PEOPLE = ("body_completion", "garments", "arms", "occluders")
"""What the segmenter's augmentation knows of people, and is off here."""


def command(*words: object) -> None:
    """Print a command of labels4free and run it.

    Raises:
        SystemExit: If it fails.
    """
    said = [str(word) for word in words]
    print(f"$ labels4free {shlex.join(said)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "labels4free", *said], check=False).returncode
    if code:
        raise SystemExit(code)


def segmenter(source: Sequence[object], out: Path, test: Path, size: int, steps: int, seed: int) -> dict[str, float]:
    """Train a segmenter and score it on the test set: mean IoU, pooled, and its interval."""
    without = [word for name in OF_PEOPLE for word in ("--set", f"augmentation.{name}=0")]
    settings = ["--size", size, "--steps", steps, "--seed", seed, *without]
    command("distill", *source, "--out", out, *settings, "--resume", "auto")
    scores = out.with_suffix(".json")
    command("evaluate", "--model", out, "--images", test / "images", "--gt", test / "masks", "--json", scores)
    found = json.loads(scores.read_text())["total"]["pooled_miou"]
    return {name: float(found[name]) for name in ("value", "low", "high")}


def main(
    generator: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GENERATOR")],
    train: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TRAIN")],
    test: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TEST")],
    *,
    out: Path,
    size: int = 128,
    steps: int = 4000,
    seed: int = 0,
    settings: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="set")] = (),
) -> None:
    """Score a label-free segmenter of a drawn class against exact masks.

    Args:
        generator: Run of train-generator, or a generator's file.
        train: Drawn pictures with their masks; only the ceiling sees the masks.
        test: Others, from another seed.
        out: Where everything goes.
        size: Side of the segmenter's images.
        steps: Of each segmenter.
        seed: Of alpha network and segmenters.
        settings: Settings of the alpha network's training, SECTION.FIELD=VALUE.
    """
    changed = [word for setting in settings for word in ("--set", setting)]
    command("train", generator, "--out", out / "alpha", "--seed", seed, *changed, "--resume", "auto")
    rows = {
        "no label": segmenter([out / "alpha"], out / "segmenter", test, size, steps, seed),
        "exact masks": segmenter(["--pairs", train], out / "supervised", test, size, steps, seed),
    }
    for name, row in rows.items():
        print(f"{name:<12} mIoU {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})")


if __name__ == "__main__":
    tyro.cli(main)
