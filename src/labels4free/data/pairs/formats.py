"""The formats of data sets of pairs, and which of them lies at a path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labels4free.data.pairs.coco import CocoFormat
from labels4free.data.pairs.folder import FolderFormat
from labels4free.data.pairs.huggingface import HuggingFaceFormat
from labels4free.data.pairs.shards import ShardFormat
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labels4free.data.mask_files import Foreground
    from labels4free.data.pairs.base import PairFormat, PairSet
    from labels4free.data.pairs.record import Pair

PAIR_FORMATS: dict[str, type[PairFormat]] = {
    "webdataset": ShardFormat,
    "coco": CocoFormat,
    "huggingface": HuggingFaceFormat,
    "folder": FolderFormat,  # the last: the others have folders of images too
}
"""Name -> format, in the order in which they are looked for."""


def open_pairs(path: str | Path, foreground: Foreground | None = None) -> PairSet:
    """Open a data set of image/mask pairs, whichever format it has.

    Args:
        path: What ``sample`` wrote, in any version and format; a folder with ``images/`` and ``masks/`` whose files
            share their names but for the ending; tar shards (a folder, a file, or a pattern such as
            ``shard-{000000..000009}.tar``); a COCO file whose masks are run lengths; a folder with ``metadata.jsonl``.
        foreground: Labels that are the object, in masks that are maps of labels (empty: all but 0); without them such
            masks are refused.

    Raises:
        DataError: If there is nothing of the kind, nothing that can be read, or nothing finished.
    """
    path = Path(path)
    if (path / "shards").is_dir() and not (path / "manifest.json").exists():
        raise DataError(f"{path} is unfinished: go on with the same `labels4free sample` command.")
    try:
        found = next((kind for kind in PAIR_FORMATS.values() if kind.matches(path)), None)
        if found is not None:
            pairs = found.open(path)
            pairs.foreground = foreground
            return pairs
    except OSError as error:
        raise DataError(
            f"{error.filename or path} cannot be read: {error.strerror}; change its permissions or move it away."
        ) from error
    what = "holds no image/mask pairs" if path.exists() else "does not exist"
    raise DataError(f"{path} {what}: give a data set of `labels4free sample`, or a folder with images/ and masks/.")


def read_pairs(path: str | Path) -> Iterator[Pair]:
    """The readable pairs of a data set, in the order in which they were written.

    Raises:
        DataError: As :func:`open_pairs`.
    """
    return iter(open_pairs(path))
