"""Claim: our default recipe trains at least four times as fast on a CPU as the paper's step does.

    python benchmarks/train_step.py                          (a quarter of an hour on two cores)
    python benchmarks/train_step.py --rounds 1 --steps 4     (two minutes, less exact)

StyleGAN2 config-f of 256x256 pixels with random weights, float32. A step of each of these, in turn, in one process:

* paper: the recipe as it was: four renderings a step by weight-modulated grouped convolutions, a discriminator of
  config-f at 256x256, batches of 2, an R1 penalty in every 16th step;
* paper, our generator: the same settings, rendered as this package does (``generators/stylegan2_cpu.py``);
* auto: the default recipe with its own batches of 8, from a cache that was rendered before; and the same with its share
  of that rendering, as many images as a run of the default length needs, over its steps.

All use this package's discriminator, which is faster than the original's: the figures flatter the paper's step. The
steps of a round (16, one of them with the penalty) are averaged; the ratios are medians over the rounds. Compare within
a run, never between runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from stylegan2_speed import config_f, grouped_form

from labels4free.networks.merge_network import MergeNetwork
from labels4free.networks.paper_network import PaperNetwork
from labels4free.training.alpha.config import CacheConfig, DiscriminatorConfig, MonitorConfig, TrainConfig
from labels4free.training.alpha.feature_cache import PREVIEWS, build_cache
from labels4free.training.alpha.paper_config import PaperConfig
from labels4free.training.alpha.paper_trainer import PaperTrainer
from labels4free.training.alpha.trainer import AlphaTrainer

if TYPE_CHECKING:
    from torch import Tensor

    from labels4free.generators.stylegan2 import StyleGAN2
    from labels4free.training_loop.contracts import Trainer


def paper(generator: StyleGAN2, batch: int) -> PaperTrainer:
    network = PaperNetwork(generator.feature_specs, generator.resolution)
    return PaperTrainer(generator, network, PaperConfig(batch_size=batch, faithful=True), reals=Reals(generator))


class Reals:
    """Images that cost nothing to read."""

    def __init__(self, generator: StyleGAN2) -> None:
        self.side = generator.resolution

    def take(self, start: int, count: int) -> Tensor:
        return torch.rand(count, 3, self.side, self.side, generator=torch.Generator().manual_seed(start)) * 2 - 1


def auto(generator: StyleGAN2, folder: Path) -> AlphaTrainer:
    """The default recipe behind its warm-up, on a small cache."""
    config = TrainConfig(
        cache=CacheConfig(size=24, calibration_samples=2),
        monitor=MonitorConfig(samples=8),
        discriminator=DiscriminatorConfig(warmup_steps=0),
    )
    network = MergeNetwork(generator.feature_specs, generator.resolution)
    cache, _ = build_cache(generator, network.levels, config, folder)
    return AlphaTrainer(cache, cache.projection.network_like(network), config)


def check_same_images(ours: StyleGAN2, theirs: StyleGAN2) -> None:
    """Both ways of rendering must make the same picture."""
    ws = ours.draw_ws(0, 0)
    for mode in (None, ours.default_background):
        a, b = (generator.synthesize(ws, background=mode).image for generator in (ours, theirs))
        error = float((a - b).abs().max() / b.abs().max())
        if error > 1e-4:
            raise SystemExit(f"the two generators differ: relative error {error:.1e}")


def seconds_a_step(trainer: Trainer, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        trainer.step()
    return (time.perf_counter() - start) / steps


@torch.inference_mode()
def seconds_an_image(generator: StyleGAN2, images: int = 4) -> float:
    ws = generator.draw_ws(0, 0)
    start = time.perf_counter()
    for _ in range(images):
        generator.synthesize(ws)
    return (time.perf_counter() - start) / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--batch", type=int, default=2, help="images a step of the paper's recipe (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--steps", type=int, default=16, help="steps of a side in a round (default 16)")
    parser.add_argument("--resolution", type=int, default=256, help="side of the images in pixels (default 256)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = config_f(arguments.resolution)
    twin = grouped_form(generator)
    check_same_images(generator, twin)
    whole = TrainConfig()
    rendered = 2 * (whole.cache.size + PREVIEWS) + whole.cache.calibration_samples
    with tempfile.TemporaryDirectory() as folder:
        sides: dict[str, Trainer] = {
            "paper": paper(twin, arguments.batch),
            "paper's, our generator": paper(generator, arguments.batch),
            "auto": auto(generator, Path(folder)),
        }
    seconds: dict[str, list[float]] = {name: [] for name in [*sides, "auto with its rendering"]}
    for trainer in sides.values():  # warm up
        trainer.step()
    for _ in range(arguments.rounds):
        for name, trainer in sides.items():
            seconds[name].append(seconds_a_step(trainer, arguments.steps))
        fraction = seconds_an_image(generator) * rendered / whole.steps
        seconds["auto with its rendering"].append(seconds["auto"][-1] + fraction)
    print(
        f"config-f {arguments.resolution}x{arguments.resolution}, float32, {arguments.threads} threads, batch "
        f"{arguments.batch} (auto: {whole.batch_size}), {arguments.rounds} rounds of {arguments.steps} steps"
    )
    print(f"{'':26} seconds a step: median (fastest, slowest)   the paper's takes so many times as long")
    for name, values in seconds.items():
        ratio = statistics.median(p / v for p, v in zip(seconds["paper"], values, strict=True))
        spread = f"{statistics.median(values):.3f} ({min(values):.3f}, {max(values):.3f})"
        print(f"{name:26} {spread:>42}   {ratio:6.2f}", flush=True)
    if hasattr(os, "getloadavg"):
        print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {arguments.threads} threads of it ours")


if __name__ == "__main__":
    main()
