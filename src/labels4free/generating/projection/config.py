"""Settings of projections, and those of published projectors by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labels4free.errors import ConfigError
from labels4free.settings_fields import check_types, within

Space = Literal["w", "w+"]
"""w: one row of styles for all layers; w+: one for each."""


@dataclass(frozen=True)
class ProjectionConfig:
    """How a photo is projected into a generator: latents are optimised until their picture looks like it.

    Attributes:
        space: w: one row for all layers, which stays close to what the generator knows and is better to edit. w+: one
            for each layer, which comes closer to the photo.
        steps: Of the optimiser (Adam).
        learning_rate: Its largest learning rate.
        rampup: Fraction of the steps over which the learning rate rises from 0, in a straight line.
        rampdown: Fraction of the steps, the last, over which it falls to 0, along a cosine.
        latent_noise: Normal noise added to the latents in each step: its deviation at first, in deviations of w. The
            published projectors have 0.05, of which a search of few steps comes less close.
        latent_noise_ramp: Fraction of the steps over which it falls to 0, as a square.
        mean_samples: Mapped latents whose mean the search starts at.
        noise_maps: Optimise the noise of each layer as well. It takes up detail that the latents then need not explain;
            files of latents alone do not hold it.
        noise_regularizer: Weight of :func:`labels4free.generating.projection.losses.noise_autocorrelation`.
        side: Largest side in pixels at which pictures are compared by pixels and the perceptual network.
        pixels: Weight of the mean squared error of pixels, [-1, 1].
        pixel_scales: Sizes at which it is taken, each half of the one before: their mean.
        perceptual: Weight of the distance by EfficientNet-Lite0 (5 where pixels differ by 0.2),
            or by the user's LPIPS where it is given.
        discriminator: Weight of the distance by the maps of the generator's own discriminator, where there is one.
        tune_steps: Of the second stage, pivotal tuning (Roich et al. 2021, arXiv 2106.05744): the latents stay, a copy
            of the generator is tuned until its picture is the photo. 0 leaves it out.
        tune_learning_rate: Of the second stage, constant.
        locality: Weight of the same distance between the pictures that the tuned and the first generator have beside
            the latents found, so that the rest stays as it is. 0 leaves it out.
        locality_distance: How far beside, in deviations of w, towards a drawn latent. The published code has 30 for
            FFHQ's generator, over its 18 rows: 0.7 deviations each.
        seed: Decides every draw.

    Raises:
        ConfigError: If a value is out of range, or nothing is compared.
    """

    space: Space = "w+"
    steps: int = 400
    learning_rate: float = 0.1
    rampup: float = 0.05
    rampdown: float = 0.25
    latent_noise: float = 0.0
    latent_noise_ramp: float = 0.75
    mean_samples: int = 10_000
    noise_maps: bool = False
    noise_regularizer: float = 1e5
    side: int = 256
    pixels: float = 10.0
    pixel_scales: int = 4
    perceptual: float = 1.0
    discriminator: float = 1.0
    tune_steps: int = 0
    tune_learning_rate: float = 3e-4
    locality: float = 0.1
    locality_distance: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        within(self, "[1, inf)", "steps", "pixel_scales")
        within(self, "[2, inf)", "mean_samples")
        within(self, "[32, inf)", "side", hint="256 is usual")
        within(self, "(0, inf)", "learning_rate", hint="0.1 is usual")
        within(self, "(0, inf)", "tune_learning_rate", hint="3e-4 is usual")
        within(self, "(0, inf)", "locality_distance", hint="0.7 is usual")
        within(self, "[0, 1]", "rampup", "rampdown", "latent_noise_ramp")
        within(self, "[0, inf)", "latent_noise", "noise_regularizer", "pixels", "perceptual", "discriminator", "seed")
        within(self, "[0, inf)", "tune_steps", "locality")
        if self.pixels == self.perceptual == 0:
            raise ConfigError("Nothing compares the pictures: set pixels or perceptual above 0.")

    @property
    def all_steps(self) -> int:
        """Steps of both stages."""
        return self.steps + self.tune_steps


PRESETS: dict[str, ProjectionConfig] = {
    "default": ProjectionConfig(),
    "stylegan2": ProjectionConfig(
        space="w", steps=1000, latent_noise=0.05, noise_maps=True, pixels=0.0, discriminator=0.0
    ),
}
"""Name -> settings. stylegan2: those of its paper (arXiv 1912.04958, appendix D).

rosinality's and NVIDIA's projectors have the same numbers (rosinality/stylegan2-pytorch and
NVlabs/stylegan2-ada-pytorch, ``projector.py``), and LPIPS of VGG16, which the user brings.
"""


def preset_named(name: str) -> ProjectionConfig:
    """The settings of a preset.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"Unknown preset {name!r} of projections; there are {', '.join(PRESETS)}.")
    return PRESETS[name]
