"""A sheet of all images: each with its predicted mask, the true one, where they differ, and its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from labels4free.data.decoding import decode_image
from labels4free.errors import DataError
from labels4free.evaluation.pictures import LEGEND, compare
from labels4free.pictures.contact_sheet import (
    caption,
    captioned_sheet,
    check_sheet_name,
    overlay,
    save_sheet,
    thumbnail,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from labels4free.evaluation.config import EvaluationConfig
    from labels4free.evaluation.pairing import MaskPair
    from labels4free.evaluation.report import EvaluationReport

MOST_IMAGES = 200
"""Images on a sheet at most: those with the lowest scores. It is then 2,000 x 20,000 pixels; JPEG ends at 65,535."""

_CELL = 192
_COLUMNS = ("", "image", "prediction", "truth", "differences")
_TWO_ABREAST = 20  # with more images than this, each row holds two


def write_sheet(
    path: Path,
    report: EvaluationReport,
    pairs: Sequence[MaskPair],
    title: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw and write a sheet, whole or not at all; missing folders are made.

    Args:
        path: The file, ending in one of :data:`labels4free.pictures.contact_sheet.SHEET_ENDINGS`.
        report: As for :func:`draw_sheet`; so are the others.
        pairs: The files that were compared.
        title: A sentence for the top.
        progress: Called after each image.

    Raises:
        ConfigError: If the name ends otherwise.
        DataError: As :func:`draw_sheet`.
        RunError: If the file cannot be written.
    """
    check_sheet_name(path)
    save_sheet(path, draw_sheet(report, pairs, title, progress))


def draw_sheet(
    report: EvaluationReport,
    pairs: Sequence[MaskPair],
    title: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Draw the images in rows, that with the lowest mean IoU first, at most :data:`MOST_IMAGES`.

    Args:
        report: The figures.
        pairs: The files that were compared, in any order; each needs its image.
        title: A sentence for the top.
        progress: Called after each image with how many are drawn, and of how many.

    Returns:
        [H, W, 3], uint8 RGB.

    Raises:
        DataError: If a pair has no image, or a file can no longer be read.
    """
    by_name = {pair.name: pair for pair in pairs}
    worst, number = report.images.worst(MOST_IMAGES), len(report.images)
    blocks = []
    for rank, index in enumerate(worst, start=1):
        name, scores = report.images.names[index], report.images.of(index)
        figures = [f"IoU {scores['iou_foreground']:.4f}", f"mean IoU {scores['miou']:.4f}"]
        blocks.append([caption(f"{rank}. {name}", figures, _CELL), *_pictures(by_name[name], report.config)])
        if progress is not None:
            progress(rank, len(worst))
    shown = f"The {len(worst)} lowest of {number} images, cut off here" if len(worst) < number else f"Images: {number}"
    words = f"{shown}. The lowest mean IoU first; IoU is that of the object. Differences: {LEGEND}"
    return captioned_sheet(blocks, _COLUMNS, [title, words], 1 if len(blocks) <= _TWO_ABREAST else 2, _CELL)


def _pictures(pair: MaskPair, config: EvaluationConfig) -> list[NDArray[np.uint8]]:
    """Image, prediction laid over it, truth, differences, no larger than a cell."""
    if pair.image is None:
        raise DataError(f"{pair.name} has no image, which a sheet shows; give the folder of the images.")
    image, found = thumbnail(decode_image(pair.image), _CELL), compare(pair, config)
    height, width = image.shape[:2]
    alpha = np.asarray(Image.fromarray(found.alpha).resize((width, height), Image.Resampling.BOX))
    laid_over = overlay(image, alpha > config.threshold * 255)
    return [image, laid_over, thumbnail(found.truth, _CELL), thumbnail(found.errors, _CELL)]
