"""Train from several seeds and score each: is the quality luck, and does any run collapse or invert?

The seeds share one cache of rendered samples (``--cache-seed``), so that the figure is about training; each still has
its own first weights and draws. Restarts that the monitor made are counted. See alpha_quality.py for the score.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import tyro

HERE = Path(__file__).parent


def main(  # noqa: PLR0913  parameters are flags
    generator: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GENERATOR")],
    faces: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FACES")],
    out: Path,
    seeds: int = 10,
    first_seed: int = 0,
    cache_seed: int = 0,
    cache: Path | None = None,
    jobs: int = 2,
    settings: Annotated[tyro.conf.UseAppendAction[list[str]], tyro.conf.arg(name="set")] = [],  # noqa: B006
) -> None:
    """Train and score.

    Args:
        generator: Zoo name or native file.
        faces: Folder with latents and masks, as for alpha_quality.py.
        out: Folder for the runs; a second call goes on with what is there.
        seeds: How many.
        first_seed: The first of them.
        cache_seed: Seed of the cache that they share.
        cache: Folder of that cache, for several calls to share; by default in ``out``.
        jobs: Runs at a time, one thread each.
        settings: Passed on to labels4free train.
    """
    out.mkdir(parents=True, exist_ok=True)
    shared = [f"cache.seed={cache_seed}", f"cache.folder={cache or out / 'cache'}", *settings]
    numbers = range(first_seed, first_seed + seeds)
    alone = 0 if cache and cache.exists() else 1  # the first seed renders the cache, before the others start
    rows = [train_and_score(generator, faces, out, seed, shared, threads=jobs) for seed in numbers[:alone]]
    with ThreadPoolExecutor(jobs) as pool:
        rows += pool.map(lambda seed: train_and_score(generator, faces, out, seed, shared, threads=1), numbers[alone:])
    print(f"{'seed':>4} {'mIoU':>7} {'fg IoU':>7} {'bg IoU':>7} {'fg ratio':>8} {'restarts':>8}  state")
    for seed, row in zip(numbers, rows, strict=True):
        print(
            f"{seed:4d} {row['miou']:7.4f} {row['iou_foreground']:7.4f} {row['iou_background']:7.4f} "
            f"{row['foreground_ratio']:8.4f} {row['restarts']:8d}  {row['state']}"
        )
    (mean, spread, least, most), lost = summary(rows)
    print(f"mIoU mean {mean:.4f}, sd {spread:.4f}, least {least:.4f}, most {most:.4f}")
    print(f"{lost} of {seeds} lost; {sum(row['restarts'] for row in rows)} automatic restarts")


def summary(rows: list[dict[str, Any]]) -> tuple[tuple[float, float, float, float], int]:
    """Mean, standard deviation, least and most of the runs' mIoU, and how many runs are lost."""
    scores = [row["miou"] for row in rows]
    spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
    lost = sum(row["state"] != "fine" for row in rows)
    return (statistics.mean(scores), spread, min(scores), max(scores)), lost


def train_and_score(
    generator: str, faces: Path, out: Path, seed: int, settings: list[str], threads: int
) -> dict[str, Any]:
    """One run in a process of its own, then its score."""
    run = out / f"seed_{seed}"
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "labels4free", "train", generator, "--out", str(run)]
    command += ["--resume"] if (run / "config.json").exists() else ["--seed", str(seed)]
    command += [part for setting in settings for part in ("--set", setting)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)  # the table comes alone
    report = run / "quality.json"
    score = [sys.executable, str(HERE / "alpha_quality.py"), str(run), str(faces), "--json", str(report)]
    subprocess.run(score, check=True, env=environment, stdout=subprocess.DEVNULL)
    mask = json.loads(report.read_text())["masks"]["alpha > 0.5"]
    from labels4free.checkpoints.native import read_native_header

    info = read_native_header(run / "alpha.safetensors", "alpha_network").info
    inverted = mask["pooled"]["iou_foreground"] < 0.5 and mask["pooled"]["iou_background"] < 0.2
    flat = info["health"]["contrast"] < 0.05
    state = "inverted" if inverted else "collapsed" if flat or not 0.1 < mask["foreground_ratio"] < 0.95 else "fine"
    return {
        **mask["pooled"],
        "foreground_ratio": mask["foreground_ratio"],
        "restarts": info["restarts"],
        "state": state,
    }


if __name__ == "__main__":
    tyro.cli(main)
