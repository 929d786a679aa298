"""What the page of ``labels4free from-photos`` shows: the pictures of every stage, as far as there are any."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from labels4free import __version__
from labels4free.checkpoints.native import read_native_header
from labels4free.errors import CheckpointError
from labels4free.pages.demo import duration
from labels4free.pages.html import Curve, Picture, Report, Section, pick_evenly
from labels4free.training_loop.log import LogTail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PICTURES = 4
_GENERATOR_NUMBERS = {
    "diversity": "diversity of generated images (1: they differ as much as the photos do)",
    "swd": "distance to the photos (sliced Wasserstein distance of patches)",
}
_ALPHA_NUMBERS = {
    "foreground_ratio": "mean alpha: how much of the picture is object",
    "sharpness": "sharpness (1: every alpha is 0 or 1)",
    "center_bias": "center bias (mean alpha of the middle minus that of the border)",
    "agreement_mixing": "agreement of alpha with that under other fine styles",
    "score": "score of the alpha network without labels",
}
_SEGMENTER_NUMBERS = {
    "teacher_miou": "mean IoU of the segmenter with the masks of pairs that were kept apart",
    "augmented_miou": "the same on changed pictures",
    "agreement_tta": "agreement of its masks with those of mirrored and differently lit pictures",
}


class StageRow(NamedTuple):
    """A line of the table of stages.

    Attributes:
        name: What the stage is called.
        words: What it does.
        planned: Seconds that were planned for it; None where nothing was.
        took: Seconds that it has taken so far.
    """

    name: str
    words: str
    planned: float | None
    took: float


def from_photos_report(folder: Path, stages: Sequence[StageRow], photos: str, problem: str | None) -> Report:
    """Put the page together from what lies in a chain's folder.

    Args:
        folder: The folder, with the stages' folders in it.
        stages: What was planned and what it took.
        photos: Where the photos are.
        problem: Why the chain has stopped; None if it has not.

    Raises:
        RunError: If a log cannot be read.
        DataError: If a picture cannot be read, when the page is written.
    """
    found = (_photos(folder), _generator(folder), _alpha(folder), _check(folder), _pairs(folder), _segmenter(folder))
    done = (folder / "segmenter.safetensors").is_file() and problem is None
    headline = f"Out of the photos in {photos}, without any label."
    if problem:
        headline = f"It has stopped: {problem}"
    table = [("stage", "what", "planned", "took")]
    for row in stages:
        planned = duration(row.planned) if row.planned is not None else "-"
        table.append((row.name, row.words, planned, duration(row.took) if row.took else "-"))
    return Report(
        title="From photos to masks",
        headline=headline,
        figures=_figures(folder, sum(row.took for row in stages)),
        sections=[
            *(section for section in found if section),
            Section("Time", "What was planned for each stage before the first began, and what it took.", table=table),
            *([Section("How to go on", commands=_commands(folder))] if done else []),
        ],
        footer=f"Made by labels4free {__version__}.",
    )


def _figures(folder: Path, seconds: float) -> list[tuple[str, str]]:
    figures = [(duration(seconds), "in all")]
    generator = _info(folder / "generator" / "generator.safetensors", "generator")
    if "train" in generator:
        figures.append((f"{generator['train']['images']:,}", "images seen by the generator"))
    numbers = _info(folder / "segmenter" / "segmenter.safetensors", "segmenter").get("health", {})
    if "teacher_miou" in numbers:
        figures.append(
            (f"{numbers['teacher_miou']:.3f}", "mean IoU of segmenter and alpha network: no true mask is known")
        )
    return figures


def _photos(folder: Path) -> Section | None:
    sheet = folder / "photos.jpg"
    if not sheet.is_file():
        return None
    text = "Some of the photos, cut out by the segmenter: those first of which it is least sure."
    return Section("Your photos", text, pictures=[Picture(sheet, "Photo and cut-out")], wide=True)


def _generator(folder: Path) -> Section | None:
    run = folder / "generator"
    pictures = _of_run(run, "pictures/*.png")
    if (nearest := run / "neighbours.png").is_file():
        pictures.append(Picture(nearest, "Generated images beside the photos that are nearest: copies would show"))
    numbers = _info(run / "generator.safetensors", "generator").get("health", {})
    curves = _curves(run, {"check_swd": "Distance to the photos", "check_diversity": "Diversity"})
    text = "Photos beside generated images, always of the same latents, as training went on."
    return _section("The generator", text, pictures, numbers, _GENERATOR_NUMBERS, curves)


def _alpha(folder: Path) -> Section | None:
    run = folder / "alpha"
    curves = _curves(run, {"foreground_ratio": "Foreground ratio: mean alpha", "check_score": "Score without labels"})
    text = "Image, alpha, the object over another background, and that background, as training went on."
    return _section("The alpha network", text, _of_run(run, "pictures/*.png"), curves=curves)


def _check(folder: Path) -> Section | None:
    sheet = folder / "check" / "sheet.png"
    pictures = [Picture(sheet, "Image, alpha, and the object that its mask cuts out")] if sheet.is_file() else []
    numbers: dict[str, float] = {}
    if (note := folder / "check" / "check.json").is_file():
        numbers = json.loads(note.read_text(encoding="utf-8")).get("alpha") or {}
    text = "Samples that the alpha network never saw. There are no true masks: the numbers tell whether masks are sane."
    return _section("The check", text, pictures, numbers, _ALPHA_NUMBERS)


def _pairs(folder: Path) -> Section | None:
    pictures = _of_run(folder / "pairs", "contact_sheet*.png")
    return _section("The pairs", "What the segmenter learned from, and what was left out.", pictures)


def _segmenter(folder: Path) -> Section | None:
    run = folder / "segmenter"
    numbers = _info(run / "segmenter.safetensors", "segmenter").get("health", {})
    curves = _curves(run, {"loss": "Loss", "check_teacher_miou": "Mean IoU with the pairs' masks"})
    text = "Pairs that were kept apart, as they are and changed: the image, its alpha, and the segmenter's."
    pictures = _of_run(run, "pictures/*.png")
    return _section("The segmenter", text, pictures, numbers, _SEGMENTER_NUMBERS, curves)


def _section(
    title: str,
    text: str,
    pictures: Sequence[Picture],
    numbers: Mapping[str, float] | None = None,
    names: Mapping[str, str] | None = None,
    curves: Sequence[Curve] = (),
) -> Section | None:
    """A section; None if there is nothing to show."""
    if not pictures:
        return None
    known = numbers or {}
    rows = [(words, f"{known[name]:.3f}") for name, words in (names or {}).items() if name in known]
    return Section(title, text, pictures, rows, curves)


def _of_run(run: Path, pattern: str) -> list[Picture]:
    """Pictures in a folder, evenly over time."""
    pictures = pick_evenly(run.glob(pattern), _PICTURES)
    return [Picture(path, re.sub(r"_0*(?=\d)", " ", path.stem).replace("_", " ")) for path in pictures]


def _curves(run: Path, names: Mapping[str, str]) -> list[Curve]:
    entries = list(LogTail(run / "log.jsonl").entries()) if (run / "log.jsonl").is_file() else []
    last = [entry for entry in entries if entry[:2] == entries[-1][:2]]  # neither other members nor what was restarted
    curves = []
    for name, title in names.items():
        points = [(entry.iteration, entry.numbers[name]) for entry in last if name in entry.numbers]
        curves.append(Curve(title, points))
    return [curve for curve in curves if len(curve.points) > 1]


def _info(path: Path, kind: str) -> dict[str, Any]:
    """What a finished network says of itself; nothing where there is none yet."""
    try:
        return read_native_header(path, kind).info
    except CheckpointError:
        return {}


def _commands(folder: Path) -> list[str]:
    def line(*words: object) -> str:
        return shlex.join(["labels4free", *map(str, words)])

    return [
        "# cut out a photo",
        line("segment", "PHOTO.jpg", "--model", folder / "segmenter.safetensors", "--out", "cut"),
        "",
        "# images with masks",
        line("sample", folder / "alpha", "--out", "masks", "--num", 1000),
        "",
        "# what the generator makes",
        line("generate", folder / "generator" / "generator.safetensors", "--out", "looks", "--seeds", "0-99"),
    ]
