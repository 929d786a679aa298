"""The progress bar of the verbs: what is done of how much, elapsed and remaining time, and the numbers that matter."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


_LINE_SECONDS = 60.0


class Update(Protocol):
    """Shows a new state of the bar."""

    def __call__(self, done: int, total: int, numbers: Mapping[str, float] | None = None) -> None:
        """Show that ``done`` of ``total`` steps are done, and some numbers by name."""


@contextmanager
def progress_bar(
    label: str, before: str | None = None, *, stopped: Callable[[int, int], str] | None = None
) -> Iterator[Update]:
    """Show a bar on stderr from the first update until the context closes; where that is no terminal, a line a minute.

    Args:
        label: What is being done, one word.
        before: The word while there are no numbers yet, where that is another stage; None: the same.
        stopped: From what is done, and of how much, to a sentence for whoever has pressed Ctrl-C.

    Yields:
        The function that updates it.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True, ratio=1)),
    )
    bar = Progress(*columns, console=Console(stderr=True), expand=True)  # the numbers take the width that is left
    task, state, said = bar.add_task(label, total=None, numbers=""), (0, 0), time.monotonic()

    def update(done: int, total: int, numbers: Mapping[str, float] | None = None) -> None:
        nonlocal state, said
        state = (done, total)
        shown = "  ".join(f"{_short(name)} {value:.2f}" for name, value in (numbers or {}).items())
        word = before if before and numbers is None else label
        bar.update(task, description=word, completed=done, total=total, numbers=shown)
        bar.start()  # not earlier: an error in what comes before the first step stands alone
        if not bar.console.is_terminal and time.monotonic() - said >= _LINE_SECONDS and done < total:
            bar.console.print(bar.get_renderable())
            said = time.monotonic()

    try:
        try:
            yield update
        finally:
            if bar.live.is_started:
                bar.stop()
    except KeyboardInterrupt:
        if stopped is not None:
            print(stopped(*state), file=sys.stderr)
        raise


def _short(name: str) -> str:
    """A number's name as a narrow terminal has room for it."""
    return name.removeprefix("loss_").replace("foreground_ratio", "fg ratio")
