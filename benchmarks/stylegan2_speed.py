"""Claim: our StyleGAN2 renders at least 1.5 times as fast on a CPU as grouped convolutions do, in less memory.

    python benchmarks/stylegan2_speed.py

Config-f at 256x256 and 1024x1024, random weights, float32, ws given, without gradients; every side returns the image
and all feature maps. The sides:

* grouped: styles scale the kernels, one grouped convolution a layer, as the published implementations do it;
* plain: styles scale the maps, one shared convolution a layer (what runs where gradients are wanted);
* labels4free: what ``synthesize`` does on a CPU (``generators/stylegan2_cpu.py``).

The sides take turns in one process, so that whatever else the machine does meets all of them; compare within a run,
never between runs. Peak memory is that of a process of its own for each side, less what it held before the first image.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.networks.discriminator import channels_by_resolution
from labels4free.ops.bias_act import bias_act
from labels4free.ops.modulated_conv2d import demodulation, fan_in_scale
from labels4free.ops.upfirdn2d import fir_kernel, upfirdn2d, upsample2d

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from labels4free.generators.base import Noise, NoiseMode
    from labels4free.generators.stylegan2_layers import StyledConv, ToRgb
    from labels4free.types import GeneratorOutput

MIB = 2**20


def config_f(resolution: int) -> StyleGAN2:
    """A StyleGAN2 of config-f's widths with the random weights that training starts from, and some noise."""
    generator = StyleGAN2(channels_by_resolution(resolution, channel_base=32768, channel_max=512)).reset_parameters(0)
    for block in generator.styled_blocks():
        for layer in block.convs():
            layer.noise_strength.fill_(0.1)
    return generator


class GroupedStyleGAN2(StyleGAN2):
    """StyleGAN2 with one kernel a sample, as the published implementations render."""

    def synthesize(
        self, ws: Tensor, *, noise: Noise = "fixed", background: str | None = None, rng: torch.Generator | None = None
    ) -> GeneratorOutput:
        return self._render(ws, noise, background, rng, _grouped_conv, _grouped_rgb)


def grouped_form(generator: StyleGAN2) -> GroupedStyleGAN2:
    """The same weights, rendered the original way."""
    twin = GroupedStyleGAN2.from_config(generator.config())
    twin.load_state_dict(generator.state_dict())
    return twin


def _grouped_conv(
    layer: StyledConv, x: Tensor, w: Tensor, noise: NoiseMode | Tensor, rng: torch.Generator | None
) -> Tensor:
    style = layer.affine(w) * fan_in_scale(layer.weight)
    kernels = layer.weight * style[:, None, :, None, None] * demodulation(layer.weight, style)[:, :, None, None, None]
    n, c, *size = x.shape
    x = x.reshape(1, n * c, *size)  # the samples become the groups of one sample
    if layer.up:
        x = F.conv_transpose2d(x, kernels.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
        x = upfirdn2d(x, fir_kernel(gain=4.0), pad=(1, 1))
    else:
        x = F.conv2d(x, kernels.flatten(0, 1), padding=1, groups=n)
    x = x.reshape(n, -1, *x.shape[2:])
    noise_map = layer.noise_map(n, noise, rng)
    return bias_act(x if noise_map is None else x + noise_map, layer.bias)


def _grouped_rgb(layer: ToRgb, x: Tensor, w: Tensor, image: Tensor | None) -> Tensor:
    style = layer.affine(w) * fan_in_scale(layer.weight)
    kernels = (layer.weight * style[:, None, :, None, None]).flatten(0, 1)
    n, c, side, _ = x.shape
    rgb = F.conv2d(x.reshape(1, n * c, side, side), kernels, groups=n).reshape(n, 3, side, side)
    rgb = rgb + layer.bias[:, None, None]
    return rgb if image is None else rgb + upsample2d(image)


def grouped(generator: StyleGAN2, ws: Tensor) -> GeneratorOutput:
    return generator._render(ws, "fixed", None, None, _grouped_conv, _grouped_rgb)


def plain(generator: StyleGAN2, ws: Tensor) -> GeneratorOutput:
    return generator.synthesize_plainly(ws)


def fast(generator: StyleGAN2, ws: Tensor) -> GeneratorOutput:
    return generator.synthesize(ws)


SIDES: dict[str, Callable[[StyleGAN2, Tensor], GeneratorOutput]] = {
    "grouped": grouped,
    "plain": plain,
    "labels4free": fast,
}


def some_ws(generator: StyleGAN2, batch: int) -> Tensor:
    return torch.cat([generator.draw_ws(0, index) for index in range(batch)])


def peak_mib(side: str, resolution: int, batch: int, threads: int) -> float:
    """Peak memory of one side, measured in a process of its own."""
    options = ["--memory-of", side, "--resolutions", str(resolution), "--batch", str(batch), "--threads", str(threads)]
    done = subprocess.run([sys.executable, __file__, *options], check=True, capture_output=True, text=True)
    return float(done.stdout)


def memory_of(side: str, resolution: int, batch: int) -> float:
    generator = config_f(resolution)
    ws = some_ws(generator, batch)
    before = peak_bytes()
    with torch.inference_mode():
        SIDES[side](generator, ws)
    return (peak_bytes() - before) / MIB


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage counts the parent process in
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(resolution: int, batch: int, turns: int, threads: int) -> None:
    generator = config_f(resolution)
    ws = some_ws(generator, batch)
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    with torch.inference_mode():
        reference = grouped(generator, ws)
        for name, render in SIDES.items():  # also warms up
            output = render(generator, ws)
            for ours, theirs in zip(
                (output.image, *output.features), (reference.image, *reference.features), strict=True
            ):
                error = float((ours - theirs).abs().max() / theirs.abs().max())
                if error > 1e-4:
                    raise SystemExit(f"{name} makes another image: relative error {error:.1e}")
            del output, ours, theirs
        del reference
        for _ in range(turns):
            for name, render in SIDES.items():
                start = time.perf_counter()
                render(generator, ws)
                seconds[name].append(time.perf_counter() - start)
    print(f"\nconfig-f {resolution}x{resolution}, batch {batch}, float32, {threads} threads, {turns} turns")
    print(f"{'':12}  seconds a batch: median (fastest, slowest)  images/s  against grouped  peak memory")
    for name, values in seconds.items():
        middle = statistics.median(values)
        ratio = statistics.median(g / v for g, v in zip(seconds["grouped"], values, strict=True))
        memory = peak_mib(name, resolution, batch, threads)
        spread = f"{middle:.2f} ({min(values):.2f}, {max(values):.2f})"
        print(f"{name:12}  {spread:>43}  {batch / middle:8.2f}  {ratio:14.2f}x  {memory:7.0f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads (default 2)")
    parser.add_argument("--batch", type=int, default=4, help="images a batch (default 4)")
    parser.add_argument("--turns", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[256, 1024], help="sides in pixels")
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print(memory_of(arguments.memory_of, arguments.resolutions[0], arguments.batch))
        return
    for resolution in arguments.resolutions:
        measure(resolution, arguments.batch, arguments.turns, arguments.threads)
    if hasattr(os, "getloadavg"):
        print(
            f"\n{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {arguments.threads} threads of it ours"
        )


if __name__ == "__main__":
    main()
