"""Models ready for use, from the model zoo, a native file or a file of another project."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import nn

from labels4free.checkpoints import model_zoo
from labels4free.checkpoints.foreign import is_native, read_foreign
from labels4free.checkpoints.native import NativeCheckpoint, read_native
from labels4free.errors import CheckpointError, ConfigError
from labels4free.generators import FAMILIES
from labels4free.networks import ALPHA_NETWORKS, DISCRIMINATORS, SEGMENTERS
from labels4free.networks.alpha_network import AlphaNetwork
from labels4free.networks.discriminator import Discriminator
from labels4free.networks.segmenter import SegmenterNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labels4free.checkpoints.conversion import Conversion
    from labels4free.generators.base import Generator

_log = logging.getLogger(__name__)

SHIPPED_SEGMENTER = "faces"
"""Name of the segmenter that ships with the package."""

M = TypeVar("M", "Generator", AlphaNetwork, Discriminator, SegmenterNetwork)


class LoadedAlpha(NamedTuple):
    """An alpha network and what its file knows of the generator that it belongs to.

    Attributes:
        network: The network in evaluation mode; its weights take no gradient.
        generator: The generator, where the same file holds it: a training checkpoint of the original.
        made_for: What a native file says of the generator: its name, family and fingerprint, each if it is known.
        path: The file.
    """

    network: AlphaNetwork
    generator: Generator | None
    made_for: dict[str, Any]
    path: Path


def beside(path: str | Path, part: str) -> Path:
    """The file that a conversion writes beside the generator's: ``g.safetensors`` -> ``g.<part>.safetensors``."""
    return Path(path).with_suffix(f".{part}.safetensors")


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


def checkpoint_file(source: str | Path) -> Path:
    """The file or folder that a zoo name or path means; a model of the zoo is fetched.

    Raises:
        CheckpointError: If there is no such file, and no model of that name.
        ModelZooError: If a named model cannot be fetched.
    """
    if isinstance(source, str) and source in model_zoo.MODELS:
        if not model_zoo.is_fetched(source):
            _log.info("%s is not in the cache yet: fetching it", source)
        return model_zoo.fetch(source)
    path = Path(source)
    if not path.exists():
        raise CheckpointError(
            f"{source} is neither a file nor a model of the zoo; the models are {', '.join(model_zoo.MODELS)}."
        )
    return path


def load_generator(source: str | Path, device: str | torch.device = "cpu") -> Generator:
    """Load a frozen generator.

    Args:
        source: A name from the model zoo, fetched if it is not in the cache yet; a native checkpoint file; or a file or
            folder of another project, see :func:`labels4free.checkpoints.foreign.read_foreign`.
        device: Where to put it.

    Returns:
        The generator in evaluation mode.

    Raises:
        CheckpointError: If the source is none of these, holds no generator, is damaged or of an unknown family.
        ModelZooError: If a named model cannot be fetched.
        ConfigError: If the device cannot be used.
    """
    target = resolve_device(device)
    path = checkpoint_file(source)
    if is_native(path):
        generator = _build(path, read_native(path, "generator"), FAMILIES, "a generator")
    else:
        found = read_foreign(path)
        if found.generator is None:
            raise _missing(path, found, "generator", "Give the file of the generator that it belongs to.")
        generator = found.generator
    return generator.eval().to(target)


def load_discriminator(source: str | Path, device: str | torch.device = "cpu") -> Discriminator:
    """Load the discriminator that a generator was trained against, to go on training with it.

    Args:
        source: A native file of a discriminator or of the generator that one lies beside, as conversions write them; or
            a file of another project that holds one.
        device: Where to put it.

    Returns:
        The discriminator; its weights take gradients.

    Raises:
        CheckpointError: If the source holds none, is damaged or of an unknown family.
        ConfigError: If the device cannot be used.
    """
    target = resolve_device(device)
    path = checkpoint_file(source)
    if is_native(path):
        checkpoint = read_native(path)
        if checkpoint.kind == "generator":
            path = beside(path, "discriminator")
            if not path.exists():
                raise CheckpointError(
                    f"{source} is a generator without a discriminator: there is no {path}. {_HAVE_DISCRIMINATORS}"
                )
        return _build(path, read_native(path, "discriminator"), DISCRIMINATORS, "a discriminator").to(target)
    found = read_foreign(path)
    if found.discriminator is None:
        raise _missing(path, found, "discriminator", _HAVE_DISCRIMINATORS)
    return found.discriminator.to(target)


def generator_fingerprint(generator: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of a network's weights, in hexadecimal.

    The same weights give the same value on every machine and device. ``w_avg`` is left out: it follows from the other
    weights, and where it is computed its last bits may depend on the machine.
    """
    digest = hashlib.sha256()
    for name, value in sorted(generator.state_dict().items()):
        if name != "w_avg":
            digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def alpha_network_file(source: str | Path) -> Path:
    """Find the file of an alpha network.

    Args:
        source: A file, the folder of a finished training run, or the zoo name of a generator that a trained alpha
            network ships for with this package.

    Raises:
        CheckpointError: If the source is none of these.
    """
    shipped = Path(__file__).parent.parent / "weights" / f"{source}.alpha.safetensors"
    if str(source) in model_zoo.MODELS:
        if not shipped.exists():
            raise CheckpointError(
                f"No alpha network ships for {source}; train one: labels4free train {source} --out RUN"
            )
        return shipped
    path = Path(source)
    if path.is_dir():
        found = path / "alpha.safetensors"
        if not found.exists():
            unfinished = (path / "config.json").exists()
            hint = "its run is not finished; go on with --resume" if unfinished else "it is no finished training run"
            raise CheckpointError(f"{path} holds no alpha.safetensors: {hint}.")
        return found
    if not path.exists():
        names = ", ".join(model_zoo.MODELS)
        raise CheckpointError(f"{source} is no alpha network file, no training run and no name of the zoo ({names}).")
    return path


def load_alpha_network(source: str | Path, device: str | torch.device = "cpu") -> AlphaNetwork:
    """Load a trained alpha network.

    Args:
        source: As for :func:`alpha_network_file`; the file may be native or one of the original Labels4Free.
        device: Where to put it.

    Returns:
        The network in evaluation mode; its weights take no gradient.

    Raises:
        CheckpointError: If the source holds no alpha network, or is damaged.
        ConfigError: If the device cannot be used.
    """
    return read_alpha_network(source, device).network


def read_alpha_network(source: str | Path, device: str | torch.device = "cpu") -> LoadedAlpha:
    """Load a trained alpha network, and what its file knows of its generator.

    Arguments and errors are those of :func:`load_alpha_network`.
    """
    target = resolve_device(device)
    path = alpha_network_file(source)
    generator: Generator | None = None
    made_for: dict[str, Any] = {}
    if is_native(path):
        checkpoint = read_native(path, "alpha_network")
        network = _build(path, checkpoint, ALPHA_NETWORKS, "an alpha network")
        made_for = checkpoint.info.get("generator") or {}
    else:
        found = read_foreign(path)
        if found.alpha_network is None:
            raise _missing(path, found, "alpha network", f"Train one: labels4free train {path} --out RUN")
        network, generator = found.alpha_network, found.generator
        generator = generator.eval().to(target) if generator is not None else None
    return LoadedAlpha(network.eval().requires_grad_(False).to(target), generator, made_for, path)


def segmenter_file(source: str | Path = SHIPPED_SEGMENTER) -> Path:
    """Find the file of a segmenter.

    Args:
        source: A file, the folder of a finished run of ``distill``, or ``faces``, which ships with this package.

    Raises:
        CheckpointError: If the source is none of these.
    """
    shipped = Path(__file__).parent.parent / "weights" / f"{source}.segmenter.safetensors"
    path = Path(source)
    if path.is_dir():
        found = path / "segmenter.safetensors"
        if not found.exists():
            raise CheckpointError(f"{path} holds no segmenter.safetensors: it is no finished run of a segmenter.")
        return found
    if str(source) == SHIPPED_SEGMENTER and not path.exists():
        return shipped
    if not path.exists():
        raise CheckpointError(
            f"There is no segmenter at {source}: give a file, the folder of a finished run, or {SHIPPED_SEGMENTER}."
        )
    return path


def load_segmenter(source: str | Path = SHIPPED_SEGMENTER, device: str | torch.device = "cpu") -> SegmenterNetwork:
    """Load a segmenter of photos.

    Args:
        source: As for :func:`segmenter_file`; a native file.
        device: Where to put it.

    Returns:
        The network in evaluation mode; its weights take no gradient.

    Raises:
        CheckpointError: If the source is no segmenter, or is damaged.
        ConfigError: If the device cannot be used.
    """
    target = resolve_device(device)
    path = segmenter_file(source)
    network = _build(path, read_native(path, "segmenter"), SEGMENTERS, "a segmenter")
    return network.eval().requires_grad_(False).to(target)


def generator_name_of(alpha: LoadedAlpha) -> str | None:
    """Zoo name or file of the generator that an alpha network was made for; None if it is not known or not there.

    A file that is no longer where it was is looked for beside the alpha network's, too.
    """
    name = alpha.made_for.get("name")
    if not isinstance(name, str) or not name:
        return None
    near = alpha.path.parent / Path(name).name
    return next((str(place) for place in (name, near) if place in model_zoo.MODELS or Path(place).exists()), None)


_HAVE_DISCRIMINATORS = "Training checkpoints of rosinality and pickles of NVIDIA hold one, and conversions keep it."


def _missing(path: Path, found: Conversion, wanted: str, advice: str) -> CheckpointError:
    parts = {"generator": found.generator, "discriminator": found.discriminator, "alpha network": found.alpha_network}
    held = [f"{'an' if name[0] == 'a' else 'a'} {name}" for name, part in parts.items() if part is not None]
    return CheckpointError(f"{path} holds {' and '.join(held) or 'nothing'} and no {wanted}. {advice}")


def _build(path: Path, checkpoint: NativeCheckpoint, families: Mapping[str, type[M]], what: str) -> M:
    """Build a module of the checkpoint's family and fill it."""
    family = families.get(checkpoint.family)
    if family is None:
        known = ", ".join(families)
        raise CheckpointError(f"{path} holds {what} of family {checkpoint.family!r}; the families are {known}.")
    try:
        # First without memory: a damaged configuration must not ask for more than the file has tensors for.
        with torch.device("meta"):
            outline = family.from_config(checkpoint.config)
        load_state(outline, {name: value.to("meta") for name, value in checkpoint.state.items()}, str(path))
        module = family.from_config(checkpoint.config)
        load_state(module, checkpoint.state, str(path))
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise CheckpointError(f"{path} has a configuration that {checkpoint.family} cannot use ({error!r}).") from error
    return module
