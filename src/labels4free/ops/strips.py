"""Large maps on a CPU: strips of rows that stay in the cache, one thread a strip, memory in huge pages.

A whole map of a wide layer does not fit into the cache, so that each operation on it waits for memory. Strips of its
rows do fit, and are carried through a chain of operations one by one. Maps are channels-last, where a strip of rows is
one stretch of memory. Nothing here is for autograd.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    StripRunner = Callable[[Callable[..., None], Sequence[tuple[Any, ...]]], None]

_STRIP_VALUES = 1 << 18  # with what one strip's operations read and write besides, this fills a core's cache
_STRIP_ROWS = 16  # at least, for the rows that neighbours share and for pointwise()
_LARGE_BYTES = 1 << 22  # two huge pages
_KEPT_BYTES = 31 << 20


def strips_of(x: Tensor) -> list[tuple[int, int]]:
    """Split the rows of ``x`` [N, C, H, W] into strips.

    Returns:
        (top, bottom) of each strip, ``bottom`` not included. All are even but H itself, if that is odd.
    """
    height, row_values = x.shape[2], x.shape[1] * x.shape[3]
    rows = max(_STRIP_ROWS, _STRIP_VALUES // row_values // 2 * 2)
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


@contextlib.contextmanager
def strip_runner() -> Iterator[StripRunner]:
    """Share strips out among as many threads as PyTorch may use (``torch.get_num_threads()``).

    PyTorch itself would cut every single operation in pieces, one a thread, and wait for all of them: with another
    program on one of the cores that is several times slower than a single thread. Here each strip goes through its
    operations on one thread; while the context lasts, PyTorch uses one thread for other operations too.

    Yields:
        ``run(work, parts)``, which calls ``work(*part)``, without autograd, for each part, such as those that
        :func:`strips_of` returns, several at a time, and returns when all are done.
    """
    _keep_freed_memory()
    threads = torch.get_num_threads()
    if threads == 1:
        yield partial(_run, map)
        return
    torch.set_num_threads(1)  # new threads take this over; those that run already keep their number
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield partial(_run, pool.map)
    finally:
        torch.set_num_threads(threads)


def _run(share_out: Callable[..., Iterable[None]], work: Callable[..., None], parts: Sequence[tuple[Any, ...]]) -> None:
    inference = torch.is_inference_mode_enabled()  # each thread has modes of its own

    def one(part: tuple[Any, ...]) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            work(*part)

    for _ in share_out(one, parts) if len(parts) > 1 else map(one, parts):
        pass  # raises what the work raised


def _keep_freed_memory() -> None:
    """Have the C library keep the blocks that strips free, which the next strips need again.

    It gives free blocks back to the system, and gets them back page by page at great cost, from a size on that it
    raises to that of the largest block freed so far, 32 MiB at most. So free one; its pages are never touched.
    """
    torch.empty(_KEPT_BYTES, dtype=torch.uint8)


def large_empty(like: Tensor, *shape: int) -> Tensor:
    """Allocate a tensor on the CPU, on huge pages if it is large and the system has them.

    Most of the time of filling a new large tensor goes into its memory pages. Linux makes huge pages some 7 times
    faster, but in its usual setting only for who asks, which PyTorch's allocator does not.

    Returns:
        A contiguous tensor of the given shape and the type of ``like``, uninitialised.
    """
    size = math.prod(shape) * like.element_size()
    if sys.platform != "linux" or size < _LARGE_BYTES:
        return like.new_empty(shape)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel built without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=like.dtype).view(shape)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve one channels-last sample with a 1x1 kernel, its rows taken as the samples of a batch.

    On a single thread PyTorch hands 1x1 convolutions to a kernel several times slower than oneDNN's, unless the batch
    has 16 samples.

    Args:
        x: [1, C, H, W].
        weight: [D, C, 1, 1].
        bias: [D].

    Returns:
        [1, D, H, W], channels-last.
    """
    _, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(h, 1, w, c).permute(0, 3, 1, 2)
    return F.conv2d(rows, weight, bias).permute(0, 2, 3, 1).reshape(1, h, w, len(weight)).permute(0, 3, 1, 2)
