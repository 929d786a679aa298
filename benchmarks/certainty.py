"""Claim: where a segmenter is least certain, its masks are the worst: photos to look at are found without true masks.

    python benchmarks/certainty.py IMAGES GT [--model faces]

For each image its certainty (``Cutout.certainty``) against its mean IoU with the true mask: rank correlation, and the
mean IoU of what is kept when the least certain part is left out. Equal certainties, such as those of images in which
nothing was found, share their rank.
"""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  tyro reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro
from uncertainty import FRACTIONS, risk_coverage, spearman

from labels4free.errors import Labels4FreeError
from labels4free.evaluation.config import EvaluationConfig
from labels4free.evaluation.evaluate import evaluate_predictor
from labels4free.evaluation.pairing import pair_files
from labels4free.segmenting.segmenter import Segmenter

if TYPE_CHECKING:
    from numpy.typing import NDArray


def measure(segmenter: Segmenter, images: Path, truth: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Certainty and mean IoU of every image, in the true masks' natural order."""
    certainties: list[float] = []

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        cutout = segmenter.segment(pixels)
        certainties.append(cutout.certainty)
        return cutout.alpha.astype(np.float32) / 255

    report = evaluate_predictor(predict, pair_files(truth, images=images), EvaluationConfig(bootstrap=0))
    mious = [report.images.of(index)["miou"] for index in range(len(report.images))]
    return np.array(certainties), np.array(mious)


def main(
    images: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IMAGES")],
    truth: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="GT")],
    model: str = "faces",
) -> None:
    """Print what a segmenter's certainty says of its masks.

    Args:
        images: Folder of the images.
        truth: Folder of the true masks.
        model: The segmenter.
    """
    certainty, miou = measure(Segmenter.load(model), images, truth)
    print(f"{len(miou)} images, certainty {certainty.mean():.3f}, mean IoU {miou.mean():.4f}")
    print(f"rank correlation {spearman(certainty, miou):.2f}")
    for fraction, kept in zip(FRACTIONS, risk_coverage(-certainty, miou), strict=True):
        print(f"the most certain {fraction:4.0%}: mean IoU {kept:.4f}")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except Labels4FreeError as error:
        sys.exit(f"certainty: {error}")
