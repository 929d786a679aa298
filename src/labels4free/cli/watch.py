"""``labels4free watch``: how a training run is doing, from another terminal or machine."""

from __future__ import annotations

from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

from labels4free.errors import ConfigError, RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from labels4free.watching.status import RunStatus

_EXIT_CODES = {"lost": 3, "stopped": 4, "silent": 4}


def run(
    path: Annotated[Positional[Path], arg(metavar="RUN")],
    *,
    once: bool = False,
    interval: Annotated[float, arg(metavar="S")] = 2.0,
    plain: bool = False,
    track: Annotated[UseAppendAction[list[str]], arg(metavar="NAME")] = [],  # noqa: B006
    into: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None,
) -> int:
    """Show how a training run is doing: progress, speed, and every number of its log with what it should be.

    It reads the run's folder and writes nothing there: before, while and after the run goes on, from another terminal
    or over a network share. It ends when the run does; Ctrl-C ends it earlier and leaves the run alone. Where the
    output is no terminal, it is one report in plain text.

    Exit code: 0 going on or finished, and well; 1 the last check found something wrong with the masks; 3 lost for
    good; 4 stopped, or silent for long. Of several runs the largest.

    Args:
        path: Folder of the run, or a folder of runs, which are shown with a line each.
        once: Show it once and exit.
        interval: Seconds between two looks.
        plain: One report in plain text, as where the output is no terminal.
        track: Show log and pictures to a tracker, too: tensorboard or wandb. It is given all that there is, and what is
            added as long as this goes on. May be given twice.
        into: Folder for the tracker's files.
    """
    from rich.console import Console

    if not interval > 0:
        raise ConfigError(f"--interval must be above 0 seconds, got {interval:g}.")
    console = Console()
    one_report = plain or not console.is_terminal
    looker = _Looker(path, track, into)
    try:
        statuses = looker.look() if one_report or once else _live(looker, console, interval)
    finally:
        looker.close()
    if one_report:
        print(_report(statuses))
    elif once:
        console.print(_page(statuses, console))
    return max(_EXIT_CODES.get(status.state, int(bool(status.problem))) for status in statuses)


class _Looker:
    """Looks at the runs at a path, and lets trackers follow."""

    def __init__(self, path: Path, track: Sequence[str], into: Path | None) -> None:
        from labels4free.watching.status import RunWatcher, runs_in

        runs = runs_in(path)
        self.watchers = [RunWatcher(one) for one in runs]
        self.followers = []
        if track:
            from labels4free.watching.follower import LogFollower

            if into is None:
                raise ConfigError("--track needs --into DIR, a folder for the tracker's files: nothing goes into RUN.")
            folders = [into] if runs == [path] else [into / one.name for one in runs]
            self.followers = [LogFollower(one, track, folder) for one, folder in zip(runs, folders, strict=True)]

    def look(self) -> list[RunStatus]:
        for follower in self.followers:
            follower.catch_up()
        return [watcher.look() for watcher in self.watchers]

    def close(self) -> None:
        for follower in self.followers:
            follower.close()


def _live(looker: _Looker, console: Console, interval: float) -> list[RunStatus]:
    """Look again and again until all runs are over or the user has seen enough; returns the last look."""
    from rich.live import Live

    note = "Ctrl-C leaves, the run goes on"
    statuses = looker.look()
    with Live(_page(statuses, console, note), console=console, auto_refresh=False) as live:
        try:
            while not all(status.over for status in statuses):
                sleep(interval)
                said = note
                try:
                    statuses = looker.look()
                except RunError as error:  # a share that hangs, a file in the middle of being replaced
                    said = str(error)
                live.update(_page(statuses, console, said), refresh=True)
        except KeyboardInterrupt:
            pass
        live.update(_page(statuses, console), refresh=True)
    return statuses


def _report(statuses: list[RunStatus]) -> str:
    from labels4free.pages.run import HEADINGS, plain_line, plain_report

    if len(statuses) == 1:
        return plain_report(statuses[0])
    return "\n".join(["\t".join(HEADINGS), *map(plain_line, statuses)])


def _page(statuses: list[RunStatus], console: Console, note: str = "") -> RenderableType:
    from labels4free.pages.run import ASCII, UNICODE, run_page, runs_page

    glyphs = ASCII if console.options.ascii_only else UNICODE
    if len(statuses) > 1:
        return runs_page(statuses, glyphs=glyphs, note=note)
    return run_page(statuses[0], console.width, glyphs=glyphs, note=note)
