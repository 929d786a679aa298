"""Two processes that work together, for tests: started once, they do one piece of work after the other."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import socket
from typing import TYPE_CHECKING, Any, Self

import torch

from labels4free.training_loop.distributed import joined_processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

SIZE = 2
_SECONDS = 120


class Pair:
    """Two processes; use it as a context."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(SIZE):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, rank), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __call__(self, work: Callable[..., Any], *args: Any, joined: bool = True) -> list[Any]:
        """Do something in both: ``work(group, *args)``, or ``work(*args)`` where they are not joined.

        Returns:
            The result of each; an exception that it raised; None if the process died.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for pipe in self._pipes:
            pipe.send((work, args, joined, port))
        results = []
        for pipe in self._pipes:
            if not pipe.poll(_SECONDS):
                raise TimeoutError("A process did not answer.")
            try:
                results.append(pipe.recv())
            except EOFError:
                results.append(None)
        return results

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def results(outcomes: list[Any]) -> list[Any]:
    """The outcomes, none of which may be an exception."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes


def spoken(main: Callable[[list[str]], int], command: list[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(command)
    return code, out.getvalue(), err.getvalue()


def _serve(pipe: Connection, rank: int) -> None:
    torch.set_num_threads(1)
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # no power is cut here
    while True:
        work, args, joined, port = pipe.recv()
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(SIZE)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        try:
            if joined:
                with joined_processes("cpu", 60) as group:
                    result = work(group, *args)
            else:
                result = work(*args)
        except Exception as error:  # noqa: BLE001  the other side raises it
            result = error
        pipe.send(result)
