"""The flags of ``labels4free sample`` that belong together, and the words that some of them take."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import UseAppendAction, arg

from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from labels4free.sampling.config import SampleConfig
    from labels4free.sampling.filters import FilterConfig
    from labels4free.sampling.uncertainty import UncertaintyConfig

_REFINED_THRESHOLD = 0.5  # refined borders are softer: at 0.9 more is lost there than refining gains
_COUNTS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


@dataclass(frozen=True)
class Latents:
    """Which images."""

    seed: int = 0
    """Sample i depends on the seed and i alone."""
    truncation_psi: Annotated[str | None, arg(metavar="PSI|MIN:MAX", help_behavior_hint="(default: 0.7)")] = None
    """From 1, the generator's full variety, towards 0, its average image; 0.5:1 draws it anew for each sample."""
    style_mixing: Annotated[float, arg(metavar="FRACTION")] = 0.0
    """Fraction of the samples whose finer styles are another latent's."""
    label: Annotated[int | None, arg(metavar="K", help_behavior_hint="")] = None
    """Class of the samples, for generators with classes; without it each sample draws its own."""


@dataclass(frozen=True)
class Files:
    """What is written of each sample, and how."""

    include: Annotated[str | None, arg(metavar="PART,PART,...", help_behavior_hint="(default: image,alpha,mask)")] = (
        None
    )
    """Image, alpha (soft), mask (hard), composite (the object over another background), background, cutout (RGBA),
    latents."""
    format: Annotated[str, arg(metavar="folder|webdataset|coco|huggingface")] = "folder"
    """Numbered files; tar shards; images with annotations; images and masks with metadata.jsonl."""
    size: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="")] = None
    """Side of the pictures in pixels, a divisor of the generator's resolution; by default that."""
    threshold: Annotated[float | None, arg(metavar="T", help_behavior_hint="(default: 0.9, refined 0.5)")] = None
    """A pixel is foreground in the mask where its alpha exceeds this."""
    refine: Annotated[str | None, arg(metavar="guided|closed-form", help_behavior_hint="")] = None
    """Let alpha follow the image's edges. Closed-form matting is the better and slower one: 0.4 s a sample of 256
    pixels, over 10 s at 1024; it needs the extra "matting"."""
    backgrounds: Annotated[str, arg(metavar="generated|FOLDER|#RRGGBB")] = "generated"
    """What composites have behind the object: another sample's background, pictures of yours, or a colour."""
    image_format: Annotated[str, arg(metavar="png|jpeg|webp")] = "png"
    """Of the colour pictures; all else is written without loss. JPEG costs a tenth of the time and a quarter of the
    space of PNG."""
    quality: int = 95
    """Of JPEG and WebP, 1 to 100."""
    alpha_bits: int = 8
    """8 or 16 bits a pixel of alpha."""
    category: Annotated[str, arg(metavar="WORD")] = "object"
    """What the object is called, for COCO."""


@dataclass(frozen=True)
class Trust:
    """Which samples are left out."""

    min_foreground_ratio: Annotated[float | None, arg(metavar="FRACTION", help_behavior_hint="(default: 0.02)")] = None
    """Masks that cover less of the picture are dropped."""
    max_foreground_ratio: Annotated[float | None, arg(metavar="FRACTION", help_behavior_hint="(default: 0.98)")] = None
    """Masks that cover more are dropped."""
    max_components: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Masks of more separate parts are dropped."""
    min_largest_component_fraction: Annotated[
        float | None, arg(metavar="FRACTION", help_behavior_hint="(default: 0.5)")
    ] = None
    """Masks whose largest part has less of their pixels are dropped."""
    uncertainty: Annotated[str | None, arg(metavar="noise:N,mixing:N", help_behavior_hint="")] = None
    """Measure how much alpha changes in so many more renderings with other noise, and with other fine styles."""
    ensemble: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="ALPHA")] = ()
    """Another alpha network for the same generator, to measure how far they agree; may be given several times."""
    max_uncertainty_quantile: Annotated[float | None, arg(metavar="FRACTION", help_behavior_hint="")] = None
    """Keep this fraction of the samples, those of lowest uncertainty."""
    min_sharpness_quantile: Annotated[float | None, arg(metavar="FRACTION", help_behavior_hint="")] = None
    """Drop this fraction of the samples, those whose alpha is least clearly 0 or 1. It costs nothing to measure."""
    min_discriminator_score_quantile: Annotated[float | None, arg(metavar="FRACTION", help_behavior_hint="")] = None
    """Drop this fraction of the samples, those that look least real to the discriminator."""
    discriminator: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """File of the discriminator; by default the one in, or beside, the generator's own."""
    calibration: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 256)")] = None
    """Samples on which the fractions above are turned into numbers, once."""

    def filters(self, base: FilterConfig) -> FilterConfig:
        """The filters, with ``base`` where nothing was given."""
        names = {f.name for f in dataclasses.fields(base)}
        given = {name: value for name, value in vars(self).items() if name in names and value is not None}
        return dataclasses.replace(base, **given)

    def uncertainty_config(self) -> UncertaintyConfig:
        """The augmentations that an uncertainty is measured by."""
        from labels4free.sampling.uncertainty import UncertaintyConfig

        augmentations: dict[str, Any] = dict(parse_augmentations(self.uncertainty))
        return UncertaintyConfig(**augmentations, ensemble=self.ensemble)


@dataclass(frozen=True)
class Work:
    """How the work is done and shared."""

    shard_size: Annotated[int, arg(metavar="N")] = 100
    """Candidates that are written, checked and continued as one."""
    shards: Annotated[str | None, arg(metavar="FIRST-LAST", help_behavior_hint="")] = None
    """Make these shards only, such as 0-99."""
    workers: Annotated[int, arg(metavar="N")] = 1
    """Processes on this machine. One uses all cores, too; several need less of Python's attention on many cores."""
    batch_size: int = 4
    """Samples rendered at once on a GPU. A CPU renders each alone."""
    device: str = "cpu"
    """cpu, cuda, cuda:N or mps. Under torchrun, cuda is each process's own GPU."""


def settings_of(preset: str | None, latents: Latents, files: Files, trust: Trust, work: Work) -> SampleConfig:
    """The settings of a preset, or the defaults, with what was given in their places.

    Raises:
        ConfigError: If a value is out of range or there is no such preset.
    """
    from labels4free.sampling.config import PAPER, SampleConfig

    if preset not in (None, "paper"):
        raise ConfigError(f"Unknown preset {preset!r}; there is one, paper.")
    base = PAPER if preset else SampleConfig()
    low, high = parse_range(latents.truncation_psi) if latents.truncation_psi is not None else (None, None)
    parts = parse_parts(files.include) if files.include is not None else None
    given = {**vars(latents), **vars(files), **vars(work), "discriminator": trust.discriminator}
    if files.refine is not None and files.threshold is None:
        given["threshold"] = _REFINED_THRESHOLD
    given |= {"min_truncation_psi": low, "max_truncation_psi": high, "parts": parts}
    names = {f.name for f in dataclasses.fields(base)}
    given = {name: value for name, value in given.items() if name in names and value is not None}
    return dataclasses.replace(
        base, **given, filters=trust.filters(base.filters), uncertainty=trust.uncertainty_config()
    )


def parse_count(word: str) -> int:
    """A number such as ``1000``, ``10k`` or ``10M``.

    Raises:
        ConfigError: If it is none.
    """
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?)([kKmMgG]?)", word.replace("_", "").strip())
    value = float(found[1]) * _COUNTS[found[2].lower()] if found else 0.5
    if value != int(value):
        raise ConfigError(f"num must be a whole number such as 1000, 10k or 10M, got {word!r}.")
    return int(value)


def parse_range(word: str) -> tuple[float, float]:
    """A number, or the ends of a range with a colon between them.

    Raises:
        ConfigError: If it is neither.
    """
    try:
        ends = [float(end) for end in word.split(":")]
    except ValueError:
        ends = []
    if len(ends) not in (1, 2):
        raise ConfigError(f"truncation_psi must be a number such as 0.7 or a range such as 0.5:1, got {word!r}.")
    return ends[0], ends[-1]


def parse_parts(word: str) -> tuple[str, ...]:
    """Names of parts, with commas between them; what they are is checked by the config."""
    return tuple(part.strip() for part in word.split(",") if part.strip())


def parse_augmentations(word: str | None) -> dict[str, int]:
    """Numbers of augmentations by kind: ``noise:2,mixing:2``.

    Raises:
        ConfigError: If it is something else.
    """
    augmentations: dict[str, int] = {}
    for item in parse_parts(word or ""):
        kind, _, count = item.partition(":")
        if kind not in ("noise", "mixing") or not count.isdecimal() or kind in augmentations:
            raise ConfigError(f"uncertainty must be numbers of augmentations such as noise:2,mixing:2, got {word!r}.")
        augmentations[kind] = int(count)
    return augmentations


def parse_shards(word: str) -> tuple[int, int]:
    """First and last of a range of shards such as ``0-99``, or one shard.

    Raises:
        ConfigError: If it is neither.
    """
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", word.strip())
    if not found:
        raise ConfigError(f"shards must be a range such as 0-99, got {word!r}.")
    return int(found[1]), int(found[2] or found[1])
