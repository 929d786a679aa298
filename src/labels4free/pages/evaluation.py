"""What an evaluation shows: its figures as text, and a page with pictures of the worst images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labels4free.data.decoding import decode_image
from labels4free.evaluation.config import TRUTH_THRESHOLD
from labels4free.evaluation.pictures import LEGEND, compare
from labels4free.evaluation.report import CLASS_SCORES
from labels4free.pages.html import Picture, Report, Section, write_report
from labels4free.pictures.contact_sheet import contact_sheet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from labels4free.evaluation.config import EvaluationConfig
    from labels4free.evaluation.pairing import MaskPair
    from labels4free.evaluation.predictor import Predictor
    from labels4free.evaluation.report import EvaluationReport, GroupReport
    from labels4free.metrics.intervals import Interval

WORST = 12
"""How many images the page shows."""

SCORES = {
    "miou": "mean IoU of foreground and background",
    "iou_foreground": "IoU of the foreground",
    "iou_background": "IoU of the background",
    "f1": "F1 of the foreground",
    "precision": "precision of the foreground",
    "recall": "recall of the foreground",
    "accuracy": "accuracy",
    "boundary_f": "boundary F",
    "s_measure": "S-measure",
    "e_measure": "E-measure",
    "e_measure_mean": "E-measure, mean of 256 thresholds",
    "mae": "mean absolute error (0 is best)",
}
"""The per-image scores with their titles, in the order in which they are shown."""

_CELL = 300


def format_report(report: EvaluationReport) -> str:
    """The figures as text for a terminal."""
    parts = [_format_group(name, group) for name, group in report.groups.items()]
    return "\n\n".join([*parts, _format_group("All together" if report.groups else "", report.total), _footer(report)])


def write_page(
    path: Path, report: EvaluationReport, pairs: Sequence[MaskPair], predictor: Predictor | None = None
) -> None:
    """Write the page: one HTML file with everything in it.

    Args:
        path: The file.
        report: The figures.
        pairs: The files that were compared, in any order.
        predictor: What made the predictions, where it is known.

    Raises:
        DataError: If a file of a picture can no longer be read.
        RunError: If the page cannot be written.
    """
    total, by_name = report.total, {pair.name: pair for pair in pairs}
    miou, made_by = total.per_image["miou"], f"{predictor} " if predictor else ""
    named = [*((f"{name}: ", group) for name, group in report.groups.items())]
    named.append(("All together: " if report.groups else "", total))
    sections = [section for name, group in named for section in _group_sections(name, group)]
    worst = report.images.worst(WORST)
    title, pictures = f"The {len(worst)} images with the lowest mean IoU", []
    for index in worst:
        name, scores = report.images.names[index], report.images.of(index)
        words = ", ".join(f"{SCORES[key]} {scores[key]:.4f}" for key in ("miou", "iou_foreground", "boundary_f"))
        pictures.append(Picture(_picture(by_name[name], report.config), f"{name}: {words}"))
    sections.append(Section(title, f"The worst first. {LEGEND}", pictures, wide=True))
    baseline = max(total.baselines.values(), key=lambda entry: entry.miou)
    page = Report(
        title="Masks beside ground truth",
        headline=f"{made_by}{_pairs(total)}: mean IoU {total.pooled_miou.value:.4f} pooled over all pixels, "
        f"{miou.value:.4f} as the mean over the images. The best mask that never looks at the image scores "
        f"{baseline.miou:.4f}.",
        figures=[
            (f"{total.pooled_miou.value:.4f}", "mean IoU, pooled over all pixels"),
            (f"{total.pooled['foreground']['iou']:.4f}", "IoU of the foreground, pooled"),
            (f"{total.per_image['boundary_f'].value:.4f}", "boundary F, mean over the images"),
            (f"{total.per_image['mae'].value:.4f}", "mean absolute error"),
        ],
        sections=sections,
        footer=_footer(report),
    )
    write_report(path, page)


def _format_group(title: str, group: GroupReport) -> str:
    lines = [f"{title}: {_pairs(group)}" if title else _pairs(group)]
    for table in (_class_table(group), _image_table(group), _baseline_table(group)):
        left = max(len(row[0]) for row in table)
        widths = [max(map(len, column)) for column in list(zip(*table, strict=True))[1:]]
        lines.append("")
        for name, *cells in table:
            right = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append(f"{name:<{left}}  {right}".rstrip())
    return "\n".join(lines)


def _pairs(group: GroupReport) -> str:
    return f"{group.images} pair{'' if group.images == 1 else 's'} of masks"


def _class_table(group: GroupReport) -> list[list[str]]:
    head = ["pooled over all pixels", "IoU", "F1", "precision", "recall", "accuracy"]
    return [head, *([name, *(f"{row[score]:.4f}" for score in CLASS_SCORES)] for name, row in group.pooled.items())]


def _image_table(group: GroupReport) -> list[list[str]]:
    rows = [[title, *_cells(group.per_image[name])] for name, title in SCORES.items()]
    return [["mean over the images", "", "95 % interval"], *rows, ["pooled mean IoU", *_cells(group.pooled_miou)]]


def _cells(interval: Interval) -> list[str]:
    if interval.low is None or interval.high is None:
        return [f"{interval.value:.4f}", "-"]
    return [f"{interval.value:.4f}", f"{interval.low:.4f} .. {interval.high:.4f}"]


def _baseline_table(group: GroupReport) -> list[list[str]]:
    head = ["without looking at the image, pooled", "mean IoU", "fg IoU", "bg IoU", "fg F1"]
    return [
        head,
        *(
            [
                entry.description,
                *(f"{v:.4f}" for v in (entry.miou, entry.iou_foreground, entry.iou_background, entry.f1)),
            ]
            for entry in group.baselines.values()
        ),
    ]


def _group_sections(title: str, group: GroupReport) -> list[Section]:
    return [
        Section(f"{title}{_pairs(group)}, pixel by pixel", table=_class_table(group)),
        Section(f"{title}{_pairs(group)}, image by image", table=_image_table(group)),
        Section(f"{title}what masks score that never look at the image", table=_baseline_table(group)),
    ]


def _footer(report: EvaluationReport) -> str:
    config = report.config
    words = [f"Predicted foreground is above {config.threshold:g}, true above {TRUTH_THRESHOLD:g}."]
    if config.foreground is not None:
        values = ", ".join(map(str, config.foreground)) or "all but 0"
        words.append(f"Maps of labels: the object is {values}.")
    if config.void is not None:
        words.append(f"True pixels of {config.void} do not count.")
    words.append(f"Boundaries agree within {config.boundary_tolerance:.2%} of the diagonal.")
    if config.bootstrap:
        words.append(
            f"Intervals: {config.bootstrap} resamplings of the images, percentiles 2.5 and 97.5, seed {config.seed}."
        )
    words.append("The ellipse and the mean mask are fitted to these true masks.")
    return " ".join(words)


def _picture(pair: MaskPair, config: EvaluationConfig) -> NDArray[np.uint8]:
    """Image (if there is one), true mask, predicted mask and errors, side by side."""
    found = compare(pair, config)
    cells = [found.truth, found.alpha, found.errors]
    titles = ["true mask", "predicted mask", "errors"]
    if pair.image is not None:
        cells.insert(0, decode_image(pair.image))
        titles.insert(0, "image")
    return contact_sheet([cells], column_titles=titles, cell=_CELL)
