"""Predicted masks for an evaluation, made by a segmenter on the spot."""

from __future__ import annotations

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labels4free.cli.progress import progress_bar
from labels4free.errors import DataError, RunError
from labels4free.files import failing_as

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labels4free.evaluation.pairing import MaskPair
    from labels4free.evaluation.predictor import Predictor
    from labels4free.segmenting.segmenter import Refinement, Segmenter


class Choice(NamedTuple):
    """Which segmenter, and how it is used: as the flags of ``segment`` of the same names."""

    model: str
    refine: Refinement | None
    mirrored: bool
    device: str


@contextmanager
def segmented(
    pairs: Sequence[MaskPair], choice: Choice, *, hard: bool, keep: Path | None
) -> Iterator[tuple[list[MaskPair], Predictor]]:
    """Segment the images of pairs into a folder that goes when the context closes, unless it is to be kept.

    A folder to keep appears once it is complete, and not at all if anything fails.

    Args:
        pairs: Images with true masks.
        choice: The segmenter.
        hard: Write masks, black and white, rather than alpha.
        keep: The folder to keep; it must be new or empty.

    Yields:
        The pairs with their predictions, and what made these.

    Raises:
        DataError: If an image cannot be read.
        RunError: If a prediction cannot be written.
    """
    from labels4free.evaluation.pairing import with_predictions
    from labels4free.segmenting.segmenter import Segmenter

    segmenter = Segmenter.load(choice.model, choice.device)
    predictor = _identify(choice)
    with failing_as(RunError, keep or tempfile.gettempdir()):
        if keep is not None:
            keep.parent.mkdir(parents=True, exist_ok=True)
        stage = tempfile.TemporaryDirectory(dir=None if keep is None else keep.parent, prefix=".labels4free-")
    with stage as place:
        folder = Path(place, "predictions")  # one of its own, since that one is for the eyes of its owner alone
        _segment(with_predictions(pairs, folder), segmenter, choice, hard=hard)
        if keep is not None:
            with failing_as(RunError, keep):
                if keep.exists():  # empty: only some systems replace it
                    keep.rmdir()
                folder.rename(keep)
        yield with_predictions(pairs, keep or folder), predictor


def _identify(choice: Choice) -> Predictor:
    from labels4free.checkpoints.places import segmenter_file
    from labels4free.evaluation.predictor import Predictor
    from labels4free.segmenting.runtimes import ONNX_SUFFIX

    path = Path(choice.model)
    file = path if path.suffix.lower() == ONNX_SUFFIX else segmenter_file(choice.model)
    return Predictor.of_file(choice.model, file, choice.refine, mirrored=choice.mirrored)


def _segment(pairs: Sequence[MaskPair], segmenter: Segmenter, choice: Choice, *, hard: bool) -> None:
    """Write the prediction of every pair; a word on stderr for each image that needs one, as ``segment`` does."""
    notes: list[str] = []
    try:
        with progress_bar("Segmenting") as update:
            for done, pair in enumerate(pairs, start=1):
                assert pair.image is not None
                assert pair.prediction is not None
                try:
                    cutout = segmenter.segment(pair.image, refine=choice.refine, mirrored=choice.mirrored)
                except MemoryError as error:
                    raise DataError(f"{pair.image} does not fit into memory; make it smaller.") from error
                cutout.save(pair.prediction, "mask" if hard else "alpha")
                notes += [f"{pair.image}: {note}." for note in cutout.notes]
                update(done, len(pairs))
    finally:
        for note in notes:
            print(f"labels4free: {note}", file=sys.stderr)
