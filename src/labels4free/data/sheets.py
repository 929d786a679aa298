"""What sheets of pictures have in common: their files, small pictures, captions, headings. Leaves PyTorch alone."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from labels4free.errors import ConfigError, RunError
from labels4free.files import write_atomically, write_failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SHEET_ENDINGS = (".jpg", ".jpeg", ".png")
"""What the name of a sheet's file may end in."""

_QUALITY = 90
_TEXT_SIZE, _LINE = 13, 17  # pixels
_LETTER = 7.5  # pixels, about
_NAME_LINES = 5
_INK = (70, 70, 70)


def check_sheet_name(path: Path) -> None:
    """See that a sheet can have this name.

    Raises:
        ConfigError: If it ends in none of :data:`SHEET_ENDINGS`.
    """
    if path.suffix.lower() not in SHEET_ENDINGS:
        raise ConfigError(f"A sheet's name must end in {', '.join(SHEET_ENDINGS)}, got {path}.")


def save_sheet(path: Path, sheet: NDArray[np.uint8]) -> None:
    """Write a sheet, whole or not at all; missing folders are made.

    Args:
        path: The file, ending in one of :data:`SHEET_ENDINGS`.
        sheet: [H, W, 3], uint8 RGB.

    Raises:
        ConfigError: If the name ends otherwise.
        RunError: If the file cannot be written.
    """
    check_sheet_name(path)
    buffer = io.BytesIO()
    if path.suffix.lower() == ".png":
        Image.fromarray(sheet).save(buffer, "PNG")
    else:
        Image.fromarray(sheet).save(buffer, "JPEG", quality=_QUALITY)
    try:
        write_atomically(path, buffer.getbuffer())
    except OSError as error:
        raise RunError(write_failure(path, error)) from error


def thumbnail(picture: NDArray[np.uint8], cell: int) -> NDArray[np.uint8]:
    """A picture, [H, W] or [H, W, 3], whose longer side is ``cell`` pixels at most.

    Made at once, so that large pictures do not pile up until a sheet is drawn.
    """
    image = Image.fromarray(picture)
    scale = cell / max(image.size)
    if scale >= 1:
        return picture
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(image.resize(size, Image.Resampling.BOX))


def caption(name: str, figures: Sequence[str], cell: int) -> NDArray[np.uint8]:
    """A name, broken where it is long, and a line for each figure, as a picture ``cell`` pixels wide."""
    lines = textwrap.wrap(name, int(cell / _LETTER), max_lines=_NAME_LINES, placeholder=" ...")
    return _text([*lines, *figures], cell)


def heading(sentences: Sequence[str], width: int) -> NDArray[np.uint8]:
    """Sentences, each on lines of its own, as a picture so many pixels wide."""
    letters = int(width / _LETTER)
    return _text([line for sentence in sentences for line in textwrap.wrap(sentence, letters)], width, margin=6)


def _text(lines: Sequence[str], width: int, margin: int = 0) -> NDArray[np.uint8]:
    image = Image.new("RGB", (width, len(lines) * _LINE + 2 * margin), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_TEXT_SIZE)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * _LINE), line, fill=_INK, font=font)
    return np.asarray(image)
