"""One door to every checkpoint: native files, files of other projects, folders of finished runs, names of the zoo."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import torch
from torch import nn

from labels4free.checkpoints import model_zoo
from labels4free.checkpoints.contents import NATIVE, Checkpoint
from labels4free.checkpoints.foreign.formats import read_foreign
from labels4free.checkpoints.native import FORMAT, is_native, read_native_header, read_tensors
from labels4free.checkpoints.places import SHIPPED_SEGMENTER, beside, file_of
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import CheckpointError, ConfigError
from labels4free.generators import FAMILIES
from labels4free.layered import LayeredGenerator
from labels4free.networks import ALPHA_NETWORKS, DISCRIMINATORS, SEGMENTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labels4free.checkpoints.native import NativeHeader
    from labels4free.generators.base import Generator
    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.networks.discriminator import Discriminator
    from labels4free.networks.segmenter import SegmenterNetwork

_log = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)


class _Part(NamedTuple):
    """One kind of network that a checkpoint may hold.

    Attributes:
        families: Its classes, by their names in native files.
        words: What it is, for messages.
        advice: What to do where a foreign file holds none, as some may; ``{path}`` is the file.
    """

    families: Mapping[str, type[nn.Module]]
    words: str
    advice: str


_HAVE_DISCRIMINATORS = "Training checkpoints of rosinality and pickles of NVIDIA hold one, and conversions keep it."
_PARTS = {
    "generator": _Part(FAMILIES, "a generator", "Give the file of the generator that it belongs to."),
    "discriminator": _Part(DISCRIMINATORS, "a discriminator", _HAVE_DISCRIMINATORS),
    "alpha_network": _Part(ALPHA_NETWORKS, "an alpha network", "Train one: labels4free train {path} --out RUN"),
    "segmenter": _Part(SEGMENTERS, "a segmenter", ""),
}


def read_checkpoint(source: str | Path, part: str | None = None) -> Checkpoint:
    """Read a checkpoint of any format: every network in it, or one part of it alone.

    A native file holds one network; with a generator comes the discriminator that a conversion wrote beside it, unless
    one part alone is asked for. A file of another project is converted whole. Nothing of a file is ever executed.

    Args:
        source: A native file; a file or folder of another project, see
            :func:`labels4free.checkpoints.foreign.formats.read_foreign`; the folder of a finished run; or a name: a
            generator of the zoo, which is fetched, or an alpha network or segmenter that ships with this package.
        part: One of ``contents.PARTS`` that must be there; None takes what there is.

    Raises:
        CheckpointError: If the source is none of these, does not hold the part, is damaged or of an unknown family.
        ModelZooError: If a named model cannot be fetched.
    """
    path = file_of(source, part)
    if part == "segmenter" or is_native(path):
        return _read_native(path, part)
    found = read_foreign(path)
    if part is not None and part not in found.held:
        held = " and ".join(_PARTS[name].words for name in found.held)
        wanted = _PARTS[part].words.partition(" ")[2]
        raise CheckpointError(f"{path} holds {held} and no {wanted}. {_PARTS[part].advice.format(path=path)}")
    return found


def load_generator(source: str | Path, device: str | torch.device = "cpu") -> Generator:
    """Load a frozen generator, in evaluation mode.

    Args:
        source: As for :func:`read_checkpoint`.
        device: Where to put it.

    Raises:
        CheckpointError: As :func:`read_checkpoint`.
        ModelZooError: If a named model cannot be fetched.
        ConfigError: If the device cannot be used.
    """
    return cast("Generator", _load(source, "generator", device))


def load_discriminator(source: str | Path, device: str | torch.device = "cpu") -> Discriminator:
    """Load the discriminator that a generator was trained against, to go on training: its weights take gradients.

    Args and errors as for :func:`load_generator`; the file may also be that of the generator that one lies beside.
    """
    return cast("Discriminator", _load(source, "discriminator", device))


def load_alpha_network(source: str | Path, device: str | torch.device = "cpu") -> AlphaNetwork:
    """Load a trained alpha network, in evaluation mode; its weights take no gradient.

    Args:
        source: As for :func:`labels4free.checkpoints.places.alpha_network_file`; native or of the original.
        device: Where to put it.

    Raises:
        CheckpointError, ConfigError: As :func:`load_generator`.
    """
    return cast("AlphaNetwork", _load(source, "alpha_network", device))


def load_segmenter(source: str | Path = SHIPPED_SEGMENTER, device: str | torch.device = "cpu") -> SegmenterNetwork:
    """Load a segmenter of photos, in evaluation mode; its weights take no gradient.

    Args:
        source: As for :func:`labels4free.checkpoints.places.segmenter_file`; a native file.
        device: Where to put it.

    Raises:
        CheckpointError, ConfigError: As :func:`load_generator`.
    """
    return cast("SegmenterNetwork", _load(source, "segmenter", device))


def load_layered(
    source: str | Path, generator: str | Path | None = None, device: str | torch.device = "cpu"
) -> tuple[LayeredGenerator, str]:
    """Load an alpha network together with its generator.

    Args:
        source: Folder of a training run, file of an alpha network, or zoo name of a generator that one ships for.
        generator: Zoo name or file of the generator; None for the one that the alpha network was trained on.
        device: Where to put them.

    Returns:
        Both joined, in evaluation mode, and the generator's zoo name or file. A checkpoint of the original that holds
        both serves as both.

    Raises:
        CheckpointError: If one of them cannot be read, or the alpha network's own generator has other weights now.
        ConfigError: If the two do not fit each other, or the device cannot be used.
        ModelZooError: If the generator cannot be fetched.
    """
    target = resolve_device(device)
    alpha = read_checkpoint(source, "alpha_network")
    network = cast("AlphaNetwork", alpha.alpha_network)
    if generator is None and alpha.generator is not None:
        return LayeredGenerator(alpha.generator, network).eval().to(target), str(alpha.path)
    name = str(generator) if generator else generator_name_of(alpha)
    if name is None:
        if not (own := alpha.made_for.get("name")):
            raise CheckpointError(f"{source} does not say which generator it belongs to; name it with --generator.")
        raise CheckpointError(
            f"{source} was trained on {own}, which is not there; name its generator with --generator."
        )
    loaded = load_generator(name)
    if alpha.made_for.get("state_hash") not in (None, state_hash(loaded)):
        if generator is None:
            raise CheckpointError(
                f"{name} is not the generator that {source} was trained on: its weights are others. Name the right one "
                f"with --generator, or {name} itself to use it all the same."
            )
        _log.warning("%s was trained on other weights than those of %s: its masks may be wrong.", source, name)
    return LayeredGenerator(loaded, network).eval().to(target), name


def generator_name_of(alpha: Checkpoint) -> str | None:
    """Zoo name or file of the generator that an alpha network was made for; None if it is not known or not there.

    A file that is no longer where it was is looked for beside the alpha network's, too.
    """
    name = alpha.made_for.get("name")
    if not isinstance(name, str) or not name:
        return None
    near = alpha.path.parent / Path(name).name
    return next((str(place) for place in (name, near) if place in model_zoo.MODELS or Path(place).exists()), None)


# Native files


def _load(source: str | Path, part: str, device: str | torch.device) -> nn.Module:
    """One part of a checkpoint, on a device, which is checked before anything is fetched or read."""
    target = resolve_device(device)
    found: nn.Module = getattr(read_checkpoint(source, part), part)
    return found.to(target)


def _read_native(path: Path, part: str | None) -> Checkpoint:
    """Read a native file, or the discriminator beside it."""
    beside_it = beside(path, "discriminator")
    if part == "discriminator" and read_native_header(path).kind == "generator":
        if not beside_it.exists():
            raise CheckpointError(
                f"{path} is a generator without a discriminator: there is no {beside_it}. {_HAVE_DISCRIMINATORS}"
            )
        path = beside_it
    header = read_native_header(path, part)
    if header.kind not in _PARTS:
        *others, last = _PARTS
        known = f"{', '.join(others)} and {last} are known"
        raise CheckpointError(f"{path} holds a checkpoint of kind {header.kind!r}; {known}.")
    parts = {header.kind: _build(path, header)}
    besides = {}
    if header.kind == "generator" and part is None and beside_it.exists():
        besides = {"discriminator": beside_it}
        parts["discriminator"] = _build(beside_it, read_native_header(beside_it, "discriminator"))
    return Checkpoint(
        **parts,  # type: ignore[arg-type]  # each of the kind that its name says
        path=path,
        format=NATIVE,
        title=f"native checkpoint of labels4free, version {FORMAT}",
        beside=besides,
        info=header.info,
        settings=header.info.get("train") or {},
    )


def _build(path: Path, header: NativeHeader) -> nn.Module:
    """Build a module of the header's family and fill it."""
    kind = _PARTS[header.kind]
    family = kind.families.get(header.family)
    if family is None:
        known = ", ".join(kind.families)
        raise CheckpointError(f"{path} holds {kind.words} of family {header.family!r}; the families are {known}.")
    state = read_tensors(path, header.kind)
    make = cast("type[AlphaNetwork]", family).from_config  # every family has it
    try:
        # First without memory: a damaged configuration must not ask for more than the file has tensors for.
        with torch.device("meta"):
            outline = make(header.config)
        load_state(outline, {name: value.to("meta") for name, value in state.items()}, str(path))
        module = make(header.config)
        load_state(module, state, str(path))
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise CheckpointError(f"{path} has a configuration that {header.family} cannot use ({error!r}).") from error
    return module if header.kind == "discriminator" else module.eval().requires_grad_(False)


def load_state(module: nn.Module, state: dict[str, torch.Tensor], what: str) -> None:
    """Fill a module whose tensors must have exactly these names and shapes.

    Args:
        module: Filled in place.
        state: Tensors by name.
        what: The file they come from, for messages.

    Raises:
        CheckpointError: If a name is missing or too many, or a shape differs; names the first.
    """
    expected = {name: list(value.shape) for name, value in module.state_dict().items()}
    found = {name: list(value.shape) for name, value in state.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise CheckpointError(
            f"{what} does not fit its own configuration: {wrong[0]} has shape {found.get(wrong[0])}, expected "
            f"{expected.get(wrong[0])} ({len(wrong)} of {len(expected)} tensors); write or fetch it again."
        )
    module.load_state_dict(state)


def resolve_device(device: str | torch.device) -> torch.device:
    """Check that a device can be used.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or a device.

    Raises:
        ConfigError: If it is no such device, or this machine or this PyTorch does not have it.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"Unknown device {device!r}; use cpu, cuda, cuda:N or mps.") from error
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= count:
            raise ConfigError(f"Device {device} was asked for, PyTorch finds {count} CUDA devices; use another or cpu.")
    elif found.type == "mps":
        if not torch.backends.mps.is_available():
            raise ConfigError("Device mps was asked for, but PyTorch finds no Metal device here; use cpu.")
    elif found.type != "cpu":
        raise ConfigError(f"Device {device} is not supported; use cpu, cuda, cuda:N or mps.")
    return found
