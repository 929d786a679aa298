"""How ``labels4free watch`` looks: a page for a terminal of any width, and a report in plain text."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from labels4free.watching.status import State
from labels4free.watching.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from labels4free.watching.status import FileNote, RunStatus
    from labels4free.watching.verdicts import Judged

_SHORTEST_LINE, _LONGEST_LINE = 6, 48
_SIDE_BY_SIDE = 132  # columns from which on checks and steps stand side by side
_COLOURS = {Verdict.OPEN: "default", Verdict.GOOD: "green", Verdict.DOUBTFUL: "yellow", Verdict.BAD: "red"}
_WORDS = {Verdict.OPEN: "", Verdict.GOOD: "good", Verdict.DOUBTFUL: "doubtful", Verdict.BAD: "bad"}
_STATES = {State.FINISHED: "green", State.LOST: "red", State.STOPPED: "yellow", State.SILENT: "yellow"}
_GOING = "cyan"

HEADINGS = ("run", "state", "step", "fg ratio", "score", "last word")
"""What is shown of each of several runs: words, numbers, and words that give way in a narrow terminal."""


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
    inner, wide = width - 4, width >= _SIDE_BY_SIDE
    headline = Text(f" {str(status.state).upper()} ", f"bold reverse {_state_colour(status)}")
    words = glyphs.between.join(filter(None, (_progress_words(status), _speed_words(status))))
    headline.append(f"  {words}", "default not reverse not bold")
    parts: list[RenderableType] = [headline, _bar(status, inner)]
    for line in _complaints(status):
        verdict = Verdict.DOUBTFUL if line == status.reason else Verdict.BAD
        parts.append(Text(f"{glyphs.marks[verdict]} {line}", _COLOURS[verdict]))
    columns = (inner - 6) // 2 if wide else inner
    tables = [_table(title, rows, columns, glyphs) for title, rows in _judged(status).items()]
    for row in filter(None, [tables] if wide else [[table] for table in tables]):
        side_by_side = Table.grid(*(Column(ratio=1) for _ in row), padding=(0, 4, 0, 0), expand=True)
        side_by_side.add_row(*row)
        parts += [Text(), side_by_side]
    files = Table.grid(padding=(0, 2, 0, 0))
    files.add_column(style="dim", no_wrap=True)
    files.add_column(overflow="fold")
    files.add_column(style="dim", no_wrap=True)
    files.add_row("generator", f"{status.generator}, recipe {status.recipe}", "")
    files.add_row("folder", str(status.path), "")
    for kind, file in _files(status).items():
        files.add_row(kind, *((_below(file.path, status.path), ago(file.age)) if file else ("none yet", "")))
    return Panel(
        Group(*parts, Text(), files),
        title=Text(status.path.resolve().name, "bold"),
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
    rows = []
    for status in statuses:
        cells = [Text(cell) for cell in _cells(status)]
        cells[1] = Text(f"{glyphs.marks[status.verdict]} {status.state}", _state_colour(status))
        rows.append(cells)
    for i, name in enumerate(HEADINGS[:-1]):  # whole, whatever the width: the last word gives way
        longest = max(len(name), *(len(row[i]) for row in rows))
        table.add_column(name, justify="left" if i < 2 else "right", no_wrap=True, width=longest)
    table.add_column(HEADINGS[-1], no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        table.add_row(*row)
    table.caption, table.caption_justify = note or None, "right"
    return table


def plain_report(status: RunStatus) -> str:
    """Say the same in plain ASCII text without colours, for files and other programs."""
    rows = [("progress", _progress_words(status)), ("generator", f"{status.generator}, recipe {status.recipe}")]
    rows += [("speed", _speed_words(status))]
    rows += [("problem", line) for line in _complaints(status) if line != status.reason]
    rows += [(kind, f"{file.path}, {ago(file.age)}") for kind, file in _files(status).items() if file]
    lines = [f"{status.path}: {status.state}{f' ({status.reason})' if status.reason else ''}"]
    lines += [f"  {name:<11} {text}" for name, text in rows if text]
    for title, judged in _judged(status).items():
        lines.append(f"  {title}")
        longest = max(len(one.name) for one in judged)
        lines += [
            f"    {one.name:<{longest}}  {_number(one.value):>8}  {_WORDS[one.verdict]:<8}  {one.expected}".rstrip()
            for one in judged
        ]
    return "\n".join(lines)


def plain_line(status: RunStatus) -> str:
    """One line on a run among several, fields parted by tabs."""
    name, state, step, *others = _cells(status)
    return "\t".join((name, state, step.replace(",", "").replace(" of ", "/"), *others))


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


def _bar(status: RunStatus, width: int) -> RenderableType:
    rendering = status.rendered if status.state is State.RENDERING else None
    done, total = rendering or (status.progress.done, status.progress.total)
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


def _judged(status: RunStatus) -> dict[str, Sequence[Judged]]:
    """The tables of numbers by title, as far as there are any."""
    checks = "checks" if status.checked is None else f"check at step {status.checked:,}"
    tables = {checks: status.checks, "every step (mean of the last 32)": status.steps}
    return {title: rows for title, rows in tables.items() if rows}


def _files(status: RunStatus) -> dict[str, FileNote | None]:
    kinds = ("network", "picture", "checkpoint") if "network" in status.files else ("picture", "checkpoint")
    return {kind: status.files.get(kind) for kind in kinds}


def _below(path: Path, folder: Path) -> str:
    below = str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
    return below.removeprefix("checkpoints/")  # fits into a narrow terminal


def _complaints(status: RunStatus) -> list[str]:
    last = [status.reason] if status.reason and status.state is not State.LOST else []
    said = any(line.endswith(str(status.problem)) for line in status.losses[-1:])
    now = [f"Step {status.checked}: {status.problem}"] if status.problem and not said else []
    return [*status.losses, *now, *last]


def _steps_words(status: RunStatus) -> str:
    at = status.progress
    return f"{max(0, at.done - at.warmup):,} of {at.total - at.warmup:,}"


def _progress_words(status: RunStatus) -> str:
    if status.state is State.RENDERING and status.rendered:
        done, size = status.rendered
        return f"{done:,} of {size:,} samples"
    at = status.progress
    words = f"step {_steps_words(status)}"
    if status.state is State.WARM_UP:
        words = f"step {at.done:,} of {at.warmup:,}, then {at.total - at.warmup:,} more"
    if at.members > 1 and status.state is not State.FINISHED:
        words += f", network {at.member + 1} of {at.members}"
    if at.restart:
        words += f", attempt {at.restart + 1} of at most {at.attempts}"
    return words


def _speed_words(status: RunStatus) -> str:
    if not status.speed:
        return ""
    rate = f"{status.speed:.1f} steps/s" if status.speed >= 1 else f"{1 / status.speed:.1f} s a step"
    return f"{rate}, {span(status.seconds_left)} left" if status.seconds_left else rate


def _cells(status: RunStatus) -> tuple[str, ...]:
    """One run among several, as :data:`HEADINGS` says."""
    values = {one.name: _number(one.value) for one in status.checks}
    doubtful = [one for one in status.checks if one.verdict >= Verdict.DOUBTFUL]
    last = ", ".join(f"{one.name} {_number(one.value)} ({one.expected})" for one in doubtful)
    last = status.reason or status.problem or last or _speed_words(status) or ago(status.quiet)
    foreground_ratio, score = values.get("foreground_ratio", ""), values.get("score", "")
    return status.path.name, str(status.state), _steps_words(status), foreground_ratio, score, last


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
