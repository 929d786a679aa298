"""What a checkpoint of any kind holds, for the verbs that look into one: its networks, and words for them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from labels4free.generators.base import Generator
    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.networks.discriminator import Discriminator

_LISTED = 3
_MAX_TEXT = 60


@dataclass(frozen=True)
class Contents:
    """The networks of a checkpoint.

    Attributes:
        path: The file or folder.
        format: Name of its format: ``native``, or a converter's in ``foreign.CONVERTERS``.
        title: What that is, for people.
        generator: In evaluation mode, or None.
        discriminator: Or None.
        alpha_network: In evaluation mode, or None.
        beside: Networks that come from other files beside a native one: name -> file.
        ignored: Entry -> why it is not needed.
        notes: What a user should know, one sentence each.
        info: What a native file says of where it comes from.
        settings: Settings of the training that wrote the file, as far as it keeps them.
    """

    path: Path
    format: str
    title: str
    generator: Generator | None = None
    discriminator: Discriminator | None = None
    alpha_network: AlphaNetwork | None = None
    beside: Mapping[str, Path] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_contents(source: str) -> Contents:
    """Read a checkpoint of any kind.

    Args:
        source: A file or folder of any known format, the folder of a finished training run, or a name of the zoo.

    Raises:
        CheckpointError: If it is none of these, or damaged.
        ModelZooError: If a named model cannot be fetched.
    """
    from labels4free.checkpoints.foreign import CONVERTERS, is_native, read_foreign
    from labels4free.checkpoints.loading import alpha_network_file, checkpoint_file

    path = checkpoint_file(source)
    if path.is_dir() and any((path / name).exists() for name in ("alpha.safetensors", "config.json")):
        path = alpha_network_file(path)
    if is_native(path):
        return _read_native(path)
    found = read_foreign(path)
    return Contents(
        path,
        found.source,
        CONVERTERS[found.source].title,
        generator=found.generator,
        discriminator=found.discriminator,
        alpha_network=found.alpha_network,
        ignored=found.ignored,
        notes=found.notes,
        settings=found.settings,
    )


def _read_native(path: Path) -> Contents:
    from labels4free.checkpoints.loading import beside, load_alpha_network, load_discriminator, load_generator
    from labels4free.checkpoints.native import FORMAT, read_native_header
    from labels4free.errors import CheckpointError

    header = read_native_header(path)
    title = f"native checkpoint of labels4free, version {FORMAT}"
    contents = Contents(path, "native", title, info=header.info, settings=header.info.get("train") or {})
    if header.kind == "alpha_network":
        return replace(contents, alpha_network=load_alpha_network(path))
    if header.kind == "discriminator":
        return replace(contents, discriminator=load_discriminator(path))
    if header.kind != "generator":
        raise CheckpointError(
            f"{path} holds a checkpoint of kind {header.kind!r}; generator, alpha_network and discriminator are known."
        )
    contents = replace(contents, generator=load_generator(path))
    other = beside(path, "discriminator")
    if not other.exists():
        return contents
    return replace(contents, discriminator=load_discriminator(other), beside={"discriminator": other})


def describe(contents: Contents) -> list[tuple[str, str]]:
    """A table of what there is: rows of a name and a value."""
    from labels4free.checkpoints.conversion import MEAN_W_NOTE

    rows = [("format", contents.title)]
    if contents.generator is not None:
        rows += _describe_generator(contents.generator)
        rows += [("mean latent", "computed" if MEAN_W_NOTE in contents.notes else "as in the file")]
    if contents.discriminator is not None:
        d = contents.discriminator
        words = [f"{d.resolution}x{d.resolution}", _parameters(d)]
        words += [f"{d.c_dim} classes"] if d.c_dim else []
        words += [f"in {contents.beside['discriminator']}"] if "discriminator" in contents.beside else []
        rows.append(("discriminator", ", ".join(words)))
    if contents.alpha_network is not None:
        a = contents.alpha_network
        rows.append(("alpha network", f"{a.family}, for generators of {a.resolution}x{a.resolution}, {_parameters(a)}"))
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


def _parameters(network: Generator | Discriminator | AlphaNetwork) -> str:
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


def print_table(rows: Iterable[tuple[str, str]]) -> None:
    """Print rows of a name and a value: a table on a terminal, else a line a row, a tab between the two."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        print("\n".join("\t".join(row) for row in rows))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    console.print(table, highlight=False, markup=False)
