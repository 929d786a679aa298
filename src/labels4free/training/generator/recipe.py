"""How a generator is trained: real images in a shuffled order, networks to begin with, sheets and films to look at."""

from __future__ import annotations

import copy
import logging
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from labels4free.checkpoints.foreign.conversion import mean_w
from labels4free.checkpoints.native import write_native
from labels4free.checkpoints.places import beside
from labels4free.checkpoints.state_hash import state_hash
from labels4free.data.images.classes import image_classes
from labels4free.data.images.dataset import read_image, shorter_sides
from labels4free.errors import ConfigError, DataError
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.pictures.films import FilmLayout, write_film
from labels4free.pictures.pixels import write_png
from labels4free.seeds import generator_for
from labels4free.training.discriminator_inputs.reals import ShuffledReals
from labels4free.training.generator.first_networks import FirstNetworks, first_networks, freeze_blocks
from labels4free.training.generator.trainer import GeneratorTrainer
from labels4free.training_loop.contracts import GENERATOR
from labels4free.training_loop.distributed import process_group
from labels4free.training_loop.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.data.images.dataset import ImageStore
    from labels4free.generators.stylegan2 import StyleGAN2
    from labels4free.training.generator.config import GeneratorConfig
    from labels4free.training_loop.loop import Loop
    from labels4free.training_loop.run_dir import RunDir

"""The newest average of a run that goes on, in its folder; every verb that takes a generator takes it."""
NEIGHBOURS = "neighbours.png"
"""Generated images beside the real ones that are nearest: whether they are copies."""

FILM = "training.webp"
"""The pictures of a run one after the other: how the images came to be."""

FEWEST_PHOTOS = 20
"""Nothing is learned from fewer images than this."""

_FEW = 300
_LOOKED_AT = 32  # images whose size is looked at
_FPS, _LAST_FRAMES = 6, 12  # the film stays on its last picture for two seconds
_ROWS, _REALS, _GENERATED = 6, 2, 8
_CELL = 128
_COMPARED = 0xC0  # which real images the checks compare with
_NEIGHBOUR_SIDE, _NEIGHBOURS, _AT_ONCE = 32, 3, 1000

_log = logging.getLogger(__name__)


class GeneratorRecipe:
    """How a generator is trained: :class:`GeneratorTrainer` on shuffled real images, from networks to begin with.

    Args:
        images: The real images, at the resolution of the settings.
        config: Settings.
        device: Where to train.

    Raises:
        CheckpointError: If the checkpoint to begin with cannot be read or holds no StyleGAN2.
        ConfigError: If the resolution is larger than the images, the checkpoint's widths differ from the settings', the
            device cannot serve, or the processes cannot share the micro-batches.
        DataError: If there are too few images, or they have no classes where the settings ask for them.
    """

    product = GENERATOR
    advice = (
        "snapshot.safetensors, if there is one, is the last average whose check found nothing wrong. Try twice or half "
        "the discriminator.r1_gamma, or begin with --pretrained."
    )

    def __init__(self, images: ImageStore, config: GeneratorConfig, device: str | torch.device = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self.images = images
        self.classes = image_classes(images.source) if config.classes else None
        own = Precision(config.precision, self.device)  # refuses what the device lacks
        self._half = own.dtype == torch.float16
        _check_enough(images, config)
        _check_size(images)
        group = process_group()
        if config.accumulation % group.size:
            raise ConfigError(
                f"{group.size} processes cannot share {config.accumulation} micro-batches evenly: set accumulation to "
                f"a multiple of {group.size}."
            )
        first = self._first()
        freeze_blocks(first.discriminator, config.discriminator.frozen_blocks)  # refuses too many
        self._notes = first.notes

    def _first(self, restart: int = 0) -> FirstNetworks:
        c_dim = len(self.classes.names) if self.classes else 0
        return first_networks(self.config, restart, half=self._half, c_dim=c_dim)

    def trainers(self, loop: Loop[GeneratorTrainer]) -> Iterator[GeneratorTrainer]:
        """The trainer of a run before each of its steps."""
        if loop.saved is None:
            for note in self._notes:
                _log.info(note)
        yield from loop.trainers(self.trainer)

    def trainer(self, restart: int = 0) -> GeneratorTrainer:
        """Begin to train."""
        reals = ShuffledReals(self.images, self.config.seed, mirror=self.config.mirror)
        first, compared = self._first(restart), self._compared()
        labels = self.classes.labels if self.classes else None
        return GeneratorTrainer(first, self.config, reals, compared, labels=labels, restart=restart, device=self.device)

    def finish(self, loop: Loop[GeneratorTrainer]) -> None:
        """Write the discriminator, the neighbours' sheet and the film, then the generator."""
        loop.finish(lambda: self._with_company(loop))

    def _with_company(self, loop: Loop[GeneratorTrainer]) -> dict[str, Any]:
        """What to note with the generator; what belongs to it is written."""
        noted, trainer = loop.noted(), loop.trainer
        generator, judge = self.finished(trainer), trainer.discriminator
        own = {"generator": {"name": GENERATOR.file, "family": "stylegan2", "state_hash": state_hash(generator)}}
        write_native(
            beside(loop.run.path / GENERATOR.file, "discriminator"),
            kind="discriminator",
            family="stylegan2",
            config=judge.config(),
            state=judge.state_dict(),
            info={**loop.info, **own},
        )
        write_png(loop.run.path / NEIGHBOURS, self.neighbours(trainer))
        _write_film(loop.run, trainer.restart)
        return noted

    def finished(self, trainer: GeneratorTrainer) -> StyleGAN2:
        """The average, as a frozen generator with its mean latent."""
        generator = copy.deepcopy(trainer.kept).float().cpu().freeze()
        generator.w_avg.copy_(mean_w(generator))
        return generator

    @torch.no_grad()
    def picture(self, trainer: GeneratorTrainer) -> NDArray[np.uint8]:
        """Draw real images beside generated ones, always of the same latents."""
        made = trainer.sample(_ROWS * _GENERATED)
        real = trainer.compared[: _ROWS * _REALS]
        rows = [
            [*real[row * _REALS : (row + 1) * _REALS], *made[row * _GENERATED : (row + 1) * _GENERATED]]
            for row in range(_ROWS)
        ]
        rows = [row for row in rows if len(row) == _REALS + _GENERATED] or [list(made[:_GENERATED])]
        titles = ("real", *[""] * (_REALS - 1), "generated", *[""] * (_GENERATED - 1))
        return contact_sheet(rows, titles[-len(rows[0]) :], cell=min(_CELL, self.config.resolution))

    @torch.no_grad()
    def neighbours(self, trainer: GeneratorTrainer) -> NDArray[np.uint8]:
        """Draw generated images, each beside the real ones that are nearest to it: copies would show."""
        made = trainer.sample(_GENERATED)
        wanted = _small(made)
        distances = []
        for start in range(0, len(self.images), _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, len(self.images)))
            distances.append(torch.cdist(wanted, _small(self.images.batch(numbers))))
        nearest = torch.cat(distances, dim=1).topk(min(_NEIGHBOURS, len(self.images)), dim=1, largest=False).indices
        rows = [[made[row], *self.images.batch(nearest[row].tolist())] for row in range(len(made))]
        titles = ("generated", *("real",) * (len(rows[0]) - 1))
        return contact_sheet(rows, titles, cell=min(_CELL, self.config.resolution))

    def _compared(self) -> Tensor:
        """Real images that the checks compare with: as many as are generated for them."""
        order = torch.randperm(len(self.images), generator=generator_for(self.config.seed, _COMPARED))
        return self.images.batch(order[: self.config.checks.samples].tolist())


def _write_film(run: RunDir, restart: int) -> None:
    """Write the pictures of the attempt that went well as a film, if there are any."""
    pictures = [read_image(path) for place, path in run.picture_files() if place.restart == restart]
    if pictures:
        pictures += pictures[-1:] * _LAST_FRAMES
        height, width = pictures[-1].shape[:2]
        write_film(run.path / FILM, FilmLayout((width, height), len(pictures), _FPS), pictures)


def _small(images: Tensor) -> Tensor:
    """[N, D] for distances between images."""
    return F.adaptive_avg_pool2d(images, min(_NEIGHBOUR_SIDE, images.shape[-1])).flatten(1)


def _check_enough(images: ImageStore, config: GeneratorConfig) -> None:
    """Refuse far too few images, and warn of few."""
    count, needed = len(images), max(FEWEST_PHOTOS, config.checks.samples)
    if count < FEWEST_PHOTOS:
        raise DataError(
            f"{images.path} has {count} images; a generator cannot learn from fewer than {FEWEST_PHOTOS}, and hardly "
            f"from fewer than {_FEW}: give more."
        )
    if count < needed:
        raise DataError(
            f"{images.path} has {count} images, but the checks compare {config.checks.samples}: give more, or set "
            f"checks.samples to {count} or less."
        )
    if count < _FEW and config.pretrained is None:
        _log.warning(
            "%s has only %d images: a generator of few images repeats them. Begin with a trained one (--pretrained), "
            "which needs far fewer.",
            images.path,
            count,
        )


def _check_size(images: ImageStore) -> None:
    """Refuse to enlarge images: what is not in them cannot be learned."""
    sides = shorter_sides(images.source, _LOOKED_AT)
    if sides and median(sides) < images.resolution:
        raise ConfigError(
            f"{images.path} has images of about {median(sides):.0f} pixels, but a resolution of {images.resolution} is "
            f"asked for: choose a power of two of at most {max(sides)}."
        )
