"""What every converter of foreign checkpoints shares: book-keeping that no tensor escapes.

A conversion is a renaming. Our module says which tensors it needs, a function says where the source has each of them,
and whatever is missing, left over, of another shape or no ordinary number is an error that names the tensor.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from labels4free.checkpoints.contents import MEAN_W_SAMPLES
from labels4free.checkpoints.untrusted.pickle_machine import printable
from labels4free.errors import CheckpointError, ConfigError
from labels4free.ops.upfirdn2d import fir_kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from labels4free.generators.base import Generator
    from labels4free.networks.discriminator import Discriminator

M = TypeVar("M", bound=nn.Module)

MAX_RESOLUTION = 8192
"""Side of the largest image that a converter believes in."""

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_MAX_EXTENT = 1 << 20
_LISTED = 4
_WRAPPED = "module."


class UnsupportedError(CheckpointError):
    """A network is intact, but computes something that this package does not."""


class Place(NamedTuple):
    """Where a source keeps one tensor of ours.

    Attributes:
        name: Its name there.
        shape: Its shape there.
        read: Turns it into the same numbers in our order; None where only the shape may differ.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[Tensor], Tensor] | None = None


class TensorSource:
    """Tensors by name, each of which must be taken once or be ignored for a reason.

    Args:
        tensors: The tensors; anything else in it is an error once it is asked for or left over.
        what: What they are and where they come from, for messages: ``g_ema of ffhq.pt``.

    Raises:
        CheckpointError: If they do not come by name.
    """

    def __init__(self, tensors: object, what: str) -> None:
        if not isinstance(tensors, dict) or not all(isinstance(name, str) for name in tensors):
            raise CheckpointError(f"{what} is no state dict: expected tensors by name, got {_kind(tensors)}.")
        strange = [name for name in tensors if printable(name) != name]
        if strange:
            raise CheckpointError(f"{what} is damaged: it has tensors with names like {listed(strange, 1)}.")
        self.what = what
        self.ignored: dict[str, str] = {}
        self._left: dict[str, object] = dict(tensors)
        self._all: dict[str, object] = dict(tensors)
        self._converted: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._all

    def names(self) -> Iterable[str]:
        """Every name, whether taken or not."""
        return self._all

    def count(self, pattern: str) -> int:
        """One more than the highest number that stands in any name, 0 without one; gaps show when tensors are taken.

        Args:
            pattern: Regular expression of the beginning of a name, with the number as its only group.
        """
        numbers = [int(match[1]) for name in self._all if (match := re.match(pattern, name))]
        count = max(numbers, default=-1) + 1
        if count > len(self._all):
            raise CheckpointError(f"{self.what} is damaged: it counts up to {count - 1} with {len(self._all)} tensors.")
        return count

    def extent(self, name: str, axis: int, ndim: int) -> int:
        """Length of one axis of a tensor that must have ``ndim`` of them; does not take it."""
        shape = tuple(self._tensor(name).shape)
        if len(shape) != ndim or not all(0 < length < _MAX_EXTENT for length in shape):
            raise CheckpointError(f"{self.what}: {name} has shape {list(shape)}, expected {ndim} axes, none empty.")
        return shape[axis]

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Take a tensor of exactly this shape, as float32 in memory of its own.

        Raises:
            CheckpointError: If it is missing, was taken before, has another shape, or is not made of finite
                floating-point numbers.
        """
        value = self._tensor(name, shape)
        if name not in self._left:
            raise CheckpointError(f"{self.what}: {name} would be used twice; it is damaged.")
        if tuple(value.shape) != tuple(shape):
            raise CheckpointError(f"{self.what}: {name} has shape {list(value.shape)}, expected {list(shape)}.")
        kind = str(value.dtype).removeprefix("torch.")
        if value.dtype not in _FLOATS or value.layout != torch.strided:
            raise CheckpointError(f"{self.what}: {name} has numbers of type {kind}, expected floating-point ones.")
        taken = value.detach().to("cpu", torch.float32).clone(memory_format=torch.contiguous_format)
        if not taken.isfinite().all():
            raise CheckpointError(
                f"{self.what}: {name} has values that are not finite in float32: it was saved after a training that "
                "diverged, or is damaged; use another checkpoint."
            )
        if value.dtype != torch.float32:
            self._converted[kind] = self._converted.get(kind, 0) + 1
        del self._left[name]
        return taken

    def take_fir(self, name: str, gain: float) -> None:
        """Take a resampling filter, which must be the one that this package has built in: (1, 3, 3, 1) of sum gain."""
        expected = fir_kernel(gain=gain)
        if not torch.allclose(self.take(name, tuple(expected.shape)), expected, rtol=1e-3, atol=0.0):
            raise CheckpointError(
                f"{self.what}: {name} is another resampling filter than (1, 3, 3, 1), the only one supported."
            )

    def ignore(self, pattern: str, reason: str) -> None:
        """Leave out the tensors whose whole name matches a regular expression, if there are any."""
        found = [name for name in self._left if re.fullmatch(pattern, name)]
        for name in found:
            del self._left[name]
        if found:
            self.ignored[found[0] if len(found) == 1 else f"{found[0]}, ... ({len(found)} tensors)"] = reason

    def finish(self, family: str = "StyleGAN2 of its size") -> tuple[str, ...]:
        """Check that nothing is left over that the named network does not have. Returns notes for the user.

        Raises:
            CheckpointError: If a tensor was neither taken nor ignored; names the first ones.
        """
        if self._left:
            raise CheckpointError(
                f"{self.what} has {len(self._left)} tensors that no {family} has: {listed(self._left)}. "
                "It is of another family, or damaged."
            )
        counts = self._converted.items()
        return tuple(f"{n} tensors of {self.what} are {kind} there and float32 here." for kind, n in counts)

    def _tensor(self, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        if name not in self._all:
            wanted = "" if shape is None else f", expected of shape {list(shape)}"
            raise CheckpointError(
                f"{self.what} lacks the tensor {name}{wanted}; it has {listed(self._all) or 'nothing'}."
            )
        value = self._all[name]
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{self.what}: {name} is {_kind(value)}, expected a tensor.")
        return value


def build(make: Callable[[], M], source: TensorSource, place: Callable[[str, tuple[int, ...]], Place | Tensor]) -> M:
    """Build a module out of a source's tensors.

    Nothing is allocated before each tensor was seen to have its shape, so that a small file cannot ask for a lot.

    Args:
        make: Makes the module; called where tensors take no memory.
        source: Where its tensors come from.
        place: For one of the module's tensors, name and shape, where the source has it; or the tensor itself, where it
            does not come from there.

    Raises:
        CheckpointError: If the module cannot be made, or as :meth:`TensorSource.take`.
    """
    try:
        with torch.device("meta"):
            module = make()
    except (ConfigError, RuntimeError) as error:
        raise CheckpointError(f"{source.what} does not fit together: {error}") from error
    state = {}
    for key, value in module.state_dict().items():
        found = place(key, tuple(value.shape))
        if isinstance(found, Place):
            taken = source.take(found.name, found.shape)
            found = (taken if found.read is None else found.read(taken)).reshape(value.shape).contiguous()
        state[key] = found
    module.load_state_dict(state, assign=True)
    return module


def unwrapped(state: object) -> dict[str, Any]:
    """A state dict, named as if its network had not been wrapped for distributed training; empty if it is none."""
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        return {}
    wrapped = bool(state) and all(name.startswith(_WRAPPED) for name in state)
    return {name.removeprefix(_WRAPPED): value for name, value in state.items()} if wrapped else state


def resolutions(blocks: int, what: str) -> list[int]:
    """The sides of a network's maps, 4, 8, 16, ..., for the number of its blocks.

    Raises:
        CheckpointError: If the last one is beyond belief.
    """
    if not 1 <= blocks <= MAX_RESOLUTION.bit_length() - 2:
        raise CheckpointError(f"{what} has {blocks} resolutions, expected 4x4, 8x8, ... up to {MAX_RESOLUTION}².")
    return [4 << k for k in range(blocks)]


@torch.inference_mode()
def mean_w(generator: Generator) -> Tensor:
    """The mean w, [w_dim] in float64, of 10,000 latents that are always the same ones.

    In double precision, so that every machine gets the same float32 result. Classes are drawn all alike.
    """
    double = copy.deepcopy(generator).double()
    rng = np.random.Generator(np.random.PCG64(0))
    z = torch.from_numpy(rng.standard_normal((MEAN_W_SAMPLES, generator.z_dim), np.float32)).double()
    labels: tuple[Tensor | None, ...] = (None,) * 10
    if generator.c_dim:
        chosen = torch.from_numpy(rng.integers(generator.c_dim, size=MEAN_W_SAMPLES))
        labels = torch.eye(generator.c_dim, dtype=torch.float64)[chosen].chunk(10)
    parts = zip(z.chunk(10), labels, strict=True)
    return torch.cat([double.map(part, labels=label)[:, 0] for part, label in parts]).mean(0)


def holds_tensors(value: object) -> bool:
    """Whether there is a tensor anywhere in the containers of a value that was read safely."""
    if isinstance(value, Tensor | np.ndarray):
        return True
    if isinstance(value, dict):
        return any(holds_tensors(part) for part in value.values())
    if isinstance(value, list | tuple):
        return any(holds_tensors(part) for part in value)
    state = getattr(value, "state", None)  # of a pickled object
    return isinstance(state, dict) and holds_tensors(state)


def note_which(used: str, average: str, last: str, held: Container[object], ignored: dict[str, str]) -> list[str]:
    """Say which of a file's generators was used: its running average, or for want of one the last step's.

    Args:
        used: The entry that was converted.
        average: Name of the entry for the running average.
        last: Name of the entry for the generator as it was last trained.
        held: Entries of the file.
        ignored: Gets the other entry, if the file has it.

    Returns:
        Notes for the user.
    """
    if used == last:
        return [f"There is no running average {average}; {last}, the generator as it was last trained, is used."]
    if last in held:
        ignored[last] = f"the running average {average} is used"
    return []


def unless_unsupported(
    convert: Callable[[], Discriminator], entry: str, ignored: dict[str, str], notes: list[str]
) -> Discriminator | None:
    """Convert a discriminator; one that is intact but of another kind is left out, and noted."""
    try:
        return convert()
    except UnsupportedError as error:
        ignored[entry] = str(error)
        notes.append(f"The discriminator is left out: {error}")
        return None


def ignore_entries(data: Mapping[Any, Any], known: Mapping[str, str], used: Iterable[str], what: str) -> dict[str, str]:
    """Sort out the entries of a checkpoint that no network is made of.

    Args:
        data: The checkpoint.
        known: Entry -> why it is not needed.
        used: Entries that were converted.
        what: The file, for messages.

    Returns:
        Entry -> why it is not needed, for those that are there.

    Raises:
        CheckpointError: If tensors are in an entry that is neither used nor known.
    """
    ignored = {}
    for name in data.keys() - set(used):
        if name not in known and holds_tensors(data[name]):
            raise CheckpointError(
                f"{what} has the entry {printable(str(name))!r} with tensors in it, which is unknown to this format; "
                f"its entries are {listed(data)}. Save it again without that entry if it is not needed."
            )
        ignored[name] = known.get(name, "no tensors in it")
    return {printable(str(name)): ignored[name] for name in data if name in ignored}


def listed(names: Iterable[object], limit: int = _LISTED) -> str:
    """The first names, for messages: shortened, and without control characters."""
    texts = [printable(str(name)) for name in names]
    return ", ".join(texts[:limit]) + (f", ... ({len(texts)})" if len(texts) > limit else "")


def shown(value: object) -> str:
    """A value of a file, for messages: numbers, text and a few of them as they are, else only what it is."""
    parts = value if isinstance(value, list | tuple) and len(value) <= _LISTED else [value]
    simple = all(part is None or isinstance(part, str | int | float) for part in parts)
    return printable(repr(value)) if simple else _kind(value)


def _kind(value: object) -> str:
    """What a value is, for messages."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
