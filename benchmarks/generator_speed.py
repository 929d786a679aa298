"""Claim: our MobileStyleGAN renders at least as many images a second as OpenVINO does, on the same CPU threads.

    python benchmarks/generator_speed.py --threads 2

One 1024x1024 image at a time, float32, w given. The two take turns in one process, so that whatever else the machine
does meets both; the figures are medians over the turns. Other machines and other loads give other figures: compare
within a run, never between runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from openvino_reference import MODEL, OpenVinoGenerator

from labels4free.checkpoints.loading import load_generator
from labels4free.generators.base import sample_z

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds_an_image(render: Callable[[], object], images: int) -> float:
    start = time.perf_counter()
    for _ in range(images):
        render()
    return (time.perf_counter() - start) / images


def other_load(threads: int) -> str:
    """What else the machine is doing, as far as it says."""
    if not hasattr(os, "getloadavg"):
        return "load unknown"
    return f"{threads} threads used, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads for each side (default 2)")
    parser.add_argument("--turns", type=int, default=7, help="turns of each side (default 7)")
    parser.add_argument("--images", type=int, default=3, help="images a turn (default 3)")
    parser.add_argument("--wheel", type=Path, help="the random-face wheel, if pip shall not download it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    theirs = OpenVinoGenerator(arguments.wheel, arguments.threads)
    ours = load_generator(MODEL.name)
    ws = ours.map(sample_z(ours.z_dim, seed=0, index=0)[None])
    w = ws[:, 0].numpy().copy()

    sides: dict[str, Callable[[], object]] = {
        "labels4free": lambda: ours.synthesize(ws),
        f"OpenVINO {theirs.version}": lambda: theirs.synthesize(w),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with torch.inference_mode():
        for render in sides.values():  # the first image pays for compilation and memory
            render()
        for _ in range(arguments.turns):
            for name, render in sides.items():
                seconds[name].append(seconds_an_image(render, arguments.images))

    print(f"{MODEL.name}, float32, batch 1: {arguments.turns} turns of {arguments.images} images each, alternately")
    print(f"{'':24}  images/s  seconds/image: median (fastest, slowest)")
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"{name:24}  {1 / middle:8.3f}  {middle:.3f} ({min(values):.3f}, {max(values):.3f})")
    mine, other = seconds.values()
    ratios = [b / a for a, b in zip(mine, other, strict=True)]
    spread = f"over the turns {min(ratios):.2f} to {max(ratios):.2f}"
    print(f"speed against OpenVINO: {statistics.median(ratios):.2f}x ({spread})")
    print(f"{other_load(arguments.threads)}; where other programs share the cores, compare within this run only")


if __name__ == "__main__":
    main()
