"""Contact sheets: pictures side by side in a labelled grid, and masks laid over images.

Arrays need no PyTorch, which is imported where there are tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

_GUTTER = 6
_TEXT_SIZE = 13
_TEXT_COLOUR = (70, 70, 70)
_BACKDROP = (-0.75, -0.45, 0.85)  # a blue that is rare in photographs of faces, cats, cars and horses
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
    sheet = Image.new(
        "RGB", (left + sum(widths) + columns * _GUTTER, top + sum(heights) + len(rows) * _GUTTER), "white"
    )
    draw = ImageDraw.Draw(sheet)
    y = top
    for r, row in enumerate(pictures):
        if row_titles:
            draw.text((_GUTTER, y + heights[r] // 2), row_titles[r], fill=_TEXT_COLOUR, font=font, anchor="lm")
        x = left
        for c, picture in enumerate(row):
            sheet.paste(picture, (x, y))
            x += widths[c] + _GUTTER
        y += heights[r] + _GUTTER
    x = left
    for title, width in zip(column_titles, widths, strict=False):
        draw.text((x + width // 2, _GUTTER), title, fill=_TEXT_COLOUR, font=font, anchor="mt")
        x += width + _GUTTER
    return np.array(sheet)


def overlay(image: Tensor, mask: Tensor) -> Tensor:
    """Show a mask on its image: the background turns blue, the object stays as it is inside a white outline.

    Args:
        image: [3, H, W] or [N, 3, H, W], about [-1, 1].
        mask: boolean, [1, H, W] or [N, 1, H, W]; True is foreground.

    Returns:
        Like ``image``, clamped to [-1, 1].

    Raises:
        DataError: If the mask is not boolean or does not lie on the image.
    """
    import torch

    if mask.dtype != torch.bool:
        raise DataError(f"An overlay needs a boolean mask, got {mask.dtype}: threshold the alpha first.")
    if (
        mask.shape[:-3] != image.shape[:-3]
        or mask.shape[-2:] != image.shape[-2:]
        or mask.shape[-3] != 1
        or image.shape[-3] != 3
    ):
        raise DataError(
            f"An overlay needs image [3, H, W] and mask [1, H, W], got {list(image.shape)} and {list(mask.shape)}."
        )
    backdrop = torch.tensor(_BACKDROP, dtype=image.dtype, device=image.device).view(3, 1, 1)
    shown = image.clamp(-1, 1)
    shown = torch.where(mask, shown, torch.lerp(shown, backdrop, _BACKDROP_STRENGTH))
    return torch.where(_outline(mask), 1.0, shown)


def _outline(mask: Tensor) -> Tensor:
    """The object's pixels next to the background, boolean like ``mask``; about 1/128 of the shorter side wide."""
    import torch
    from torch.nn import functional as F

    width = max(1, min(mask.shape[-2:]) // 128)
    outside = (~mask).to(torch.float32)
    near = F.max_pool2d(outside.reshape(-1, *outside.shape[-3:]), 2 * width + 1, stride=1, padding=width)
    return mask & (near.view(mask.shape) > 0)


def _to_rgb(picture: Tensor | NDArray[np.uint8]) -> Image.Image:
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)):
            raise DataError(
                f"A picture array must be uint8 [H, W, 3] or [H, W], got {picture.dtype} {list(picture.shape)}."
            )
        return Image.fromarray(picture).convert("RGB")
    import torch

    pixels = picture.detach()
    if pixels.ndim == 4 and len(pixels) == 1:
        pixels = pixels[0]
    if (
        pixels.ndim != 3
        or pixels.shape[0] not in (1, 3)
        or not (pixels.dtype == torch.bool or pixels.is_floating_point())
    ):
        raise DataError(
            f"A picture must be a float image [3, H, W], a float alpha or a boolean mask [1, H, W], "
            f"got {picture.dtype} {list(picture.shape)}."
        )
    values = pixels.to("cpu", torch.float32)
    if len(values) == 3:
        values = (values + 1) / 2
    rgb = values.clamp(0, 1).mul(255).round().to(torch.uint8).expand(3, -1, -1)
    return Image.fromarray(rgb.permute(1, 2, 0).contiguous().numpy())


def _fit(picture: Image.Image, cell: int) -> Image.Image:
    """Scale the longer side to ``cell`` pixels: box filter down, nearest pixel up."""
    longer = max(picture.size)
    if longer == cell:
        return picture
    size = (max(1, round(picture.width * cell / longer)), max(1, round(picture.height * cell / longer)))
    return picture.resize(size, Image.Resampling.BOX if longer > cell else Image.Resampling.NEAREST)
