"""Train a StyleGAN2 on images: the game of generator and discriminator, step by step.

Each step the discriminator learns to tell real images from generated ones (with the R1 penalty every ``r1_interval``
steps, in an optimiser's step of its own), then the generator learns to make images that pass (with path-length
regularisation every ``path_length_interval`` steps, likewise). Karras et al. 2020, arXiv 1912.04958 and 2006.06676; the
order of the four is that of ``rosinality/stylegan2-pytorch`` ``train.py``.

:meth:`GeneratorTrainer.step` is the whole step. Micro-batch m of step i draws from generators seeded by (seed, restart,
i, m), so that a resumed run is the uninterrupted one, and nothing depends on who works on which micro-batch.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from labels4free import losses
from labels4free.errors import CheckpointError
from labels4free.seeds import generator_for
from labels4free.training.discriminator_inputs.augmentation import Augmenter
from labels4free.training.generator.check import check_images
from labels4free.training.generator.first_networks import freeze_blocks
from labels4free.training_loop.distributed import process_group
from labels4free.training_loop.ema import Ema
from labels4free.training_loop.precision import Precision
from labels4free.training_loop.state import Part, Update, restore, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from labels4free.generators.stylegan2 import StyleGAN2
    from labels4free.training.discriminator_inputs.reals import ShuffledReals
    from labels4free.training.generator.config import GeneratorConfig
    from labels4free.training.generator.first_networks import FirstNetworks
    from labels4free.training_loop.contracts import Check

_BETAS = (0.0, 0.99)
# What a draw is for.
_REALS, _FOR_DISCRIMINATOR, _FOR_GENERATOR, _PATHS, _NOISE, _AUGMENTATION, _PSEUDO_REALS = range(7)

Terms = tuple["Tensor", dict[str, float]]
"""A loss and what to log of it."""


class Shown(NamedTuple):
    """What the discriminator judges: images [N, 3, R, R] and their classes [N, c_dim], one-hot, if there are any."""

    images: Tensor
    labels: Tensor | None


class GeneratorTrainer:
    """Trains a generator against a discriminator on real images: the training step and its state.

    Args:
        networks: What to begin with; they are trained in place.
        config: Settings.
        reals: Real images, in their order.
        compared: [N, 3, R, R], real images that the checks compare with, on any device.
        labels: Class number of each real image; None for a generator without classes.
        restart: How often it was started over: decides the draws, and how careful the settings are.
        device: Where to train.

    Attributes:
        config: Settings of this restart: :meth:`GeneratorConfig.hardened`.
        restart: 0 at first; each automatic restart adds 1.
        iteration: Steps done.
        network: The generator, trainable.
        average: Its running average: what is checked, shown and kept in the end.
        discriminator: Tells real images from generated ones.
        mean_path_length: Running mean that path lengths are drawn to; 0 before the first.
    """

    warmup = 0

    def __init__(
        self,
        networks: FirstNetworks,
        config: GeneratorConfig,
        reals: ShuffledReals,
        compared: Tensor,
        *,
        labels: Sequence[int] | None = None,
        restart: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        config = config.hardened(restart)
        self.config, self.restart, self.reals, self.compared = config, restart, reals, compared
        self.labels = None if labels is None else torch.tensor(labels)
        self.device = torch.device(device)
        self.precision = Precision(config.precision, self.device)
        self.iteration = 0
        self.network: StyleGAN2 = networks.generator.to(self.device)
        self.discriminator = networks.discriminator.to(self.device)
        freeze_blocks(self.discriminator, config.discriminator.frozen_blocks)
        self._judging = [weight for weight in self.discriminator.parameters() if weight.requires_grad]
        own = config.resolved
        half_life, ramp = own.ema_half_life / own.batch_size, config.generator.ema_ramp
        self.average: Ema[StyleGAN2] = Ema(self.network, half_life, ramp=None if config.pretrained else ramp or None)
        lazy = config.generator.path_length_interval if config.generator.path_length else None
        adam = _adam(self.network.parameters(), own.generator_learning_rate, lazy)
        self.generator_update = Update(adam, self.precision)
        lazy = config.discriminator.r1_interval if own.r1_gamma else None
        adam = _adam(self._judging, own.discriminator_learning_rate, lazy)
        self.discriminator_update = Update(adam, self.precision)
        self.augmenter = Augmenter(config.augmentation)
        self.mean_path_length = 0.0
        self._real_logits: list[Tensor] = []  # of this step

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.config.steps

    @property
    def kept(self) -> StyleGAN2:
        """The network that is checked, shown and kept in the end: the average."""
        return self.average.module

    @property
    def images_seen(self) -> int:
        """Real images that the discriminator has been shown."""
        return self.iteration * self.config.resolved.batch_size

    def step(self) -> dict[str, float]:
        """Do one step; returns its losses.

        Raises:
            FloatingPointError: If a loss is not finite; the network that it was for is then untouched.
        """
        of_generator, of_discriminator = self.config.generator, self.config.discriminator
        judge, make = self.discriminator_update, self.generator_update
        self._real_logits = []
        logs = self._move(judge, "The discriminator's loss", self._discriminator_loss)
        self.augmenter.update(torch.cat(self._real_logits))
        logs |= self.augmenter.numbers()
        if self.config.resolved.r1_gamma and self.iteration % of_discriminator.r1_interval == 0:
            logs |= self._move(judge, "The discriminator's penalty", self._penalty)
        with _frozen(self._judging):
            logs |= self._move(make, "The generator's loss", self._generator_loss)
        if of_generator.path_length and self.iteration % of_generator.path_length_interval == 0:
            found = self._move(make, "The path-length penalty", self._path_length)
            self.mean_path_length += of_generator.path_length_decay * (found["path_length"] - self.mean_path_length)
            logs |= found
        self.average.update(self.network, self.iteration)
        self.iteration += 1
        return {"images": float(self.images_seen), **logs}

    def _move(self, update: Update, what: str, loss_of: Callable[[int], Terms]) -> dict[str, float]:
        """One step on the mean loss of all micro-batches; returns the mean of what they log."""
        mine: Sequence[int] = process_group().shard(range(self.config.accumulation))
        return update.apply(what, map(loss_of, mine), len(mine))

    def _discriminator_loss(self, m: int) -> Terms:
        with torch.no_grad():
            fake, real = self._fakes(_FOR_DISCRIMINATOR, m), self._reals(m)
        real_logits, fake_logits = self._judge(real), self._judge(fake)
        of = losses.relativistic if self._relativistic else losses.discriminator_logistic
        loss = of(real_logits, fake_logits)
        self._real_logits.append(real_logits.detach())
        accuracy = 0.5 * ((real_logits > 0).float().mean() + (fake_logits < 0).float().mean())
        return loss, {"loss_discriminator": loss.item(), "accuracy": accuracy.item()}

    def _penalty(self, m: int) -> Terms:
        """R1 (and R2), lazily: every r1_interval steps, with so many times the weight."""
        logs, total = {}, torch.zeros((), device=self.device)
        with torch.no_grad():
            sides = {"r1": self._reals(m)}
            if self.config.loss.r2:
                sides["r2"] = self._fakes(_FOR_DISCRIMINATOR, m)
        for name, shown in sides.items():
            shown.images.requires_grad_()
            logits = self._judge(shown, exact=True)
            penalty = losses.r1_penalty(logits, shown.images)
            # Adam shall count the step of every weight, also of biases that no gradient of a gradient reaches.
            logs[name], total = penalty.item(), total + penalty + 0 * logits.sum()
        return self.config.resolved.r1_gamma / 2 * self.config.discriminator.r1_interval * total, logs

    def _generator_loss(self, m: int) -> Terms:
        fake_logits = self._judge(self._fakes(_FOR_GENERATOR, m))
        if self._relativistic:
            with torch.no_grad():
                real_logits = self._judge(self._reals(m))
            loss = losses.relativistic(fake_logits, real_logits)
        else:
            loss = losses.generator_nonsaturating(fake_logits)
        return loss, {"loss_adversarial": loss.item()}

    def _path_length(self, m: int) -> Terms:
        """Path-length regularisation, lazily, in full precision, on a smaller batch."""
        config = self.config.generator
        count = max(1, self._micro_batch // config.path_length_shrink)
        ws, _ = self._styles(self._rng(_PATHS, m), count)
        noise = self._rng(_PATHS, m, _NOISE, device=self.device)
        image = self.network.synthesize(ws, noise="random", rng=noise).image
        direction = torch.randn(image.shape, generator=self._rng(_PATHS, m, _AUGMENTATION)).to(self.device)
        lengths = losses.path_lengths(image, ws, direction)
        mean = self.mean_path_length + config.path_length_decay * (lengths.mean() - self.mean_path_length)
        penalty = (lengths - mean).square().mean()
        logs = {"path_length": lengths.mean().item(), "path_length_penalty": penalty.item()}
        return config.path_length * config.path_length_interval * penalty + 0 * image.sum(), logs

    @property
    def _relativistic(self) -> bool:
        return self.config.loss.adversarial == "relativistic"

    @property
    def _micro_batch(self) -> int:
        return self.config.resolved.batch_size // self.config.accumulation

    def _fakes(self, purpose: int, m: int) -> Shown:
        """Generated images of micro-batch m of this step, augmented."""
        ws, labels = self._styles(self._rng(purpose, m), self._micro_batch)
        noise = self._rng(purpose, m, _NOISE, device=self.device)
        with self.precision.autocast():
            image: Tensor = self.network.synthesize(ws, noise="random", rng=noise).image
        return Shown(self._augmented(image.float(), purpose, m), labels)

    def _reals(self, m: int) -> Shown:
        """The real images of micro-batch m of this step, augmented."""
        n = self._micro_batch
        start = (self.iteration * self.config.accumulation + m) * n
        images = self.reals.take(start, n).to(self.device)
        labels = None if self.labels is None else self._one_hot(self.labels[self.reals.indices(start, n)])
        shown = Shown(self._augmented(images, _REALS, m), labels)
        return self._with_pseudo_reals(shown, m) if self.config.discriminator.pseudo_reals else shown

    def _augmented(self, images: Tensor, purpose: int, m: int) -> Tensor:
        if self.config.discriminator.pseudo_reals:
            return images
        return self.augmenter(images, self._rng(purpose, m, _AUGMENTATION))

    @torch.no_grad()
    def _with_pseudo_reals(self, shown: Shown, m: int) -> Shown:
        """Real images, some of them replaced by generated ones: deceived, the discriminator learns less by heart."""
        rng = self._rng(_REALS, m, _AUGMENTATION)
        replaced = (torch.rand(len(shown.images), generator=rng) < self.augmenter.probability).to(self.device)
        if not bool(replaced.any()):
            return shown
        fakes = self._fakes(_PSEUDO_REALS, m)
        images = torch.where(replaced[:, None, None, None], fakes.images, shown.images)
        if shown.labels is None or fakes.labels is None:
            return Shown(images, None)
        return Shown(images, torch.where(replaced[:, None], fakes.labels, shown.labels))

    def _styles(self, rng: torch.Generator, count: int) -> tuple[Tensor, Tensor | None]:
        """Styles ws [count, num_ws, w_dim] of drawn latents, some of them mixed, and their classes.

        Classes are drawn as often as the real images have them.
        """
        generator, mixing, labels = self.network, self.config.generator.style_mixing, None
        z = torch.randn(count, generator.z_dim, generator=rng).to(self.device)
        if self.labels is not None:
            labels = self._one_hot(self.labels[torch.randint(len(self.labels), (count,), generator=rng)])
        if not mixing:
            return generator.map(z, labels=labels), labels
        fine = torch.randn(count, generator.z_dim, generator=rng).to(self.device)
        mixed = torch.rand(count, generator=rng) < mixing
        crossover = torch.where(mixed, torch.randint(1, generator.num_ws, (count,), generator=rng), generator.num_ws)
        ws = generator.map(torch.cat([z, fine]), labels=None if labels is None else labels.repeat(2, 1))
        coarse = (torch.arange(generator.num_ws) < crossover[:, None]).to(self.device)
        return torch.where(coarse[:, :, None], ws[:count], ws[count:]), labels

    def _one_hot(self, numbers: Tensor) -> Tensor:
        return torch.eye(self.network.c_dim)[numbers].to(self.device)

    def _judge(self, shown: Shown, *, exact: bool = False) -> Tensor:
        discriminator = partial(self.discriminator, labels=shown.labels)
        return self.precision.logits(discriminator, shown.images, exact=exact)

    def _rng(self, purpose: int, m: int, part: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
        return generator_for(self.config.seed, self.restart, self.iteration, m, purpose, part, device=device)

    @torch.no_grad()
    def check(self) -> Check:
        """Compare images of the average with real ones, in the main process alone."""
        own = self.config.checks
        return check_images(self.sample(len(self.compared)), self.compared, own.min_diversity, own.max_diversity)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """Images of the average, the same latents each time: [count, 3, R, R], about [-1, 1], on the CPU."""
        at_once = max(1, self._micro_batch)
        parts = []
        for start in range(0, count, at_once):
            numbers = range(start, min(start + at_once, count))
            ws = torch.cat([self.kept.draw_ws(self.config.seed, k) for k in numbers])
            parts.append(self.kept.synthesize(ws).image.float().cpu())
        return torch.cat(parts)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, but the images and the settings."""
        return {**state_of(self), "mean_path_length": self.mean_path_length}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            CheckpointError: If it is the state of other networks.
        """
        restore(self, state)
        if not isinstance(state.get("mean_path_length"), float):
            raise CheckpointError("The checkpoint does not fit this run: it has no mean_path_length.")
        self.mean_path_length = state["mean_path_length"]

    def parts(self) -> dict[str, Part]:
        """What a checkpoint holds, by name."""
        updates = self.generator_update.parts("generator_") | self.discriminator_update.parts("discriminator_")
        networks: dict[str, Part] = {"network": self.network, "average": self.average}
        return networks | {"discriminator": self.discriminator} | updates | self.augmenter.parts()


def _adam(parameters: Any, rate: float, interval: int | None) -> torch.optim.Adam:
    """Adam, corrected for lazy regularisation (Karras et al. 2020, arXiv 1912.04958, appendix B)."""
    ratio = 1.0 if interval is None else interval / (interval + 1)
    return torch.optim.Adam(parameters, rate * ratio, (_BETAS[0] ** ratio, _BETAS[1] ** ratio))


@contextmanager
def _frozen(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Weights take no gradient while the context is open; gradients still pass through."""
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
