"""Pairs as Hugging Face's ``datasets`` loads them from a folder: writer and reader.

Numbered files in folders, as in the plain format; ``metadata.jsonl``, which names the files of each pair and gives its
measurements; a README.md whose header says what to load. ``datasets.load_dataset("imagefolder", data_dir=OUT)`` and
``load_dataset(OUT)`` read it (huggingface/datasets docs/source/image_dataset.mdx, huggingface/hub-docs datasetcard.md).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from labels4free.data.names import PARTS, is_data_set
from labels4free.data.pairs.base import CARD, PairSet, json_line, write_entry
from labels4free.data.pairs.files import LATENTS
from labels4free.data.pairs.folder import FolderFormat, JsonLines, part_path
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from labels4free.data.pairs.record import FileEntry, PairLayout, PairRecord

METADATA = "metadata.jsonl"
"""Name of the file with the pairs' files and measurements."""

# Columns of this ending become pictures; one called file_name is "image". Latents are none.
_KEYS = {part: f"{part}_file_name" for part in PARTS} | {"image": "file_name", LATENTS: LATENTS}


class MetadataSet(PairSet):
    """The pairs of a folder with a ``metadata.jsonl``.

    Args:
        path: The folder.

    Raises:
        DataError: If its metadata cannot be read, or name no image.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.skipped = path, {}
        self._lines = JsonLines(path / METADATA)
        self.parts = tuple(part for part, key in _KEYS.items() if key in self._lines[0]) if len(self._lines) else ()
        if "image" not in self.parts:
            raise DataError(f"{path / METADATA} names no image: every line needs a file_name.")
        self.names = [str(line.get("file_name")).rpartition(".")[0] for line in self._lines]

    def _values(self, number: int) -> Mapping[str, Any]:
        return self._lines[number]

    def _file(self, number: int, part: str) -> tuple[Path, str]:
        name = self._lines[number].get(_KEYS[part])
        if not isinstance(name, str) or not (self.path / name).resolve().is_relative_to(self.path.resolve()):
            raise DataError(f"{self.path / METADATA} names no {part} inside the folder for {self.names[number]}.")
        return self.path / name, str(self.path / name)


class HuggingFaceFormat(FolderFormat):
    """Files in folders with ``metadata.jsonl`` and the header of a data set card."""

    needs = ("image",)

    @classmethod
    def finish(
        cls, out: Path, layout: PairLayout, shards: Iterable[tuple[int, Sequence[PairRecord]]], card: str = ""
    ) -> dict[str, FileEntry]:
        parts = [part for part in PARTS if part in layout.parts]
        count = 0

        def lines() -> Iterator[bytes]:
            nonlocal count
            for _, records in shards:
                for record in records:
                    count += 1
                    files = {_KEYS[part]: part_path(part, record.index, layout) for part in parts}
                    yield json_line(files | record.to_json())

        entry = write_entry(out / METADATA, lines())
        text = _header(layout, parts, count) + (card or _default_card(layout))
        return {METADATA: entry, CARD: write_entry(out / CARD, [text.encode()])}

    @classmethod
    def matches(cls, path: Path) -> bool:
        if not (path / METADATA).is_file():
            return False
        if is_data_set(path) or not (path / PARTS["image"]).is_dir() or not (path / PARTS["mask"]).is_dir():
            return True
        # A stray file does not outweigh folders of images and of masks: it must name both.
        lines = JsonLines(path / METADATA)
        return len(lines) > 0 and all(_KEYS[part] in lines[0] for part in ("image", "mask"))

    @classmethod
    def open(cls, path: Path) -> PairSet:
        return MetadataSet(path)


def _header(layout: PairLayout, parts: Sequence[str], count: int) -> str:
    """The YAML header of a data set card. JSON's strings are YAML's as well."""
    files = [METADATA, *(f"{PARTS[part]}/*" for part in parts)]
    lines = [
        "---",
        f"pretty_name: {json.dumps(f'Images with masks: {layout.category}')}",
        "task_categories:",
        "- image-segmentation",
        "size_categories:",
        f"- {_size_category(count)}",
        "tags:",
        "- synthetic",
        "- labels4free",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path:",
        *(f"    - {json.dumps(name)}" for name in files),
        "---",
    ]
    return "\n".join(lines) + "\n"


def _default_card(layout: PairLayout) -> str:
    return (
        f"\n# Images with masks: {layout.category}\n\n"
        "Images of a generator with the foreground masks of an alpha network that was trained on it without labels, "
        "made by labels4free.\n"
    )


def _size_category(count: int) -> str:
    """The Hub's word for a number of pairs."""
    names = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    above = [name for power, name in enumerate(names, 3) if count >= 10**power]
    if not above:
        return f"n<{names[0]}"
    return f"n>{names[-1]}" if above == list(names) else f"{above[-1]}<n<{names[len(above)]}"
