"""Projecting a photo into a generator: latents are optimised until their picture looks like it (GAN inversion).

Karras et al. 2020, arXiv 1912.04958, appendix D, with losses of one's own choice.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from labels4free.checkpoints.foreign.rosinality_projection import read_projection_noise
from labels4free.errors import CheckpointError, ConfigError, DataError
from labels4free.generating.directions import mapped_latents
from labels4free.generating.latent_files import read_latents
from labels4free.generating.projection.losses import PhotoDistance, noise_autocorrelation, normalize_noise, reduced
from labels4free.pictures.pixels import to_uint8
from labels4free.seeds import PROJECTION, generator_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.evaluation.generators.feature_nets import FeatureNet
    from labels4free.generating.projection.config import ProjectionConfig
    from labels4free.generators.base import Generator, Noise

FRAMES = 60
"""Pictures of a film of the path, at most about so many."""


@dataclass(frozen=True, eq=False)
class Start:
    """Where a search starts.

    Attributes:
        ws: [1, num_ws, w_dim].
        noise: A map [1, 1, R, R] a layer; None draws them.
    """

    ws: Tensor
    noise: Sequence[Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Projection:
    """A photo's place in a generator.

    Attributes:
        ws: [1, num_ws, w_dim]; all rows alike in the space w.
        noise: The optimised maps, [1, 1, R, R] a layer; "fixed" where the generator's own were kept.
        image: [1, 3, R, R], what the two give.
        losses: Of every step; the last is that of ``image``, without noise on the latents.
        frames: The way there, [side, side, 3], uint8: pictures of the steps, with the noise on their latents.
        seconds: How long it took.
    """

    ws: Tensor
    noise: Noise
    image: Tensor
    losses: tuple[float, ...]
    frames: list[NDArray[np.uint8]]
    seconds: float

    @property
    def steps(self) -> int:
        """Steps that were done."""
        return len(self.losses) - 1


class Projector:
    """Projects photos into one generator.

    Args:
        generator: Frozen, of any family.
        config: Settings.
        perceptual: EfficientNet-Lite0 or LPIPS, on the generator's device.
        discriminator: The generator's own; None where there is none.

    Attributes:
        generator: As given.
        config: As given.
        perceptual: As given.
        has_discriminator: Whether it takes part.

    Raises:
        CheckpointError: If the mapped latents are not finite numbers.
    """

    def __init__(
        self,
        generator: Generator,
        config: ProjectionConfig,
        perceptual: FeatureNet,
        discriminator: FeatureNet | None = None,
    ) -> None:
        self.generator, self.config = generator, config
        self.has_discriminator = discriminator is not None and config.discriminator > 0
        self.perceptual, self._discriminator = perceptual, discriminator
        w = torch.cat(list(mapped_latents(generator, config.mean_samples)))
        self._mean = w.mean(dim=0)
        self._deviation = float((w - self._mean).square().sum().div(len(w)).sqrt())  # of whole vectors, as published
        if not math.isfinite(self._deviation):
            raise CheckpointError("The generator's weights are not all finite numbers: nothing can be projected.")

    def project(
        self,
        photo: Tensor,
        start: Start | None = None,
        *,
        progress: Callable[[int, float], None] | None = None,
        stopped: Callable[[], bool] | None = None,
        name: str = "the photo",
    ) -> Projection:
        """Find the latents of a photo.

        Args:
            photo: [1, 3, R, R] in [-1, 1], R the generator's resolution.
            start: Where to begin; None is the mean of w, and drawn noise maps.
            progress: Called as ``progress(steps done, loss)``.
            stopped: Asked after each step: whether to keep what there is.
            name: What the photo is called in messages.

        Raises:
            ConfigError: If the photo has another shape, or the start does not lie in the space.
            DataError: If the loss is no number any more.
        """
        began, config, generator = time.monotonic(), self.config, self.generator
        side = generator.resolution
        if photo.shape != (1, 3, side, side):
            raise ConfigError(f"A photo [1, 3, {side}, {side}] is needed, got {list(photo.shape)}.")
        photo = photo.to(generator.w_avg)
        distance = PhotoDistance(photo, config, self.perceptual, self._discriminator)
        rng = generator_for(config.seed, PROJECTION)
        latent, maps = self._first(start, rng)
        noise: Noise = maps or "fixed"
        optimizer = torch.optim.Adam([latent, *maps], lr=config.learning_rate, betas=(0.9, 0.999))
        losses: list[float] = []
        frames: list[NDArray[np.uint8]] = []
        every = math.ceil(config.steps / FRAMES)
        for step in range(config.steps):
            at = step / config.steps
            optimizer.param_groups[0]["lr"] = learning_rate_at(at, config)
            shaken = torch.randn(latent.shape, generator=rng).to(latent) * self._noise_at(at)
            image = generator.synthesize((latent + shaken).expand(-1, generator.num_ws, -1), noise=noise).image
            value = distance(image)
            losses.append(value.item())
            if not math.isfinite(losses[-1]):
                raise DataError(f"The loss of {name} is no number at step {step}: lower the learning rate.")
            optimizer.zero_grad(set_to_none=True)
            (value + config.noise_regularizer * noise_autocorrelation(maps) if maps else value).backward()
            optimizer.step()
            normalize_noise(maps)
            if step % every == 0:
                frames.append(to_uint8(reduced(image, config.side))[0])
            if progress:
                progress(step + 1, losses[-1])
            if stopped and stopped():
                break
        ws = latent.detach().expand(-1, generator.num_ws, -1).contiguous()
        noise = [one.detach() for one in maps] or "fixed"
        with torch.no_grad():
            image = generator.synthesize(ws, noise=noise).image
            losses.append(float(distance(image)))
        frames.append(to_uint8(reduced(image, config.side))[0])
        return Projection(ws, noise, image, tuple(losses), frames, time.monotonic() - began)

    def _first(self, start: Start | None, rng: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        """What is optimised: latents [1, 1 or num_ws, w_dim], and the noise maps, if any."""
        generator, rows = self.generator, 1 if self.config.space == "w" else self.generator.num_ws
        if start is None:
            latent = self._mean.expand(1, rows, -1).clone()
        else:
            latent = start.ws.to(self._mean)[:, :rows].clone()
            if rows == 1 and not torch.equal(latent.expand_as(start.ws), start.ws.to(self._mean)):
                raise ConfigError("The latents to start at differ from layer to layer: search in the space w+.")
        maps: list[Tensor] = []
        if self.config.noise_maps:
            sides = [spec.resolution for spec in generator.feature_specs]
            drawn = [torch.randn(1, 1, side, side, generator=rng) for side in sides]
            given = start.noise if start is not None and start.noise is not None else drawn
            maps = [one.to(self._mean).clone().requires_grad_() for one in given]
        return latent.requires_grad_(), maps

    def _noise_at(self, at: float) -> float:
        """Deviation of the noise on the latents, when a fraction of the steps is done."""
        config = self.config
        left = max(0.0, 1 - at / config.latent_noise_ramp) if config.latent_noise_ramp else 0.0
        return self._deviation * config.latent_noise * left**2


def learning_rate_at(at: float, config: ProjectionConfig) -> float:
    """The learning rate when a fraction of the steps, in [0, 1], is done: up in a line, down along a cosine."""
    down = min(1.0, (1 - at) / config.rampdown) if config.rampdown else 1.0
    up = min(1.0, at / config.rampup) if config.rampup else 1.0
    return config.learning_rate * (0.5 - 0.5 * math.cos(math.pi * down)) * up


def read_starts(path: str | Path, generator: Generator) -> list[Start]:
    """Read where searches start: latents, and from rosinality's ``.pt`` the noise maps as well.

    Raises:
        DataError, CheckpointError: As :func:`read_latents`, or if the noise maps do not fit the generator.
    """
    ws = read_latents(path, generator)
    noise = read_projection_noise(path, generator) if str(path).lower().endswith(".pt") else None
    if noise is None or len(noise) != len(ws):
        return [Start(one[None]) for one in ws]
    return [Start(one[None], maps) for one, maps in zip(ws, noise, strict=True)]
