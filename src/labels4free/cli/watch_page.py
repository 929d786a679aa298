"""How ``labels4free watch`` looks: a page for a terminal of any width, and a report in plain text."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from labels4free.training.judging import Verdict
from labels4free.training.watching import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from labels4free.training.judging import Judged
    from labels4free.training.watching import FileNote, RunStatus

_SHORTEST_LINE, _LONGEST_LINE = 6, 48
_SIDE_BY_SIDE = 132  # columns from which on checks and steps stand side by side
_COLOURS = {Verdict.OPEN: "default", Verdict.GOOD: "green", Verdict.DOUBTFUL: "yellow", Verdict.BAD: "red"}
_WORDS = {Verdict.OPEN: "", Verdict.GOOD: "good", Verdict.DOUBTFUL: "doubtful", Verdict.BAD: "bad"}
_STATES = {State.FINISHED: "green", State.LOST: "red", State.STOPPED: "yellow", State.SILENT: "yellow"}
_GOING = "cyan"
_STEPS_TITLE = "every step (mean of the last 32)"


HEADINGS = ("run", "state", "step", "coverage", "score", "last word")
"""What is shown of each of several runs."""
_WORDY = 2  # the first of them are words, those in the middle numbers


class Glyphs(NamedTuple):
    """The signs of a page, as the terminal's encoding allows."""

    levels: str
    marks: dict[Verdict, str]
    between: str
    box: box.Box


UNICODE = Glyphs(
    "▁▂▃▄▅▆▇█",
    {Verdict.OPEN: "·", Verdict.GOOD: "●", Verdict.DOUBTFUL: "▲", Verdict.BAD: "✖"},
    " · ",
    box.ROUNDED,
)
ASCII = Glyphs(
    "_.-=*#", {Verdict.OPEN: " ", Verdict.GOOD: "+", Verdict.DOUBTFUL: "!", Verdict.BAD: "X"}, ", ", box.ASCII
)


def sparkline(points: Sequence[float], width: int, levels: str = UNICODE.levels) -> str:
    """Draw numbers as a line of characters, from the lowest of them to the highest.

    Args:
        points: Finite, oldest first.
        width: Characters at most; more points than that are averaged.
        levels: Characters, lowest first.
    """
    if not points or width < 1:
        return ""
    count = min(width, len(points))
    cuts = [len(points) * i // count for i in range(count + 1)]
    means = [sum(points[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    if high == low:
        return levels[len(levels) // 2 - 1] * count
    return "".join(levels[min(len(levels) - 1, int((x - low) / (high - low) * len(levels)))] for x in means)


def run_page(status: RunStatus, width: int, *, glyphs: Glyphs = UNICODE, note: str = "") -> RenderableType:
    """Draw a run.

    Args:
        status: The run.
        width: Columns there are.
        glyphs: The signs to draw with.
        note: Small print at the bottom.
    """
    inner = width - 4
    wide = width >= _SIDE_BY_SIDE
    parts: list[RenderableType] = [_headline(status, glyphs), _bar(status, inner)]
    for line in _complaints(status):
        verdict = Verdict.DOUBTFUL if line == status.reason else Verdict.BAD
        parts.append(Text(f"{glyphs.marks[verdict]} {line}", _COLOURS[verdict]))
    columns = (inner - 6) // 2 if wide else inner
    checks = _table(_checks_title(status), status.checks, columns, glyphs)
    steps = _table(_STEPS_TITLE, status.steps, columns, glyphs)
    tables = [table for table, rows in ((checks, status.checks), (steps, status.steps)) if rows]
    if wide and len(tables) > 1:
        grid = Table.grid(padding=(0, 4, 0, 0), expand=True)
        for _ in tables:
            grid.add_column(ratio=1)
        grid.add_row(*tables)
        parts += [Text(), grid]
    else:
        for table in tables:
            parts += [Text(), table]
    parts += [Text(), _files(status)]
    title = Text(status.path.resolve().name, "bold")
    return Panel(
        Group(*parts),
        title=title,
        title_align="left",
        subtitle=Text(note, "dim") if note else None,
        subtitle_align="right",
        border_style=_state_colour(status),
        box=glyphs.box,
        width=width,
    )


def runs_page(statuses: Sequence[RunStatus], *, glyphs: Glyphs = UNICODE, note: str = "") -> RenderableType:
    """Draw several runs, a line each."""
    table = Table(box=box.SIMPLE_HEAD if glyphs is UNICODE else box.ASCII_DOUBLE_HEAD, pad_edge=False, expand=True)
    rows = [
        (
            Text(status.path.name),
            Text(f"{glyphs.marks[status.verdict]} {status.state}", _state_colour(status)),
            Text(f"{_alpha_step(status):,} of {status.total - status.warmup:,}"),
            Text(_value_of(status, "coverage")),
            Text(_value_of(status, "score")),
            Text(_last_word(status)),
        )
        for status in statuses
    ]
    *others, last = HEADINGS
    for i, name in enumerate(others):  # whole, whatever the width: the last word gives way
        longest = max(len(name), *(len(row[i]) for row in rows))
        table.add_column(name, justify="left" if i < _WORDY else "right", no_wrap=True, width=longest)
    table.add_column(last, no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        table.add_row(*row)
    table.caption = note or None
    table.caption_justify = "right"
    return table


def plain_report(status: RunStatus) -> str:
    """Say the same in plain ASCII text without colours, for files and other programs."""
    lines = [f"{status.path}: {status.state}{f' ({status.reason})' if status.reason else ''}"]
    rows = [("progress", _progress_words(status)), ("generator", f"{status.generator}, recipe {status.recipe}")]
    rows += [("speed", words)] if (words := _speed_words(status)) else []
    rows += [("problem", line) for line in _complaints(status) if line != status.reason]
    rows += [(kind, f"{note.path}, {ago(note.age)}") for kind, note in _notes(status).items() if note]
    lines += [f"  {name:<11} {text}" for name, text in rows]
    for title, judged in ((_checks_title(status), status.checks), (_STEPS_TITLE, status.steps)):
        if judged:
            lines.append(f"  {title}")
            longest = max(len(one.name) for one in judged)
            lines += [
                f"    {one.name:<{longest}}  {_number(one.value):>8}  {_WORDS[one.verdict]:<8}  {one.expected}".rstrip()
                for one in judged
            ]
    return "\n".join(lines)


def plain_line(status: RunStatus) -> str:
    """One line on a run among several, fields parted by tabs."""
    step = f"{_alpha_step(status)}/{status.total - status.warmup}"
    coverage, score = _value_of(status, "coverage"), _value_of(status, "score")
    return "\t".join((status.path.name, str(status.state), step, coverage, score, _last_word(status)))


def ago(seconds: float) -> str:
    """How long ago something was, in words."""
    return "just now" if seconds < 2 else f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """A span of time in words: ``40 s``, ``12 min``, ``3 h 05 min``, ``2 days``."""
    whole = int(seconds)
    if whole < 90:
        return f"{whole} s"
    if whole < 90 * 60:
        return f"{round(whole / 60)} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} days"


def _headline(status: RunStatus, glyphs: Glyphs) -> Text:
    line = Text(f" {str(status.state).upper()} ", f"bold reverse {_state_colour(status)}")
    line.append(f"  {_progress_words(status)}", "default not reverse not bold")
    if speed := _speed_words(status):
        line.append(f"{glyphs.between}{speed}", "default not reverse not bold")
    return line


def _bar(status: RunStatus, width: int) -> RenderableType:
    rendering = status.rendered if status.state is State.RENDERING else None
    done, total = rendering or (status.done, status.total)
    colour = _state_colour(status)
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(
        ProgressBar(total, done, width=max(10, width - 6), complete_style=colour, finished_style=colour),
        Text(f"{done / total:>4.0%}" if total else "", "bold"),
    )
    return grid


def _table(title: str, rows: Sequence[Judged], width: int, glyphs: Glyphs) -> Table:
    """Numbers with mark, value, history and what they should be; the history takes what the words leave."""
    names = [_shorter(one.name) for one in rows]
    longest = max((len(name) for name in names), default=0)
    words = max((len(one.expected) for one in rows), default=0)
    room = width - longest - 13  # what mark, value and the gaps take
    explained = room - words - 1 >= _SHORTEST_LINE
    room -= words + 1 if explained else 0
    line = max(_SHORTEST_LINE, min(room, _LONGEST_LINE, max((len(one.history) for one in rows), default=0)))
    table = Table.grid(padding=(0, 1, 0, 0))
    table.title, table.title_justify, table.title_style = title, "left", "bold not italic"
    table.add_column(width=1)
    table.add_column(width=longest, no_wrap=True)
    table.add_column(width=8, justify="right", no_wrap=True)
    table.add_column(width=line, no_wrap=True)
    table.add_column(style="dim", no_wrap=True, overflow="ellipsis")
    for name, one in zip(names, rows, strict=True):
        colour = _COLOURS[one.verdict]
        table.add_row(
            Text(glyphs.marks[one.verdict], colour),
            name,
            Text(_number(one.value), "bold" if colour == "default" else f"bold {colour}"),
            Text(sparkline(one.history, line, glyphs.levels), "blue" if colour in ("default", "green") else colour),
            one.expected if explained else "",
        )
    return table


def _files(status: RunStatus) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_column(style="dim", no_wrap=True)
    grid.add_row("generator", f"{status.generator}, recipe {status.recipe}", "")
    grid.add_row("folder", str(status.path), "")
    for kind, note in _notes(status).items():
        grid.add_row(kind, _below(note, status) if note else "none yet", ago(note.age) if note else "")
    return grid


def _notes(status: RunStatus) -> dict[str, FileNote | None]:
    notes = {"picture": status.picture, "checkpoint": status.checkpoint}
    return ({"network": status.network} if status.network else {}) | notes


def _below(note: FileNote, status: RunStatus) -> str:
    return str(note.path.relative_to(status.path)) if note.path.is_relative_to(status.path) else str(note.path)


def _complaints(status: RunStatus) -> list[str]:
    last = [status.reason] if status.reason and status.state is not State.LOST else []
    said = any(line.endswith(str(status.problem)) for line in status.losses[-1:])
    now = [f"Step {status.checked}: {status.problem}"] if status.problem and not said else []
    return [*status.losses, *now, *last]


def _progress_words(status: RunStatus) -> str:
    if status.state is State.RENDERING and status.rendered:
        done, size = status.rendered
        return f"{done:,} of {size:,} samples"
    steps = status.total - status.warmup
    if status.state is State.WARM_UP:
        words = f"step {status.done:,} of {status.warmup:,}, then {steps:,} more"
    else:
        words = f"step {_alpha_step(status):,} of {steps:,}"
    if status.members > 1 and status.state is not State.FINISHED:
        words += f", network {status.member + 1} of {status.members}"
    if status.attempt:
        words += f", attempt {status.attempt + 1} of at most {status.max_restarts + 1}"
    return words


def _speed_words(status: RunStatus) -> str:
    if not status.speed:
        return ""
    rate = f"{status.speed:.1f} steps/s" if status.speed >= 1 else f"{1 / status.speed:.1f} s a step"
    return f"{rate}, {span(status.seconds_left)} left" if status.seconds_left else rate


def _checks_title(status: RunStatus) -> str:
    return "checks" if status.checked is None else f"check at step {status.checked:,}"


def _alpha_step(status: RunStatus) -> int:
    return max(0, status.done - status.warmup)


def _value_of(status: RunStatus, name: str) -> str:
    return next((_number(one.value) for one in status.checks if one.name == name), "")


def _last_word(status: RunStatus) -> str:
    if status.reason or status.problem:
        return str(status.reason or status.problem)
    doubtful = [one for one in status.checks if one.verdict >= Verdict.DOUBTFUL]
    if doubtful:
        return ", ".join(f"{one.name} {_number(one.value)} ({one.expected})" for one in doubtful)
    return _speed_words(status) or ago(status.quiet)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "nan"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"


def _shorter(name: str) -> str:
    return name.replace("loss_", "loss ").replace("_coverage", " cov.").replace("augmentation_probability", "augmented")


def _state_colour(status: RunStatus) -> str:
    if status.problem and status.state is not State.LOST:
        return "red"
    return _STATES.get(status.state, _GOING)
