"""Claim: projections are no worse than those of rosinality's projector with the same loss; goal: in half the time.

    python benchmarks/projection.py GENERATOR PICTURES --rosinality PATH --sheet docs/projection.jpg
    python benchmarks/projection.py mobilestylegan-ffhq-1024 PORTRAITS --num 3 --set steps=60  (ours alone)

PATH is a checkout of rosinality/stylegan2-pytorch, whose ``projector.py`` runs as it is, but for the sizes of networks
that it has as numbers, the CPU in place of CUDA, and LPIPS, in whose place stands the loss that ours has. It takes the
same weights, one picture at a time. ``--num`` pictures that the generator made, whose
latents are known, and as many of the folder are projected. Four rows: its settings on both sides (w, noise maps,
EfficientNet-Lite0 alone), then our default's loss and latents on both (w+; its noise maps stay, since it cannot do
without). Distances are of EfficientNet-Lite0, which is in the losses: look at PSNR and SSIM as well. Latents: how far
those found are from the known ones, where the mean is at 1. Minutes are those that the processor worked for a picture,
which other work on the machine hardly changes; they compare within a run with the last of rosinality's rows above.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import tyro
from generator_step_parity import load_reference
from PIL import Image

from labels4free.checkpoints.foreign.rosinality import write_rosinality
from labels4free.checkpoints.loading import load_generator
from labels4free.evaluation.generators.feature_nets import EFFICIENTNET, FeatureNet, load_feature_net
from labels4free.generating.projection.config import PRESETS, ProjectionConfig
from labels4free.generating.projection.folder import photo_square
from labels4free.generating.projection.losses import PhotoDistance, reduced
from labels4free.generating.projection.projector import Projector
from labels4free.generating.rendering import shrunk
from labels4free.metrics.images import psnr, ssim
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.pictures.pixels import from_uint8, to_uint8, write_png
from labels4free.settings_fields import change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from labels4free.generators.base import Generator
    from labels4free.generators.stylegan2 import StyleGAN2


_CELL = 256


class Found(NamedTuple):
    """What a projector made of a picture [1, 3, R, R], and the seconds it took; ws is [1, num_ws, w_dim]."""

    image: Tensor
    ws: Tensor
    seconds: float


Project = "Callable[[Sequence[Tensor]], list[Found]]"


def ours(projector: Projector) -> Project:
    def project(pictures: Sequence[Tensor]) -> list[Found]:
        found = []
        for picture in pictures:
            start = time.process_time()
            result = projector.project(picture)
            found.append(Found(result.image, result.ws, time.process_time() - start))
        return found

    return project


class Rosinality:
    """Its program, on a generator of ours."""

    def __init__(self, folder: Path, generator: StyleGAN2, judge: FeatureNet) -> None:
        self.generator, self.judge = generator, judge
        sys.modules["model"], _ = load_reference(folder, generator.channels)
        widths = f"{generator.w_dim}, {len(generator.mapping_widths)}"
        source = (folder / "projector.py").read_text(encoding="utf-8")
        for old, new in (
            ('device = "cuda"', 'device = "cpu"'),
            ("Generator(args.size, 512, 8)", f"Generator(args.size, {widths})"),
            ("n_mean_latent, 512,", f"n_mean_latent, {generator.w_dim},"),
        ):
            source, count = re.subn(re.escape(old), new, source)
            if count != 1:
                raise SystemExit(f"{folder}/projector.py has {old} {count} times, expected 1.")
        self.program = compile(source, str(folder / "projector.py"), "exec")

    def __call__(self, config: ProjectionConfig) -> Project:
        return lambda pictures: [self._project(picture, config) for picture in pictures]

    def _project(self, picture: Tensor, config: ProjectionConfig) -> Found:
        began: list[float] = []

        def perceptual_loss(**_: object) -> Callable[[Tensor, Tensor], Tensor]:
            began.append(time.process_time())  # the search begins behind this
            distance = PhotoDistance(picture, config, self.judge, None)
            return lambda image, _: distance(image)

        transforms = SimpleNamespace(
            Compose=lambda _: lambda image: from_uint8(np.array(image)[None])[0],
            **dict.fromkeys(("Resize", "CenterCrop", "Normalize"), lambda *_: None),
            ToTensor=lambda: None,
        )
        stubs = {"lpips": ModuleType("lpips"), "torchvision": ModuleType("torchvision")}
        stubs["lpips"].PerceptualLoss, stubs["torchvision"].transforms = perceptual_loss, transforms  # type: ignore[attr-defined]
        sys.modules.update(stubs)
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), self._arguments(config):
            write_rosinality("generator.pt", self.generator)
            write_png(Path("0.png"), to_uint8(picture)[0])
            with contextlib.redirect_stderr(io.StringIO()), torch.enable_grad():
                exec(self.program, {"__name__": "__main__"})  # noqa: S102
            seconds = time.process_time() - began[0]
            entry = torch.load("0.pt", weights_only=True)["0.png"]
        latents = entry["latent"].detach().expand(1, self.generator.num_ws, -1)
        return Found(entry["img"][None].detach(), latents, seconds)

    @contextlib.contextmanager
    def _arguments(self, config: ProjectionConfig) -> Iterator[None]:
        before = sys.argv
        sys.argv = ["projector.py", "--ckpt", "generator.pt", "--size", str(self.generator.resolution)]
        sys.argv += ["--step", str(config.steps), *(["--w_plus"] if config.space == "w+" else [])]
        sys.argv += ["0.png"]
        try:
            yield
        finally:
            sys.argv = before


def figures(found: Sequence[Found], pictures: Sequence[Tensor], judge: FeatureNet) -> list[float]:
    """Means of PSNR, SSIM and distance, as of the files that would be written, and of the seconds."""
    rows = []
    for one, picture in zip(found, pictures, strict=True):
        pair = [from_uint8(to_uint8(x)) for x in (one.image, picture)]
        with torch.inference_mode():
            distance = float(judge.distance(*(reduced(x, 256) for x in pair)))
        rows.append([psnr(*pair), ssim(*pair), distance, one.seconds])
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def missed(found: Sequence[Found], latents: Sequence[Tensor], generator: Generator) -> float:
    """How far the latents found are from the known ones, where the mean latent is at 1: the mean over the pictures."""
    parts = [(one.ws - ws).norm() / (generator.w_avg - ws).norm() for one, ws in zip(found, latents, strict=True)]
    return float(torch.stack(parts).mean())


def generated(generator: Generator, count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Pictures as files have them, and their latents."""
    latents = [generator.draw_ws(4711, index, 0.7) for index in range(count)]
    with torch.no_grad():
        return [from_uint8(to_uint8(generator.synthesize(ws).image)) for ws in latents], latents


def in_folder(folder: Path, side: int, count: int) -> list[Tensor]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))[:count]
    return [from_uint8(photo_square(path.read_bytes(), side, str(path))[None]) for path in files]


def main(
    generator: str,
    pictures: Path,
    /,
    rosinality: Path | None = None,
    num: int = 10,
    tune: int = 0,
    sheet: Path | None = None,
    threads: int = 1,
    set: list[str] = [],  # noqa: A002, B006
) -> None:
    """Compare projectors.

    Args:
        generator: Zoo name or file; rosinality's code needs a StyleGAN2.
        pictures: Folder.
        rosinality: Checkout of its repository; None leaves it out.
        num: Generated pictures, and pictures of the folder.
        tune: Steps of tuning of a row more.
        sheet: File of a sheet of the folder's pictures.
        threads: Of PyTorch.
        set: Settings of our default, as for "project"; ``steps``, hundreds for rosinality's, are those of all.
    """
    torch.set_num_threads(threads)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    loaded, judge = load_generator(generator), load_feature_net(EFFICIENTNET)
    default = change(ProjectionConfig(), settings=set)
    published = dataclasses.replace(PRESETS["stylegan2"], steps=default.steps)
    sides: dict[str, Project] = {"ours, default": ours(Projector(loaded, default, judge))}
    if rosinality:
        theirs = Rosinality(rosinality, loaded, judge)
        sides = {
            "rosinality": theirs(published),
            "ours, its settings": ours(Projector(loaded, published, judge)),
            "rosinality, w+ and our loss": theirs(default),
        } | sides
    if tune:
        tuned = dataclasses.replace(default, tune_steps=tune)
        sides[f"ours, tuned {tune} steps"] = ours(Projector(loaded, tuned, judge))
    made, latents = generated(loaded, num)
    sets = {"generated": made, "of the folder": in_folder(pictures, loaded.resolution, num)}
    print(f"{generator}: {num} pictures each, {default.steps} steps, {threads} threads")
    for title, targets in sets.items():
        print(f"\n{title:30} PSNR dB     SSIM  {judge.title}   minutes  times as fast  latents", flush=True)
        slowest, cells = None, []
        for name, project in sides.items():
            found = project(targets)
            *values, seconds = figures(found, targets, judge)
            slowest = seconds if slowest is None or name.startswith("rosinality") else slowest
            numbers = "{:8.2f} {:8.3f} {:9.3f}".format(*values)
            off = f"{missed(found, latents, loaded):9.2f}" if targets is made else ""
            print(f"{name:30}{numbers} {seconds / 60:9.3f} {slowest / seconds:14.2f}{off}", flush=True)
            cells.append([one.image for one in found])
    if sheet:
        shown = [to_uint8(torch.cat(column)) for column in (targets, *cells)]
        rows = [[shrunk(picture, _CELL) for picture in row] for row in zip(*shown, strict=True)]
        picture = contact_sheet(rows, ["picture", *sides], [""] * len(rows), cell=min(_CELL, 2 * loaded.resolution))
        Image.fromarray(picture).save(sheet, quality=85)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
