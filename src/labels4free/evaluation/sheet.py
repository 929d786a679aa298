"""A sheet of all images: each with its predicted mask, the true one, where they differ, and its scores."""

from __future__ import annotations

import io
import itertools
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from labels4free.data.contact_sheet import contact_sheet, overlay
from labels4free.data.decoding import decode_image
from labels4free.errors import ConfigError, DataError, RunError
from labels4free.evaluation.pictures import LEGEND, compare
from labels4free.files import write_atomically, write_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from labels4free.evaluation.config import EvaluationConfig
    from labels4free.evaluation.pairing import MaskPair
    from labels4free.evaluation.report import EvaluationReport

MOST_IMAGES = 200
"""Images on a sheet at most: those with the lowest scores. It is then 2,000 x 20,000 pixels; JPEG ends at 65,535."""

SHEET_ENDINGS = (".jpg", ".jpeg", ".png")
"""What the name of a sheet's file may end in."""

_CELL = 192
_COLUMNS = ("", "image", "prediction", "truth", "differences")
_TWO_ABREAST = 20  # with more images than this, each row holds two
_TEXT_SIZE, _LINE = 13, 17  # pixels
_LETTER = 7.5  # pixels, about
_NAME_LINES = 5
_INK = (70, 70, 70)


def write_sheet(
    path: Path,
    report: EvaluationReport,
    pairs: Sequence[MaskPair],
    title: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw and write a sheet, whole or not at all; missing folders are made.

    Args:
        path: The file, ending in one of :data:`SHEET_ENDINGS`.
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
    sheet = draw_sheet(report, pairs, title, progress)
    buffer = io.BytesIO()
    if path.suffix.lower() == ".png":
        Image.fromarray(sheet).save(buffer, "PNG")
    else:
        Image.fromarray(sheet).save(buffer, "JPEG", quality=90)
    try:
        write_atomically(path, buffer.getbuffer())
    except OSError as error:
        raise RunError(write_failure(path, error)) from error


def check_sheet_name(path: Path) -> None:
    """See that a sheet can have this name.

    Raises:
        ConfigError: If it ends in none of :data:`SHEET_ENDINGS`.
    """
    if path.suffix.lower() not in SHEET_ENDINGS:
        raise ConfigError(f"A sheet's name must end in {', '.join(SHEET_ENDINGS)}, got {path}.")


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
    worst = report.images.worst(MOST_IMAGES)
    blocks = []
    for rank, index in enumerate(worst, start=1):
        name, scores = report.images.names[index], report.images.of(index)
        figures = [f"IoU {scores['iou_foreground']:.4f}", f"mean IoU {scores['miou']:.4f}"]
        blocks.append([_label(f"{rank}. {name}", figures), *_pictures(by_name[name], report.config)])
        if progress is not None:
            progress(rank, len(worst))
    abreast = 1 if len(blocks) <= _TWO_ABREAST else 2
    rows = [list(itertools.chain(*blocks[at : at + abreast])) for at in range(0, len(blocks), abreast)]
    sheet = contact_sheet(rows, column_titles=_COLUMNS * abreast, cell=_CELL)
    number = len(report.images)
    shown = f"The {len(worst)} lowest of {number} images, cut off here" if len(worst) < number else f"Images: {number}"
    words = f"{shown}. The lowest mean IoU first; IoU is that of the object. Differences: {LEGEND}"
    return np.concatenate([_heading([title, words], sheet.shape[1]), sheet])


def _pictures(pair: MaskPair, config: EvaluationConfig) -> list[NDArray[np.uint8]]:
    """Image, prediction laid over it, truth, differences, no larger than a cell."""
    if pair.image is None:
        raise DataError(f"{pair.name} has no image, which a sheet shows; give the folder of the images.")
    image, found = _small(decode_image(pair.image)), compare(pair, config)
    height, width = image.shape[:2]
    alpha = np.asarray(Image.fromarray(found.alpha).resize((width, height), Image.Resampling.BOX))
    return [image, _laid_over(image, alpha > config.threshold * 255), _small(found.truth), _small(found.errors)]


def _laid_over(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 127.5 - 1
    shown = overlay(pixels, torch.from_numpy(mask)[None])
    return ((shown + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().numpy()


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At once, so that large pictures do not pile up until the sheet is drawn."""
    image = Image.fromarray(picture)
    scale = _CELL / max(image.size)
    if scale >= 1:
        return picture
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(image.resize(size, Image.Resampling.BOX))


def _label(name: str, figures: Sequence[str]) -> NDArray[np.uint8]:
    """Name and scores, as wide as a picture."""
    width = int(_CELL / _LETTER)
    lines = textwrap.wrap(name, width, max_lines=_NAME_LINES, placeholder=" ...")
    return _text([*lines, *figures], _CELL)


def _heading(sentences: Sequence[str], width: int) -> NDArray[np.uint8]:
    letters = int(width / _LETTER)
    return _text([line for sentence in sentences for line in textwrap.wrap(sentence, letters)], width, margin=6)


def _text(lines: Sequence[str], width: int, margin: int = 0) -> NDArray[np.uint8]:
    image = Image.new("RGB", (width, len(lines) * _LINE + 2 * margin), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_TEXT_SIZE)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * _LINE), line, fill=_INK, font=font)
    return np.asarray(image)
