"""What the feature cache saves: seconds a training step with it, and with rendering inside the step as published.

The paper's step renders four times: foregrounds and backgrounds, for the discriminator and for the alpha network.
Here a step of the trainer is timed as it is, and so is rendering those ``4 * batch_size`` images; without a cache a
step costs both. The two are timed in turn, in one process.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import tyro

from labels4free import load_generator
from labels4free.generators.base import sample_z
from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha.config import CacheConfig, DiscriminatorConfig, MonitorConfig, TrainConfig
from labels4free.training.alpha.feature_cache import build_cache
from labels4free.training.alpha.trainer import AlphaTrainer


def main(
    generator: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GENERATOR")] = "mobilestylegan-ffhq-1024",
    rounds: int = 5,
    steps: int = 20,
    threads: int = 2,
) -> None:
    """Time training steps.

    Args:
        generator: Zoo name or native file.
        rounds: How often the two are timed in turn.
        steps: Training steps a round.
        threads: PyTorch's threads.
    """
    torch.set_num_threads(threads)
    loaded = load_generator(generator)
    config = TrainConfig(
        cache=CacheConfig(size=40, calibration_samples=4),
        monitor=MonitorConfig(samples=8),
        discriminator=DiscriminatorConfig(warmup_steps=0),
    )
    network = MergeNetwork(loaded.feature_specs, loaded.resolution)
    with tempfile.TemporaryDirectory() as folder:
        cache, _ = build_cache(loaded, network.levels, config, Path(folder))
    trainer = AlphaTrainer(cache, cache.projection.network_like(network), config)
    ws = loaded.map(sample_z(loaded.z_dim, 0, 0)[None])
    with_cache, rendering = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(steps):
            trainer.step()
        with_cache.append((time.perf_counter() - start) / steps)
        start = time.perf_counter()
        with torch.inference_mode():
            for mode in (None, loaded.default_background) * 2:
                loaded.synthesize(ws, background=mode)
        rendering.append((time.perf_counter() - start) * config.batch_size)
    cache_seconds, render_seconds = statistics.median(with_cache), statistics.median(rendering)
    print(f"batch size {config.batch_size}, {threads} threads, medians of {rounds} rounds")
    print(f"  a step with the cache      {cache_seconds:8.3f} s")
    print(f"  rendering as published    {render_seconds:8.3f} s  ({4 * config.batch_size} images)")
    print(f"  a step without the cache   {cache_seconds + render_seconds:8.3f} s")
    print(f"  ratio                     {(cache_seconds + render_seconds) / cache_seconds:8.1f}")


if __name__ == "__main__":
    tyro.cli(main)
