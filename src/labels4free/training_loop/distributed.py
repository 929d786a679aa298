"""Several processes train one network: each does its share of every step, and all take the same step.

torchrun starts them, on one machine or on many; :func:`joined_processes` joins them, and :func:`process_group` is what
training sees of the others. With one process every operation of a group does nothing, at no cost.

Gradients are averaged by one all-reduce of our own a step of an optimiser, with the losses behind them, rather than by
``torch.nn.parallel.DistributedDataParallel``, whose hooks fire in each backward pass: here a step has several (two
forwards a loss, R1's gradient of a gradient, accumulated micro-batches). The networks are small, with little
to overlap; and all processes see in the same moment that a loss is not finite, and stop before the optimiser moves.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from labels4free.errors import ConfigError, Labels4FreeError, RunError
from labels4free.training_loop.interrupts import Stopped
from labels4free.training_loop.launcher import process_of_launcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

T = TypeVar("T")

_log = logging.getLogger(__name__)

MEETING_SECONDS = 120.0
"""How long processes wait for each other to come."""
_STEP = timedelta(minutes=30)  # between steps the first process checks, draws and writes
_WORK = timedelta(days=2)  # fractions of the rendering differ; a process that ends is noticed at once all the same
_PAUSE = 0.02
_SAID = "said/"


class PeerLostError(RunError):
    """Another process of the run has ended; logged as an error by the first process that notices."""

    said = True


class AlreadySaid(RunError):  # noqa: N818  for this process no error any more
    """What went wrong here went wrong in another process as well, which says so."""

    said = True


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
        local_rank: Number of this process on its machine, from 0.
        launched: Whether a launcher (torchrun) started this process, which then hands it the terminal's signals.
        groups: How they talk: ``control`` for words and small numbers, ``gradients`` for tensors on the training's
            device, and the ``store`` where they met. Empty with one process, and when the group has been left: a
            connection closes with its last user.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    launched: bool = False
    groups: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this is the main process (rank 0), which writes, checks and prints."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part: every ``size``-th item, from item ``rank`` on."""
        return items if self.size == 1 else items[self.rank :: self.size]

    def shard_batch(self, x: Tensor, dim: int = 0) -> Tensor:
        """This process's part of a batch, as :meth:`shard`, along a dimension.

        Strided, since the discriminator's groups for its minibatch statistic are (``n mod (N / group)``): where there
        are as many groups as processes, or a multiple, each process has whole groups, and the same ones as one process.
        """
        if self.size == 1:
            return x
        return x[(slice(None),) * dim + (slice(self.rank, None, self.size),)]

    def average_gradients(self, parameters: Sequence[Tensor], numbers: Mapping[str, float]) -> dict[str, float]:
        """Replace each gradient by its mean over the processes.

        Args:
            parameters: Those that have a gradient must be the same everywhere.
            numbers: Averaged along with them, by name; the same names everywhere.

        Returns:
            The mean of each number.
        """
        if self.size == 1:
            return dict(numbers)
        gradients = [p.grad for p in parameters if p.grad is not None]
        values = torch.tensor(list(numbers.values()), dtype=torch.float32, device=parameters[0].device)
        flat = self._summed(torch.cat([*(g.flatten() for g in gradients), values])) / self.size
        parts = flat.split([*(g.numel() for g in gradients), len(numbers)])
        for gradient, part in zip(gradients, parts[:-1], strict=True):
            gradient.copy_(part.view_as(gradient))
        return dict(zip(numbers, parts[-1].tolist(), strict=True))

    def with_common_mean(self, x: Tensor) -> Tensor:
        """A tensor moved so that its mean is that over all processes; the gradient is as of ``x``.

        For terms that are no sum over samples: averaged over the processes, the gradients of f(mean of x) are then the
        gradient of f(mean over all).
        """
        if self.size == 1:
            return x
        mean = x.detach().mean()
        return x + (self._summed(mean.clone()) / self.size - mean)

    def sum(self, *numbers: int) -> tuple[int, ...]:
        """The sum of each number over the processes."""
        if self.size == 1:
            return numbers
        values = torch.tensor(numbers)
        with _peers(self.groups):
            dist.all_reduce(values, group=self.groups["control"])
        return tuple(values.tolist())

    def in_all(self, work: Callable[[], T]) -> T:
        """Do something in every process, and wait for all; where it fails or is stopped in one, it does in all.

        ``work`` must not itself wait for the others.
        """
        if self.size == 1:
            return work()
        result, failure = _tried(work)
        for error in self._gathered(failure):
            if error is not None:
                raise error
        return result  # type: ignore[return-value]  # there was no error

    def on_main(self, work: Callable[[], T]) -> T:
        """Do something in the main process alone, as a single process does it; all have its result, or raise its error.

        While it works, :func:`process_group` is a group of one.
        """
        if self.size == 1:
            return work()
        with _current(ProcessGroup()):
            outcome: list[Any] = [_tried(work) if self.is_main else None]
        with _peers(self.groups):
            dist.broadcast_object_list(outcome, src=0, group=self.groups["control"])
        result, error = outcome[0]
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def local_main_first(self, work: Callable[[], T]) -> T:
        """Do something in one process of each machine, then in its others: what is fetched once serves them all."""
        first = self.in_all(work) if self.local_rank == 0 else self.in_all(lambda: None)
        second = self.in_all(work) if self.local_rank else self.in_all(lambda: None)
        return first if self.local_rank == 0 else second  # type: ignore[return-value]

    def check_same(self, what: str, value: str) -> None:
        """Raise :class:`ConfigError` unless all processes have the same ``value``."""
        if self.size == 1:
            return
        values = self._gathered(value)
        others = [rank for rank, theirs in enumerate(values) if theirs != values[0]]
        if others:
            raise ConfigError(
                f"The processes of a run need the same {what}, but process {others[0]} of {self.size} has another one "
                "than process 0; start all of them by the same command, with the same files and package."
            )

    def _summed(self, x: Tensor) -> Tensor:
        with _peers(self.groups):
            dist.all_reduce(x, group=self.groups["gradients"])
        return x

    def _gathered(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        with _peers(self.groups):
            dist.all_gather_object(values, value, group=self.groups["control"])
        return values


_group = ProcessGroup()


def process_group() -> ProcessGroup:
    """The process group that this process is in now; one of its own where there are no others."""
    return _group


@contextmanager
def _current(group: ProcessGroup) -> Iterator[None]:
    """Have :func:`process_group` be this one while the context is open; its main process logs for all."""
    global _group  # noqa: PLW0603  as torch.distributed's own: a process is in one group at a time
    logger = logging.getLogger("labels4free")
    before, level, _group = _group, logger.level, group
    logger.setLevel(level if group.is_main else logging.ERROR)
    try:
        yield
    finally:
        _group = before
        logger.setLevel(level)


@contextmanager
def joined_processes(device: str = "cpu", seconds: float = MEETING_SECONDS) -> Iterator[ProcessGroup]:
    """Meet the other processes that torchrun started; without a launcher, or with one process, there is nobody to meet.

    Reads what torchrun sets: WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT. The processes talk by gloo, and
    on CUDA devices exchange gradients by NCCL. When the context closes, for whatever reason, the others are told. While
    it is open, warnings and what else is logged come from the main process alone.

    Args:
        device: Where to train: see :func:`device_of`.
        seconds: How long to wait for the others to come.

    Yields:
        The group; :func:`process_group` while the context is open.

    Raises:
        RunError: If the variables are not what a launcher sets, or the others do not come.
        AlreadySaid: In place of an error in the context that another process has, too, and was first to say.
    """
    group = ProcessGroup(**process_of_launcher())
    if group.size == 1:
        with _current(group):
            yield group
        return
    found = torch.device(device_of(device, group))
    if found.type == "cuda":
        torch.cuda.set_device(found)
    meeting = timedelta(seconds=seconds)
    try:
        store, *_ = next(iter(rendezvous("env://", timeout=meeting)))
        store.set_timeout(meeting)
        store = dist.PrefixStore(_part_of_this_meeting(store, group, seconds), store)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=group.rank, world_size=group.size, timeout=meeting)
        group.groups["store"] = store
        group.groups["control"] = dist.new_group(backend="gloo", timeout=_WORK)
        group.groups["gradients"] = dist.new_group(backend="nccl" if found.type == "cuda" else "gloo", timeout=_STEP)
    except (RuntimeError, ValueError, OSError) as error:
        _leave(group)
        raise RunError(_nobody_came(group, seconds, error)) from error
    failed = True
    try:
        with _current(group):
            yield group
        failed = False
    except PeerLostError:
        raise
    except Labels4FreeError as error:
        if not _first_to_say(str(error), group.groups):
            raise AlreadySaid(str(error)) from error
        raise
    finally:
        if not failed or found.type != "cuda":  # NCCL would wait for what no longer comes; the end of the process tells
            _leave(group)


def device_of(device: str, group: ProcessGroup | None = None) -> str:
    """The device of a process: of ``cuda`` its own one, as many as there are processes on a machine.

    Args:
        device: As the command line has it: cpu, cuda, cuda:N or mps.
        group: The processes; None means those that it is in.

    Raises:
        ConfigError: If several processes would have to share a GPU.
    """
    group = group or process_group()
    kind, _, number = device.partition(":")
    if group.size == 1 or kind not in ("cuda", "mps"):
        return device
    if kind == "mps" or number:
        raise ConfigError(
            f"{group.size} processes cannot share the device {device}: give --device cuda, and each takes one of its "
            "own, or --device cpu."
        )
    count = torch.cuda.device_count()
    if group.local_rank >= count:
        raise ConfigError(
            f"Process {group.local_rank} on this machine finds only {count} CUDA devices; start as many processes as "
            f"it has (torchrun --nproc-per-node {max(1, count)})."
        )
    return f"cuda:{group.local_rank}"


def _nobody_came(group: ProcessGroup, seconds: float, error: Exception) -> str:
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    return (
        f"This is process {group.rank} of {group.size} (RANK, WORLD_SIZE), but the others did not come to {place} "
        f"within {seconds:g} s ({_first_line(error)}): start all of them, or unset WORLD_SIZE to train in one."
    )


def _part_of_this_meeting(store: Any, group: ProcessGroup, seconds: float) -> str:
    """The name of a part of the store where nobody else has been.

    torchrun keeps the store when it starts processes again (pytorch/pytorch issue 135712), with the addresses of those
    that are dead. So each leaves a word of its own, process 0 reads them out, and a process has met the others when it
    hears its word; the word of process 0 names the part.
    """
    word, ranks = secrets.token_hex(8), range(group.size)
    store.set(f"labels4free/word/{group.rank}", word)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if group.is_main and store.check([f"labels4free/word/{rank}" for rank in ranks]):
            words = [found.decode() for found in store.multi_get([f"labels4free/word/{rank}" for rank in ranks])]
            store.set("labels4free/words", ",".join(words))
            if store.check([f"labels4free/{word}/{rank}" for rank in ranks[1:]]):
                return f"labels4free/{word}"
        elif not group.is_main and store.check(["labels4free/words"]):
            words = store.get("labels4free/words").decode().split(",")
            if words[group.rank : group.rank + 1] == [word]:
                store.set(f"labels4free/{words[0]}/{group.rank}", "here")
                return f"labels4free/{words[0]}"
        time.sleep(_PAUSE)
    raise RuntimeError("some have not come to the store")


def _first_to_say(what: str, groups: Mapping[str, Any]) -> bool:
    """Whether no other process of the run has said it."""
    with contextlib.suppress(RuntimeError):  # the store may have gone with process 0
        return int(groups["store"].add(_SAID + what, 1)) == 1
    return True


def _leave(group: ProcessGroup) -> None:
    group.groups.clear()
    with contextlib.suppress(Exception):
        if dist.is_initialized():
            dist.destroy_process_group()


def _tried(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Result or failure, both of which can be sent; anything that is a bug is raised."""
    try:
        return work(), None
    except (Labels4FreeError, Stopped) as error:
        return None, error


@contextmanager
def _peers(groups: Mapping[str, Any]) -> Iterator[None]:
    """What PyTorch raises when another process is gone, in a sentence."""
    try:
        yield
    except RuntimeError as error:
        lost = PeerLostError(
            f"Another process of this run has ended or cannot be reached any more ({_first_line(error)}); the last "
            "checkpoint is good: go on with --resume auto."
        )
        if _first_to_say("lost", groups):
            _log.error("%s", lost)  # at once: the launcher, which has noticed as well, is about to end this process
        raise lost from error


def _first_line(error: Exception) -> str:
    """What PyTorch says, without the place in its source and the advice behind it."""
    line = re.sub(r"^\[\S+:\d+\] ", "", str(error).strip() or type(error).__name__).split("\n", 1)[0].split(". ", 1)[0]
    return line if len(line) <= 120 else f"{line[:117]}..."
