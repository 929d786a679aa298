"""How a segmenter is trained: pairs decoded once, examples made of them ahead of the steps, pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from labels4free.checkpoints.loading import load_segmenter
from labels4free.data.images.photos import open_photos, open_shared
from labels4free.errors import ConfigError, DataError
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.training.segmenter.check import checked_example, network_alpha
from labels4free.training.segmenter.example_stream import ExampleStream
from labels4free.training.segmenter.pair_cache import build_pair_cache
from labels4free.training.segmenter.pseudo_labels import predict_with_tta
from labels4free.training.segmenter.trainer import Drawn, SegmenterData, SegmenterTrainer, new_network
from labels4free.training_loop.contracts import SEGMENTER
from labels4free.training_loop.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.data.pairs.base import PairSet
    from labels4free.networks.segmenter import SegmenterNetwork
    from labels4free.training.segmenter.config import SegmenterConfig
    from labels4free.training_loop.loop import Loop

PAIRS_FOLDER = "pairs"
"""Where rendered pairs lie in the run's folder."""

_PREVIEWS = 4
_SIZES = ("widths", "decoder_widths", "detail_width", "head_width")


class SegmenterRecipe:
    """How a segmenter is trained: pairs decoded once, examples made of them ahead, :class:`SegmenterTrainer`.

    Args:
        config: Settings.
        device: Where to train.

    Raises:
        CheckpointError: If the segmenter to begin with cannot be read.
        ConfigError: If the device cannot serve, or that segmenter is of another size.
        DataError: If photos or background pictures cannot be read.
    """

    product = SEGMENTER
    advice = "try another --seed, a lower optimizer.learning_rate, or look at the pairs: their masks may be wrong."

    def __init__(self, config: SegmenterConfig, device: str | torch.device = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        Precision(config.precision, self.device)  # refuses what the device lacks
        pictures, photos = config.pairs.background_pictures, config.self_training.unlabelled
        self._pictures = open_shared(pictures, config.size) if pictures else None
        self._photos = open_photos(photos, config.size) if photos else None
        self._pretrained = _pretrained(config)
        self._pairs: PairSet | None = None
        self._stream: ExampleStream[Drawn] | None = None

    def use(self, pairs: PairSet) -> None:
        """Take these pairs.

        Raises:
            DataError: If they are too few.
        """
        _check_enough(pairs, len(pairs), self.config)
        self._pairs = pairs

    def trainers(self, loop: Loop[SegmenterTrainer]) -> Iterator[SegmenterTrainer]:
        """The trainer of a run before each of its steps."""
        self.prepare(loop.scratch, loop.rendered)
        return loop.trainers(self.trainer)

    def prepare(self, scratch: Path, rendered: Callable[[int, int], None]) -> None:
        """Decode the pairs into a folder for what can be made again; ``rendered`` is told (done, total)."""
        if self._pairs is None:
            raise DataError("A segmenter's training needs pairs: call use() first.")
        folder, uncertainty = scratch / PAIRS_FOLDER, self.config.loss.uncertainty
        cache = build_pair_cache(self._pairs, self.config.size, folder, uncertainty, rendered)
        _check_enough(self._pairs, len(cache), self.config)
        trained = len(cache) - self.config.monitor.samples
        self.data = SegmenterData(cache.part(0, trained), cache.part(trained, len(cache)), self._pictures, self._photos)
        self._stream = ExampleStream(self.device)

    def trainer(self, restart: int = 0) -> SegmenterTrainer:
        """Begin to train."""
        assert self._stream is not None  # prepare() comes first
        return SegmenterTrainer(
            self.data, self.config, self._stream, restart=restart, pretrained=self._pretrained, device=self.device
        )

    def finished(self, trainer: SegmenterTrainer) -> SegmenterNetwork:
        """The network to keep."""
        return trainer.kept

    def close(self) -> None:
        """End what prepares the examples."""
        if self._stream is not None:
            self._stream.close()

    @torch.no_grad()
    def picture(self, trainer: SegmenterTrainer) -> NDArray[np.uint8]:
        """Draw pairs that are kept apart, as they are and augmented, and photos: image, alpha to learn, alpha found.

        Of a photo, the middle is the mean of its augmentations.
        """
        rows: list[list[Tensor]] = []
        held_out = self.data.held_out
        for index in range(min(_PREVIEWS, len(held_out))):
            rows.append(_row(trainer.kept, *held_out[index][:2]))
            changed = checked_example(held_out, self.config, index, self._pictures)
            rows.append(_row(trainer.kept, changed.image, changed.alpha))
        for index in range(min(_PREVIEWS, len(self._photos or ()))):
            assert self._photos is not None
            seen = predict_with_tta(trainer.kept, self._photos.photo(index), self.config.size)
            rows.append(_row(trainer.kept, seen.image, seen.alpha * seen.inside))
        halves = [rows[start] + rows[start + 1] for start in range(0, len(rows) - 1, 2)]
        halves += [rows[-1]] if len(rows) % 2 else []
        return contact_sheet(halves, ("image", "to learn", "segmenter") * 2, cell=min(self.config.size, 256))


def _row(network: SegmenterNetwork, image: Tensor, alpha: Tensor) -> list[Tensor]:
    return [image, alpha, network_alpha(network, image)]


def _pretrained(config: SegmenterConfig) -> SegmenterNetwork | None:
    """The segmenter to begin with, if there is one."""
    if config.pretrained is None:
        return None
    network, wanted = load_segmenter(config.pretrained), new_network(config)
    if any(getattr(network, name) != getattr(wanted, name) for name in _SIZES):
        its, ours = (", ".join(f"{name} {getattr(one, name)}" for name in _SIZES) for one in (network, wanted))
        raise ConfigError(
            f"{config.pretrained}, the segmenter to begin with, has {its}, but the settings ask for {ours}: change "
            "the section network, or begin with random weights (pretrained=none)."
        )
    return network


def _check_enough(pairs: PairSet, count: int, config: SegmenterConfig) -> None:
    if count <= config.monitor.samples:
        raise DataError(
            f"{pairs.path} holds {count} readable pairs, but {config.monitor.samples} are kept apart for the checks "
            "(monitor.samples) and at least one is needed to learn from: give more pairs."
        )
