"""Train an alpha network on a frozen generator, without any label: the method, step by step.

A composite puts a generated object over another sample's background. The discriminator learns to tell composites from
real images (by default the generator's own samples are the real ones); the alpha network learns to make composites that
it cannot tell. It can only do so by moving whole objects and leaving no trace of their old background behind.

:meth:`AlphaTrainer.step` is the whole step. Every draw of step i comes from a generator seeded by (seed, restart,
i), so that a resumed run is the uninterrupted one. Where n processes share a batch, each makes all of its draws and
keeps every n-th sample: the batch is the same for any n.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from labels4free import losses
from labels4free.layered import composite
from labels4free.networks.discriminator import Discriminator
from labels4free.networks.merge_network import MergeNetwork
from labels4free.seeds import derive_seed, generator_for
from labels4free.training.alpha.backgrounds import draw_backgrounds, filled_fraction
from labels4free.training.alpha.feature_cache import mirrored
from labels4free.training.alpha.masks import disturb, random_masks
from labels4free.training.alpha.monitor import check_masks
from labels4free.training.discriminator_inputs.augmentation import Augmenter
from labels4free.training_loop.distributed import process_group
from labels4free.training_loop.ema import Ema
from labels4free.training_loop.precision import Precision
from labels4free.training_loop.state import Part, Update, restore, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from labels4free.data.images.dataset import ImageStore
    from labels4free.training.alpha.config import TrainConfig
    from labels4free.training.alpha.feature_cache import CachedBatch, FeatureCache
    from labels4free.training_loop.contracts import Check

_BETAS = (0.0, 0.99)
_CHECK = 1 << 40  # step number of the check's draws, none of the training's


class AlphaTrainer:
    """Trains an alpha network against a discriminator: the training step and its state, without labels.

    Args:
        cache: Rendered samples; the last ``config.monitor.samples`` are only checked on.
        network: An alpha network for the cache's maps, whose weights are drawn anew here.
        config: Settings.
        restart: How often it was started over: decides first weights and draws, and how careful the settings are.
        reals: Real images; None for the cache's own.
        pretrained: The network to begin with, on the cache's maps; None for random weights.
        augmentations: Projected maps of the first samples that are only checked on, rendered again (``agreement.py``).

    Attributes:
        config: Settings of this restart: :meth:`TrainConfig.hardened`.
        restart: 0 at first; each automatic restart adds 1.
        iteration: Steps done, the discriminator's warm-up included.
        network: The alpha network on the cache's projected maps.
        average: Its running average: what is checked, shown and kept in the end.
        discriminator: Tells composites from real images.
    """

    def __init__(
        self,
        cache: FeatureCache,
        network: MergeNetwork,
        config: TrainConfig,
        *,
        restart: int = 0,
        reals: ImageStore | None = None,
        pretrained: MergeNetwork | None = None,
        augmentations: Mapping[str, list[Tensor]] | None = None,
    ) -> None:
        config = config.hardened(restart)
        self.cache, self.config, self.restart, self.reals, self.augmentations = (
            cache,
            config,
            restart,
            reals,
            augmentations or {},
        )
        self.bounds = config.loss.bounds[0]
        self.device = cache.images.device
        self.precision = Precision(config.precision, self.device)
        self.iteration = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, restart, -1))
            self.network = MergeNetwork.from_config(network.config()).to(self.device)
            own = config.discriminator
            self.discriminator = Discriminator(
                config.resolution, channel_base=own.channel_base, channel_max=own.channel_max
            ).to(self.device)
        if pretrained is not None:
            self.network.load_state_dict(pretrained.state_dict())
        self.augmenter = Augmenter(config.augmentation)
        self.average = Ema(self.network, config.alpha.ema_half_life, ramp=0.25)
        adam = torch.optim.Adam(self.network.parameters(), config.alpha.learning_rate, _BETAS)
        self.alpha_update = Update(adam, self.precision)
        adam = torch.optim.Adam(self.discriminator.parameters(), own.learning_rate, _BETAS)
        self.discriminator_update = Update(adam, self.precision)
        self.trained_samples = len(cache) - config.monitor.samples

    @property
    def warmup(self) -> int:
        """Steps of the discriminator alone."""
        return self.config.discriminator.warmup_steps

    @property
    def total(self) -> int:
        """Steps of the whole training, the warm-up included."""
        return self.warmup + self.config.steps

    @property
    def alpha_step(self) -> int:
        """Steps of the alpha network done; negative during the warm-up."""
        return self.iteration - self.warmup

    @property
    def kept(self) -> MergeNetwork:
        """The network that is checked, shown and kept in the end: the average."""
        return self.average.module

    def step(self) -> dict[str, float]:
        """Do one step; returns its losses.

        Raises:
            FloatingPointError: If a loss is not finite; the network that it was for is then untouched.
        """
        config, step = self.config, self.alpha_step
        rng = generator_for(config.seed, self.restart, self.iteration)
        logs: dict[str, float] = {}
        for turn in range(config.discriminator.steps_per_alpha_step if step >= 0 else 1):
            logs |= self._discriminator_step(rng, penalise=self._penalty_due(turn))
        if step >= 0:
            logs |= self._alpha_step(rng)
        self.iteration += 1
        return logs

    def _discriminator_step(self, rng: torch.Generator, *, penalise: bool) -> dict[str, float]:
        config = self.config.discriminator
        batch, indices, flip = self._draw(rng)
        with torch.no_grad():
            alpha = self._masks_to_judge(batch, rng)
            fake = composite(batch.images, self._backgrounds(self._logits, indices, flip, rng), alpha)
            fake = self.augmenter(fake, rng, sharded=True)
            real = self.augmenter(self._draw_reals(rng), rng, sharded=True)
        real.requires_grad_(penalise)
        real_logits, fake_logits = self._judge(real, exact=penalise), self._judge(fake)
        loss = losses.discriminator_logistic(real_logits, fake_logits)
        logs = {
            "loss_discriminator": loss.item(),
            "accuracy": 0.5 * ((real_logits > 0).float().mean() + (fake_logits < 0).float().mean()).item(),
        }
        if penalise:  # lazy: every r1_interval steps, with so many times the weight
            penalty = losses.r1_penalty(real_logits, real)
            loss = loss + config.r1_gamma / 2 * config.r1_interval * penalty
            logs["r1"] = penalty.item()
        logs = self.discriminator_update.apply("The discriminator's loss", [(loss, logs)])
        self.augmenter.update(real_logits)
        return logs | self.augmenter.numbers()

    def _alpha_step(self, rng: torch.Generator) -> dict[str, float]:
        config, step = self.config.loss, self.alpha_step
        batch, indices, flip = self._draw(rng)
        self.discriminator.requires_grad_(False)
        alpha = self._logits(batch.levels).sigmoid()
        fake = composite(batch.images, self._backgrounds(self._logits, indices, flip, rng), alpha)
        adversarial = losses.generator_nonsaturating(self._judge(self.augmenter(fake, rng, sharded=True)))
        binary = losses.binarization(alpha)
        whole = alpha.reshape(1, 1, -1, alpha.shape[-1])  # the batch as one image: single objects may be small or large
        whole = process_group().with_common_mean(whole)
        coverage = (
            losses.foreground_coverage(whole, self.bounds[0])
            + losses.background_coverage(whole, self.bounds[1])
            + losses.foreground_coverage(alpha, config.min_image_coverage)
            + losses.background_coverage(alpha, config.min_image_coverage)
        )
        weight = config.binarization * min(1.0, step / config.binarization_steps)
        loss = adversarial + weight * binary + config.coverage * coverage
        reward = (
            config.inpainting_error
            + (config.final_inpainting_error - config.inpainting_error) * step / self.config.steps
        )
        if reward > 0:
            loss = loss - reward * losses.inpainting_error(batch.images, alpha)
        self.alpha_update.learning_rate = self.config.alpha.learning_rate * min(1.0, 2 * (1 - step / self.config.steps))
        logs = {
            "loss_adversarial": adversarial.item(),
            "binarization": binary.item(),
            "foreground_ratio": alpha.mean().item(),
        }
        logs = self.alpha_update.apply("The alpha network's loss", [(loss, logs)])
        self.discriminator.requires_grad_(True)
        self.average.update(self.network, step)
        return logs

    @torch.no_grad()
    def check(self) -> Check:
        """Examine the averaged network on the samples kept apart, in the main process alone."""
        rng = generator_for(self.config.seed, self.restart, _CHECK)
        indices = torch.arange(self.trained_samples, len(self.cache))
        batch = self.cache.take(indices)
        network = self.kept
        upright = torch.zeros(len(indices), dtype=torch.bool, device=self.device)
        background = self._backgrounds(network.merge, indices, upright, rng)
        alpha = network.merge(batch.levels).sigmoid()
        again = {
            augmentation: network.merge([x.float() for x in levels]).sigmoid()
            for augmentation, levels in self.augmentations.items()
        }
        return check_masks(batch.images, background, alpha, self.discriminator, again)

    @torch.no_grad()
    def held_out_alpha(self, network: MergeNetwork) -> Tensor:
        """Alpha [N, 1, R, R] of a network on the samples that are only checked on."""
        batch = self.cache.take(torch.arange(self.trained_samples, len(self.cache)))
        return network.merge(batch.levels).sigmoid()

    def _penalty_due(self, turn: int) -> bool:
        """Whether this discriminator step, counted over the attempt, is one in ``r1_interval``."""
        per_step = self.config.discriminator.steps_per_alpha_step
        done = self.iteration if self.alpha_step < 0 else self.warmup + self.alpha_step * per_step + turn
        return done % self.config.discriminator.r1_interval == 0

    def _judge(self, images: Tensor, *, exact: bool = False) -> Tensor:
        return self.precision.logits(self.discriminator, images, exact=exact)

    def _logits(self, levels: list[Tensor]) -> Tensor:
        """Alpha's logits by the network that is trained, float32."""
        with self.precision.autocast():
            return self.network.merge(levels).float()

    def _draw(self, rng: torch.Generator) -> tuple[CachedBatch, Tensor, Tensor]:
        """A batch of samples, each mirrored or not: the samples, their indices [N], which are mirrored [N]."""
        n = self.config.batch_size
        indices = process_group().shard_batch(torch.randint(self.trained_samples, (n,), generator=rng))
        flip = process_group().shard_batch(torch.rand(n, generator=rng) < 0.5).to(self.device)
        return self.cache.take(indices, flip), indices, flip

    def _draw_reals(self, rng: torch.Generator) -> Tensor:
        if self.reals is None:
            return self._draw(rng)[0].images
        n = self.config.batch_size
        indices = process_group().shard_batch(torch.randint(len(self.reals), (n,), generator=rng)).tolist()
        flip = process_group().shard_batch(torch.rand(n, generator=rng) < 0.5).to(self.device)
        return mirrored(self.reals.batch(indices).to(self.device), flip)

    def _masks_to_judge(self, batch: CachedBatch, rng: torch.Generator) -> Tensor:
        """Masks of the composites that the discriminator learns from: the network's, disturbed ones, random ones."""
        config, n, size = self.config.discriminator, self.config.batch_size, self.config.resolution
        if self.alpha_step < 0:
            return random_masks(n, size, rng).to(self.device)
        logits = self._logits(batch.levels)
        pick = process_group().shard_batch(torch.rand(n, generator=rng))
        noisy = disturb(logits, rng)
        unrelated = random_masks(n, size, rng).to(self.device)
        threshold = config.random_mask_fraction + (1 - config.random_mask_fraction) * config.perturbed_mask_fraction
        is_random = (pick < config.random_mask_fraction).to(self.device)[:, None, None, None]
        is_disturbed = (pick < threshold).to(self.device)[:, None, None, None]
        return torch.where(is_random, unrelated, torch.where(is_disturbed, noisy, logits).sigmoid())

    def _backgrounds(
        self, alpha_logits: Callable[[list[Tensor]], Tensor], indices: Tensor, flip: Tensor, rng: torch.Generator
    ) -> Tensor:
        config = self.config.background
        fraction, foregrounds = filled_fraction(config, self.alpha_step), (indices, flip)
        samples = self.trained_samples
        return draw_backgrounds(
            self.cache, alpha_logits, foregrounds, config, samples=samples, fraction=fraction, rng=rng
        )

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
