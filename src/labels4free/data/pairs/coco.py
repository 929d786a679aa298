"""Pairs as COCO keeps them: writer and reader.

Images lie in ``images/``, masks as run lengths in ``instances.json`` (``file_name`` is relative to ``images/``). Those
of each shard, ``annotations/000000.json``, are merged into that; they are COCO files as well. The format is that of
ppwwyyxx/cocoapi PythonAPI/pycocotools/coco.py; beside its keys an image has a ``record``, its measurements. An image
has one annotation, or none where its mask is empty. Other parts lie in folders of their own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from labels4free.data.names import PARTS, is_data_set
from labels4free.data.pairs import rle
from labels4free.data.pairs.base import EncodedPair, PairFormat, PairSet, write_card, write_entry
from labels4free.data.pairs.folder import FileShard, encode_files, files_by_stem, numbered_pictures, part_path
from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from labels4free.data.pairs.record import FileEntry, Pair, PairLayout, PairRecord

INSTANCES = "instances.json"
"""Name of the file with all annotations, masks as run lengths."""

_CATEGORY = 1
_LISTS = ("images", "annotations")


class CocoShard(FileShard):
    """Files of pictures, and the shard's annotations when it ends."""

    def __init__(self, out: Path, layout: PairLayout, shard: int) -> None:
        super().__init__(out, layout, shard)
        self._notes: list[Mapping[str, Any]] = []

    def add(self, encoded: EncodedPair) -> None:
        super().add(encoded)
        self._notes.append(encoded.notes)

    def close(self) -> dict[str, FileEntry]:
        name = _shard_path(self.shard)
        items = {key: [note[key] for note in self._notes if key in note] for key in _LISTS}
        self._entries[name] = write_entry(self.out / name, _coco_file(self.layout, items.__getitem__))
        return super().close()


class CocoSet(PairSet):
    """The pairs of a COCO file: every image, with the union of its annotations as its mask.

    The file is held in memory, as COCO's own readers do.

    Args:
        path: A folder with ``instances.json``, or such a file beside its images or their folder ``images``.

    Raises:
        DataError: If it is no COCO file, or holds no image.
    """

    def __init__(self, path: Path) -> None:
        file = path / INSTANCES if path.is_dir() else path
        self.path, self.skipped = path, {}
        content = _read(file)
        self._images: list[dict[str, Any]] = content["images"]
        self._annotations: dict[Any, list[dict[str, Any]]] = {}
        for annotation in content["annotations"]:
            self._annotations.setdefault(annotation.get("image_id"), []).append(annotation)
        self.names = [str(image.get("file_name")) for image in self._images]
        if not self.names:
            raise DataError(f"{file} holds no image: give a COCO file with images in it.")
        folder = file.parent / PARTS["image"]
        self._folder = folder if folder.is_dir() else file.parent
        left_out: dict[str, str] = {}
        beside = {part: files_by_stem(file.parent, part, left_out) for part in PARTS if part not in ("image", "mask")}
        self.skip(left_out)
        self._beside = {part: files for part, files in beside.items() if files}
        self.parts = tuple(part for part in PARTS if part in ("image", "mask", *self._beside))

    def _picture(self, number: int, part: str) -> NDArray[Any]:
        return self.mask(number) if part == "mask" else super()._picture(number, part)

    def _values(self, number: int) -> Mapping[str, Any]:
        values = self._images[number].get("record")
        return values if isinstance(values, dict) else {}

    def _file(self, number: int, part: str) -> tuple[Path, str]:
        if part == "image":
            return (path := self._folder / self.names[number]), str(path)
        name = self._beside[part].get(self.names[number].rpartition(".")[0])
        if name is None:
            raise DataError(f"There is no {part} of {self.names[number]} in {self.path / PARTS[part]}.")
        return (path := self._folder.parent / PARTS[part] / name), str(path)

    def mask(self, number: int) -> NDArray[np.uint8]:
        """The union of an image's annotations, uint8 [H, W], 0 or 255.

        Raises:
            DataError: If they are damaged.
        """
        image = self._images[number]
        where = f"{self.names[number]} in {self.path}"
        try:
            height, width = int(image["height"]), int(image["width"])
            union = np.zeros((height, width), dtype=bool)
            for annotation in self._annotations.get(image["id"], []):
                union |= _segmentation_mask(annotation["segmentation"], height, width)
        except DataError as error:
            raise DataError(f"The mask of {where} cannot be read. {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"The annotations of {where} are damaged ({type(error).__name__}: {error}).") from error
        return np.where(union, np.uint8(255), np.uint8(0))


class CocoFormat(PairFormat):
    """Images in a folder and masks in COCO's ``instances.json``."""

    needs = ("image", "mask")

    @classmethod
    def encode(cls, pair: Pair, layout: PairLayout) -> EncodedPair:
        index, mask = pair.record.index, pair.pictures["mask"] > 127
        height, width = mask.shape
        counts = rle.encode(mask)
        notes: dict[str, Any] = {
            "images": {
                "id": index,
                "file_name": part_path("image", index, layout).rpartition("/")[2],
                "width": width,
                "height": height,
                "record": pair.record.to_json(),
            },
        }
        if area := rle.area(counts):
            notes["annotations"] = {
                "id": index + 1,  # COCO's evaluation takes an annotation of number 0 for none
                "image_id": index,
                "category_id": _CATEGORY,
                "iscrowd": 0,
                "area": area,
                "bbox": list(rle.bounding_box(counts, height)),
                "segmentation": {"size": [height, width], "counts": rle.to_text(counts)},
            }
        files = encode_files(pair, layout, [part for part in layout.parts if part != "mask"])
        return EncodedPair(pair.record, files, notes)

    @classmethod
    def open_shard(cls, out: Path, layout: PairLayout, shard: int) -> CocoShard:
        return CocoShard(out, layout, shard)

    @classmethod
    def finish(
        cls, out: Path, layout: PairLayout, shards: Iterable[tuple[int, Sequence[PairRecord]]], card: str = ""
    ) -> dict[str, FileEntry]:
        numbers = [number for number, _ in shards]

        def items(key: str) -> Iterator[Any]:
            for number in numbers:  # one shard in memory at a time
                yield from _read(out / _shard_path(number))[key]

        return {INSTANCES: write_entry(out / INSTANCES, _coco_file(layout, items))} | write_card(out, card)

    @classmethod
    def matches(cls, path: Path) -> bool:
        if path.is_dir():  # a stray file does not outweigh folders of images and of masks
            return (path / INSTANCES).is_file() and (is_data_set(path) or not (path / PARTS["mask"]).is_dir())
        return path.suffix.lower() == ".json" and path.is_file()

    @classmethod
    def pictures(cls, out: Path, layout: PairLayout, shard: int, index: int) -> dict[str, NDArray[Any]]:
        # A shard's annotations are a COCO file; its images are numbered, as the shard's list of them is.
        notes = CocoSet(out / _shard_path(shard))
        name = part_path("image", index, layout).rpartition("/")[2]
        if name not in notes.names:
            raise DataError(f"There are no annotations of {name} in {notes.path}.")
        pictures = numbered_pictures(out, layout, index, [part for part in layout.parts if part != "mask"])
        return pictures | {"mask": notes.mask(notes.names.index(name))}

    @classmethod
    def open(cls, path: Path) -> CocoSet:
        return CocoSet(path)


def _shard_path(shard: int) -> str:
    return f"annotations/{shard:06d}.json"


def _coco_file(layout: PairLayout, items: Callable[[str], Iterable[Any]]) -> Iterator[bytes]:
    """A COCO file piece by piece, from the items under ``images`` and ``annotations``."""
    about = {"description": f"Images with masks of the category {layout.category}, made by labels4free"}
    yield f'{{"info": {json.dumps(about)},\n"licenses": [],\n'.encode()
    category = {"id": _CATEGORY, "name": layout.category, "supercategory": layout.category}
    yield f'"categories": [{json.dumps(category)}]'.encode()
    for key in _LISTS:
        yield f',\n"{key}": ['.encode()
        for number, item in enumerate(items(key)):
            yield (",\n" if number else "\n").encode() + json.dumps(item).encode()
        yield b"]"
    yield b"}\n"


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The content of a COCO file."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"There are no annotations at {path}.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a COCO file ({error}).") from error
    for key in _LISTS:
        items = content.get(key) if isinstance(content, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DataError(f'{path} is no COCO file: a list of objects was expected under "{key}".')
    return content  # type: ignore[no-any-return]


def _segmentation_mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    if isinstance(segmentation, list):
        raise DataError("Polygons are not read: give masks as run lengths, as instances.json has them.")
    counts = segmentation["counts"]
    runs = rle.from_text(counts) if isinstance(counts, str) else np.asarray(counts, dtype=np.int64)
    return rle.decode(runs, height, width)
