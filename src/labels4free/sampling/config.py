"""The settings of a data set: which latents, what of each pair, how it is written, what is left out."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from labels4free.data.names import PARTS
from labels4free.data.pairs import PairLayout
from labels4free.errors import ConfigError
from labels4free.ops.refine import REFINEMENTS, Refinement
from labels4free.sampling.filters import FilterConfig
from labels4free.sampling.uncertainty import UncertaintyConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGE_FORMATS = ("png", "jpeg", "webp")
FORMATS = ("folder", "webdataset", "coco", "huggingface")
GENERATED = "generated"
"""The value of ``backgrounds`` for the generator's own."""

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class SampleConfig:
    """How a data set is sampled. Pair i is a function of the generator, the alpha network, these settings and i alone.

    Attributes:
        seed: Pair i depends on (seed, i), see :func:`labels4free.generators.base.sample_z`.
        min_truncation_psi: Truncation of the latents is drawn for each pair, evenly, from here, in [-2, 2] ...
        max_truncation_psi: ... to here; equal by default. 1 is the generator's full variety, 0 its average image.
        style_mixing: Share of the pairs whose finer rows of styles are another latent's, in [0, 1].
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
        coco_polygons: Refused: COCO's masks are written as run lengths, which are exact.
        shard_size: Candidates of a shard, at least 1: what is written, checked and resumed as one.
        batch_size: Pairs rendered at once on an accelerator, where it decides about the last bits. On a CPU each pair
            is rendered alone, on one thread, several at a time: there it changes nothing.
        filters: Which pairs are left out.
        uncertainty: Which views measure a pair's uncertainty.
        discriminator: File of the discriminator that measures realism, for the filter that asks for it.

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
    format: str = "folder"
    image_format: str = "png"
    quality: int = 95
    alpha_bits: int = 8
    category: str = "object"
    coco_polygons: bool = False
    shard_size: int = 100
    batch_size: int = 4
    filters: FilterConfig = field(default_factory=FilterConfig)
    uncertainty: UncertaintyConfig = field(default_factory=UncertaintyConfig)
    discriminator: str | None = None

    def __post_init__(self) -> None:
        self._check_latents()
        self._check_pictures()
        if self.shard_size < 1:
            raise ConfigError(f"shard_size must be at least 1 candidate, got {self.shard_size}.")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}.")
        if self.filters.max_uncertainty_quantile is not None and not self.uncertainty.enabled:
            raise ConfigError(
                "max_uncertainty_quantile needs an uncertainty: ask for noise or mixing views, or give an ensemble."
            )
        if self.filters.min_realism_quantile is not None and self.discriminator is None:
            raise ConfigError("min_realism_quantile needs a discriminator: give the file of the generator's.")

    def _check_latents(self) -> None:
        for name in ("min_truncation_psi", "max_truncation_psi"):
            if not -2.0 <= (value := getattr(self, name)) <= 2.0:
                raise ConfigError(f"{name} must lie in [-2, 2], got {value}; 0.7 is usual.")
        if self.min_truncation_psi > self.max_truncation_psi:
            raise ConfigError(
                f"min_truncation_psi {self.min_truncation_psi} is above max_truncation_psi {self.max_truncation_psi}."
            )
        if not 0.0 <= self.style_mixing <= 1.0:
            raise ConfigError(f"style_mixing must be a share of the pairs in [0, 1], got {self.style_mixing}.")
        if self.label is not None and self.label < 0:
            raise ConfigError(f"label must be the number of a class, from 0, got {self.label}.")

    def _check_pictures(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ConfigError(f"threshold must lie in [0, 1], got {self.threshold}; 0.9 is usual.")
        if self.refine is not None and self.refine not in REFINEMENTS:
            raise ConfigError(f"refine must be none or one of {', '.join(REFINEMENTS)}, got {self.refine!r}.")
        if self.size is not None and self.size < 1:
            raise ConfigError(f"size must be at least 1 pixel, got {self.size}.")
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts or len(set(self.parts)) < len(self.parts):
            got = ", ".join(self.parts) or "none"
            raise ConfigError(f"parts must be some of {', '.join(PARTS)}, each once; got {got}.")
        for name, allowed in (("format", FORMATS), ("image_format", IMAGE_FORMATS)):
            if (value := getattr(self, name)) not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality must lie in [1, 100], got {self.quality}; 95 is usual.")
        if self.alpha_bits not in (8, 16):
            raise ConfigError(f"alpha_bits must be 8 or 16, got {self.alpha_bits}.")
        if not self.category.strip():
            raise ConfigError("category must name the object, got an empty word.")
        if not self.backgrounds or (self.backgrounds.startswith("#") and not self.colour):
            raise ConfigError(
                f"backgrounds must be {GENERATED!r}, a folder of pictures or a colour such as '#20a040', got "
                f"{self.backgrounds!r}."
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
            coco_polygons=self.coco_polygons,
        )

    def to_json(self) -> dict[str, Any]:
        """All settings as JSON values, sections as objects."""
        values = asdict(self)
        values["parts"] = list(self.parts)
        values["uncertainty"]["ensemble"] = list(self.uncertainty.ensemble)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_json`; names that are no settings of ours are passed over.

        Raises:
            ConfigError: If a value is of another kind or out of range.
        """
        try:
            known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
            known["parts"] = tuple(known.get("parts", ("image", "alpha", "mask")))
            known["filters"] = FilterConfig(**known.get("filters", {}))
            uncertainty = dict(known.get("uncertainty", {}))
            uncertainty["ensemble"] = tuple(uncertainty.get("ensemble", ()))
            known["uncertainty"] = UncertaintyConfig(**uncertainty)
            return cls(**known)
        except TypeError as error:
            raise ConfigError(f"These are no settings of a data set ({error}).") from error


def published(**changes: Any) -> SampleConfig:
    """What ``test_sample.py`` of RameenAbdal/Labels4Free renders: truncation 0.5, masks at 0.9, all five pictures.

    It draws its latents without a seed and keeps every sample, so the filters are off.
    """
    from labels4free.sampling.filters import NO_FILTERS

    settings: dict[str, Any] = {
        "min_truncation_psi": 0.5,
        "max_truncation_psi": 0.5,
        "threshold": 0.9,
        "parts": ("image", "alpha", "mask", "composite", "background"),
        "filters": NO_FILTERS,
    }
    return SampleConfig(**settings | changes)
