"""The formats in which images are kept, and which of them lies at a path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labels4free.data.folder_store import FolderSource, FolderWriter
from labels4free.data.image_store import check_finished
from labels4free.data.lmdb_store import LmdbSource, LmdbWriter
from labels4free.data.pair_manifest import is_data_set
from labels4free.data.pairs import PARTS
from labels4free.data.shard_store import ShardSource, ShardWriter
from labels4free.data.zip_store import ZipSource, ZipWriter
from labels4free.errors import DataError

if TYPE_CHECKING:
    from labels4free.data.image_store import ImageSource, ImageWriter


class ImageFormat(NamedTuple):
    """Reader and writer of one format."""

    source: type[LmdbSource | ZipSource | ShardSource | FolderSource]
    writer: type[ImageWriter]


FORMATS = {
    "lmdb": ImageFormat(LmdbSource, LmdbWriter),
    "zip": ImageFormat(ZipSource, ZipWriter),
    "webdataset": ImageFormat(ShardSource, ShardWriter),
    "folder": ImageFormat(FolderSource, FolderWriter),  # the last: the others' folders are folders too
}
"""Name -> format, in the order in which they are looked for."""


def open_source(path: str | Path, resolution: int | None = None, *, check_headers: bool = False) -> ImageSource:
    """Open a store of images, whichever format it has.

    Of a data set of pairs, its images are opened, not its masks.

    Args:
        path: A folder of images, a zip file, an LMDB, a folder of tar shards, a shard or a pattern of shards.
        resolution: The size wanted, where a store keeps several; None takes the largest.
        check_headers: In a folder, leave out and list files that are no images.

    Raises:
        DataError: If there is nothing, nothing that can be read, nothing finished, or (in an LMDB) not this size.
    """
    path = Path(path)
    check_finished(path)
    if is_data_set(path) and (path / PARTS["image"]).is_dir():
        path /= PARTS["image"]
    try:
        found = next((kind.source for kind in FORMATS.values() if kind.source.matches(path)), None)
    except OSError as error:
        raise DataError(
            f"{error.filename or path} cannot be read: {error.strerror}; change its permissions or move it away."
        ) from error
    if found is None:
        what = "is a file of another kind" if path.exists() else "does not exist"
        raise DataError(f"{path} {what}: give a folder of images, a zip file, an LMDB or tar shards.")
    return found(path, resolution, check_headers=check_headers) if found is FolderSource else found(path, resolution)
