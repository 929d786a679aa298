"""The shards of a data set made by several processes of this machine."""

from __future__ import annotations

import multiprocessing
import pickle
from contextlib import closing
from typing import TYPE_CHECKING

import torch

from labels4free.data.parallel import available_cores, ordered_map
from labels4free.errors import DataError
from labels4free.sampling.shards import write_shards

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from labels4free.sampling.filters import Thresholds
    from labels4free.sampling.pair import PairRenderer


def write_shards_in_processes(
    renderer: PairRenderer,
    out: Path,
    jobs: Sequence[tuple[int, range]],
    thresholds: Thresholds,
    workers: int,
    progress: Callable[[int], None],
) -> None:
    """Make shards in several processes, each with its part of the cores and models of its own.

    Args:
        renderer: Goes to the processes, pickled.
        out: The data set's folder.
        jobs: Shards and their candidates; a process takes the next one when it is free.
        thresholds: Which candidates are left out.
        workers: Number of processes.
        progress: Called with the number of candidates that are done since the last call.

    Raises:
        DataError: If a file cannot be written, or a process died. Finished shards stay.
    """
    worker = _Worker(renderer, out, jobs, thresholds, max(1, available_cores() // workers))
    shown = 0

    def show() -> None:
        nonlocal shown
        now = int(worker.done.value)
        if now > shown:
            progress(now - shown)
            shown = now

    try:
        with closing(ordered_map(worker, range(len(jobs)), workers, chunk=1, tick=show)) as finished:
            try:
                for _ in finished:
                    show()
            except BaseException:
                worker.stop.value = 1  # before the pool waits for what its processes are at
                raise
    finally:
        show()


class _Worker:
    """Makes the shard of a job, in a process that was started for it."""

    def __init__(
        self, renderer: PairRenderer, out: Path, jobs: Sequence[tuple[int, range]], thresholds: Thresholds, threads: int
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.done, self.stop = context.Value("q", 0), context.Value("b", 0)
        # Pickled here, not by multiprocessing: that puts tensors into shared memory, of which containers have little.
        self._renderer: bytes | PairRenderer = pickle.dumps(renderer)
        self._out, self._jobs, self._thresholds, self._threads = out, jobs, thresholds, threads

    def __call__(self, job: int) -> None:
        if isinstance(self._renderer, bytes):
            self._renderer = pickle.loads(self._renderer)  # noqa: S301  what this process's parent has pickled
            torch.set_num_threads(self._threads)
        assert not isinstance(self._renderer, bytes)
        with closing(write_shards(self._renderer, self._out, [self._jobs[job]], self._thresholds)) as finished:
            for _ in finished:
                with self.done.get_lock():
                    self.done.value += 1
                if self.stop.value:
                    raise DataError("Sampling was stopped; finished shards stay, the same command goes on from there.")
