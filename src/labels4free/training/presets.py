"""Settings by name: those that the method was published with, class by class, and the default for every class.

The paper's come in pairs: ``-paper`` reproduces the paper's model (four GPUs, here as many micro-batches; no
background coverage), ``-single-gpu`` is what its authors recommend for a single GPU. They differ from the original runs
in that they do what the code meant to do; ``--set faithful=true`` does what it did.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from labels4free.errors import ConfigError
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.alpha.paper_config import (
    GENERATORS_DISCRIMINATOR,
    PaperAlphaConfig,
    PaperConfig,
    PaperDiscriminatorConfig,
    PaperLossConfig,
    SamplesConfig,
)
from labels4free.training.generator.presets import CONFIGS as OF_GENERATORS

if TYPE_CHECKING:
    from labels4free.training.recipes import AnyConfig

AUTO = "auto"
"""The preset that serves every class and size: the defaults."""


class Preset(NamedTuple):
    """Settings with a name.

    Attributes:
        name: The name.
        config: The settings.
        resolution: Side in pixels of the images of the generators that they are for; None: any.
        source: Where they come from, a sentence.
    """

    name: str
    config: AnyConfig
    resolution: int | None
    source: str

    @property
    def recipe(self) -> str:
        """Name of the recipe that they belong to."""
        return self.config.recipe

    def check_fits(self, resolution: int) -> None:
        """Raise :class:`ConfigError` where the settings are for generators of another resolution."""
        if self.resolution not in (None, resolution):
            same_verb = [preset for preset in PRESETS.values() if preset.name not in OF_GENERATORS]
            fitting = [preset.name for preset in same_verb if preset.resolution in (None, resolution)]
            raise ConfigError(
                f"The preset {self.name} is for generators of {self.resolution}x{self.resolution} pixels, and this one "
                f"makes {resolution}x{resolution}; {' and '.join(fitting)} would do. To use its settings all the same, "
                f"write them to a file: labels4free presets {self.name} > my.toml, then train with --config my.toml."
            )


def preset_named(name: str) -> Preset:
    """Look a preset up.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"Unknown preset {name!r}; the presets are {', '.join(PRESETS)}.")
    return PRESETS[name]


def _paper(
    steps: int,
    multiplier: float,
    *,
    gpus: int = 1,
    psi: float = 1.0,
    learning_rate: float = 2e-4,
    adversarial: float = 1.0,
    background: tuple[float, float] = (0.0, 0.75),
    pretrained: str | None = None,
) -> PaperConfig:
    """Settings of an original run.

    Args:
        steps: Its iterations.
        multiplier: Its loss_multiplier.
        gpus: How many worked on it, with two images each.
        psi: Its trunc.
        learning_rate: Its lr.
        adversarial: Its sat_weight.
        background: Its bg_coverage_wt and bg_coverage_value.
        pretrained: The discriminator that it began with.
    """
    return PaperConfig(
        steps=steps,
        batch_size=2,
        accumulation=gpus,
        checkpoint_interval=100,
        samples=SamplesConfig(truncation_psi=psi),
        alpha=PaperAlphaConfig(learning_rate=learning_rate),
        discriminator=PaperDiscriminatorConfig(learning_rate=learning_rate, pretrained=pretrained),
        loss=PaperLossConfig(
            adversarial=adversarial,
            binarization=multiplier,
            foreground_coverage=multiplier,
            background_coverage=background[0],
            min_background_coverage=background[1],
        ),
    )


_PAPER = "README of RameenAbdal/Labels4Free, {}, the paper's model: {}."
_OWN = "README of RameenAbdal/Labels4Free, {}, the authors' settings for one GPU."
_ALL = (
    Preset("ffhq-paper", _paper(1200, 1.2, gpus=4), 1024, _PAPER.format("FFHQ", "4 GPUs of 2 images")),
    Preset("ffhq-single-gpu", _paper(2000, 1.2, background=(3.0, 0.4)), 1024, _OWN.format("FFHQ")),
    Preset("horse-paper", _paper(500, 3.0, gpus=4), 256, _PAPER.format("LSUN-Horse", "4 GPUs of 2 images")),
    Preset("horse-single-gpu", _paper(2000, 3.0, background=(6.0, 0.6)), 256, _OWN.format("LSUN-Horse")),
    Preset("cat-paper", _paper(900, 3.0, gpus=4, psi=0.5), 256, _PAPER.format("LSUN-Cat", "4 GPUs of 2 images")),
    Preset("cat-single-gpu", _paper(2000, 3.0, psi=0.5, background=(4.0, 0.35)), 256, _OWN.format("LSUN-Cat")),
    Preset(
        "car-paper",
        replace(
            _paper(50, 10.0, psi=0.3, learning_rate=2e-3, pretrained=GENERATORS_DISCRIMINATOR), checkpoint_interval=25
        ),
        512,
        _PAPER.format("LSUN-Car", "1 process of 2 images, begun with the generator's discriminator"),
    ),
    Preset(
        "car-single-gpu",
        replace(
            _paper(750, 20.0, psi=0.3, learning_rate=8e-4, adversarial=0.1, background=(40.0, 0.75)),
            checkpoint_interval=50,
        ),
        512,
        _OWN.format("LSUN-Car"),
    ),
    Preset(AUTO, TrainConfig(), None, "This package's default, the same for every class and size."),
)
PRESETS = {preset.name: preset for preset in _ALL}
PRESETS |= {name: Preset(name, config, None, source) for name, (config, source) in OF_GENERATORS.items()}
"""Every preset by name."""
