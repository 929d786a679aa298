"""Claim: making pairs, with all writing on, costs next to nothing beside rendering their images.

    python benchmarks/sampling_speed.py --pairs 8 --turns 5

The sides take turns in one process, so that whatever else the machine does meets all of them: the bare generator
(``synthesize``, one image at a time, its threads shared out within the image) and ``sample_dataset`` with image, alpha
and mask, checksums, records and contact sheet. Then, if asked for, one process of one thread against two workers, and
the memory of a longer run. The figures are medians over the turns: compare within a run, never between runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from labels4free.checkpoints.loading import load_alpha_network, load_generator
from labels4free.layered import LayeredGenerator
from labels4free.sampling.config import SampleConfig
from labels4free.sampling.dataset import sample_dataset
from labels4free.sampling.filters import NO_FILTERS
from labels4free.sampling.shards import Partition

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "mobilestylegan-ffhq-1024"


def bare(layered: LayeredGenerator, images: int) -> None:
    """What sampling is measured against: images and features, thrown away."""
    with torch.inference_mode():
        for index in range(images):
            layered.generator.synthesize(layered.generator.draw_ws(0, 2 * index, 0.7))


def pairs(layered: LayeredGenerator, count: int, folder: Path, **settings: object) -> None:
    """A data set of its own in a new folder, thrown away afterwards."""
    out = folder / "data"
    config = SampleConfig(filters=NO_FILTERS, **settings)  # type: ignore[arg-type]
    sample_dataset(layered, out, count, config)
    shutil.rmtree(out)


def resident() -> float:
    """Memory that this process holds, in MiB; nan where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def take_turns(sides: dict[str, Callable[[], None]], count: int, turns: int) -> dict[str, list[float]]:
    """Items a second of each side, one figure a turn; an extra turn before warms up."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 1):
        for name, work in sides.items():
            start = time.perf_counter()
            work()
            if turn:
                rates[name].append(count / (time.perf_counter() - start))
    return rates


def show(rates: dict[str, list[float]], against: str) -> None:
    base = rates[against]
    for name, values in rates.items():
        # Turn by turn: what else the machine does changes slowly.
        ratio = statistics.median(one / other for one, other in zip(values, base, strict=True))
        print(
            f"{name:44} {statistics.median(values):7.3f} a second ({min(values):.3f} to {max(values):.3f})"
            f"  {ratio:.3f} x",
            flush=True,
        )


def memory(layered: LayeredGenerator, count: int, folder: Path) -> None:
    """Resident memory over one data set of ``count`` pairs."""
    marks: list[tuple[int, float]] = []

    def progress(done: int, _: int) -> None:
        if done % max(1, count // 10) == 0:
            marks.append((done, resident()))

    sample_dataset(layered, folder / "long", count, SampleConfig(filters=NO_FILTERS), progress=progress)
    shutil.rmtree(folder / "long")
    print("pairs done: resident MiB   " + "  ".join(f"{done}: {mib:.0f}" for done, mib in marks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default=MODEL, help="a name of the model zoo that an alpha network ships for")
    parser.add_argument("--threads", type=int, default=2, help="threads of each side (default 2)")
    parser.add_argument("--pairs", type=int, default=16, help="pairs a turn (default 16)")
    parser.add_argument("--turns", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument(
        "--memory", type=int, default=0, help="pairs of the run that memory is watched in (default none)"
    )
    parser.add_argument("--workers", type=int, default=0, help="pairs on which one process is compared with two (none)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    layered = LayeredGenerator(load_generator(arguments.generator), load_alpha_network(arguments.generator)).eval()
    count = arguments.pairs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides: dict[str, Callable[[], None]] = {
            "bare generator, images": lambda: bare(layered, count),
            "pairs, PNG": lambda: pairs(layered, count, folder),
            "pairs, JPEG": lambda: pairs(layered, count, folder, image_format="jpeg"),
            "pairs, JPEG, 512 pixels": lambda: pairs(layered, count, folder, image_format="jpeg", size=512),
        }
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        print(f"{arguments.generator}: {arguments.threads} threads, {os.cpu_count()} cores, load average {load:.1f}")
        show(take_turns(sides, count, arguments.turns), "bare generator, images")
        if arguments.workers:
            processes(layered, arguments.workers, 2, folder)
        if arguments.memory:
            memory(layered, arguments.memory, folder)


def processes(layered: LayeredGenerator, count: int, turns: int, folder: Path) -> None:
    """One process of one thread against two, started anew each turn: with their start, and from the first tenth on."""
    torch.set_num_threads(1)
    for turn in range(turns):
        rates = []
        for workers in (1, 2):
            marks: list[tuple[int, float]] = []

            def progress(done: int, _: int, marks: list[tuple[int, float]] = marks) -> None:
                marks.append((done, time.perf_counter()))

            start, out = time.perf_counter(), folder / "data"
            config = SampleConfig(filters=NO_FILTERS, image_format="jpeg", shard_size=max(1, count // 20))
            sample_dataset(layered, out, count, config, partition=Partition(workers=workers), progress=progress)
            shutil.rmtree(out)
            first, begun = next(mark for mark in marks if mark[0] >= count // 10)
            rates.append((count / (marks[-1][1] - start), (marks[-1][0] - first) / (marks[-1][1] - begun)))
        (one, steady_one), (two, steady_two) = rates
        print(
            f"turn {turn}: one process {one:.2f}, two {two:.2f} pairs a second ({two / one:.2f} x); "
            f"once at work {steady_one:.2f} and {steady_two:.2f} ({steady_two / steady_one:.2f} x)",
            flush=True,
        )


if __name__ == "__main__":
    main()
