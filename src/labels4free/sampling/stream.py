"""Candidates in order, several at work at a time: rendering and encoding overlap, and memory stays bounded."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from labels4free.data.parallel import batches, threaded_map
from labels4free.sampling.filters import drop_reason
from labels4free.sampling.pair import single_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from labels4free.data.pairs.base import EncodedPair, PairFormat
    from labels4free.data.pairs.record import Pair, PairLayout, PairRecord
    from labels4free.sampling.filters import Thresholds
    from labels4free.sampling.pair import Candidate, PairRenderer

_MAPS_BYTES = 4 << 30  # feature maps of all pairs that are rendered at a time
_ENCODERS = 8
_AHEAD = 16  # batches that an accelerator may be ahead of the files


class Finished(NamedTuple):
    """A candidate that is ready for its shard, or left out.

    Attributes:
        record: Its measurements.
        reason: Why it is left out; None if it is kept.
        encoded: Its files, if it is kept.
        skipped: Background pictures that could not be read for it.
    """

    record: PairRecord
    reason: str | None
    encoded: EncodedPair | None
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """What becomes of a rendered candidate.

    Attributes:
        thresholds: Which are left out; None keeps all of them.
        format: How those that are kept are encoded; None leaves them as they are.
        layout: See there.
        look: Called with every pair before it is encoded, from any thread.
    """

    thresholds: Thresholds | None = None
    format: type[PairFormat] | None = None
    layout: PairLayout | None = None
    look: Callable[[Pair], None] | None = None

    def finish(self, candidate: Candidate) -> Finished:
        """Choose and encode; any thread may."""
        record = candidate.pair.record
        if self.look is not None:
            self.look(candidate.pair)
        reason = drop_reason(record, self.thresholds) if self.thresholds is not None else None
        encoded = None
        if reason is None and self.format is not None and self.layout is not None:
            encoded = self.format.encode(candidate.pair, self.layout)
        return Finished(record, reason, encoded, candidate.skipped)


def finished_candidates(
    renderer: PairRenderer, indices: Iterable[int], choice: Choice
) -> Generator[Finished, None, None]:
    """Render, choose and encode candidates.

    On a CPU as many pairs are rendered at a time as PyTorch may use threads, each on one thread, which also encodes it.
    An accelerator renders batches on a thread of its own, while others encode.

    Args:
        renderer: Renders them.
        indices: Which, in the order in which they are wanted.
        choice: What becomes of each.

    Yields:
        The candidates in the order of their indices. Close the generator to stop early: what is at work is finished,
        the rest left undone.
    """
    with single_thread() as threads:
        if renderer.on_cpu:
            workers = max(1, min(threads, _MAPS_BYTES // maps_bytes(renderer)))

            def work(index: int) -> Finished:
                return choice.finish(renderer.render([index])[0])

            yield from threaded_map(work, indices, workers, 2 * workers)
            return
        full = batches(indices, renderer.config.batch_size)
        with closing(threaded_map(renderer.render, full, 1, _AHEAD)) as rendered:
            candidates = (candidate for batch in rendered for candidate in batch)
            encoders = min(_ENCODERS, os.cpu_count() or 1)
            yield from threaded_map(choice.finish, candidates, encoders, 2 * encoders)


def maps_bytes(renderer: PairRenderer) -> int:
    """Memory that one rendering's feature maps take, in float32."""
    return sum(4 * spec.channels * spec.resolution**2 for spec in renderer.layered.generator.feature_specs)
