"""Writes a data set of drawn pictures of one class with their exact masks, for measuring a chain end to end.

    python benchmarks/drawn_class.py OUT --num 20000 --size 64 --seed 0 --kind vase [--sheet SHEET.jpg]

``OUT/images`` has the pictures, ``OUT/alpha`` the exact coverage (8 bits), ``OUT/masks`` where it is a half or more (0 or
255): pairs for ``open_pairs`` and ``distill --pairs OUT``, masks for ``evaluate --gt OUT/masks``. Generators are trained
on ``OUT/images``: a folder of images is read at any depth, and ``OUT`` would be with its masks.
"""

from __future__ import annotations

import functools
import sys
import time
from pathlib import Path  # noqa: TC003  tyro reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from labels4free.data.drawn.picture import KINDS, drawn_picture
from labels4free.data.pairs.folder import FolderFormat
from labels4free.data.pairs.record import Pair, PairLayout, measure
from labels4free.data.parallel import batches, ordered_map
from labels4free.errors import ConfigError, Labels4FreeError
from labels4free.pictures.contact_sheet import contact_sheet, save_sheet
from labels4free.pictures.pixels import unit_to_uint8

if TYPE_CHECKING:
    from labels4free.data.pairs.base import EncodedPair

SHARD = 1000
CARD = """# Drawn pictures: {kind}

{num} pictures of {size} x {size} pixels with their exact masks, by `python benchmarks/drawn_class.py OUT --num {num}
--size {size} --seed {seed} --kind {kind}`. Drawn by a program: nobody's photos, no licence needed.
"""


def encoded_pair(index: int, seed: int, kind: str, layout: PairLayout) -> EncodedPair:
    """One pair as files."""
    image, alpha = drawn_picture(seed, index, layout.size, kind)
    pictures = {
        "image": image,
        "alpha": unit_to_uint8(alpha),
        "mask": np.where(alpha >= 0.5, np.uint8(255), np.uint8(0)),
    }
    return FolderFormat.encode(Pair(measure(index, pictures["alpha"], pictures["mask"]), pictures), layout)


def write_pairs(out: Path, num: int, seed: int, kind: str, layout: PairLayout, workers: int) -> None:
    """Draw and write ``num`` pairs, and say how far it is."""
    encode = functools.partial(encoded_pair, seed=seed, kind=kind, layout=layout)
    started, shards = time.perf_counter(), []
    drawn = ordered_map(encode, range(num), workers)
    for number, shard in enumerate(batches(drawn, layout.shard_size)):
        with FolderFormat.open_shard(out, layout, number) as writer:
            for encoded in shard:
                writer.add(encoded)
            writer.close()
        shards.append((number, [encoded.record for encoded in shard]))
        done = number * layout.shard_size + len(shard)
        print(f"{done} of {num} pictures, {done / (time.perf_counter() - started):.0f} a second", flush=True)
    FolderFormat.finish(out, layout, shards, CARD.format(num=num, size=layout.size, seed=seed, kind=kind))


def write_sheet(path: Path, seed: int, size: int, columns: int = 10) -> None:
    """Draw a sheet of pictures of every class above their alphas."""
    rows = []
    for kind in KINDS:
        for row in range(3):
            pairs = [drawn_picture(seed, row * columns + column, size, kind) for column in range(columns)]
            rows += [[image for image, _ in pairs], [unit_to_uint8(alpha) for _, alpha in pairs]]
    save_sheet(path, contact_sheet(rows, cell=size))


def main(
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    num: int = 1000,
    size: int = 64,
    seed: int = 0,
    kind: str = "vase",
    workers: int = 1,
    sheet: Path | None = None,
) -> None:
    """Write a data set of drawn pictures.

    Args:
        out: Folder to write to; files of the same numbers are replaced.
        num: Pictures.
        size: Their side, in pixels.
        seed: Of the data set: other seeds, other pictures.
        kind: The class.
        workers: Processes that draw.
        sheet: Also draw a sheet of pictures of all classes with their masks, JPEG or PNG, of this seed.
    """
    if num < 1 or workers < 1:
        raise ConfigError(f"Pictures and workers must be at least 1, got {num} and {workers}.")
    parts = ("image", "alpha", "mask")
    layout = PairLayout(parts, "png", 95, alpha_bits=8, category=kind, shard_size=SHARD, size=size)
    write_pairs(out, num, seed, kind, layout, workers)
    if sheet is not None:
        write_sheet(sheet, seed, size=128)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except Labels4FreeError as error:
        sys.exit(f"drawn_class: {error}")
