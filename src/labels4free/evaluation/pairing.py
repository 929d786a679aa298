"""Which predicted mask belongs to which true one."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from labels4free.data.images.folder import FolderSource
from labels4free.data.walk import listed, natural_key
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_log = logging.getLogger(__name__)

Order = Literal["name", "natural"]

_NAMED = 5


@dataclass(frozen=True)
class MaskPair:
    """A true mask and what belongs to it.

    Attributes:
        group: The sub-folder that it lies in, such as ``Faces``; empty at the top.
        name: Its path without the ending, with the group in front.
        truth: File of the true mask.
        prediction: File of the predicted mask; None where a segmenter predicts it.
        image: File of the image, None if there is none.
    """

    group: str
    name: str
    truth: Path
    prediction: Path | None = None
    image: Path | None = None


def pair_files(
    truth: str | Path, prediction: str | Path | None = None, images: str | Path | None = None, order: Order = "name"
) -> list[MaskPair]:
    """Find the masks in folders, at any depth, and the one that belongs to each.

    One part of a path may be ``*``: it stands for every folder there, and its sub-folder's name becomes the group:
    ``set/*/gt`` and ``set/*/pred``.

    Args:
        truth: Folder of the true masks.
        prediction: Folder of the predicted ones.
        images: Folder of the images.
        order: ``name``: files belong together whose paths below their folders are the same but for the ending.
            ``natural``: in each sub-folder the first file belongs to the first, where 2 comes before 10.

    Returns:
        In the true masks' natural order.

    Raises:
        DataError: If a folder is empty or unreadable, or a file has no partner: the sentence names it.
    """
    left_out: list[str] = []
    found = _files(truth, left_out)
    named = [folder if folder is None else (str(folder), _files(folder, left_out)) for folder in (prediction, images)]
    if left_out:
        _log.warning("Left out: %s", listed(left_out))
    match = _by_name if order == "name" else _by_natural_order
    partners = [{} if other is None else match(found, other[1], (str(truth), other[0])) for other in named]
    return [
        MaskPair(_group(name), name, path, *(files.get(name) for files in partners)) for name, path in found.items()
    ]


def with_predictions(pairs: Iterable[MaskPair], folder: Path) -> list[MaskPair]:
    """The same pairs with their predictions in a folder, as PNG named like the true masks, in the groups' sub-folders.

    Args:
        pairs: Of :func:`pair_files`.
        folder: Where the predictions are, or will be.
    """
    # Not with_suffix, to which the name "a.b" would have an ending.
    return [replace(pair, prediction=folder / f"{pair.name}.png") for pair in pairs]


def _files(folder: str | Path, left_out: list[str]) -> dict[str, Path]:
    """Name without ending -> file, in natural order.

    Args:
        folder: The folder, or a pattern of them.
        left_out: Takes a sentence on each file that looks like an image and is not read.

    Raises:
        DataError: If something in it cannot be read: a figure of part of a set is none.
    """
    files: dict[str, Path] = {}
    for root, prefix in _roots(Path(folder)):
        source = FolderSource(root)
        lost = [reason for label, reason in source.skipped.items() if not Path(label).is_file()]
        if lost:
            raise DataError(f"{root} can only be scored as a whole. {listed(lost)}")
        left_out += source.skipped.values()
        for name in source.names:
            stem = prefix + str(Path(name).with_suffix("").as_posix())
            if stem in files:
                raise DataError(
                    f"{files[stem]} and {root / name} differ only in their endings, so that a partner's name fits "
                    "both; move one away."
                )
            files[stem] = root / name
    return files


def _roots(folder: Path) -> list[tuple[Path, str]]:
    """(folder, what to put before its files' names): the folder itself, or those that its ``*`` stands for."""
    if "*" not in folder.parts:
        return [(folder, "")]
    if folder.parts.count("*") > 1:
        raise DataError(f"{folder} has more than one part *; one is understood, as in set/*/gt.")
    at = folder.parts.index("*")
    parent, below = Path(*folder.parts[:at]), Path(*folder.parts[at + 1 :])
    try:
        names = sorted((entry.name for entry in parent.iterdir() if (entry / below).is_dir()), key=natural_key)
    except OSError as error:
        raise DataError(f"{parent} cannot be read: {error.strerror}.") from error
    if not names:
        raise DataError(f"There is no folder that {folder} stands for; give a folder of masks.")
    return [(parent / name / below, f"{name}/") for name in names]


def _by_name(truths: Mapping[str, Path], others: Mapping[str, Path], folders: tuple[str, str]) -> dict[str, Path]:
    lonely = [str(path) for name, path in truths.items() if name not in others]
    lonely += [str(path) for name, path in others.items() if name not in truths]
    if lonely:
        raise DataError(
            f"{folders[0]} has {len(truths)} files and {folders[1]} {len(others)}, of which {_named(lonely)} without a "
            "partner of the same name; give both the same names, or pair them in sorted order with --order natural."
        )
    return dict(others)


def _by_natural_order(
    truths: Mapping[str, Path], others: Mapping[str, Path], folders: tuple[str, str]
) -> dict[str, Path]:
    true_groups, other_groups = _grouped(truths), _grouped(others)
    lonely: list[str] = []
    pairs: dict[str, Path] = {}
    for group in {**true_groups, **other_groups}:
        ours, theirs = true_groups.get(group, []), other_groups.get(group, [])
        shared = min(len(ours), len(theirs))
        pairs |= {name: others[partner] for name, partner in zip(ours, theirs, strict=False)}
        lonely += [str(truths[name]) for name in ours[shared:]] + [str(others[name]) for name in theirs[shared:]]
    if lonely:
        raise DataError(
            f"{folders[0]} has {len(truths)} files and {folders[1]} {len(others)}: in sorted order {_named(lonely)} "
            "without a partner; give both as many."
        )
    return pairs


def _grouped(names: Iterable[str]) -> dict[str, list[str]]:
    return {
        group: sorted(members, key=natural_key)
        for group, members in itertools.groupby(sorted(names, key=lambda name: (_group(name), name)), key=_group)
    }


def _group(name: str) -> str:
    return name.rpartition("/")[0]


def _named(files: Sequence[str]) -> str:
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return f"{', '.join(files[:_NAMED])}{more} {'is' if len(files) == 1 else 'are'}"
