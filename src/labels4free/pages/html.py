"""One self-contained HTML page of pictures and numbers: no script, no request, every image inside the file."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from labels4free.errors import DataError, RunError
from labels4free.files import write_atomically, write_failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

_MAX_PICTURE_WIDTH = 1600
_MAX_CURVE_POINTS = 80
_CHART_WIDTH, _CHART_HEIGHT = 420, 210
_LEFT, _TOP, _WIDE, _TALL = 46, 8, 364, 178  # of a chart's field: its left and upper margin, its width and height
_BARS = ("bar", "bar bar-2", "bar bar-3")
_NAME = '<th scope="row">{}</th>'  # of a table's line


@dataclass(frozen=True)
class Picture:
    """An image, as a file or as uint8 RGB [H, W, 3], and the line below it."""

    image: Path | NDArray[np.uint8]
    caption: str


@dataclass(frozen=True)
class Curve:
    """A number over a run: (step, value) points, steps rising. Values that are not finite are left out."""

    title: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Histogram:
    """How often values fall where: bars of equal width, beginning at ``low``; of several groups one on the other.

    Attributes:
        title: What is counted.
        low: Where the first bar begins.
        width: Width of a bar, above 0.
        groups: Name of a group -> its counts, one for each bar; at most three groups, all of the same length.
    """

    title: str
    low: float
    width: float
    groups: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Section:
    """A titled part of the page; whatever is empty is left out.

    Attributes:
        title: Its heading.
        text: A paragraph.
        pictures: Shown side by side where there is room.
        rows: A table of (name, value).
        curves: One small chart each.
        commands: Lines to type into a shell.
        wide: Whether each picture takes the full width.
        table: A table of any width: its head, then its lines, each beginning with its name.
        histograms: One small chart each.
    """

    title: str
    text: str = ""
    pictures: Sequence[Picture] = ()
    rows: Sequence[tuple[str, str]] = ()
    curves: Sequence[Curve] = ()
    commands: Sequence[str] = ()
    wide: bool = False
    table: Sequence[Sequence[str]] = ()
    histograms: Sequence[Histogram] = ()


@dataclass(frozen=True)
class Report:
    """A page.

    Attributes:
        title: Of the page and the browser's tab.
        headline: The result in one sentence.
        figures: Large numbers below the headline: (number, what it is).
        sections: The parts of the page, in order.
        footer: Small print.
    """

    title: str
    headline: str
    figures: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    footer: str = ""


def write_report(path: str | Path, report: Report) -> Path:
    """Write a report as one HTML file, whole or not at all.

    Args:
        path: The file to write; missing folders are made.
        report: All text is escaped, all pictures are embedded (as JPEG, at most 1600 pixels wide).

    Returns:
        ``path``.

    Raises:
        DataError: If a picture cannot be read.
        RunError: If the file cannot be written.
    """
    path = Path(path)
    page = _page(report)
    try:
        write_atomically(path, page.encode(errors="backslashreplace"))
    except OSError as error:
        raise RunError(write_failure(path, error)) from error
    return path


def _page(report: Report) -> str:
    figures = _each("<div><b>{}</b><span>{}</span></div>", report.figures)
    title = escape(report.title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{title}</h1><p>{escape(report.headline)}</p>"
        f'<div class="figures">{figures}</div></header>\n'
        + "".join(_section(section) for section in report.sections)
        + f"<footer>{escape(report.footer)}</footer>\n</body>\n</html>\n"
    )


def _each(pattern: str, rows: Iterable[Sequence[str]]) -> str:
    """The pattern filled in with the escaped words of each row."""
    return "".join(pattern.format(*map(escape, row)) for row in rows)


def _section(section: Section) -> str:
    parts = [f"<section><h2>{escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{escape(section.text)}</p>")
    if section.rows:
        parts.append(f"<table>{_each(f'<tr>{_NAME}<td>{{}}</td></tr>', section.rows)}</table>")
    if section.table:
        head, *lines = section.table
        cells = _each('<th scope="col">{}</th>', zip(head, strict=True))
        rows = (_each(_NAME + "<td>{}</td>" * (len(line) - 1), [line]) for line in lines)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        parts.append(f'<div class="wide"><table class="figures-table"><tr>{cells}</tr>{body}</table></div>')
    for kind, drawn in (
        ("grid", map(_chart, section.curves)),
        ("grid", map(_bars, section.histograms)),
        ("stack" if section.wide else "grid", map(_figure, section.pictures)),
    ):
        if figures := "".join(drawn):
            parts.append(f'<div class="{kind}">{figures}</div>')
    if section.commands:
        parts.append(f"<pre>{escape(chr(10).join(section.commands))}</pre>")
    return "\n".join(parts) + "\n</section>\n"


def _figure(picture: Picture) -> str:
    caption = escape(picture.caption)
    try:
        with Image.open(picture.image) if isinstance(picture.image, Path) else Image.fromarray(picture.image) as opened:
            image = opened.convert("RGB")
    except OSError as error:
        raise DataError(f"The picture {picture.image} cannot be read for the report ({error}).") from error
    if image.width > _MAX_PICTURE_WIDTH:
        image = image.resize(
            (_MAX_PICTURE_WIDTH, max(1, image.height * _MAX_PICTURE_WIDTH // image.width)), Image.Resampling.BOX
        )
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" width="{image.width}" height="{image.height}" '
        f'alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )


def _chart(curve: Curve) -> str:
    """An inline SVG: the curve averaged over short stretches, with the range of its values in each as a band."""
    points = [(x, y) for x, y in curve.points if math.isfinite(x) and math.isfinite(y)]
    if len(points) < 2:
        return f"<figure><figcaption>{escape(curve.title)}</figcaption><p>Too few values to draw.</p></figure>"
    stretches = _stretches(points)
    x_low, x_high = points[0][0], max(points[-1][0], points[0][0] + 1e-9)
    ticks = _ticks(min(low for _, _, low, _ in stretches), max(high for _, _, _, high in stretches))

    def place(x: float, y: float) -> str:
        return f"{_LEFT + (x - x_low) / (x_high - x_low) * _WIDE:.1f},{_height(y, ticks):.1f}"

    band = " ".join(
        [place(x, high) for x, _, _, high in stretches] + [place(x, low) for x, _, low, _ in reversed(stretches)]
    )
    line = " ".join(place(x, mean) for x, mean, _, _ in stretches)
    ends = [(float(_LEFT), "start", f"step {x_low:g}"), (float(_LEFT + _WIDE), "end", f"step {x_high:g}")]
    drawn = f'<polygon points="{band}" class="band"/><polyline points="{line}" class="curve"/>'
    return _axes(curve.title, ticks, ends, drawn)


def _bars(histogram: Histogram) -> str:
    """An inline SVG: the groups' bars one on the other, from the first group up."""
    counts = list(histogram.groups.values())
    number, highest = len(counts[0]), max(map(sum, zip(*counts, strict=True)))
    wide = _WIDE / number
    ticks = [tick for tick in _ticks(0, max(highest, 1)) if tick == int(tick)]
    labels = [
        (_LEFT + place * wide, anchor, f"{round(histogram.low + place * histogram.width, 9):g}")
        for place, anchor in ((0, "start"), (number // 2, "middle"), (number, "end"))
    ]
    drawn = ""
    for bar, stack in enumerate(zip(*counts, strict=True)):
        below = 0
        for style, count in zip(_BARS, stack, strict=False):
            below += count
            if count:
                drawn += (
                    f'<rect x="{_LEFT + bar * wide + 0.5:.1f}" y="{_height(below, ticks):.1f}" width="{wide - 1:.1f}" '
                    f'height="{_TALL * count / ticks[-1]:.1f}" class="{style}"/>'
                )
    return _axes(histogram.title, ticks, labels, drawn, _legend(histogram.groups) if len(counts) > 1 else "")


def _height(value: float, ticks: Sequence[float]) -> float:
    """Where a value is, counted from the top of a chart whose axis goes from the first tick to the last one."""
    return _TOP + (ticks[-1] - value) / (ticks[-1] - ticks[0]) * _TALL


def _axes(
    title: str, ticks: Sequence[float], labels: Sequence[tuple[float, str, str]], drawn: str, legend: str = ""
) -> str:
    """A chart: what is drawn over the rules at the ticks, with labels (place, anchor, words) below it."""
    parts = [f"<figure><figcaption>{escape(title)}{legend}</figcaption>"]
    parts += [f'<svg viewBox="0 0 {_CHART_WIDTH} {_CHART_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in ticks:
        y = f"{_height(tick, ticks):.1f}"
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _WIDE}" y1="{y}" y2="{y}" class="rule"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end">{tick:g}</text>')
    for x, anchor, words in labels:
        parts.append(f'<text x="{x:.1f}" y="{_CHART_HEIGHT - 6}" text-anchor="{anchor}">{words}</text>')
    return "".join([*parts, drawn, "</svg></figure>"])


def _legend(names: Iterable[str]) -> str:
    keys = (
        f'<svg class="key" viewBox="0 0 10 10"><rect width="10" height="10" class="{style}"/></svg> {escape(name)}'
        for style, name in zip(_BARS, names, strict=False)
    )
    return ": " + " ".join(keys)


def _stretches(points: Sequence[tuple[float, float]]) -> list[tuple[float, float, float, float]]:
    """(middle step, mean, lowest, highest value) of at most 80 stretches of equally many points."""
    per = math.ceil(len(points) / _MAX_CURVE_POINTS)
    out = []
    for first in range(0, len(points), per):
        chunk = points[first : first + per]
        values = [y for _, y in chunk]
        out.append(((chunk[0][0] + chunk[-1][0]) / 2, sum(values) / len(values), min(values), max(values)))
    return out


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers that enclose [low, high]."""
    span = max(high - low, 1e-9, 1e-6 * max(abs(low), abs(high)))
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]


def pick_evenly(paths: Iterable[Path], count: int) -> list[Path]:
    """At most ``count`` of the paths in sorted order, evenly spaced, the first and the last among them."""
    ordered = sorted(paths)
    if len(ordered) <= count:
        return ordered
    if count == 1:
        return ordered[-1:]
    return [ordered[round(k * (len(ordered) - 1) / (count - 1))] for k in range(count)]


_STYLE = """
:root{--ink:#1d2733;--soft:#5c6b7a;--line:#e3e8ee;--accent:#2463c7}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:28px 20px 48px;background:#f6f8fa;color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header{padding:8px 0 4px}
h1{margin:0;font-size:1.9rem;letter-spacing:-.02em}
header p{margin:.4rem 0 1.1rem;font-size:1.15rem;color:var(--soft)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}
.figures div,section{background:#fff;border:1px solid var(--line);border-radius:12px;box-shadow:0 1px 2px #10204008}
.figures div{padding:14px 16px}
.figures b{display:block;font-size:1.55rem;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.figures span{color:var(--soft);font-size:.88rem}
section{margin-top:20px;padding:18px 22px 22px}
h2{margin:0 0 .5rem;font-size:1.2rem}
section p{margin:.2rem 0 .9rem;color:var(--soft);max-width:75ch}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(320px,100%),1fr));gap:18px}
.stack{display:grid;gap:18px}
figure{margin:0;min-width:0}
img{display:block;width:100%;height:auto;border-radius:8px;border:1px solid var(--line)}
figcaption{margin:.4rem 0;font-size:.88rem;color:var(--soft)}
table{border-collapse:collapse;width:100%;margin-bottom:1rem;font-size:.95rem}
th,td{padding:7px 4px;border-top:1px solid var(--line);text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{width:38%;font-weight:500;color:var(--soft)}
td{font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}
.figures-table :is(th,td){width:auto;white-space:nowrap;padding-right:14px}
pre{margin:.4rem 0 0;padding:14px 16px;overflow-x:auto;border-radius:8px;background:#101827;color:#e6edf6;
font:.86rem/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
svg{display:block;width:100%;max-width:560px;height:auto;font-size:11px}
svg text{fill:var(--soft)}
.rule{stroke:var(--line)}
.band{fill:var(--accent);opacity:.16}
.curve{fill:none;stroke:var(--accent);stroke-width:1.8;stroke-linejoin:round}
.bar{fill:var(--accent)}
.bar-2{fill:#e0913a}
.bar-3{fill:#8a97a5}
.key{display:inline-block;width:.7em;height:.7em;margin-left:.5em}
footer{margin-top:22px;color:var(--soft);font-size:.85rem}
"""
