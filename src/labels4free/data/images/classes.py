"""Class labels of images, for class-conditional training: NVIDIA's dataset.json, or sub-folders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from labels4free.errors import DataError

if TYPE_CHECKING:
    from labels4free.data.images.base import ImageSource

LABELS = "dataset.json"
"""NVIDIA's file of labels in a folder or zip file (``NVlabs/stylegan2-ada-pytorch`` dataset_tool.py): ``labels`` is a
list of [name, number]."""


class ImageClasses(NamedTuple):
    """The classes of a store's images.

    Attributes:
        names: Of the classes.
        labels: Number of its class for each image, in the store's order.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]


def image_classes(source: ImageSource) -> ImageClasses:
    """Find the class label of every image: in dataset.json where there is one, else the name of its sub-folder.

    Raises:
        DataError: If there is neither, dataset.json is damaged or leaves images out, or there is a single class.
    """
    written = source.beside(LABELS)
    if written is not None:
        found = _of_file(source, written)
    else:
        folders = [name.partition("/")[0] if "/" in name else "" for name in source.names]
        names = tuple(sorted(set(folders)))
        if "" in names:
            raise DataError(
                f"{source.path} has images without a class: put every image into a folder named after its class, or "
                f"add NVIDIA's {LABELS}."
            )
        number = {name: k for k, name in enumerate(names)}
        found = ImageClasses(names, tuple(number[folder] for folder in folders))
    if len(found.names) < 2:
        raise DataError(f"{source.path} has a single class: train without classes.")
    return found


def _of_file(source: ImageSource, written: bytes) -> ImageClasses:
    try:
        labels = {str(name): int(label) for name, label in json.loads(written)["labels"]}
        if min(labels.values()) < 0:
            raise ValueError("negative numbers")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f'{LABELS} in {source.path} is no file of labels ({error}): "labels" must be a list of [name, number].'
        ) from error
    missing = [name for name in source.names if name not in labels]
    if missing:
        raise DataError(f"{LABELS} in {source.path} has no label for {len(missing)} images, such as {missing[0]}.")
    count = max(labels.values()) + 1
    return ImageClasses(tuple(map(str, range(count))), tuple(labels[name] for name in source.names))
