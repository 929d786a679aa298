"""Train a segmenter on pairs of a generator's images and their alpha: the method, step by step.

The alpha network reads a generator's feature maps and cannot look at a photo. Its masks can be taught to a network that
can: pairs are rendered, changed until hardly any is like the generator's
(``training/segmenter/augmentation/augment.py``), and the segmenter learns to find the alpha from the pixels. With
unlabelled photos it then goes on with its own masks of them, where it is sure (``pseudo_labels.py``).

:meth:`SegmenterTrainer.step` is the whole step. Example k depends on (seed, restart, k) and on who labelled the photos,
so that a resumed run is the uninterrupted one.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional as F

from labels4free import losses
from labels4free.errors import CheckpointError
from labels4free.networks.segmenter import SegmenterNetwork
from labels4free.seeds import SeededRandom, derive_seed
from labels4free.training.segmenter.augmentation.augment import Example, training_example
from labels4free.training.segmenter.check import check_segmenter
from labels4free.training.segmenter.pseudo_labels import PhotoLabels
from labels4free.training_loop.ema import Ema
from labels4free.training_loop.precision import Precision
from labels4free.training_loop.state import Part, Update, restore, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from labels4free.data.images.photos import PhotoStore
    from labels4free.training.segmenter.augmentation.augment import Pictures
    from labels4free.training.segmenter.config import SegmenterConfig, SegmenterLossConfig
    from labels4free.training.segmenter.example_stream import ExampleStream
    from labels4free.training.segmenter.pair_cache import PairCache
    from labels4free.training_loop.contracts import Check

_BETAS = (0.9, 0.99)
_RAMP = 0.08
_PHOTOS = 0x9407  # draws of which examples are photos, none of the augmentation's


class SegmenterData(NamedTuple):
    """What a segmenter is trained and checked on.

    Attributes:
        pairs: Trained on.
        held_out: Only checked on.
        pictures: Backgrounds of the user; None for none.
        photos: Unlabelled photos; None for none.
    """

    pairs: PairCache
    held_out: PairCache
    pictures: Pictures | None = None
    photos: PhotoStore | None = None


class Drawn(NamedTuple):
    """A training example, and whether it is a photo."""

    example: Example
    photo: bool


class SegmenterTrainer:
    """Trains a segmenter on image/mask pairs, augmented: the training step and its state.

    Args:
        data: What to train and check on.
        config: Settings.
        stream: Makes the examples.
        restart: How often it was started over: decides first weights and draws, and how careful the settings are.
        pretrained: The network to begin with, of the size that the settings ask for; None for random weights.
        device: Where to train.

    Attributes:
        config: Settings of this restart: :meth:`SegmenterConfig.hardened`.
        restart: 0 at first; each automatic restart adds 1.
        iteration: Steps done.
        network: The segmenter.
        average: Its running average: what is checked, shown and kept in the end.
        labeller: The average that labelled the photos of this round; None before the first.
    """

    warmup = 0

    def __init__(
        self,
        data: SegmenterData,
        config: SegmenterConfig,
        stream: ExampleStream[Drawn],
        *,
        restart: int = 0,
        pretrained: SegmenterNetwork | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        config = config.hardened(restart)
        self.data, self.config, self.stream, self.restart = data, config, stream, restart
        self.device = torch.device(device)
        self.precision = Precision(config.precision, self.device)
        self.seed = derive_seed(config.seed, restart)
        self.iteration = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, restart, -1))
            self.network = new_network(config)
        if pretrained is not None:
            self.network.load_state_dict(pretrained.state_dict())
        # Convolutions of few channels are much faster so on CPUs.
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # lacks this form
        own = config.optimizer
        self.average = Ema(self.network, own.ema_half_life, ramp=_RAMP, average_buffers=True)
        parameters = self.network.parameters()
        adam = torch.optim.AdamW(parameters, own.learning_rate, _BETAS, weight_decay=own.weight_decay)
        self.update = Update(adam, self.precision, own.max_gradient_norm)
        self._label_by(None)

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.config.steps

    @property
    def kept(self) -> SegmenterNetwork:
        """The network that is checked, shown and kept in the end: the average."""
        return self.average.module

    def step(self) -> dict[str, float]:
        """Do one step; returns its losses.

        Raises:
            FloatingPointError: If the loss is not finite; the network is then untouched.
        """
        config, step = self.config, self.iteration
        if step in config.round_starts():
            self._label_by(copy.deepcopy(self.kept))
        drawn = self._batch()
        batch = joined([one.example for one in drawn])
        image, alpha, weight = (part.to(self.device) for part in batch)
        logits = self.precision.logits(self.network, image.contiguous(memory_format=torch.channels_last))
        loss, numbers = segmenter_loss(logits, alpha, weight, config.loss)
        self.update.learning_rate = learning_rate(config, step)
        self.update.apply("the segmenter's loss", [(loss, {})])
        self.average.update(self.network, step)
        self.iteration += 1
        fractions = (
            {"photo_fraction": sum(one.photo for one in drawn) / len(drawn)} if self.labeller is not None else {}
        )
        return {**numbers, "foreground_ratio": float(alpha.mean()), **fractions}

    def _batch(self) -> list[Drawn]:
        size = self.config.batch_size
        later = [start for start in self.config.round_starts() if start > self.iteration]
        end = min([self.total, *later])  # from there on photos are labelled by another network
        return self.stream.batch(self._make, self.iteration * size, size, end * size)

    def _label_by(self, labeller: SegmenterNetwork | None) -> None:
        """Have a network label the photos from now on; None: no photos."""
        self.labeller = labeller
        labels = None
        if labeller is not None and self.data.photos is not None:
            labels = PhotoLabels(self.data.photos, labeller, self.config.self_training)
        self._make = _maker(self.data, self.config, self.seed, labels)

    def check(self) -> Check:
        """Examine the average on the pairs that are kept apart, and on photos."""
        return check_segmenter(self.kept, self.data.held_out, self.config, self.data.pictures, self.data.photos)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, but the pairs, the photos and the settings."""
        labeller = None if self.labeller is None else dict(self.labeller.state_dict())
        return {**state_of(self), "pairs": self.data.pairs.digest, "labeller": labeller}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            CheckpointError: If it is the state of another network, or one that was trained on other pairs.
        """
        if state.get("pairs") != self.data.pairs.digest:
            raise CheckpointError("The checkpoint is of a run on other pairs than these: put those back.")
        restore(self, state)
        labeller = None
        if state["labeller"] is not None:
            labeller = copy.deepcopy(self.kept)
            labeller.load_state_dict(state["labeller"])
        self._label_by(labeller)

    def parts(self) -> dict[str, Part]:
        """What a checkpoint holds, by name."""
        return {"network": self.network, "average": self.average, **self.update.parts()}


def new_network(config: SegmenterConfig) -> SegmenterNetwork:
    """The segmenter that the settings ask for, untrained."""
    network = config.network
    return SegmenterNetwork(
        network.widths,
        network.decoder_widths,
        detail_width=network.detail_width,
        head_width=network.head_width,
        working_size=config.photo_size,
    )


def joined(examples: list[Example]) -> Example:
    """Examples as a batch."""
    return Example(*(torch.cat(parts) for parts in zip(*examples, strict=True)))


def learning_rate(config: SegmenterConfig, step: int) -> float:
    """Learning-rate schedule: linear warm-up, times half a cosine over all steps."""
    rise = min(1.0, (step + 1) / max(1, config.optimizer.warmup_steps))
    return config.optimizer.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def segmenter_loss(
    logits: Tensor, alpha: Tensor, weight: Tensor, config: SegmenterLossConfig
) -> tuple[Tensor, dict[str, float]]:
    """The segmenter's loss: cross entropy, IoU and L1 against soft targets.

    Args:
        logits: [N, 1, S, S].
        alpha: The targets, of the same shape, in [0, 1].
        weight: How much each pixel counts, of the same shape, in [0, 1]; pixels near the border then count more.
        config: Weights of the terms.

    Returns:
        The loss, and it and its unweighted terms by name.
    """
    weight = weight * (1 + config.border * losses.border_emphasis(alpha, config.border_width))
    predicted = logits.sigmoid()
    terms = {
        "cross_entropy": losses.weighted_mean(
            F.binary_cross_entropy_with_logits(logits, alpha, reduction="none"), weight
        ),
        "iou": losses.soft_iou_loss(predicted, alpha, weight),
        "absolute": losses.weighted_mean((predicted - alpha).abs(), weight),
    }
    loss = torch.stack([getattr(config, name) * term for name, term in terms.items()]).sum()
    return loss, {"loss": loss.item(), **{f"loss_{name}": term.item() for name, term in terms.items()}}


def _maker(
    data: SegmenterData, config: SegmenterConfig, seed: int, labels: PhotoLabels | None
) -> Callable[[int], Drawn]:
    """What makes the example of a number."""

    def make(number: int) -> Drawn:
        photo = None
        if labels is not None:
            random = SeededRandom(seed, number, _PHOTOS)
            if random.chance(config.self_training.photo_fraction):
                photo = labels.example(random.below(len(labels)))
        example = training_example(data.pairs, config.augmentation, seed, number, pictures=data.pictures, example=photo)
        return Drawn(example, photo is not None)

    return make
