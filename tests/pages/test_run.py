from __future__ import annotations

import io

import pytest
from rich.console import Console
from tests.run_folders import EMPTY, HEALTHY, checkpoint, entries, log, look, lost, new_run, picture

from labels4free.pages import run as watch_page
from labels4free.pages.run import ago, plain_line, plain_report, run_page, runs_page, span, sparkline


def drawn(page, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(page)
    return console.file.getvalue().splitlines()


@pytest.fixture
def run(tmp_path):
    return new_run(tmp_path / "faces")


@pytest.fixture
def status(run):
    log(run, entries(70, swap_gain=-1.0))
    picture(run, 50)
    checkpoint(run, 50)
    return look(run)


@pytest.mark.parametrize(
    ("points", "width", "line"),
    [
        ([], 8, ""),
        ([1.0], 0, ""),
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([0, 1, 2, 3, 4, 5, 6, 7], 4, "▁▃▆█"),
        ([7, 0], 8, "█▁"),
        ([2, 2, 2], 8, "▄▄▄"),
        ([-1e-9, 1e9], 2, "▁█"),
    ],
)
def test_sparkline(points, width, line):
    assert sparkline(points, width) == line


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7500, "2 h 05 min"), (200_000, "2 days")],
)
def test_span(seconds, words):
    assert span(seconds) == words
    assert ago(seconds) == ("just now" if seconds < 2 else f"{words} ago")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_page_fits_and_shows_every_number_with_its_mark(status, width):
    lines = drawn(run_page(status, width), width)
    assert {len(line) for line in lines} == {width}
    assert "faces" in lines[0]
    assert all(words in lines[1] for words in ("TRAINING", "step 50 of 100"))
    marked = [f"{'▲' if name == 'swap_gain' else '●'} {name} " for name in HEALTHY]
    said = ("check at step 50", "· loss discriminator", "restart_0_step_000050.png", "step_000050.pt", *marked)
    assert [words for words in said if words not in "\n".join(lines)] == []


@pytest.mark.parametrize("width", [80, 200])
def test_the_words_are_whole(status, width):
    text = "\n".join(drawn(run_page(status, width), width))
    said = ("0.25 to 0.70 of the picture", "large; the best was 0.400, step 25", "0.5: D guesses, 1: always right")
    assert all(words in text for words in said)
    assert "…" not in text


def test_tables_stand_side_by_side_where_there_is_room(status):
    assert len(drawn(run_page(status, 200), 200)) < len(drawn(run_page(status, 80), 80))


def test_a_lost_run_says_why(run):
    log(run, [*lost(0, 70), *lost(1, 90)])
    lines = drawn(run_page(look(run), 80), 80)
    assert "LOST" in lines[1]
    assert "attempt 2 of at most 2" in lines[1]
    assert "✖ Attempt 1 lost after 70 steps: the masks are empty (mean alpha 0.001)" in lines[3]
    assert "✖ Attempt 2 lost after 90 steps: " in lines[4]
    assert "✖ foreground_ratio " in "\n".join(lines)


def test_rendering_has_a_bar_of_its_own(run):
    (run.path / "cache").mkdir()
    for start in range(0, 256, 32):
        (run.path / "cache" / f"samples_{start:06d}.safetensors").write_bytes(b"")
    text = "\n".join(drawn(run_page(look(run), 80), 80))
    assert all(words in text for words in ("RENDERING", "256 of 1,024 samples", " 25%"))


def test_warm_up(run):
    log(run, entries(5))
    assert "step 5 of 20, then 100 more" in drawn(run_page(look(run), 80), 80)[1]


def test_a_page_in_ascii(status):
    text = "\n".join(drawn(run_page(status, 80, glyphs=watch_page.ASCII), 80))
    marked = [line for line in text.splitlines() if "swap_gain" in line or "center_bias" in line]
    assert [line[2] for line in marked] == ["+", "!"]
    # The bar is rich's own, which knows what the terminal can show.
    assert all(character.isascii() or character in "━╸╺" for character in text if character != "\n")


def test_several_runs(status, tmp_path):
    other = new_run(tmp_path / "cats")
    log(other, [*lost(0, 70), *lost(1, 90)])
    text = "\n".join(drawn(runs_page([status, look(other)], note="a note"), 130))
    said = ("▲ training", "50 of 100", "✖ lost", EMPTY, "swap_gain -1.000 (above 0: swapped is less real)", "a note")
    assert all(words in text for words in said)


def test_several_runs_in_a_narrow_terminal(status, tmp_path):
    text = "\n".join(drawn(runs_page([status, status]), 60))
    assert all(words in text for words in ("faces", "▲ training", "50 of 100", "0.500"))


def test_a_note_stands_at_the_bottom(status):
    assert "Ctrl-C leaves" in drawn(run_page(status, 80, note="Ctrl-C leaves"), 80)[-1]
    assert watch_page.UNICODE.box.bottom_left == drawn(run_page(status, 80), 80)[-1][0]


def test_the_plain_report(status):
    text = plain_report(status)
    assert text.isascii()
    lines = text.splitlines()
    assert lines[0] == f"{status.path}: training"
    assert lines[1].split() == ["progress", "step", "50", "of", "100"]
    assert any(line.split()[:3] == ["swap_gain", "-1.000", "doubtful"] for line in lines)
    assert any(line.split()[:3] == ["foreground_ratio", "0.500", "good"] for line in lines)
    assert not any("problem" in line for line in lines)


def test_the_plain_report_of_a_lost_run(run):
    log(run, [*lost(0, 70), *lost(1, 90)])
    lines = plain_report(look(run)).splitlines()
    assert lines[0].endswith(": lost (the masks are empty (mean alpha 0.001))")
    assert sum(line.startswith("  problem ") for line in lines) == 2


def test_the_plain_line(status):
    assert plain_line(status).split("\t")[:4] == ["faces", "training", "50/100", "0.500"]
