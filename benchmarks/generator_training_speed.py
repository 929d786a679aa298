"""Claim: generators train faster on a CPU than by the published trainers; goal: 1.5 times, with bfloat16 2.5 times.

    python benchmarks/generator_training_speed.py --rosinality PATH --ada PATH      (half an hour on two cores)
    python benchmarks/generator_training_speed.py --rosinality PATH --ada PATH --sizes 64 --rounds 1

PATH are checkouts of rosinality/stylegan2-pytorch and NVlabs/stylegan2-ada-pytorch: their own networks and losses, with
the plain operations that both have for CPUs. All train networks of the same widths on the same number of images that
cost nothing to read, without augmentation: at 64 pixels those of the preset ``tiny`` in batches of 16, at 256 pixels
half of config-f's in batches of 4. Measured are the four parts of a step, each with its step of Adam: discriminator,
generator, R1 (counted every 16th step) and path lengths (every 4th). The sides take turns in one process; compare
within a run, never between runs. Peak memory is that of a process of its own for each side that does each part once.

``--clock cpu`` counts the seconds that the processors worked, not those that went by: for machines that do other things
as well, with one thread.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from stylegan2_speed import MIB, peak_bytes

from labels4free.networks.discriminator import channels_by_resolution
from labels4free.training.discriminator_inputs.augmentation import AugmentationConfig
from labels4free.training.generator.config import GeneratorConfig, NetworkConfig
from labels4free.training.generator.first_networks import first_networks
from labels4free.training.generator.trainer import GeneratorTrainer, _frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

SHARES = {"discriminator": 1.0, "generator": 1.0, "r1": 1 / 16, "paths": 1 / 4}
"""How often a step has each part."""
RATE, LAYERS, MIXING = 0.002, 2, 0.9
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Size:
    """What is trained: side, images a step, widths."""

    side: int
    batch: int
    channel_base: int
    channel_max: int
    latents: int


SIZES = {64: Size(64, 16, 4096, 128, 128), 256: Size(256, 4, 16384, 512, 512)}

Parts = dict[str, "Callable[[], object]"]


def reals(size: Size) -> Tensor:
    return torch.rand(size.batch, 3, size.side, size.side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def ours(size: Size, precision: str) -> Parts:
    config = GeneratorConfig(
        resolution=size.side,
        batch_size=size.batch,
        precision=precision,
        network=NetworkConfig(
            channel_base=size.channel_base,
            channel_max=size.channel_max,
            z_dim=size.latents,
            w_dim=size.latents,
            mapping_layers=LAYERS,
        ),
        augmentation=AugmentationConfig(mode="off"),
    )
    images = reals(size)
    store = types.SimpleNamespace(take=lambda _start, _count: images.clone())
    trainer = GeneratorTrainer(first_networks(config), config, store, images)
    judge, make = trainer.discriminator_update, trainer.generator_update

    def generator() -> None:
        with _frozen(trainer._judging):
            trainer._move(make, "", trainer._generator_loss)
        trainer.average.update(trainer.network, 1)

    return {
        "discriminator": lambda: trainer._move(judge, "", trainer._discriminator_loss),
        "generator": generator,
        "r1": lambda: trainer._move(judge, "", trainer._penalty),
        "paths": lambda: trainer._move(make, "", trainer._path_length),
    }


def rosinality(size: Size, folder: Path) -> Parts:
    """Its networks and losses, in the order of its ``train.py``."""
    from generator_step_parity import load_reference

    model, train = load_reference(folder, channels_by_resolution(size.side, size.channel_base, size.channel_max))
    generator, average = (model.Generator(size.side, size.latents, LAYERS) for _ in range(2))
    discriminator = model.Discriminator(size.side)
    of_generator, of_discriminator = adams(generator, discriminator)
    images = reals(size)

    def render(count: int) -> tuple[Tensor, Tensor]:
        return generator(train.mixing_noise(count, size.latents, MIXING, "cpu"), return_latents=True)

    def turn(network: nn.Module) -> None:
        train.requires_grad(generator, network is generator)
        train.requires_grad(discriminator, network is discriminator)

    def part_discriminator() -> None:
        turn(discriminator)
        loss = train.d_logistic_loss(discriminator(images), discriminator(render(size.batch)[0]))
        move(discriminator, of_discriminator, loss)

    def part_r1() -> None:
        turn(discriminator)
        given = images.clone().requires_grad_()
        logits = discriminator(given)
        move(discriminator, of_discriminator, train.d_r1_loss(logits, given) + 0 * logits.sum())

    def part_generator() -> None:
        turn(generator)
        move(generator, of_generator, train.g_nonsaturating_loss(discriminator(render(size.batch)[0])))
        train.accumulate(average, generator, 0.999)

    def part_paths() -> None:
        turn(generator)
        image, styles = render(size.batch // 2)
        penalty, _, _ = train.g_path_regularize(image, styles, 0.0)
        move(generator, of_generator, penalty + 0 * image.sum())

    return {"discriminator": part_discriminator, "generator": part_generator, "r1": part_r1, "paths": part_paths}


def ada(size: Size, folder: Path) -> Parts:
    """Its networks and its loss, which does a phase at a time."""
    sys.modules.setdefault("requests", types.ModuleType("requests"))  # for downloads, which there are none of
    sys.path.insert(0, str(folder))
    from training.loss import StyleGAN2Loss
    from training.networks import Discriminator, Generator

    widths = {"channel_base": size.channel_base, "channel_max": size.channel_max}
    options = {"mapping_kwargs": {"num_layers": LAYERS}, "synthesis_kwargs": widths}
    generator = Generator(size.latents, 0, size.latents, size.side, 3, **options).train().requires_grad_(False)
    discriminator = Discriminator(0, size.side, 3, **widths).train().requires_grad_(False)
    average = Generator(size.latents, 0, size.latents, size.side, 3, **options).requires_grad_(False)
    loss = StyleGAN2Loss("cpu", generator.mapping, generator.synthesis, discriminator, style_mixing_prob=MIXING)
    of_generator, of_discriminator = adams(generator, discriminator)
    images, labels = reals(size), torch.zeros(size.batch, 0)

    def phase(name: str, network: nn.Module, adam: torch.optim.Adam) -> Callable[[], None]:
        def part() -> None:
            adam.zero_grad(set_to_none=True)
            network.requires_grad_(True)
            z = torch.randn(size.batch, size.latents)
            loss.accumulate_gradients(name, images, labels, z, labels, sync=True, gain=1)
            network.requires_grad_(False)
            adam.step()
            if name == "Gmain":
                for kept, weight in zip(average.parameters(), generator.parameters(), strict=True):
                    kept.lerp_(weight, 0.001)

        return part

    return {
        "discriminator": phase("Dmain", discriminator, of_discriminator),
        "generator": phase("Gmain", generator, of_generator),
        "r1": phase("Dreg", discriminator, of_discriminator),
        "paths": phase("Greg", generator, of_generator),
    }


def adams(generator: nn.Module, discriminator: nn.Module) -> tuple[torch.optim.Adam, torch.optim.Adam]:
    of_generator, of_discriminator = (
        torch.optim.Adam(network.parameters(), RATE, (0.0, 0.99)) for network in (generator, discriminator)
    )
    return of_generator, of_discriminator


def move(network: nn.Module, adam: torch.optim.Adam, loss: Tensor) -> None:
    network.zero_grad()
    loss.backward()
    adam.step()


def sides(arguments: argparse.Namespace) -> dict[str, Callable[[Size], Parts]]:
    found: dict[str, Callable[[Size], Parts]] = {}
    if arguments.rosinality:
        found["rosinality"] = lambda size: rosinality(size, arguments.rosinality)
    if arguments.ada:
        found["ada"] = lambda size: ada(size, arguments.ada)
    found["labels4free"] = lambda size: ours(size, "float32")
    if has_bfloat16():
        found["labels4free bfloat16"] = lambda size: ours(size, "bfloat16")
    return found


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16 itself (Linux)."""
    flags = Path("/proc/cpuinfo")
    return flags.exists() and re.search(r"\b(amx_bf16|avx512_bf16)\b", flags.read_text()) is not None


def measure(size: Size, arguments: argparse.Namespace) -> None:
    clock, built = CLOCKS[arguments.clock], {name: make(size) for name, make in sides(arguments).items()}
    seconds = {name: {part: [] for part in SHARES} for name in built}
    for turn in range(arguments.rounds + 1):  # the first warms up
        for name, parts in built.items():
            for part, work in parts.items():
                start = clock()
                work()
                if turn:
                    seconds[name][part].append(clock() - start)
    print(
        f"\n{size.side}x{size.side}, widths {size.channel_base} / {size.channel_max}, batch {size.batch}, "
        f"{arguments.threads} threads, {arguments.rounds} rounds, {arguments.clock} seconds"
    )
    columns = "".join(f"{part:>14}" for part in SHARES)
    print(f"{'':22}{columns}   images/s   " + "".join(f"{f'x {name}':>14}" for name in built if "labels" not in name))
    whole = {
        name: [
            sum(v * SHARES[k] for k, v in zip(SHARES, turn, strict=True)) for turn in zip(*parts.values(), strict=True)
        ]
        for name, parts in seconds.items()
    }
    for name, steps in whole.items():
        medians = "".join(f"{statistics.median(values):14.3f}" for values in seconds[name].values())
        ratios = "".join(
            f"{statistics.median(a / b for a, b in zip(whole[other], steps, strict=True)):14.2f}"
            for other in built
            if "labels" not in other
        )
        memory = "" if arguments.no_memory else f"   {peak_mib(name, size, arguments):6.0f} MiB"
        print(f"{name:22}{medians}   {size.batch / statistics.median(steps):8.2f}   {ratios}{memory}", flush=True)


def peak_mib(name: str, size: Size, arguments: argparse.Namespace) -> float:
    """Peak memory of one side, measured in a process of its own."""
    own = ["--memory-of", name, "--sizes", str(size.side), "--threads", str(arguments.threads)]
    for reference in ("rosinality", "ada"):
        if getattr(arguments, reference):
            own += [f"--{reference}", str(getattr(arguments, reference))]
    done = subprocess.run([sys.executable, __file__, *own], check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def memory_of(name: str, size: Size, arguments: argparse.Namespace) -> float:
    before = peak_bytes()
    for work in sides(arguments)[name](size).values():
        work()
    return (peak_bytes() - before) / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rosinality", type=Path, help="a checkout of rosinality/stylegan2-pytorch")
    parser.add_argument("--ada", type=Path, help="a checkout of NVlabs/stylegan2-ada-pytorch")
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES), help="sides in pixels")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what is counted (default wall)")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print(memory_of(arguments.memory_of, SIZES[arguments.sizes[0]], arguments))
        return
    for side in arguments.sizes:
        measure(SIZES[side], arguments)
    if hasattr(os, "getloadavg"):
        print(
            f"\n{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {arguments.threads} threads of it ours"
        )


if __name__ == "__main__":
    main()
