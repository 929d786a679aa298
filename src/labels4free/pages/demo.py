"""What the demo's page shows: read from the files of its training run and its samples."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labels4free.checkpoints.native import read_native_header
from labels4free.data.pairs.manifest import read_manifest
from labels4free.pages.html import Curve, Picture, Report, Section, pick_evenly
from labels4free.training_loop.log import LogTail

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CURVES = {
    "loss_discriminator": "Discriminator loss",
    "loss_adversarial": "Alpha network: adversarial loss",
    "foreground_ratio": "Foreground ratio: mean alpha",
}
"""Numbers of the training log that are drawn, with their titles; a log may lack some."""


@dataclass(frozen=True)
class DemoResult:
    """Where the demo's parts lie and what they took.

    Attributes:
        run: Folder of the training run.
        samples: Folder of the samples.
        generator: Zoo name or file of the generator.
        seconds: Duration by step: ``fetch``, ``train``, ``sample``.
    """

    run: Path
    samples: Path
    generator: str
    seconds: Mapping[str, float]


def demo_report(result: DemoResult) -> Report:
    """Put the page together.

    Raises:
        RunError: If the manifest or the log cannot be read.
        CheckpointError: If the run's alpha network cannot be read.
    """
    training = read_native_header(result.run / "alpha.safetensors", "alpha_network").info
    manifest = read_manifest(result.samples)
    summary, settings, versions = manifest["summary"], manifest["settings"], manifest["versions"]
    foreground_ratio, sharpness = (
        f"{100 * summary['foreground_ratio_mean']:.0f} %",
        f"{100 * summary['sharpness']:.1f} %",
    )
    sections = [
        Section(
            "Samples",
            f"Each row is a new latent: the image, its alpha, its mask (alpha above {settings['threshold']:g}), the "
            "object over the background of another latent, and that background.",
            pictures=[Picture(result.samples / "contact_sheet.png", f"The first of {manifest['num']} samples")],
            wide=True,
        ),
        Section(
            "Numbers",
            "There are no true masks to compare with: these tell whether the masks are sane, not how good they are.",
            rows=_rows(result, manifest, training),
        ),
        _training_section(result),
        Section("How to go on", commands=_commands(result)),
    ]
    return Report(
        title="Masks from nothing",
        headline=f"{manifest['num']} images with masks from {result.generator}: an alpha network of "
        f"{manifest['alpha_network']['parameters']} weights learned them in {duration(result.seconds['train'])}, "
        "with no label and no training image.",
        figures=[
            (duration(sum(result.seconds.values())), "in all"),
            (foreground_ratio, "of the picture is foreground, on average"),
            (sharpness, "sharpness: 100 % where every alpha is 0 or 1"),
            (str(training["restarts"]), "automatic restarts of training"),
        ],
        sections=sections,
        footer=f"Made by labels4free {versions['labels4free']} with PyTorch {versions['torch']}.",
    )


def duration(seconds: float) -> str:
    """A duration for people: ``41 s``, ``7 min 05 s``, ``1 h 02 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _rows(result: DemoResult, manifest: Mapping[str, Any], training: Mapping[str, Any]) -> list[tuple[str, str]]:
    summary, settings, num = manifest["summary"], manifest["settings"], manifest["num"]
    generator = manifest["generator"]
    wrong = ", ".join(f"{summary[kind]['count']} {kind}" for kind in ("empty", "full", "inverted"))
    side = generator["resolution"]
    return [
        ("Generator", f"{result.generator} ({generator['family']}, {side} x {side} pixels), frozen"),
        ("Alpha network", f"{manifest['alpha_network']['parameters']} weights, {training['train']['steps']} steps"),
        ("Fetching", duration(result.seconds["fetch"])),
        ("Training", duration(result.seconds["train"])),
        ("Sampling", f"{duration(result.seconds['sample'])} for {num} samples, {settings['size']} pixels a side"),
        (
            "Foreground ratio",
            f"mean {summary['foreground_ratio_mean']:.3f}, sd {summary['foreground_ratio_sd']:.3f} over the samples",
        ),
        ("Sharpness", f"{summary['sharpness']:.3f} (1: every alpha is 0 or 1; 0: all are 0.5)"),
        ("Center bias", f"{summary['center_bias']:.3f} (mean alpha of the middle minus that of the border)"),
        ("Masks that cannot be right", f"of {num}: {wrong}"),
        ("Automatic restarts of training", str(training["restarts"])),
        ("Seed", f"{settings['seed']}, truncation psi {settings['min_truncation_psi']:g}"),
    ]


def _training_section(result: DemoResult) -> Section:
    pictures = pick_evenly((result.run / "pictures").glob("*.png"), 6)
    return Section(
        "Training",
        "Image, alpha, composite and background as training went on; then the numbers of its log.",
        pictures=[Picture(path, re.sub(r"_0*(?=\d)", " ", path.stem).replace("_", " ")) for path in pictures],
        curves=_curves(result.run / "log.jsonl"),
    )


def _curves(log: Path) -> list[Curve]:
    """The numbers of the last attempt at the last member: neither what was restarted is drawn nor the others."""
    entries = list(LogTail(log).entries())
    last = [entry for entry in entries if entry[:2] == entries[-1][:2]]
    curves = []
    for name, title in CURVES.items():
        points = [(entry.iteration, entry.numbers.get(name, math.nan)) for entry in last]
        curves.append(Curve(title, [point for point in points if math.isfinite(point[1])]))
    return [curve for curve in curves if len(curve.points) > 1]


def _commands(result: DemoResult) -> list[str]:
    return [
        "# 1000 images with masks",
        f"labels4free sample {result.run} --out masks --num 1000",
        "",
        "# a longer training run",
        f"labels4free train {result.generator} --out run",
    ]
