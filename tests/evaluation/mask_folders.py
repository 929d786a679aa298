"""Small folders of masks."""

from __future__ import annotations

import numpy as np
from PIL import Image


def disc(size=24, radius=7.0, shift=0.0):
    """A white disc on black."""
    rows, columns = np.mgrid[0:size, 0:size] - (size - 1) / 2
    return np.where(rows**2 + (columns - shift) ** 2 < radius**2, 255, 0).astype(np.uint8)


def write(path, mask):
    """Write a picture; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path


def folders(root, count=3, group=""):
    """``pred`` and ``gt`` with discs, the k-th predicted one k pixels too far to the right."""
    for number in range(count):
        write(root / "gt" / group / f"{number}.png", disc())
        write(root / "pred" / group / f"{number}.png", disc(shift=number))
    return root / "pred", root / "gt"
