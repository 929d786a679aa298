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
        DataError: If a folder is empty or unreadable, or a file has no partner: the sentence names it. What cannot be
            read inside is left out with its partners, and a warning.
    """
    unread: dict[str, str] = {}
    found = _files(truth, unread)
    folders = [folder if folder is None else (str(folder), _files(folder, unread)) for folder in (prediction, images)]
    if unread:
        if order == "natural":
            raise DataError(f"Sorted order would pair the wrong files while some are not read. {listed(_each(unread))}")
        _log.warning("Left out: %s", listed(_each(unread)))
        found = {name: path for name, path in found.items() if not _is_unread(name, unread)}
    partners: list[dict[str, Path]] = []
    for named in folders:
        match = _by_name if order == "name" else _by_natural_order
        others = {name: path for name, path in named[1].items() if not _is_unread(name, unread)} if named else {}
        partners.append(match(found, others, (str(truth), named[0])) if named else {})
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


def _each(unread: Mapping[str, str]) -> Iterable[str]:
    """The sentences, each once: a file is there with its ending and without."""
    return dict.fromkeys(unread.values())


def _is_unread(name: str, unread: Mapping[str, str]) -> bool:
    """Whether a file of this name, or a folder that it lies in, is not read."""
    return any(str(part) in unread for part in (Path(name), *Path(name).parents))


def _files(folder: str | Path, unread: dict[str, str]) -> dict[str, Path]:
    """Name without ending -> file, in natural order; ``unread`` takes a sentence on each that cannot be read."""
    files: dict[str, Path] = {}
    for root, prefix in _roots(Path(folder)):
        source = FolderSource(root)
        for label, reason in source.skipped.items():
            left_out = Path(label).relative_to(root)
            unread |= {prefix + path.as_posix(): reason for path in (left_out, left_out.with_suffix(""))}
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
