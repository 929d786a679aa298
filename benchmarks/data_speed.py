"""How fast images come from a folder, a zip file, an LMDB or tar shards, against decoding them alone.

    python benchmarks/data_speed.py FOLDER --sizes 64,128

Prepares stores of the folder's images in a temporary folder, at the sizes given, then reads random batches
from each at each size. Beside them stands Pillow alone: decoding the same encoded images, which lie in memory, into
arrays. Both do it one after the other, without a cache, and take turns, so that whatever else the machine does meets
both; the files are in the system's memory from the start. Figures are medians over the turns; compare within a run.
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from labels4free.data.images.dataset import IMAGE_WRITERS, open_images
from labels4free.data.images.prepare import PrepareConfig, prepare_images

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Batch = list[int]


def prepare_all(folder: Path, work: Path, sizes: tuple[int, ...]) -> dict[str, Path]:
    stores = {}
    print(f"prepare {folder} at {', '.join(map(str, sizes))} pixels")
    for name in IMAGE_WRITERS:
        out = work / name
        start = time.perf_counter()
        summary = prepare_images(folder, out, PrepareConfig(sizes=sizes, format=name))  # type: ignore[arg-type]
        seconds = time.perf_counter() - start
        files = [path for path in out.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        print(f"  {name:11} {summary.images / seconds:8.0f} images/s into {size:.0f} MB")
        stores[name] = out
    stores["zip"] = work / "folder.zip"
    with zipfile.ZipFile(stores["zip"], "w") as archive:
        for path in files:
            archive.write(path, path.relative_to(stores["folder"]))
    return stores


def pillow_alone(encoded: Sequence[bytes]) -> Callable[[Batch], object]:
    def read(batch: Batch) -> object:
        return [np.asarray(Image.open(io.BytesIO(encoded[index])).convert("RGB")) for index in batch]

    return read


def images_a_second(read: Callable[[Batch], object], batches: Sequence[Batch]) -> float:
    start = time.perf_counter()
    for batch in batches:
        read(batch)
    return sum(map(len, batches)) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="images of any kind")
    parser.add_argument("--sizes", default="64,128", help="sizes to prepare and read (default 64,128)")
    parser.add_argument("--batch-size", type=int, default=16, help="images a batch (default 16)")
    parser.add_argument("--turns", type=int, default=7, help="turns of each side (default 7)")
    parser.add_argument("--batches", type=int, default=40, help="batches a turn (default 40)")
    arguments = parser.parse_args()
    sizes = tuple(int(size) for size in arguments.sizes.split(","))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        stores = prepare_all(arguments.folder, Path(work), sizes)
        for size in sizes:
            opened = {name: open_images(path, size, cache_bytes=0) for name, path in stores.items()}
            source = opened["lmdb"].source
            encoded = [source.read(index) for index in range(len(source))]
            sides = {"Pillow alone": pillow_alone(encoded)} | {name: store.batch for name, store in opened.items()}
            rng = random.Random(0)
            speeds: dict[str, list[float]] = {name: [] for name in sides}
            for turn in range(arguments.turns + 1):
                batches = [rng.choices(range(len(encoded)), k=arguments.batch_size) for _ in range(arguments.batches)]
                for name, read in sides.items():
                    speed = images_a_second(read, batches)
                    if turn:  # the first one warms up
                        speeds[name].append(speed)
            print(f"{size} pixels: random batches of {arguments.batch_size}, {arguments.turns} turns, one thread")
            for name, values in speeds.items():
                ratios = [mine / alone for mine, alone in zip(values, speeds["Pillow alone"], strict=True)]
                ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) of Pillow alone"
                print(f"  {name:12} {statistics.median(values):8.0f} images/s  {ratio}")


if __name__ == "__main__":
    main()
