"""Evaluation of folders of masks, and of anything that predicts masks from images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from labels4free.data.images.dataset import read_image
from labels4free.data.mask_files import MaskFile, mask_size, read_mask, resize_mask
from labels4free.errors import DataError
from labels4free.evaluation.config import TRUTH_THRESHOLD, EvaluationConfig
from labels4free.evaluation.pairing import MaskPair, Order, pair_files
from labels4free.evaluation.scorer import MaskScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.evaluation.report import EvaluationReport

    Predict = Callable[[NDArray[np.uint8]], NDArray[Any] | Tensor]
    Progress = Callable[[int, int], None]

_NAMED = 5


def evaluate_masks(
    prediction: str | Path,
    truth: str | Path,
    *,
    order: Order = "name",
    config: EvaluationConfig | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Compare a folder of predicted masks with one of true masks.

    Masks are read by the rule of ``data/mask_files.py`` and paired as :func:`pair_files` says; sub-folders are groups.

    Args:
        prediction: Folder of the predicted masks.
        truth: Folder of the true ones.
        order: What belongs together: files of one name, or of one place in the natural order.
        config: The settings.
        progress: Called after each pair with how many are done, and of how many.

    Raises:
        DataError: If a file has no partner, cannot be read, or has another size than its partner.
    """
    return evaluate_pairs(pair_files(truth, prediction, order=order), config, progress)


def evaluate_pairs(
    pairs: Sequence[MaskPair], config: EvaluationConfig | None = None, progress: Progress | None = None
) -> EvaluationReport:
    """Compare pairs of mask files, as :func:`evaluate_masks` does.

    Raises:
        DataError: If a pair has no prediction, cannot be read, or differs in size.
    """
    config = config or EvaluationConfig()
    if not config.resize:
        check_sizes(pairs)
    largest = 0.0

    def read(pair: MaskPair) -> NDArray[np.float32]:
        nonlocal largest
        alpha = read_prediction(pair, config)
        largest = max(largest, float(alpha.max()))
        return alpha

    report = _evaluate(pairs, read, config, progress)
    _refuse_labels("predicted", largest, 1 / 255)
    return report


def evaluate_predictor(
    predict: Predict,
    pairs: Sequence[MaskPair],
    config: EvaluationConfig | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Let something predict the masks of images, and compare them with the true ones.

    Args:
        predict: From an image, uint8 [H, W, 3], upright, to its alpha, [H, W] in [0, 1].
        pairs: Images with true masks: ``pair_files(TRUTH, images=IMAGES)``.
        config: The settings.
        progress: Called after each pair with how many are done, and of how many.

    Raises:
        DataError: If a pair has no image, a file cannot be read, or an alpha is none.
    """

    def from_image(pair: MaskPair) -> NDArray[np.float32]:
        return torch.as_tensor(predict(read_image(image_file(pair)))).detach().cpu().float().numpy()

    return _evaluate(pairs, from_image, config or EvaluationConfig(), progress)


def read_truth(pair: MaskPair, config: EvaluationConfig) -> tuple[MaskFile, NDArray[np.bool_] | None]:
    """A pair's true mask, and which of its pixels count: boolean [H, W], or None where all do.

    Raises:
        DataError: If it cannot be read.
    """
    mask = read_mask(pair.truth, foreground=config.foreground, void=config.void)
    return mask, None if config.void is None else mask.labels != config.void


def read_prediction(pair: MaskPair, config: EvaluationConfig) -> NDArray[np.float32]:
    """Alpha of a pair's predicted mask, [H, W] in [0, 1], as large as it is.

    Raises:
        DataError: If there is none, or it cannot be read.
    """
    return read_mask(predicted_file(pair), foreground=config.foreground, only_labels=True).alpha


def fit(
    alpha: NDArray[np.float32], truth: NDArray[np.float32], pair: MaskPair, config: EvaluationConfig
) -> NDArray[np.float32]:
    """A prediction at the truth's size.

    Raises:
        DataError: If it has another one, and the settings do not allow resizing.
    """
    height, width = truth.shape
    if alpha.ndim == 2 and alpha.size and alpha.shape != truth.shape:
        if not config.resize:
            raise DataError(_other_sizes([f"{pair.name} ({_sides(alpha.shape)}, true mask {_sides(truth.shape)})"], 1))
        return resize_mask(alpha, height, width)
    return alpha


def check_sizes(pairs: Sequence[MaskPair], of: Literal["predicted masks", "images"] = "predicted masks") -> None:
    """Look at the headers of all pairs of files before the work begins.

    Args:
        pairs: With predictions or images.
        of: What is compared with the true masks.

    Raises:
        DataError: If these have other sizes than the true masks, or a file is no image.
    """
    wrong = []
    for pair in pairs:
        file = predicted_file(pair) if of == "predicted masks" else image_file(pair)
        size, true = mask_size(file), mask_size(pair.truth)
        if size != true:
            wrong.append(f"{file} ({_sides(size)}, true mask {_sides(true)})")
    if wrong:
        raise DataError(_other_sizes(wrong, len(pairs), of))


def predicted_file(pair: MaskPair) -> Path:
    """The file of a pair's predicted mask.

    Raises:
        DataError: If it has none.
    """
    if pair.prediction is None:
        raise DataError(f"{pair.name} has no predicted mask; give the folder of the predictions.")
    return pair.prediction


def image_file(pair: MaskPair) -> Path:
    """The file of a pair's image.

    Raises:
        DataError: If it has none.
    """
    if pair.image is None:
        raise DataError(f"{pair.name} has no image; give the folder of the images.")
    return pair.image


def _evaluate(
    pairs: Sequence[MaskPair],
    predict: Callable[[MaskPair], NDArray[np.float32]],
    config: EvaluationConfig,
    progress: Progress | None,
) -> EvaluationReport:
    scorer = MaskScorer(config)
    largest = 0.0
    for done, pair in enumerate(pairs, start=1):
        truth, valid = read_truth(pair, config)
        counted = truth.alpha if valid is None else truth.alpha[valid]
        largest = max(largest, float(counted.max(initial=0)))
        alpha = fit(predict(pair), truth.alpha, pair, config)
        scorer.add(pair.name, alpha, truth.alpha, group=pair.group, valid=valid)
        if progress is not None:
            progress(done, len(pairs))
    _refuse_labels("true", largest, TRUTH_THRESHOLD)
    return scorer.report()


def _refuse_labels(which: str, largest: float, limit: float) -> None:
    """A set of files with the values 0 and 1 of 255 is a set of labels: all of it would count as background."""
    if 0 < largest <= limit + 1e-9:
        raise DataError(
            f"The {which} masks hold no value above {largest * 255:.0f} of 255, as maps of labels do: say which values "
            "are the object (--foreground), or scale them to 0 and 255 first."
        )


def _other_sizes(wrong: Sequence[str], count: int, of: str = "predicted masks") -> str:
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return (
        f"{len(wrong)} of {count} {of} have another size than the true mask, in pixels: {', '.join(wrong[:_NAMED])}"
        f"{more}; give files of one size, or allow resizing the predictions with --resize."
    )


def _sides(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
