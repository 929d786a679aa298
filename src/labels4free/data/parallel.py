"""A function over many things in several processes or threads, with the results in order and few of them ahead."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

S = TypeVar("S")
T = TypeVar("T")

_CHUNK = 8  # indices a task: fewer cost time in the queues, more hold back the results
_AHEAD = 3  # tasks a worker that may be waiting, so that memory stays bounded where the reader is slow
_TICK = 0.25  # seconds

_function: Callable[[int], object]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    function: Callable[[int], T],
    indices: Sequence[int],
    workers: int,
    *,
    chunk: int = _CHUNK,
    tick: Callable[[], None] | None = None,
) -> Generator[T]:
    """Yield ``function(index)`` for each index, in order.

    Args:
        function: Goes to the processes once, pickled; with one worker it is called here.
        indices: What to call it with.
        workers: Number of processes. They are started anew rather than forked, ignore Ctrl-C, which is the parent's to
            handle, and end when it ends, however that came.
        chunk: Indices a task: 1 where a call takes long.
        tick: Called a few times a second while there is nothing to yield from the processes.

    Raises:
        DataError: If a worker process died.
    """
    chunks = [indices[start : start + chunk] for start in range(0, len(indices), chunk)]
    workers = min(workers, len(chunks))
    if workers <= 1:
        yield from map(function, indices)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker, (function,))
    waiting: deque[Future[list[T]]] = deque()
    try:
        for part in chunks:
            waiting.append(pool.submit(_work, part))
            if len(waiting) > _AHEAD * workers:
                yield from _result(waiting.popleft(), tick)
        while waiting:
            yield from _result(waiting.popleft(), tick)
    except BrokenProcessPool as error:
        raise DataError(
            f"A worker process died, perhaps for want of memory: run the same again with fewer than {workers} workers."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Things in lists of ``size``, in order; the last may be shorter."""
    left = iter(things)
    while batch := list(itertools.islice(left, size)):
        yield batch


def threaded_map(function: Callable[[S], T], things: Iterable[S], workers: int, ahead: int) -> Generator[T]:
    """Yield ``function(thing)`` for each thing, in order, as soon as it is done; threads do the work.

    Args:
        function: Called in any of the threads.
        things: What to call it with; taken in this thread, as far as the next calls need it.
        workers: Number of threads.
        ahead: Calls that may be at work or done without having been yielded, so that memory stays bounded.
    """
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[T]] = deque()
    try:
        for thing in things:
            waiting.append(pool.submit(function, thing))
            while waiting and (waiting[0].done() or len(waiting) > ahead):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _result(future: Future[list[T]], tick: Callable[[], None] | None) -> list[T]:
    while tick is not None and not wait([future], _TICK).done:
        tick()
    return future.result()


def _begin_worker(function: Callable[[int], object]) -> None:
    global _function  # noqa: PLW0603  what a process works with, set once
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent: a killed one cannot say that there is no more work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(indices: Sequence[int]) -> list[T]:
    return [_function(index) for index in indices]  # type: ignore[misc]
