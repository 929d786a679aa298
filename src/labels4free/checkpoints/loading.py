"""Models ready for use, from a file or from the model zoo."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from labels4free.checkpoints import model_zoo
from labels4free.checkpoints.native import NativeCheckpoint, read_native
from labels4free.errors import CheckpointError, ConfigError
from labels4free.generators import FAMILIES
from labels4free.networks.alpha_network import ALPHA_NETWORKS, AlphaNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labels4free.generators.base import Generator

_log = logging.getLogger(__name__)

M = TypeVar("M", "Generator", AlphaNetwork)


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


def load_generator(source: str | Path, device: str | torch.device = "cpu") -> Generator:
    """Load a frozen generator.

    Args:
        source: A name from the model zoo, fetched if it is not in the cache yet, or a native checkpoint file.
        device: Where to put it.

    Returns:
        The generator in evaluation mode.

    Raises:
        CheckpointError: If the source is neither, or the file is damaged, of another kind or of an unknown family.
        ModelZooError: If a named model cannot be fetched.
        ConfigError: If the device cannot be used.
    """
    target = resolve_device(device)
    path = _generator_file(source)
    return _build(path, read_native(path, "generator"), FAMILIES, "a generator").eval().to(target)


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
        source: A native file, the folder of a finished training run, or the zoo name of a generator that a trained
            alpha network ships for with this package.

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
        source: As for :func:`alpha_network_file`.
        device: Where to put it.

    Returns:
        The network in evaluation mode; its weights take no gradient.

    Raises:
        CheckpointError: If the source is no alpha network, or damaged.
        ConfigError: If the device cannot be used.
    """
    target = resolve_device(device)
    path = alpha_network_file(source)
    checkpoint = read_native(path, "alpha_network")
    network = _build(path, checkpoint, ALPHA_NETWORKS, "an alpha network")
    return network.eval().requires_grad_(False).to(target)


def _generator_file(source: str | Path) -> Path:
    """The native file that a source means; a zoo model is fetched."""
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
