"""A predicted mask beside the true one, as pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labels4free.evaluation.config import TRUTH_THRESHOLD
from labels4free.evaluation.evaluate import fit, read_prediction, read_truth
from labels4free.pictures.pixels import unit_to_uint8

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from labels4free.evaluation.config import EvaluationConfig
    from labels4free.evaluation.pairing import MaskPair

LEGEND = "White: object found. Black: background found. Red: too much. Blue: missed. Grey: does not count."
"""What the colours of :attr:`Comparison.errors` mean."""

_COLOURS = ((255, 255, 255), (230, 60, 50), (40, 110, 230), (25, 25, 25))  # tp, fp, fn, tn
_VOID_COLOUR = (150, 150, 150)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The two masks of a pair, and where they differ, at the true mask's size.

    Attributes:
        truth: [H, W], uint8; 255 is the object.
        alpha: [H, W], uint8: the prediction, soft as it is.
        errors: [H, W, 3], uint8 RGB; :data:`LEGEND` explains it.
    """

    truth: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    errors: NDArray[np.uint8]


def compare(pair: MaskPair, config: EvaluationConfig) -> Comparison:
    """Read a pair of files and draw it.

    Raises:
        DataError: If it has no prediction, cannot be read, or differs in size where that is not allowed.
    """
    truth, valid = read_truth(pair, config)
    alpha = fit(read_prediction(pair, config), truth.alpha, pair, config)
    true, predicted = truth.alpha > TRUTH_THRESHOLD, alpha > config.threshold
    errors = np.empty((*true.shape, 3), np.uint8)
    kinds = (predicted & true, predicted & ~true, ~predicted & true, ~(predicted | true))
    for colour, where in zip(_COLOURS, kinds, strict=True):
        errors[where] = colour
    if valid is not None:
        errors[~valid] = _VOID_COLOUR
    return Comparison(unit_to_uint8(truth.alpha), unit_to_uint8(alpha), errors)
