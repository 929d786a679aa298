"""Train a segmenter in a run's folder: from pairs and settings to the recipe and the loop."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from labels4free.checkpoints.loading import load_segmenter
from labels4free.data.pair_formats import open_pairs
from labels4free.data.photos import open_photos, open_shared
from labels4free.errors import ConfigError, DataError, RunError
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.training.consensus import Consensus
from labels4free.training.contracts import SEGMENTER
from labels4free.training.distributed import World
from labels4free.training.example_stream import ExampleStream
from labels4free.training.pair_bank import build_pair_bank
from labels4free.training.precision import Precision
from labels4free.training.pseudo_labels import view_photo
from labels4free.training.recipes import check_same_settings, from_run_json, segmenter_config, to_run_json
from labels4free.training.run_dir import RunDir
from labels4free.training.run_loop import finished_run, run_loop
from labels4free.training.segmenter_check import checked_example, network_alpha
from labels4free.training.segmenter_config import SegmenterConfig
from labels4free.training.segmenter_trainer import Drawn, SegmenterData, SegmenterTrainer, new_network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.data.pair_store import PairSet
    from labels4free.networks.segmenter import SegmenterNetwork
    from labels4free.training.contracts import Member, TrainProgress, TrainResult

_log = logging.getLogger(__name__)

PAIRS_FOLDER = "pairs"
"""Where rendered pairs lie in the run's folder."""

_PREVIEWS = 4
_SIZES = ("widths", "decoder_widths", "detail_width", "head_width")


def train_segmenter(
    out: str | Path,
    pairs: str | Path | Callable[[Path, SegmenterConfig], None],
    config: SegmenterConfig | None = None,
    *,
    resume: bool | Literal["auto"] = False,
    source: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    progress: TrainProgress | None = None,
) -> TrainResult:
    """Train a segmenter for photos on pairs of images and masks.

    ``out`` then holds ``config.json``, ``log.jsonl``, ``pictures/``, ``checkpoints/`` and, in the end,
    ``segmenter.safetensors`` (the running average). SIGINT (Ctrl-C) and SIGTERM end the current step, write a
    checkpoint and return; a run killed in any other way goes on from its last checkpoint. Resumed, it ends in the same
    bits.

    Args:
        out: The run's folder: new or empty, or with ``resume`` that of an earlier run.
        pairs: A data set of pairs (:func:`labels4free.data.pair_formats.open_pairs`); or what makes one: it is called
            with the folder to make it in, ``pairs`` in the run's, and the settings, and goes on with what is there.
        config: Settings; None means the defaults or, with ``resume``, what the earlier run has.
        resume: Go on with the run in ``out``; ``"auto"``: if there is one, and start it otherwise.
        source: What makes the pairs, as JSON values, with a ``name`` and a ``fingerprint`` that a resumed run must have
            again; None for a data set, whose own is taken.
        device: Where to train.
        progress: Told about every pair that is decoded, and every step.

    Returns:
        How it ended.

    Raises:
        ConfigError: If the settings or the source are not those of the run to resume, or the device cannot serve.
        DataError: If pairs, photos or background pictures cannot be read, or are too few.
        RunError: If the folder cannot be used, or the run was lost more often than ``monitor.max_restarts``.
    """
    path = Path(out)
    made = None if callable(pairs) else open_pairs(pairs)
    noted = dict(source) if source is not None else _describe(made)
    going_on = resume is True or (resume == "auto" and RunDir.is_at(path))
    run = RunDir.open(path) if going_on else None
    own = (config or SegmenterConfig()) if run is None else _resumed_config(run, config, noted)
    if run is not None and (finished := finished_run(run, own, SEGMENTER)):
        _log.info("The run in %s is finished: nothing is left to do.", path)
        return finished
    recipe = SegmenterRecipe(own, device)
    if made is not None:
        recipe.use(made)
    notes = {"source": noted, **to_run_json(own)}
    if run is None:
        run = RunDir.create(path, notes)
    if callable(pairs):
        folder = run.path / PAIRS_FOLDER
        pairs(folder, own)
        recipe.use(open_pairs(folder))
    try:
        return run_loop(run, recipe, notes, progress)
    finally:
        recipe.close()


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
        self.config, self.device, self.world = config, torch.device(device), World.single()
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

    def prepare(self, scratch: Path, rendered: Callable[[int, int], None]) -> None:
        """Decode the pairs into the scratch folder."""
        if self._pairs is None:
            raise DataError("A segmenter's training needs pairs: call use() first.")
        bank = build_pair_bank(
            self._pairs, self.config.size, scratch / PAIRS_FOLDER, self.config.loss.uncertainty, rendered
        )
        _check_enough(self._pairs, len(bank), self.config)
        trained = len(bank) - self.config.monitor.samples
        self.data = SegmenterData(bank.part(0, trained), bank.part(trained, len(bank)), self._pictures, self._photos)
        self._stream = ExampleStream(self.device)

    def attempt(self, number: int, member: int = 0) -> SegmenterTrainer:  # noqa: ARG002  there is one member
        """Start an attempt."""
        assert self._stream is not None  # prepare() comes first
        return SegmenterTrainer(
            self.data, self.config, self._stream, attempt=number, pretrained=self._pretrained, device=self.device
        )

    def close(self) -> None:
        """End what prepares the examples."""
        if self._stream is not None:
            self._stream.close()

    @torch.no_grad()
    def picture(self, trainer: SegmenterTrainer) -> NDArray[np.uint8]:
        """Draw pairs that are kept apart, as they are and augmented, and photos: image, alpha to learn, alpha found.

        Of a photo, the middle is the mean of its views.
        """
        rows: list[list[Tensor]] = []
        held_out = self.data.held_out
        for index in range(min(_PREVIEWS, len(held_out))):
            rows.append(_row(trainer.kept, *held_out[index][:2]))
            changed = checked_example(held_out, self.config, index, self._pictures)
            rows.append(_row(trainer.kept, changed.image, changed.alpha))
        for index in range(min(_PREVIEWS, len(self._photos or ()))):
            assert self._photos is not None
            seen = view_photo(trainer.kept, self._photos.photo(index), self.config.size)
            rows.append(_row(trainer.kept, seen.image, seen.alpha * seen.inside))
        halves = [rows[start] + rows[start + 1] for start in range(0, len(rows) - 1, 2)]
        halves += [rows[-1]] if len(rows) % 2 else []
        return contact_sheet(halves, ("image", "to learn", "segmenter") * 2, cell=min(self.config.size, 256))

    def join(self, trainer: SegmenterTrainer, members: Sequence[Member]) -> Consensus:  # noqa: ARG002
        """Do nothing: the one member is the consensus."""
        return Consensus((0,), (1.0,), 1.0)

    def finished(self, trainer: SegmenterTrainer) -> SegmenterNetwork:
        """The network to keep."""
        return trainer.kept


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


def _describe(pairs: PairSet | None) -> dict[str, Any]:
    """A data set as the run notes it: by its manifest where it has one, else by its pairs' names."""
    if pairs is None:
        raise ConfigError("Pairs that are made need a source that says what makes them.")
    manifest = pairs.path / "manifest.json"
    digest = hashlib.sha256(manifest.read_bytes() if manifest.is_file() else "\n".join(pairs.names).encode())
    return {"name": str(pairs.path.resolve()), "fingerprint": digest.hexdigest(), "count": len(pairs)}


def _resumed_config(run: RunDir, config: SegmenterConfig | None, source: Mapping[str, Any]) -> SegmenterConfig:
    """The run's own settings, which are the only ones that it can go on with.

    Raises:
        ConfigError: If the source or one of the settings asked for is another one.
        RunError: If the run's config.json is damaged.
    """
    stored = run.config()
    try:
        own = segmenter_config(from_run_json(stored))
        if stored["source"]["fingerprint"] != source["fingerprint"]:
            raise ConfigError(
                f"{run.path} was started on {stored['source']['name']} as it was then, not on {source['name']} as it "
                "is now: give that, or start a new run."
            )
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.path / 'config.json'} lacks {error}; restore it, or start a new run.") from error
    check_same_settings(run.path, own, config)
    return own
