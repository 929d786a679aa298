"""Contact sheets: pictures side by side in a labelled grid, ranked pictures with captions, and their files.

Arrays need no PyTorch, which is imported where there are tensors.
"""

from __future__ import annotations

import io
import itertools
import textwrap
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from labels4free.errors import ConfigError, DataError, RunError
from labels4free.files import write_atomically, write_failure
from labels4free.pictures.pixels import unit_to_uint8

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

SHEET_ENDINGS = (".jpg", ".jpeg", ".png")
"""What the name of a sheet's file may end in."""

_QUALITY = 90
_GUTTER = 6
_TEXT_SIZE, _LINE = 13, 17  # pixels
_LETTER = 7.5  # pixels, about
_NAME_LINES = 5
_INK = (70, 70, 70)
_BACKDROP = (31.875, 70.125, 235.875)  # a blue that is rare in photographs of faces, cats, cars and horses
_BACKDROP_STRENGTH = 0.6


def contact_sheet(
    rows: Sequence[Sequence[Tensor | NDArray[np.uint8]]],
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    cell: int = 256,
) -> NDArray[np.uint8]:
    """Draw pictures in a grid with white gutters, titles above the columns and to the left of the rows.

    Args:
        rows: The pictures of each row; rows may differ in length. A picture is an image (float [3, H, W], about
            [-1, 1]), an alpha (float [1, H, W] in [0, 1], drawn grey), a mask (bool [1, H, W], drawn black and white),
            any of them with a leading batch axis of one, or a finished uint8 array [H, W, 3] or [H, W].
        column_titles: One title a column, or none at all.
        row_titles: One title a row, or none at all.
        cell: Longer side of each picture on the sheet, in pixels; smaller pictures are enlarged to it.

    Returns:
        [H, W, 3], uint8 RGB.

    Raises:
        DataError: If there is no picture, a picture has another shape or type, or the titles do not fit the grid.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise DataError("A contact sheet needs at least one picture, got none.")
    for name, titles, count in (("column", column_titles, columns), ("row", row_titles, len(rows))):
        if titles and len(titles) != count:
            raise DataError(
                f"A contact sheet with {count} {name}s needs as many {name} titles or none, got {len(titles)}."
            )
    pictures = [[_fit(_to_rgb(picture), cell) for picture in row] for row in rows]
    font = ImageFont.load_default(_TEXT_SIZE)
    top = _GUTTER + (_TEXT_SIZE + _GUTTER if column_titles else 0)
    left = _GUTTER + (max(int(font.getlength(title)) for title in row_titles) + 1 + _GUTTER if row_titles else 0)
    widths = [max(row[c].width for row in pictures if c < len(row)) for c in range(columns)]
    heights = [max((picture.height for picture in row), default=0) for row in pictures]
    lefts, tops = (
        list(itertools.accumulate((size + _GUTTER for size in sizes), initial=start))
        for sizes, start in ((widths, left), (heights, top))
    )
    sheet = Image.new("RGB", (lefts[-1], tops[-1]), "white")
    draw = ImageDraw.Draw(sheet)
    for row, y in zip(pictures, tops, strict=False):
        for picture, x in zip(row, lefts, strict=False):
            sheet.paste(picture, (x, y))
    for title, y, height in zip(row_titles, tops, heights, strict=False):
        draw.text((_GUTTER, y + height // 2), title, fill=_INK, font=font, anchor="lm")
    for title, x, width in zip(column_titles, lefts, widths, strict=False):
        draw.text((x + width // 2, _GUTTER), title, fill=_INK, font=font, anchor="mt")
    return np.array(sheet)


def captioned_sheet(
    blocks: Sequence[Sequence[NDArray[np.uint8]]],
    column_titles: Sequence[str],
    sentences: Sequence[str],
    abreast: int,
    cell: int,
) -> NDArray[np.uint8]:
    """Draw blocks of pictures, so many side by side in each row, below a heading.

    Args:
        blocks: The pictures of each block; the first is its :func:`caption`.
        column_titles: One a picture of a block.
        sentences: Of the heading.
        abreast: Blocks in each row.
        cell: As for :func:`contact_sheet`.

    Raises:
        DataError: As :func:`contact_sheet`.
    """
    rows = [list(itertools.chain(*blocks[at : at + abreast])) for at in range(0, len(blocks), abreast)]
    sheet = contact_sheet(rows, list(column_titles) * min(abreast, len(blocks)), cell=cell)
    return np.concatenate([heading(sentences, sheet.shape[1]), sheet])


def overlay(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Show a mask on its image: the background turns blue, the object stays as it is inside a white outline.

    Args:
        image: [H, W, 3], uint8 RGB.
        mask: [H, W], boolean; True is foreground.

    Returns:
        Like ``image``.

    Raises:
        DataError: If the mask is not boolean or does not lie on the image.
    """
    if mask.dtype != np.bool_:
        raise DataError(f"An overlay needs a boolean mask, got {mask.dtype}: threshold the alpha first.")
    if image.shape != (*mask.shape, 3):
        raise DataError(f"An overlay needs image [H, W, 3] and mask [H, W], got {image.shape} and {mask.shape}.")
    behind = np.rint((1 - _BACKDROP_STRENGTH) * image + _BACKDROP_STRENGTH * np.array(_BACKDROP)).astype(np.uint8)
    # The outline: the object's pixels next to the background, about 1/128 of the shorter side wide.
    width = 2 * max(1, min(mask.shape) // 128) + 1
    near = np.asarray(Image.fromarray(np.uint8(255) * ~mask).filter(ImageFilter.MaxFilter(width))) > 0
    return np.where((mask & near)[..., None], np.uint8(255), np.where(mask[..., None], image, behind))


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
    """A picture, [H, W] or [H, W, C], whose longer side is ``cell`` pixels at most.

    Made at once, so that large pictures do not pile up until a sheet is drawn.
    """
    height, width = picture.shape[:2]
    scale = cell / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


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


def _to_rgb(picture: Tensor | NDArray[np.uint8]) -> Image.Image:
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)):
            raise DataError(
                f"A picture array must be uint8 [H, W, 3] or [H, W], got {picture.dtype} {list(picture.shape)}."
            )
        return Image.fromarray(picture).convert("RGB")
    import torch

    pixels = picture[0] if picture.ndim == 4 and len(picture) == 1 else picture
    known = pixels.dtype == torch.bool or pixels.is_floating_point()
    if pixels.ndim != 3 or len(pixels) not in (1, 3) or not known:
        raise DataError(
            f"A picture must be a float image [3, H, W], a float alpha or a boolean mask [1, H, W], "
            f"got {picture.dtype} {list(picture.shape)}."
        )
    values = pixels.detach().to("cpu", torch.float32)
    if len(values) == 3:
        values = (values + 1) / 2
    return Image.fromarray(unit_to_uint8(values.expand(3, -1, -1).permute(1, 2, 0).contiguous()))


def _fit(picture: Image.Image, cell: int) -> Image.Image:
    """Scale the longer side to ``cell`` pixels: box filter down, nearest pixel up."""
    longer = max(picture.size)
    if longer == cell:
        return picture
    size = (max(1, round(picture.width * cell / longer)), max(1, round(picture.height * cell / longer)))
    return picture.resize(size, Image.Resampling.BOX if longer > cell else Image.Resampling.NEAREST)
