"""Claim: two processes of one thread each render and train about twice as fast as one.

    python benchmarks/train_processes.py

One process and two take turns within one run of this script, so that both meet the same machine. A turn renders samples
of the cache, as many a process in either case, and then does training steps on one global batch, with both recipes. The
ratio is that of the medians of the turns. ``--generator`` takes a name of the model zoo or a file, ``--processes``
another number than two.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from labels4free import load_generator
from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha.config import CacheConfig, DiscriminatorConfig, MonitorConfig, TrainConfig
from labels4free.training.alpha.feature_cache import build_cache
from labels4free.training.alpha.paper_config import PaperConfig, PaperDiscriminatorConfig
from labels4free.training.alpha.paper_trainer import PaperTrainer
from labels4free.training.alpha.trainer import AlphaTrainer
from labels4free.training_loop.distributed import joined_processes, process_group

SAMPLES, WARMUP_STEPS = 32, 2


def replay(generator: str, batch: int, resolution: int, steps: int, folder: Path) -> tuple[float, float]:
    """Seconds a sample of rendering, and seconds a step, of the default recipe."""
    loaded = load_generator(generator)
    config = TrainConfig(
        batch_size=batch,
        resolution=resolution,
        cache=CacheConfig(size=SAMPLES * process_group().size, calibration_samples=1),
        discriminator=DiscriminatorConfig(warmup_steps=0),
        monitor=MonitorConfig(samples=8),
    )
    network = MergeNetwork(loaded.feature_specs, loaded.resolution)
    # A first, small cache before the clock starts: the first renderings of a process are slower.
    small = dataclasses.replace(config, cache=dataclasses.replace(config.cache, size=9))
    build_cache(loaded, network.levels, small, folder / f"small_{process_group().rank}")
    process_group().in_all(lambda: None)
    start = time.perf_counter()
    cache, _ = build_cache(loaded, network.levels, config, folder / "cache")
    rendering = (time.perf_counter() - start) / (config.cache.size + 9)  # and eight previews and the calibration
    trainer = AlphaTrainer(cache, cache.projection.network_like(network), config)
    return rendering, seconds_per_step(trainer, steps)


def paper(generator: str, batch: int, resolution: int, steps: int) -> float:
    """Seconds a step of the paper's recipe, two micro-batches to share."""
    loaded = load_generator(generator)
    config = PaperConfig(
        batch_size=max(1, batch // 4),
        accumulation=max(2, process_group().size),
        resolution=resolution,
        discriminator=PaperDiscriminatorConfig(channel_multiplier=1, channel_max=64),
    )
    network = MergeNetwork(loaded.feature_specs, loaded.resolution)
    return seconds_per_step(PaperTrainer(loaded, network, config), steps)


def seconds_per_step(trainer: AlphaTrainer | PaperTrainer, steps: int) -> float:
    for _ in range(WARMUP_STEPS):
        trainer.step()
    process_group().in_all(lambda: None)
    start = time.perf_counter()
    for _ in range(steps):
        trainer.step()
    return (time.perf_counter() - start) / steps


def work(arguments: argparse.Namespace) -> None:
    """What each process does; the first prints its figures."""
    torch.set_num_threads(1)
    with joined_processes() as group:
        settings = (arguments.generator, arguments.batch, arguments.resolution)
        rendering, step = replay(*settings, arguments.steps, Path(arguments.work))
        live = paper(*settings, max(2, arguments.steps // 8))
    if group.is_main:
        print(rendering, step, live)


def turn(arguments: argparse.Namespace, processes: int) -> tuple[float, ...]:
    """Start processes, and wait for them; returns the first one's figures."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        free.close()
        command = [sys.executable, __file__, "--work", folder, "--generator", arguments.generator]
        for name in ("batch", "resolution", "steps"):
            command += [f"--{name}", str(getattr(arguments, name))]
        started = []
        for rank in range(processes):
            world = {"WORLD_SIZE": str(processes), "RANK": str(rank), "LOCAL_RANK": str(rank)}
            environment = os.environ | meeting | world | {"OMP_NUM_THREADS": "1"}
            started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("train_processes: a process failed.")
    return tuple(float(figure) for figure in said[0].split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="mobilestylegan-ffhq-1024", help="a name of the model zoo, or a file")
    parser.add_argument("--processes", type=int, default=2, help="how many to compare with one (default 2)")
    parser.add_argument("--batch", type=int, default=8, help="images a step (default 8)")
    parser.add_argument("--resolution", type=int, default=32, help="of the composites (default 32)")
    parser.add_argument("--steps", type=int, default=40, help="steps that are timed in a turn (default 40)")
    parser.add_argument("--turns", type=int, default=3, help="how often each has its turn (default 3)")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments)
        return
    figures: dict[int, list[tuple[float, ...]]] = {1: [], arguments.processes: []}
    for _ in range(arguments.turns):
        for processes, found in figures.items():
            found.append(turn(arguments, processes))
    names = ("rendering, s a sample", "default recipe, s a step", "paper's recipe, s a step")
    print(f"{arguments.generator}, batch {arguments.batch}, one thread a process, medians of {arguments.turns} turns")
    print(f"{'':28}{'1 process':>12}{f'{arguments.processes} processes':>14}{'ratio':>8}")
    for name, one, several in zip(names, *(zip(*found, strict=True) for found in figures.values()), strict=True):
        before, after = statistics.median(one), statistics.median(several)
        print(f"{name:28}{before:12.4f}{after:14.4f}{before / after:8.2f}")


if __name__ == "__main__":
    main()
