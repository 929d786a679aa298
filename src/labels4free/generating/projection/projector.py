"""Projecting a photo into a generator: latents are optimised until their picture looks like it (GAN inversion).

Karras et al. 2020, arXiv 1912.04958, appendix D, with losses of one's own choice; on demand, the generator is then
tuned to the photo (Roich et al. 2021, arXiv 2106.05744).
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field
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
        generator: The one that it is a place in: as given, or a copy that was tuned to the photo.
        tuned: Whether it is that.
        ws: [1, num_ws, w_dim]; all rows alike in the space w.
        noise: The optimised maps, [1, 1, R, R] a layer; "fixed" where the generator's own were kept.
        image: [1, 3, R, R], what these give.
        losses: Of every step, of both stages; the last is that of ``image``, without noise on the latents.
        frames: The way there, [side, side, 3], uint8: pictures of the steps, with the noise on their latents.
        seconds: How long it took.
    """

    generator: Generator
    tuned: bool
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
        w = self._mapped = torch.cat(list(mapped_latents(generator, config.mean_samples)))
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
        config, generator = self.config, self.generator
        side = generator.resolution
        if photo.shape != (1, 3, side, side):
            raise ConfigError(f"A photo [1, 3, {side}, {side}] is needed, got {list(photo.shape)}.")
        distance = self._distance_to(photo.to(generator.w_avg))
        rng = generator_for(config.seed, PROJECTION)
        latent, maps = self._first(start, rng)
        noise: Noise = maps or "fixed"
        descent = _Descent(config, name, progress, stopped)

        def step(at: float) -> tuple[Tensor, Tensor, Tensor]:
            optimizer.param_groups[0]["lr"] = learning_rate_at(at, config)
            shaken = torch.randn(latent.shape, generator=rng).to(latent) * self._noise_at(at)
            image = generator.synthesize((latent + shaken).expand(-1, generator.num_ws, -1), noise=noise).image
            value = distance(image)
            return image, value, value + config.noise_regularizer * noise_autocorrelation(maps) if maps else value

        optimizer = torch.optim.Adam([latent, *maps], lr=config.learning_rate, betas=(0.9, 0.999))
        tuned = descent.run(config.steps, optimizer, step, maps) and config.tune_steps > 0
        ws = latent.detach().expand(-1, generator.num_ws, -1).contiguous()
        noise = [one.detach() for one in maps] or "fixed"
        if tuned:
            generator, noise = self._tune(ws, distance, descent, rng), "fixed"
        with torch.no_grad():
            image = generator.synthesize(ws, noise=noise).image
            descent.add(image, float(distance(image)), last=True)
        return Projection(
            generator, tuned, ws, noise, image, tuple(descent.losses), descent.frames, time.monotonic() - descent.began
        )

    def _tune(self, ws: Tensor, distance: PhotoDistance, descent: _Descent, rng: torch.Generator) -> Generator:
        """A copy of the generator whose picture of ws comes closest to the photo, the pictures beside it kept."""
        config, tuned = self.config, copy.deepcopy(self.generator)
        # The mapping network gets no gradient, since ws stay: Adam passes it over.
        weights = [value for name, value in tuned.named_buffers() if not name.endswith(("noise", "w_avg"))]
        for value in weights:
            value.requires_grad_()

        def picture(generator: Generator, ws: Tensor) -> Tensor:
            # Latents that want a gradient are what makes a frozen generator remember how it made a picture.
            return generator.synthesize(ws.clone().requires_grad_()).image

        def step(_: float) -> tuple[Tensor, Tensor, Tensor]:
            image = picture(tuned, ws)
            value = distance(image)
            if not config.locality:
                return image, value, value
            near = self._beside(ws, rng)
            with torch.no_grad():
                kept = self._distance_to(self.generator.synthesize(near).image)
            return image, value, value + config.locality * kept(picture(tuned, near))

        descent.run(config.tune_steps, torch.optim.Adam(weights, lr=config.tune_learning_rate), step)
        for value in weights:
            value.requires_grad_(False)
        return tuned

    def _beside(self, ws: Tensor, rng: torch.Generator) -> Tensor:
        """Latents at a set distance from ws, towards drawn ones."""
        drawn = self._mapped[int(torch.randint(len(self._mapped), (), generator=rng))]
        towards = drawn - ws
        length = self.config.locality_distance * self._deviation * math.sqrt(ws.shape[1])
        return ws + towards * (length / float(towards.norm()))

    def _distance_to(self, photo: Tensor) -> PhotoDistance:
        return PhotoDistance(photo, self.config, self.perceptual, self._discriminator)

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


@dataclass(eq=False)
class _Descent:
    """The loop of both stages: what it leaves goes on from one to the other."""

    config: ProjectionConfig
    name: str
    progress: Callable[[int, float], None] | None
    stopped: Callable[[], bool] | None
    losses: list[float] = field(default_factory=list)
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def run(
        self,
        steps: int,
        optimizer: torch.optim.Optimizer,
        step: Callable[[float], tuple[Tensor, Tensor, Tensor]],
        maps: Sequence[Tensor] = (),
    ) -> bool:
        """Take steps, each from the fraction that is done to a picture, its loss and what is minimised.

        Returns:
            Whether nobody stopped it.
        """
        for number in range(steps):
            image, value, minimised = step(number / steps)
            if not math.isfinite(value.item()):
                at = len(self.losses)
                raise DataError(f"The loss of {self.name} is no number at step {at}: lower the learning rate.")
            optimizer.zero_grad(set_to_none=True)
            minimised.backward()
            optimizer.step()
            normalize_noise(maps)
            self.add(image, value.item())
            if self.progress:
                self.progress(len(self.losses), self.losses[-1])
            if self.stopped and self.stopped():
                return False
        return True

    def add(self, image: Tensor, loss: float, *, last: bool = False) -> None:
        """Note a step's loss, and its picture if the film shows it."""
        if last or len(self.losses) % math.ceil(self.config.all_steps / FRAMES) == 0:
            self.frames.append(to_uint8(reduced(image, self.config.side))[0])
        self.losses.append(loss)


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
