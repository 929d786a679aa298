from __future__ import annotations

import base64
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labels4free.errors import DataError, RunError
from labels4free.pages.html import (
    Curve,
    Histogram,
    Picture,
    Report,
    Section,
    _stretches,
    _ticks,
    pick_evenly,
    write_report,
)

_VOID = {"meta", "img", "line", "polygon", "polyline", "rect"}


class _Checker(HTMLParser):
    """Keeps a stack of open elements, so that a tag closed out of order is noticed; collects the attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _parse(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def _picture(folder: Path, size: tuple[int, int] = (8, 4), name: str = "a.png") -> Path:
    Image.new("RGB", size, (200, 30, 30)).save(folder / name)
    return folder / name


def _section(folder: Path, *args: object, **parts: object) -> str:
    """The page of a report that has one section."""
    report = Report("t", "h", [], [Section("s", *args, **parts)])
    return write_report(folder / "r.html", report).read_text(encoding="utf-8")


def _full_report(folder: Path) -> Report:
    section = Section(
        "Pictures",
        "A text.",
        pictures=[Picture(_picture(folder), "one")],
        rows=[("foreground_ratio", "0.5")],
        curves=[Curve("loss", [(0, 1.0), (10, 0.5), (20, 0.75)])],
        commands=["labels4free sample run --num 3", "second line"],
    )
    return Report(
        "A title", "A headline.", [("0.92", "mIoU")], [section, Section("Wide", wide=True)], footer="Small print."
    )


def test_page_is_well_formed_and_says_everything(tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.html", _full_report(tmp_path))
    assert path == tmp_path / "report.html"
    page = _parse(path.read_text(encoding="utf-8"))
    text = " ".join(page.text)
    said = "A title|A headline.|0.92|mIoU|A text.|one|foreground_ratio|0.5|loss|second line|Small print.|step 20"
    assert [word for word in said.split("|") if word not in text] == []
    assert not list(tmp_path.glob("*.tmp"))


def test_page_requests_nothing_and_runs_nothing(tmp_path: Path) -> None:
    page = write_report(tmp_path / "report.html", _full_report(tmp_path)).read_text(encoding="utf-8")
    seen = _parse(page).seen
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in seen}
    assert not re.search(r"https?:", page)
    assert "url(" not in page
    assert "@import" not in page
    assert [attributes["src"][:22] for tag, attributes in seen if tag == "img"] == ["data:image/jpeg;base64"]


def test_picture_survives_embedding(tmp_path: Path) -> None:
    path = _picture(tmp_path, (3200, 100))
    with Image.open(path) as image:
        pixels = np.asarray(image)
    page = _section(tmp_path, pictures=[Picture(path, "a file"), Picture(pixels, "an array")])
    of_file, of_array = re.findall(r"base64,([^\"]+)", page)
    assert of_file == of_array
    with Image.open(io.BytesIO(base64.b64decode(of_file))) as image:
        assert image.size == (1600, 50)
        assert max(abs(a - b) for a, b in zip(image.getpixel((800, 25)), (200, 30, 30), strict=True)) <= 3


def test_escapes_everything(tmp_path: Path) -> None:
    evil = "<script>\"&'x"
    section = Section(
        evil, evil, [Picture(_picture(tmp_path), evil)], [(evil, evil)], [Curve(evil, [(0, 0), (1, 1)])], [evil]
    )
    page = write_report(tmp_path / "r.html", Report(evil, evil, [(evil, evil)], [section], evil)).read_text(
        encoding="utf-8"
    )
    assert "<script" not in page
    checker = _parse(page)
    assert "".join(checker.text).count(evil) == 13  # every text of the page
    assert [a["alt"] for tag, a in checker.seen if tag == "img"] == [evil]


def test_curve_points_land_where_the_axes_say(tmp_path: Path) -> None:
    page = _section(tmp_path, curves=[Curve("c", [(0, 0.0), (50, 1.0), (100, 0.5)])])
    line = re.search(r'<polyline points="([^"]+)"', page)[1]
    assert line == "46.0,186.0 228.0,8.0 410.0,97.0"


def test_curve_leaves_out_what_is_not_finite_and_says_when_nothing_is_left(tmp_path: Path) -> None:
    curves = [
        Curve("nan", [(0, math.nan), (1, 1.0), (2, math.inf)]),
        Curve("flat", [(0, 2.0), (1, math.nan), (2, 2.0)]),
    ]
    page = _section(tmp_path, curves=curves)
    assert page.count("Too few values") == 1
    assert page.count("<svg") == 1
    assert "nan," not in page
    assert "inf," not in page


def test_stretches_average_and_keep_the_range() -> None:
    points = [(float(x), float(x % 2)) for x in range(160)]
    stretches = _stretches(points)
    assert len(stretches) == 80
    assert stretches[0] == (0.5, 0.5, 0.0, 1.0)
    assert stretches[-1] == (158.5, 0.5, 0.0, 1.0)
    assert _stretches([(3.0, 4.0)]) == [(3.0, 4.0, 4.0, 4.0)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.31, 0.39, [0.3, 0.32, 0.34, 0.36, 0.38, 0.4]),
        (-7, 120, [-50, 0, 50, 100, 150]),
    ],
)
def test_ticks_are_round_and_enclose(low: float, high: float, expected: list[float]) -> None:
    assert _ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 1e-12, 5.0, -3e6, 1e30])
def test_ticks_of_a_constant_are_few_and_differ(value: float) -> None:
    ticks = _ticks(value, value)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] < ticks[-1]
    assert ticks[0] <= value <= ticks[-1]


def test_pick_evenly() -> None:
    paths = [Path(f"{k:03d}.png") for k in range(11)]
    assert [p.stem for p in pick_evenly(reversed(paths), 3)] == ["000", "005", "010"]
    assert pick_evenly(paths[:2], 6) == paths[:2]
    assert pick_evenly(paths, 1) == paths[-1:]
    assert pick_evenly([], 3) == []


def test_unreadable_picture_leaves_an_older_report_alone(tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("older")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for name in ("broken.png", "missing.png"):
        with pytest.raises(DataError, match=name):
            _section(tmp_path, pictures=[Picture(tmp_path / name, "c")])
    assert (tmp_path / "r.html").read_text() == "older"


def test_folder_in_place_of_the_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "r.html").mkdir()
    with pytest.raises(RunError, match=r"r\.html cannot be written"):
        write_report(tmp_path / "r.html", Report("t", "h", [], []))


def test_a_table_of_any_width(tmp_path):
    table = [["<score>", "a", "b"], ["IoU", "0.9", "<0.8>"]]
    page = _section(tmp_path, table=table)
    _parse(page)
    assert '<th scope="col">&lt;score&gt;</th><th scope="col">a</th><th scope="col">b</th>' in page
    assert '<th scope="row">IoU</th><td>0.9</td><td>&lt;0.8&gt;</td>' in page


def _bars(page: str) -> list[tuple[float, float, float, float, str]]:
    found = re.findall(r'<rect x="([^"]+)" y="([^"]+)" width="([^"]+)" height="([^"]+)" class="([^"]+)"/>', page)
    return [(*map(float, numbers), style) for *numbers, style in found]


def test_bars_stand_where_the_axes_say(tmp_path: Path) -> None:
    histogram = Histogram("<spread>", 0.5, 0.25, {"kept": [4, 0, 1, 0], "<out>": [0, 0, 3, 0]})
    page = _section(tmp_path, histograms=[histogram])
    text = " ".join(_parse(page).text)
    assert all(word in text for word in ("<spread>", "kept", "<out>"))
    # Bars are 91 wide from 46 on; four of the ticks 0 to 4 are 178 high, from 186 up.
    assert _bars(page) == [
        (46.5, 8.0, 90.0, 178.0, "bar"),
        (228.5, 141.5, 90.0, 44.5, "bar"),
        (228.5, 8.0, 90.0, 133.5, "bar bar-2"),
    ]
    assert re.findall(r'text-anchor="(?:start|middle|end)">([^<]+)</text>', page) == [*"01234", "0.5", "1", "1.5"]


@pytest.mark.parametrize(("counts", "ticks"), [([0], ["0", "1"]), ([1], ["0", "1"]), ([2, 1], ["0", "1", "2"])])
def test_counts_have_whole_ticks(tmp_path: Path, counts: list[int], ticks: list[str]) -> None:
    page = _section(tmp_path, histograms=[Histogram("c", 0, 1, {"all": counts})])
    assert re.findall(r'dy="4" text-anchor="end">([^<]+)<', page) == ticks
    assert len(_bars(page)) == sum(count > 0 for count in counts)
    assert '<svg class="key"' not in page  # a single group needs no legend
