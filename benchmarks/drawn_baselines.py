"""How hard a drawn class is: what simple rules score on it that have not learned what an object looks like.

    python benchmarks/drawn_baselines.py SET

SET is what ``drawn_class.py`` wrote. Pooled mean IoU against the exact masks, and its mean over the images, of: masks
that never look at the image; Otsu's threshold of brightness (the side that has more of the middle is the object); the
distance to the colours along the border, Otsu's threshold again; and colour with place, GrabCut without its cut: a
histogram of colours inside and one outside, from a mask of where objects mostly are, that mask made anew by both and by
how often a pixel is object, five times. Where objects mostly are is taken from the very truth, which helps the rule.
"""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  tyro reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from labels4free.data.pairs.formats import open_pairs
from labels4free.errors import Labels4FreeError
from labels4free.evaluation.config import EvaluationConfig
from labels4free.evaluation.evaluate import evaluate_predictor
from labels4free.evaluation.pairing import pair_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS = 5


def otsu(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Above the threshold that leaves the least variance within both sides (Otsu 1979), of 256 between the extremes."""
    low, high = values.min(), max(values.max(), values.min() + 1e-9)
    bins = ((values - low) * (255 / (high - low))).astype(int)
    counts = np.bincount(bins.ravel(), minlength=256) / bins.size
    below, moment = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    between = (moment[-1] * below - moment) ** 2 / np.maximum(below * (1 - below), 1e-9)
    return bins > int(between.argmax())


def brightness(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Otsu's threshold of brightness; the object is the side with more of the middle."""
    bright = otsu(pixels.mean(axis=2))
    quarter = len(bright) // 4
    return bright if bright[quarter:-quarter, quarter:-quarter].mean() > bright.mean() else ~bright


def unlike_border(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Far from every colour along the border."""
    colours = pixels.astype(np.float64)
    border = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    distances = np.linalg.norm(colours[:, :, None] - border, axis=3)
    return otsu(np.partition(distances, 3, axis=2)[:, :, 3])  # the fourth, or one odd pixel would decide


def colour_and_place(pixels: NDArray[np.uint8], place: NDArray[np.float64]) -> NDArray[np.bool_]:
    """By its colour and by where it is; ``place`` [H, W] is how often a pixel is object."""
    bins = (pixels // 32).astype(int) @ np.array([64, 8, 1])
    prior = np.log(place.clip(0.01, 0.99)) - np.log1p(-place.clip(0.01, 0.99))
    mask = place > 0.5
    for _ in range(ROUNDS):
        inside, outside = (np.bincount(bins[part], minlength=512) + 0.1 for part in (mask, ~mask))
        mask = np.log(inside / inside.sum())[bins] - np.log(outside / outside.sum())[bins] + prior > 0
    return mask


def main(pairs: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SET")]) -> None:
    """Print what simple rules score.

    Args:
        pairs: The data set.
    """
    masks = np.stack([pair.pictures["mask"] > 127 for pair in open_pairs(pairs)])
    place = masks.mean(axis=0, dtype=np.float64)
    rules = {
        "Otsu's threshold of brightness": brightness,
        "unlike the colours along the border": unlike_border,
        "colour and place": lambda pixels: colour_and_place(pixels, place),
    }
    files, config = pair_files(pairs / "masks", images=pairs / "images"), EvaluationConfig(bootstrap=0)
    ratios = masks.mean(axis=(1, 2))
    print(f"{len(masks)} pictures; objects cover {ratios.min():.3f} to {ratios.max():.3f}, mean {ratios.mean():.3f}")
    for number, (name, rule) in enumerate(rules.items()):
        report = evaluate_predictor(lambda pixels, rule=rule: rule(pixels).astype(np.float32), files, config)
        if number == 0:
            for baseline in report.total.baselines.values():
                print(f"{baseline.description}: mIoU {baseline.miou:.3f}")
        mean = report.total.per_image["miou"].value
        print(f"{name}: mIoU {report.total.pooled_miou.value:.3f}, mean over the images {mean:.3f}")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except Labels4FreeError as error:
        sys.exit(f"drawn_baselines: {error}")
