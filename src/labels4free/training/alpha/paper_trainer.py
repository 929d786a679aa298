"""The paper's step (Abdal et al. 2021, arXiv 2103.14968, ``RameenAbdal/Labels4Free`` ``train.py``), rendering live.

Each step the discriminator learns to tell composites from real images, every ``r1_interval``-th time with a penalty of
its own step, and the alpha network learns to make composites that pass. Four renderings a sample: foreground and
background, for either. ``trainer.py`` is the recipe that renders once.

:meth:`PaperTrainer.step` is the whole step. Micro-batch m of step i draws from generators seeded by (seed, restart,
i, m), so that a resumed run is the uninterrupted one, and nothing depends on who works on which micro-batch.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional as F

from labels4free import losses
from labels4free.generators.views import render_again
from labels4free.layered import LayeredGenerator, composite
from labels4free.networks.discriminator import Discriminator
from labels4free.seeds import derive_seed, generator_for
from labels4free.training.alpha.monitor import check_masks
from labels4free.training.discriminator_inputs.augmentation import Augmenter
from labels4free.training_loop.distributed import process_group
from labels4free.training_loop.ema import Ema
from labels4free.training_loop.precision import Precision
from labels4free.training_loop.state import Part, Update, restore, state_of
from labels4free.types import LayeredImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from labels4free.generators.base import Generator
    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.training.alpha.paper_config import (
        PaperAlphaConfig,
        PaperConfig,
        PaperDiscriminatorConfig,
    )
    from labels4free.training.discriminator_inputs.reals import ShuffledReals
    from labels4free.training_loop.contracts import Check

_CHANNEL_BASE = 16384  # channels at resolution R are this over R, times the multiplier
_REALS, _FOR_DISCRIMINATOR, _FOR_ALPHA, _NOISE = range(4)  # what a draw is for
_AUGMENTATION = 2 * _NOISE  # added to one of them, as _NOISE is
_SHOWN = 0x5A0E  # latents that are shown and checked on are none of the training's


class _Latents(NamedTuple):
    """What decides the styles of a batch: z [N, z_dim], fine z or None, labels or None, first row of the fine z [N]."""

    coarse: Tensor
    fine: Tensor | None
    labels: Tensor | None
    crossover: Tensor


class PaperTrainer:
    """Trains an alpha network as the paper does: the training step and its state, rendering live.

    Args:
        generator: The frozen generator, on the device to train on.
        network: An alpha network for it, whose weights are drawn anew here.
        config: Settings.
        restart: How often it was started over: decides first weights and draws, and how careful the settings are.
        reals: Real images at the composites' resolution; None for the generator's own samples.
        pretrained: A discriminator to begin with, which is copied; None for random weights.

    Attributes:
        config: Settings of this restart: :meth:`PaperConfig.hardened`.
        restart: 0 at first; each automatic restart adds 1.
        iteration: Steps done.
        network: The alpha network.
        average: Its running average.
        discriminator: Tells composites from real images.
    """

    warmup = 0

    def __init__(
        self,
        generator: Generator,
        network: AlphaNetwork,
        config: PaperConfig,
        *,
        restart: int = 0,
        reals: ShuffledReals | None = None,
        pretrained: Discriminator | None = None,
    ) -> None:
        config = config.hardened(restart)
        self.generator, self.config, self.restart, self.reals = generator, config, restart, reals
        self.device = generator.w_avg.device
        self.precision = Precision(config.precision, self.device)
        self.resolution = config.resolution or generator.resolution
        self.iteration = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, restart, -1))
            self.network = type(network).from_config(network.config()).to(self.device)
            self.discriminator = copy.deepcopy(pretrained) if pretrained else self._new_discriminator()
        self.discriminator.to(self.device).train().requires_grad_(True)
        self.augmenter = Augmenter(config.augmentation)
        self._judged: list[Tensor] = []  # logits of the real images of this step
        self.average = Ema(self.network, config.alpha.ema_half_life, ramp=config.alpha.ema_ramp)
        self.alpha_update = Update(_adam(self.network, config.alpha), self.precision)
        self.discriminator_update = Update(_adam(self.discriminator, config.discriminator), self.precision)

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.config.steps

    @property
    def kept(self) -> AlphaNetwork:
        """The network that is checked, shown and kept in the end: the average, or faithfully the last step's."""
        return self.network if self.config.faithful else self.average.module

    def step(self) -> dict[str, float]:
        """Do one step; returns its losses.

        Raises:
            FloatingPointError: If a loss is not finite; the network that it was for is then untouched.
        """
        reals = {m: self._draw_reals(m) for m in self._micro_batches}
        judge, critic = self.discriminator_update, "The discriminator's"
        self._judged = []
        logs = self._move(judge, f"{critic} loss", lambda m: self._discriminator_loss(m, reals[m]))
        self.augmenter.update(torch.cat(self._judged))
        logs |= self.augmenter.numbers()
        if self.iteration % self.config.discriminator.r1_interval == 0:
            logs |= self._move(judge, f"{critic} penalty", lambda m: self._penalty(reals[m]))
        with _frozen(self.discriminator):
            logs |= self._move(self.alpha_update, "The alpha network's loss", self._alpha_loss)
        self.average.update(self.network, self.iteration)
        self.iteration += 1
        return logs

    @property
    def _micro_batches(self) -> Sequence[int]:
        """Numbers of this process's micro-batches."""
        return process_group().shard(range(self.config.accumulation))

    def _move(
        self, update: Update, what: str, loss_of: Callable[[int], tuple[Tensor, dict[str, float]]]
    ) -> dict[str, float]:
        """One step on the mean loss of all micro-batches; returns the mean of what they log."""
        mine = self._micro_batches
        return update.apply(what, map(loss_of, mine), len(mine))

    def _discriminator_loss(self, m: int, real: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Loss on the real images and composites of micro-batch m, and what to log of it."""
        with torch.no_grad():
            fake = self._composite(self._draw_layers(_FOR_DISCRIMINATOR, m))
            fake = self.augmenter(fake, self._rng(_FOR_DISCRIMINATOR + _AUGMENTATION, m))
            real = self.augmenter(real, self._rng(_REALS + _AUGMENTATION, m))
        real_logits, fake_logits = self._judge(real), self._judge(fake)
        loss = losses.discriminator_logistic(real_logits, fake_logits)
        self._judged.append(real_logits.detach())
        accuracy = 0.5 * ((real_logits > 0).float().mean() + (fake_logits < 0).float().mean())
        return loss, {"loss_discriminator": loss.item(), "accuracy": accuracy.item()}

    def _penalty(self, real: Tensor) -> tuple[Tensor, dict[str, float]]:
        """R1 on real images, lazily: every r1_interval steps, with so many times the weight."""
        config, real = self.config.discriminator, real.detach().requires_grad_()
        logits = self._judge(real, exact=True)
        penalty = losses.r1_penalty(logits, real)
        loss = config.r1_gamma / 2 * config.r1_interval * penalty
        if self.config.faithful:
            loss = loss + logits[0].sum()  # meant to be multiplied by 0, to please a wrapper; it was not
        return loss, {"r1": penalty.item()}

    def _alpha_loss(self, m: int) -> tuple[Tensor, dict[str, float]]:
        """Loss of the alpha network on micro-batch m, and what to log of it."""
        config = self.config.loss
        layers = self._draw_layers(_FOR_ALPHA, m)
        alpha = layers.alpha
        fake = self.augmenter(self._composite(layers), self._rng(_FOR_ALPHA + _AUGMENTATION, m))
        adversarial = losses.generator_nonsaturating(self._judge(fake))
        binary = losses.binarization(alpha)
        foreground = losses.foreground_coverage(alpha, config.min_foreground_coverage)
        background = losses.background_coverage(alpha, config.min_background_coverage)
        loss = (
            config.adversarial * adversarial
            + config.binarization * binary
            + config.foreground_coverage * foreground
            + config.background_coverage * background
        )
        terms = {"loss_adversarial": adversarial, "binarization": binary, "foreground_ratio": alpha.mean()}
        terms |= {"loss_foreground_coverage": foreground, "loss_background_coverage": background}
        return loss, {name: value.item() for name, value in terms.items()}

    def _judge(self, images: Tensor, *, exact: bool = False) -> Tensor:
        return self.precision.logits(self.discriminator, images, exact=exact)

    def _composite(self, layers: LayeredImage) -> Tensor:
        return self._shrunk(composite(*layers))

    def _shrunk(self, image: Tensor) -> Tensor:
        """Average an image of the generator's size to the composites' resolution."""
        factor = image.shape[-1] // self.resolution
        return F.avg_pool2d(image, factor) if factor > 1 else image

    def _draw_layers(self, purpose: int, m: int) -> LayeredImage:
        """Render the layers of micro-batch m."""
        config = self.config.samples
        rng, noise = self._rng(purpose, m), self._rng(purpose + _NOISE, m, self.device)
        with torch.no_grad():
            latents = self._draw_latents(rng)
            behind = latents if self.config.one_latent else self._draw_latents(rng)
            ws = self._styles(latents, config.truncation_psi)
            background_ws = self._styles(behind, config.background_truncation_psi)
        render = LayeredGenerator(self.generator, self.precision.network(self.network))
        layers: LayeredImage = render(ws, background_ws, noise="random", background=config.background_mode, rng=noise)
        return layers

    def _draw_latents(self, rng: torch.Generator) -> _Latents:
        n, generator = self.config.batch_size, self.generator
        z, fine, labels = torch.randn(n, generator.z_dim, generator=rng), None, None
        crossover = torch.full((n,), generator.num_ws)
        if self.config.samples.style_mixing:
            fine = torch.randn(n, generator.z_dim, generator=rng).to(self.device)
            mixed = torch.rand(n, generator=rng) < self.config.samples.style_mixing
            crossover = torch.where(mixed, torch.randint(1, generator.num_ws, (n,), generator=rng), crossover)
        if generator.c_dim:
            labels = torch.eye(generator.c_dim)[torch.randint(generator.c_dim, (n,), generator=rng)].to(self.device)
        return _Latents(z.to(self.device), fine, labels, crossover.to(self.device))

    def _styles(self, latents: _Latents, truncation_psi: float) -> Tensor:
        """The styles ws, [N, num_ws, w_dim], of a batch of latents."""
        ws = self.generator.map(latents.coarse, truncation_psi, labels=latents.labels)
        if latents.fine is None:
            return ws
        fine = self.generator.map(latents.fine, truncation_psi, labels=latents.labels)
        rows = torch.arange(self.generator.num_ws, device=self.device)
        return torch.where((rows < latents.crossover[:, None])[:, :, None], ws, fine)

    @torch.no_grad()
    def _draw_reals(self, m: int) -> Tensor:
        """The real images of micro-batch m of this step."""
        n = self.config.batch_size
        if self.reals is not None:
            return self.reals.take((self.iteration * self.config.accumulation + m) * n, n).to(self.device)
        ws = self._styles(self._draw_latents(self._rng(_REALS, m)), self.config.samples.truncation_psi)
        noise = self._rng(_REALS + _NOISE, m, self.device)
        return self._shrunk(self.generator.synthesize(ws, noise="random", rng=noise).image)

    def _rng(self, purpose: int, m: int, device: torch.device | str = "cpu") -> torch.Generator:
        return generator_for(self.config.seed, self.restart, self.iteration, m, purpose, device=device)

    @torch.no_grad()
    def show(self, indices: Sequence[int]) -> LayeredImage:
        """Layers of samples that training does not see, by the network that would be kept, at the composites' size."""
        config, count = self.config.samples, self.config.batch_size
        render = LayeredGenerator(self.generator, self.kept)
        seed = derive_seed(self.config.seed, _SHOWN)
        parts = []
        for start in range(0, len(indices), count):
            numbers = indices[start : start + count]
            ws = torch.cat([self.generator.draw_ws(seed, 2 * k, config.truncation_psi) for k in numbers])
            behind = [2 * k + (0 if self.config.one_latent else 1) for k in numbers]
            psi = config.background_truncation_psi
            background_ws = torch.cat([self.generator.draw_ws(seed, k, psi) for k in behind])
            layers = render(ws, background_ws, background=config.background_mode)
            parts.append([self._shrunk(layer) for layer in layers])
        return LayeredImage(*(torch.cat(layer) for layer in zip(*parts, strict=True)))

    @torch.no_grad()
    def check(self) -> Check:
        """Examine the network that would be kept, on samples that training does not see, in the main process alone."""
        count = self.config.batch_size

        def judge(images: Tensor) -> Tensor:
            return torch.cat([self.discriminator(part) for part in images.split(count)])

        layers = self.show(range(self.config.monitor.samples))
        again = {
            augmentation: self._alpha_again(augmentation, number)
            for augmentation, number in self.config.monitor.augmented_samples.items()
        }
        return check_masks(layers.foreground, layers.background, layers.alpha, judge, again)

    def _alpha_again(self, augmentation: str, number: int) -> Tensor:
        """Alpha of the first samples of :meth:`show`, rendered again: one rendering each."""
        seed, psi = derive_seed(self.config.seed, _SHOWN), self.config.samples.truncation_psi
        parts = []
        for k in range(number):
            ws = self.generator.draw_ws(seed, 2 * k, psi)
            features = render_again(self.generator, augmentation, ws, seed, 2 * k, psi).features
            parts.append(self._shrunk(self.kept(features)))
        return torch.cat(parts)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, but the generator, the images and the settings."""
        return state_of(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            CheckpointError: If it is the state of another network.
        """
        restore(self, state)

    def parts(self) -> dict[str, Part]:
        """What a checkpoint holds, by name."""
        updates = self.alpha_update.parts("alpha_") | self.discriminator_update.parts("discriminator_")
        networks: dict[str, Part] = {"network": self.network, "average": self.average}
        return networks | {"discriminator": self.discriminator} | updates | self.augmenter.parts()

    def _new_discriminator(self) -> Discriminator:
        config = self.config.discriminator
        base = _CHANNEL_BASE * config.channel_multiplier
        return Discriminator(self.resolution, channel_base=base, channel_max=config.channel_max)


def _adam(module: nn.Module, config: PaperAlphaConfig | PaperDiscriminatorConfig) -> torch.optim.Adam:
    """Adam with the correction for lazy regularisation (Karras et al. 2020, arXiv 1912.04958, appendix B)."""
    ratio = config.lazy_ratio
    betas = (config.beta1**ratio, config.beta2**ratio)
    return torch.optim.Adam(module.parameters(), config.learning_rate * ratio, betas)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Parameters take no gradient while the context is open; gradients still pass through."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
