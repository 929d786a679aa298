"""Training examples made ahead of time by threads of their own: which, and of what bits, no thread decides."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

E = TypeVar("E")

_THREADS_BESIDE_AN_ACCELERATOR = 8
_BATCHES_AHEAD = 2


class ExampleStream(Generic[E]):
    """Makes examples by number, a few batches ahead of who takes them.

    Each thread has PyTorch compute on itself alone: how a sum is cut into parts, one a thread, shows in its last bits.

    Args:
        device: Where the batches are used. Beside a CPU that trains one thread prepares them; beside anything else, as
            many as there are cores, up to eight.
    """

    def __init__(self, device: torch.device) -> None:
        count = 1 if device.type == "cpu" else min(_THREADS_BESIDE_AN_ACCELERATOR, os.cpu_count() or 1)
        self._made: dict[int, Future[E]] = {}
        self._make: Callable[[int], E] | None = None
        self._pool = _single_threaded(count)

    def batch(self, make: Callable[[int], E], start: int, count: int, limit: int) -> list[E]:
        """Examples ``start`` to ``start + count``.

        Args:
            make: Makes the example of a number; what another one prepared is forgotten.
            start: The first number.
            count: How many.
            limit: Numbers from here on are not prepared: ``make`` will be another one for them.

        Raises:
            Exception: Whatever ``make`` raised.
        """
        if make != self._make:
            self._forget()
            self._make = make
        for number in range(start, min(limit, start + (1 + _BATCHES_AHEAD) * count)):
            if number not in self._made:
                self._made[number] = self._pool.submit(make, number)
        return [self._made.pop(number).result() for number in range(start, start + count)]

    def close(self) -> None:
        """End the threads; what they are at is finished first."""
        self._forget()
        self._pool.shutdown(cancel_futures=True)

    def _forget(self) -> None:
        for future in self._made.values():
            future.cancel()
        self._made.clear()


def _single_threaded(count: int) -> ThreadPoolExecutor:
    """A pool whose threads PyTorch gives no further threads, while all others keep theirs."""
    started = threading.Barrier(count + 1)

    def start() -> None:
        torch.get_num_threads()  # from its first call on, a thread keeps the number that holds then
        started.wait()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pool = ThreadPoolExecutor(count, thread_name_prefix="example", initializer=start)
        for _ in range(count):
            pool.submit(int)
        started.wait()
    finally:
        torch.set_num_threads(threads)
    return pool
