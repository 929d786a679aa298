"""The names that data sets of pairs go by on disk: their parts, the folders of these, their manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PARTS = {
    "image": "images",
    "alpha": "alpha",
    "mask": "masks",
    "composite": "composites",
    "background": "backgrounds",
    "cutout": "cutouts",
    "latents": "latents",
}
"""What a pair may hold -> the folder that it goes to, where each part has one."""

COLOUR_PARTS = ("image", "composite", "background")
"""The parts that are opaque colour pictures: they may be written with loss."""

MANIFEST = "manifest.json"
"""Name of the manifest in the folder of a data set of pairs."""

KIND = "labels4free_samples"
"""What the manifest says under "kind"."""


def is_data_set(folder: Path) -> bool:
    """Whether it is the folder of a data set of pairs, of any version."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("kind") == KIND
