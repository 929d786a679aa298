"""The original's evaluation, digit by digit: RameenAbdal/Labels4Free test_customdata.py.

Its rules: a mask is converted to grey without its transparency, and only pixels of 255 exactly are foreground; one
confusion matrix for all images of a set; 0.0001 in every denominator; scores rounded to four decimals, and only then
averaged. **Its rows are labelled the wrong way round**: "fg" is the background, "bg" the foreground, and so
"total(-bg)", meant to leave the background out, is the foreground alone. The labels are kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labels4free.data.decoding import opened_image
from labels4free.errors import DataError
from labels4free.evaluation.evaluate import check_sizes, predicted_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from labels4free.evaluation.pairing import MaskPair

Table = dict[str, dict[str, float]]
"""Row -> column -> value, in the original's order."""

NOTE = "The rows are labelled as the original labels them: read fg as background and bg, total(-bg) as foreground."

_EPSILON = 1e-4
_ROWS = ("fg", "bg")  # of the class 0, black, and the class 1, white: the wrong way round
_DECIMALS = 4
_SIGNIFICANT = 6  # decimals that the original's printing considers


def faithful_tables(pairs: Sequence[MaskPair], progress: Callable[[int, int], None] | None = None) -> dict[str, Table]:
    """Score each group as the original scores a class.

    Args:
        pairs: Of files; the masks of a pair must have one size.
        progress: Called after each pair with how many are done, and of how many.

    Returns:
        Group -> table.

    Raises:
        DataError: If there is no pair, a file cannot be read, sizes differ, or the true masks are all grey.
    """
    if not pairs:
        raise DataError("There is no image to score; give at least one pair of masks.")
    check_sizes(pairs)
    matrices: dict[str, NDArray[np.int64]] = {}
    largest = 0
    for done, pair in enumerate(pairs, start=1):
        grey = _grey(pair.truth)
        largest = max(largest, int(grey.max()))
        true, predicted = _white(grey), _white(_grey(predicted_file(pair)))
        if true.shape != predicted.shape:  # it turns no image upright, the check of the headers does
            raise DataError(f"{pair.prediction} and {pair.truth} have other sizes when they are not turned upright.")
        cells = np.bincount((2 * true + predicted).ravel(), minlength=4).reshape(2, 2)
        matrices[pair.group] = matrices.get(pair.group, np.zeros((2, 2), np.int64)) + cells
        if progress is not None:
            progress(done, len(pairs))
    if 0 < largest < 255:
        raise DataError(
            f"The true masks hold no value above {largest} of 255, and by the original's rule only 255 is the object: "
            "scale them to 0 and 255 first."
        )
    return {group: faithful_table(matrix) for group, matrix in matrices.items()}


def faithful_table(matrix: NDArray[np.int64]) -> Table:
    """The original's table from a confusion matrix [2, 2]: rows are the truth, columns the prediction, 0 is black."""
    table: Table = {}
    whole = int(matrix.sum())
    for k, row in enumerate(_ROWS):
        tp, true, predicted = (int(n) for n in (matrix[k, k], matrix[k].sum(), matrix[:, k].sum()))
        recall, precision = tp / (_EPSILON + true), tp / (_EPSILON + predicted)
        scores = {
            "IoU": tp / (_EPSILON + true + predicted - tp),
            "F1": 2 * precision * recall / (_EPSILON + precision + recall),
            "Prec": precision,
            "recall": recall,
            "Acc": (whole - true - predicted + 2 * tp) / whole,
        }
        table[row] = {name: round(value, _DECIMALS) for name, value in scores.items()}
    first, second = (table[row] for row in _ROWS)
    table["total"] = {name: (first[name] + second[name]) / 2 for name in first}
    table["total(-bg)"] = dict(second)
    return table


def format_table(table: Table) -> str:
    """The table as the original prints it: each column with as many decimals as its longest value needs."""
    columns = []
    for name in next(iter(table.values())):
        cells = [f"{row[name]:.{_SIGNIFICANT}f}" for row in table.values()]
        spare = min(len(cell) - len(cell.rstrip("0")) for cell in cells)
        cells = [cell[: len(cell) - min(spare, _SIGNIFICANT - 1)] for cell in cells]
        width = max(map(len, [name, *cells]))
        columns.append([cell.rjust(width) for cell in [name, *cells]])
    left = max(map(len, table))
    names = [label.ljust(left) for label in ["", *table]]
    return "\n".join("  ".join([name, *cells]) for name, *cells in zip(names, *columns, strict=True))


def _grey(path: Path) -> NDArray[np.uint8]:
    with opened_image(path) as image:
        return np.asarray(image.convert("L") if image.mode != "L" else image)


def _white(grey: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[H, W], 1 where the grey value is 255 exactly, else 0."""
    white: NDArray[np.int64] = (grey == 255).astype(np.int64)
    return white
