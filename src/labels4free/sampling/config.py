"""The settings of a data set: which latents, what of each pair, how it is written, what is left out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from labels4free.data.names import PARTS
from labels4free.data.pairs.record import PairLayout
from labels4free.errors import ConfigError
from labels4free.ops.refine import Refinement  # noqa: TC001  the checks look it up
from labels4free.sampling.filters import NO_FILTERS, FilterConfig
from labels4free.sampling.uncertainty import UncertaintyConfig
from labels4free.settings_fields import build, check_types, within

if TYPE_CHECKING:
    from collections.abc import Mapping

Format = Literal["folder", "webdataset", "coco", "huggingface"]
GENERATED = "generated"
"""The value of ``backgrounds`` for the generator's own."""

_DERIVED = ("noise", "backgrounds_digest")  # what a manifest says beside the settings
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class SampleConfig:
    """How a data set is sampled. Pair i is a function of the generator, the alpha network, these settings and i alone.

    Attributes:
        seed: Pair i depends on (seed, i), see :func:`labels4free.generators.base.sample_z`.
        min_truncation_psi: Truncation of the latents is drawn for each pair, evenly, from here, in [-2, 2] ...
        max_truncation_psi: ... to here; equal by default. 1 is the generator's full variety, 0 its average image.
        style_mixing: Fraction of the pairs whose finer rows of styles are another latent's, in [0, 1].
        label: Class of every pair, for class-conditional generators; None draws one for each.
        background: One of the generator's background modes; None for its default.
        backgrounds: What a composite's background is: ``generated`` (another latent's image without its object), a
            folder or other store of pictures, or a colour such as ``#20a040``.
        threshold: A pixel is foreground in the mask where its alpha exceeds this, in [0, 1].
        refine: How alpha is refined at the border, at the written size: ``guided``, ``closed-form`` (slow, needs the
            package ``pymatting``) or None. Take masks of refined alpha at a threshold of 0.5: borders become softer.
        size: Side of the written pictures in pixels, a divisor of the generator's resolution (box filter); None for
            the generator's resolution.
        parts: What is written of each pair: names of :data:`labels4free.data.names.PARTS`. Nothing is rendered that
            they do not need.
        format: How pairs are written: ``folder``, ``webdataset``, ``coco`` or ``huggingface``.
        image_format: ``png``, ``jpeg`` or ``webp`` for colour pictures. All else is written without loss.
        quality: Of JPEG and WebP, 1 to 100.
        alpha_bits: 8 or 16 bits a pixel of alpha.
        category: What the object is called, in formats that name it.
        shard_size: Candidates of a shard, at least 1: what is written, checked and resumed as one.
        batch_size: Pairs rendered at once on an accelerator, where it decides about the last bits. On a CPU each pair
            is rendered alone, on one thread, several at a time: there it changes nothing.
        filters: Which pairs are left out.
        uncertainty: Which augmentations measure a pair's uncertainty.
        discriminator: File of the discriminator that gives the discriminator score, for the filter that asks for it.

    Raises:
        ConfigError: If a value is out of range or two do not fit each other.
    """

    seed: int = 0
    min_truncation_psi: float = 0.7
    max_truncation_psi: float = 0.7
    style_mixing: float = 0.0
    label: int | None = None
    background: str | None = None
    backgrounds: str = GENERATED
    threshold: float = 0.9
    refine: Refinement | None = None
    size: int | None = None
    parts: tuple[str, ...] = ("image", "alpha", "mask")
    format: Format = "folder"
    image_format: Literal["png", "jpeg", "webp"] = "png"
    quality: int = 95
    alpha_bits: int = 8
    category: str = "object"
    shard_size: int = 100
    batch_size: int = 4
    filters: FilterConfig = field(default_factory=FilterConfig)
    uncertainty: UncertaintyConfig = field(default_factory=UncertaintyConfig)
    discriminator: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        within(self, "[-2, 2]", "min_truncation_psi", "max_truncation_psi", hint="0.7 is usual")
        within(self, "[0, 1]", "style_mixing", "threshold")
        within(self, "[0, inf)", "label")
        within(self, "[1, inf)", "size", "shard_size", "batch_size")
        within(self, "[1, 100]", "quality")
        if self.min_truncation_psi > self.max_truncation_psi:
            raise ConfigError(
                f"min_truncation_psi {self.min_truncation_psi} is above max_truncation_psi {self.max_truncation_psi}."
            )
        if set(self.parts) - set(PARTS) or not self.parts or len(set(self.parts)) < len(self.parts):
            got = ", ".join(self.parts) or "none"
            raise ConfigError(f"parts must be some of {', '.join(PARTS)}, each once; got {got}.")
        if self.alpha_bits not in (8, 16):
            raise ConfigError(f"alpha_bits must be 8 or 16, got {self.alpha_bits}.")
        if not self.category.strip():
            raise ConfigError("category must name the object, got an empty word.")
        if not self.backgrounds or (self.backgrounds.startswith("#") and not self.colour):
            raise ConfigError(
                f"backgrounds must be {GENERATED!r}, a folder of pictures or a colour such as '#20a040', got "
                f"{self.backgrounds!r}."
            )
        if self.filters.max_uncertainty_quantile is not None and not self.uncertainty.enabled:
            raise ConfigError(
                "max_uncertainty_quantile needs an uncertainty: ask for noise or mixing augmentations, or give an "
                "ensemble."
            )
        if self.filters.min_discriminator_score_quantile is not None and self.discriminator is None:
            raise ConfigError(
                "min_discriminator_score_quantile needs a discriminator: give the file of the generator's."
            )

    @property
    def colour(self) -> tuple[int, int, int] | None:
        """Red, green and blue of a solid background, 0 to 255; None for any other."""
        if not _COLOUR.fullmatch(self.backgrounds):
            return None
        red, green, blue = bytes.fromhex(self.backgrounds[1:])
        return red, green, blue

    @property
    def needs_background(self) -> bool:
        """Whether a background has to be rendered or read."""
        return "composite" in self.parts or "background" in self.parts

    def layout(self, size: int) -> PairLayout:
        """How pairs of ``size`` pixels a side are written."""
        return PairLayout(
            parts=self.parts,
            image_format=self.image_format,
            quality=self.quality,
            alpha_bits=self.alpha_bits,
            category=self.category,
            shard_size=self.shard_size,
            size=size,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The settings that a manifest holds, without what follows from them and the generator.

        Raises:
            ConfigError: If a name is unknown, or a value of another kind or out of range.
        """
        return build(cls, {name: value for name, value in values.items() if name not in _DERIVED})


PAPER = SampleConfig(
    min_truncation_psi=0.5,
    max_truncation_psi=0.5,
    threshold=0.9,
    parts=("image", "alpha", "mask", "composite", "background"),
    filters=NO_FILTERS,
)
"""What ``test_sample.py`` of RameenAbdal/Labels4Free renders: truncation 0.5, masks at 0.9, all five pictures.

It draws its latents without a seed and keeps every sample, so the filters are off.
"""
