"""What a checkpoint of any kind holds: its networks, where it comes from, and words for both."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from labels4free.generators.base import Generator
    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.networks.discriminator import Discriminator
    from labels4free.networks.segmenter import SegmenterNetwork

PARTS = ("generator", "discriminator", "alpha_network", "segmenter")
"""What a checkpoint may hold: fields of :class:`Checkpoint`, and kinds of native files."""
NATIVE = "native"
"""Name of our own format, beside those of ``foreign.CONVERTERS``."""
MEAN_W_SAMPLES = 10_000
MEAN_W_NOTE = f"The file has no mean latent: w_avg is the mean of {MEAN_W_SAMPLES:,} mapped latents."
_LISTED = 3
_MAX_TEXT = 60


@dataclass(frozen=True)
class Checkpoint:
    """The networks of a checkpoint, float32 and on the CPU, and what its file says about them.

    Attributes:
        generator: In evaluation mode; None if there is none.
        discriminator: Its weights take gradients; None if there is none that can be used.
        alpha_network: In evaluation mode, its weights take no gradient; None if there is none.
        segmenter: As the alpha network.
        ignored: Entry or pattern of a foreign file -> why it is not needed.
        notes: What a user should know, one sentence each.
        path: The file or folder.
        format: ``native``, or the name of a converter in ``foreign.CONVERTERS``.
        title: What that is, for people.
        beside: Networks that come from other files beside a native one: part -> file.
        info: What a native file says of where it comes from.
        settings: What it keeps of the settings of the training that wrote it, by name.
    """

    generator: Generator | None = None
    discriminator: Discriminator | None = None
    alpha_network: AlphaNetwork | None = None
    segmenter: SegmenterNetwork | None = None
    ignored: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    path: Path = Path()
    format: str = ""
    title: str = ""
    beside: Mapping[str, Path] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def held(self) -> tuple[str, ...]:
        """The parts that are there."""
        return tuple(part for part in PARTS if getattr(self, part) is not None)

    @property
    def made_for(self) -> Mapping[str, Any]:
        """What a native alpha network or discriminator says of its generator: name, family, state hash, if known."""
        return self.info.get("generator") or {}


def describe(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """A table of what there is: rows of a name and a value."""
    rows = [("format", checkpoint.title)]
    if checkpoint.generator is not None:
        rows += _describe_generator(checkpoint.generator)
        rows += [("mean latent", "computed" if MEAN_W_NOTE in checkpoint.notes else "as in the file")]
    if (d := checkpoint.discriminator) is not None:
        words = [f"{d.resolution}x{d.resolution}", _parameters(d)]
        words += [f"{d.c_dim} classes"] if d.c_dim else []
        words += [f"in {file}" for file in checkpoint.beside.values()]
        rows.append(("discriminator", ", ".join(words)))
    if (a := checkpoint.alpha_network) is not None:
        rows.append(("alpha network", f"{a.family}, for generators of {a.resolution}x{a.resolution}, {_parameters(a)}"))
    if (s := checkpoint.segmenter) is not None:
        rows.append(("segmenter", f"{s.family}, {_parameters(s)}"))
    return rows


def _describe_generator(generator: Generator) -> list[tuple[str, str]]:
    config = generator.config()
    channels: dict[int, int] = {spec.resolution: spec.channels for spec in generator.feature_specs}
    widths = config.get("mapping_widths") or [generator.w_dim] * config.get("mapping_layers", 0)
    uniform = len(set(widths)) == 1
    mapping = f"{len(widths)} layers of {widths[0] if uniform else ', '.join(map(str, widths))}"
    if "mapping_lr_multiplier" in config:
        mapping += f", learning-rate multiplier {config['mapping_lr_multiplier']:g}"
    strengths = [float(v) for name, v in generator.state_dict().items() if name.endswith("noise_strength")]
    rows = [
        ("generator", f"{generator.family}, {_parameters(generator)}"),
        ("image", f"{generator.resolution}x{generator.resolution}"),
        ("channels", ", ".join(f"{count} at {size}²" for size, count in channels.items())),
        ("latents", f"z {generator.z_dim}, w {generator.w_dim} in {generator.num_ws} rows"),
        ("classes", str(generator.c_dim or "none")),
        ("mapping", mapping),
        ("noise", f"{len(strengths)} fixed maps, strength {min(strengths):.3g} to {max(strengths):.3g}"),
    ]
    if config.get("conv_clamp") is not None:
        rows.append(("limit", f"every layer to ±{config['conv_clamp']:g}, as mixed-precision training had it"))
    return rows


def _parameters(network: nn.Module) -> str:
    """How many numbers were trained: fixed noise, filters and the mean latent are not."""
    fixed = (".noise", ".kernel", "w_avg")
    count = sum(value.numel() for name, value in network.state_dict().items() if not name.endswith(fixed))
    return f"{count:,} parameters"


def ignored_rows(ignored: Mapping[str, str]) -> list[tuple[str, str]]:
    """What was left out, grouped by reason: rows of entries and the reason."""
    groups: dict[str, list[str]] = {}
    for entry, reason in ignored.items():
        groups.setdefault(reason, []).append(entry)
    rows = []
    for reason, entries in groups.items():
        more = f" and {len(entries) - _LISTED} more" if len(entries) > _LISTED else ""
        rows.append((", ".join(entries[:_LISTED]) + more, reason))
    return rows


def settings_row(settings: Mapping[str, Any]) -> str:
    """Settings as ``name=value`` words: plain values only, long ones cut."""
    words = []
    for name, value in settings.items():
        if isinstance(value, bool | int | float | str) and value != "":
            words.append(f"{name}={str(value)[:_MAX_TEXT]}")
    return ", ".join(words)
