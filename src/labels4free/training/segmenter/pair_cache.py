"""Pairs at the size that a segmenter is trained at: decoded once, kept as plain bytes that the system caches.

::

    FOLDER/images.u8     [N, S, S, 3]
    FOLDER/alphas.u8     [N, S, S]
    FOLDER/pairs.json    written last: how many, of which data set, and their uncertainties
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from labels4free.data.decoding import central_square
from labels4free.errors import DataError, RunError
from labels4free.files import write_atomically, write_failure
from labels4free.pictures.pixels import from_uint8, uint16_to_uint8
from labels4free.training.segmenter.augmentation.augment import Example

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from labels4free.data.pairs.base import PairSet

_NOTE, _IMAGES, _ALPHAS = "pairs.json", "images.u8", "alphas.u8"
_LEAST_WEIGHT = 0.1  # of a pair: what is doubtful teaches a little, too


class PairCache:
    """A cache of decoded image/mask pairs, by index; :func:`build_pair_cache` makes one.

    Args:
        images: [N, S, S, 3], uint8.
        alphas: [N, S, S], uint8, 255 is foreground.
        weights: How much each pair counts, in [0, 1].
        digest: SHA-256 of all pixels, in hexadecimal.
    """

    def __init__(
        self, images: NDArray[np.uint8], alphas: NDArray[np.uint8], weights: Sequence[float], digest: str = ""
    ) -> None:
        self.images, self.alphas, self.weights, self.digest = images, alphas, tuple(weights), digest

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        """One pair; on the CPU."""
        image = from_uint8(self.images[index : index + 1])
        alpha = torch.from_numpy(np.array(self.alphas[index : index + 1, None])).float().div(255)
        return Example(image, alpha, torch.full_like(alpha, self.weights[index]))

    def part(self, start: int, stop: int) -> PairCache:
        """The pairs from one index to another, without copying them."""
        return PairCache(self.images[start:stop], self.alphas[start:stop], self.weights[start:stop], self.digest)


def build_pair_cache(
    pairs: PairSet, size: int, folder: Path, uncertainty: float, progress: Callable[[int, int], None] | None = None
) -> PairCache:
    """Decode and cache image/mask pairs, or take what an earlier call decoded.

    Pairs that cannot be read are left out with a warning. Pictures are cropped to their central square, and averaged
    over areas where they shrink. Where there is no alpha, the mask is it.

    Args:
        pairs: The data set.
        size: Side S in pixels.
        folder: Where the decoded pairs are kept.
        uncertainty: A pair of uncertainty u weighs ``(1 - u) ** uncertainty``, at least 0.1.
        progress: Called with (pairs done, pairs in all).

    Raises:
        DataError: If there is no alpha and no mask, or no pair can be read.
        RunError: If the folder cannot be written.
    """
    note = _read_note(folder, pairs, size)
    if note is None:
        note = _decode(pairs, size, folder, progress)
    elif progress:
        progress(note["count"], note["count"])
    count = note["count"]
    images = np.memmap(folder / _IMAGES, np.uint8, "r", shape=(count, size, size, 3))
    alphas = np.memmap(folder / _ALPHAS, np.uint8, "r", shape=(count, size, size))
    weights = [max(_LEAST_WEIGHT, (1 - u) ** uncertainty) for u in note["uncertainties"]]
    return PairCache(images, alphas, weights, note["digest"])


def _read_note(folder: Path, pairs: PairSet, size: int) -> dict[str, Any] | None:
    """What an earlier call noted, if its pairs are all there and are the same data set's."""
    try:
        note: dict[str, Any] = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
        pixels = note["count"] * size * size
        whole = (folder / _IMAGES).stat().st_size == 3 * pixels and (folder / _ALPHAS).stat().st_size == pixels
        same = note["of"] == _name_of(pairs)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if whole and same else None


def _name_of(pairs: PairSet) -> list[Any]:
    return [str(pairs.path.resolve()), len(pairs)]


def _decode(pairs: PairSet, size: int, folder: Path, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
    part = "alpha" if "alpha" in pairs.parts else "mask"
    if part not in pairs.parts or "image" not in pairs.parts:
        raise DataError(f"{pairs.path} holds no images with alphas or masks: its pairs have {', '.join(pairs.parts)}.")
    digest, uncertainties = hashlib.sha256(), []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _NOTE).unlink(missing_ok=True)
        with (folder / _IMAGES).open("wb") as images, (folder / _ALPHAS).open("wb") as alphas:
            for number, pair in enumerate(pairs):
                for file, pixels in ((images, pair.pictures["image"]), (alphas, _to_bytes(pair.pictures[part]))):
                    square = np.ascontiguousarray(central_square(Image.fromarray(pixels), size))
                    file.write(square.data)
                    digest.update(square.data)
                uncertainties.append(float(pair.record.uncertainty or 0.0))
                if progress:
                    progress(number + 1, len(pairs))
        if not uncertainties:
            first = next(iter(pairs.skipped.values()), "")
            raise DataError(f"{pairs.path} holds no readable pair, of {len(pairs)}. {first}")
        note = {
            "of": _name_of(pairs),
            "count": len(uncertainties),
            "digest": digest.hexdigest(),
            "uncertainties": uncertainties,
        }
        write_atomically(folder / _NOTE, (json.dumps(note) + "\n").encode())
    except OSError as error:
        raise RunError(write_failure(folder, error)) from error
    return note


def _to_bytes(alpha: NDArray[Any]) -> NDArray[np.uint8]:
    """An alpha of 8 or 16 bits in 8."""
    return alpha if alpha.dtype == np.uint8 else uint16_to_uint8(alpha)
