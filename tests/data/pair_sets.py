"""Small pairs and data sets of them, in every format."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from labels4free.data.names import PARTS
from labels4free.data.pairs.formats import PAIR_FORMATS
from labels4free.data.pairs.record import Pair, PairLayout, measure

if TYPE_CHECKING:
    from pathlib import Path

INDICES = (0, 1, 2, 3, 5, 6, 8, 9)  # 4 and 7 were dropped; the mask of 3 is empty
EMPTY = 3
SHARD = 4
SIDE = 24


def layout(parts=tuple(PARTS), image_format="png", quality=95, alpha_bits=16, **options) -> PairLayout:
    options = {"category": 'a "cat"', "shard_size": SHARD, "size": SIDE} | options
    return PairLayout(parts=tuple(parts), image_format=image_format, quality=quality, alpha_bits=alpha_bits, **options)


def pair(index: int, alpha_bits=16, **options) -> Pair:
    """Noise with a ring for a mask, whose hole is not empty either."""
    rng = np.random.default_rng(index)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2 + 2
    distance = x**2 + y**2
    mask = ((distance < (5 + index % 4) ** 2) & (distance > 9)) | (distance < 2)
    if index == EMPTY:
        mask[:] = False
    image, other = rng.integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    kind = np.uint8 if alpha_bits == 8 else np.uint16
    alpha = np.where(mask, np.iinfo(kind).max, rng.integers(0, 100, mask.shape)).astype(kind)
    mask = np.where(mask, np.uint8(255), np.uint8(0))
    pictures = {
        "image": image,
        "alpha": alpha,
        "mask": mask,
        "composite": image[::-1],
        "background": other,
        "cutout": np.dstack([image, mask]),
    }
    latents = {"ws": rng.normal(size=(3, 8)).astype(np.float32), "background_ws": np.zeros((3, 8), np.float32)}
    return Pair(measure(index, alpha, mask, **{"truncation_psi": 0.7} | options), pictures, latents)


def write(name: str, out: Path, settings: PairLayout | None = None, indices=INDICES, card=""):
    """A data set in three shards; returns what its writers said of its files."""
    settings = settings or layout()
    kind = PAIR_FORMATS[name]
    entries, shards = {}, []
    for shard in range(3):
        pairs = [pair(i, settings.alpha_bits) for i in indices if i // SHARD == shard]
        with kind.open_shard(out, settings, shard) as writer:
            for one in pairs:
                writer.add(kind.encode(one, settings))
            entries |= writer.close()
        shards.append((shard, [one.record for one in pairs]))
    return entries | kind.finish(out, settings, iter(shards), card)


def write_shard(name: str, out: Path, shard: int, encoded, failure: BaseException | None = None):
    """One shard, up to a failure."""
    with PAIR_FORMATS[name].open_shard(out, layout(), shard) as writer:
        for one in encoded:
            writer.add(one)
        if failure:
            raise failure
        return writer.close()


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def sums(out: Path) -> dict[str, tuple[int, str]]:
    return {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files(out).items()}


def assert_same(read: Pair, written: Pair, parts=tuple(PARTS)) -> None:
    assert read.record == written.record
    assert set(read.pictures) == set(parts) - {"latents"}
    for part, pixels in read.pictures.items():
        assert pixels.dtype == written.pictures[part].dtype, part
        assert np.array_equal(pixels, written.pictures[part]), part
    if "latents" in parts:
        assert read.latents.keys() == written.latents.keys()
        assert all(np.array_equal(value, written.latents[key]) for key, value in read.latents.items())
