"""Stop a training loop at the end of a step, instead of in the middle of one."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SIGNALS = tuple(number.name for number in _SIGNALS)
"""Names of the signals that stop a loop in order."""


class Stopped(Exception):  # noqa: N818  not an error: somebody asked for it
    """Work was stopped by a signal, whose name this holds."""


class Interrupts:
    """Signal handler: while the context is open, Ctrl-C (SIGINT) and SIGTERM only set :attr:`requested`.

    The loop looks at it and stops in order::

        with Interrupts() as interrupts:
            for step in range(steps):
                ...
                if interrupts.requested:
                    save_checkpoint(); break

    A second SIGINT raises KeyboardInterrupt at once, unless ``patient``. The old handlers come back when the context
    closes. Python allows signal handlers in the main thread alone: elsewhere the context changes nothing and
    :attr:`requested` stays None.

    Args:
        patient: Take a second SIGINT as the first: a launcher passes on what the terminal has sent already.

    Attributes:
        requested: Name of the first signal that came, ``"SIGINT"`` or ``"SIGTERM"``; None so far.
    """

    requested: str | None

    def __init__(self, *, patient: bool = False) -> None:
        self._patient = patient
        self.requested = None
        self._interrupted = False
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self.requested = None
        self._interrupted = False
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            with contextlib.suppress(TypeError):  # None: a handler that was not installed from Python cannot come back
                signal.signal(number, handler)
        self._old.clear()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._interrupted and not self._patient:
            raise KeyboardInterrupt
        self._interrupted = self._interrupted or number == signal.SIGINT
        if self.requested is None:
            _log.info("%s: what is being done now is finished and kept first.", signal.Signals(number).name)
        self.requested = self.requested or signal.Signals(number).name
