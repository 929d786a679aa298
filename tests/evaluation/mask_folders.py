"""Small folders of masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def disc(size: int = 24, radius: float = 7.0, shift: float = 0.0) -> NDArray[np.uint8]:
    """A white disc on black."""
    rows, columns = np.mgrid[0:size, 0:size] - (size - 1) / 2
    return np.where(rows**2 + (columns - shift) ** 2 < radius**2, 255, 0).astype(np.uint8)


def write(path: Path, mask: NDArray[np.uint8]) -> Path:
    """Write a picture; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path


def folders(root: Path, count: int = 3, group: str = "") -> tuple[Path, Path]:
    """``pred`` and ``gt`` with discs, the k-th predicted one k pixels too far to the right."""
    for number in range(count):
        write(root / "gt" / group / f"{number}.png", disc())
        write(root / "pred" / group / f"{number}.png", disc(shift=number))
    return root / "pred", root / "gt"
