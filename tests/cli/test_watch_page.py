from __future__ import annotations

import io

import pytest
from rich.console import Console
from tests.run_folders import HEALTHY, checkpoint, entries, log, lost, new_run, picture, read_status

from labels4free.cli.watch_page import (
    ASCII,
    UNICODE,
    ago,
    plain_line,
    plain_report,
    run_page,
    runs_page,
    span,
    sparkline,
)


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
    return read_status(run.path)


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
    text = "\n".join(lines)
    assert "faces" in lines[0]
    assert "TRAINING" in lines[1]
    assert "step 50 of 100" in lines[1]
    assert "check at step 50" in text
    for name in HEALTHY:
        assert f"{'▲' if name == 'swap_gain' else '●'} {name} " in text
    assert "· loss discriminator" in text
    assert "attempt_0_step_000050.png" in text
    assert "step_000050.pt" in text


@pytest.mark.parametrize("width", [80, 200])
def test_the_words_are_whole(status, width):
    text = "\n".join(drawn(run_page(status, width), width))
    for words in (
        "0.25 to 0.70 of the picture",
        "large; the best was 0.400, step 25",
        "0.5: D guesses, 1: always right",
    ):
        assert words in text
    assert "…" not in text


def test_tables_stand_side_by_side_where_there_is_room(status):
    assert len(drawn(run_page(status, 200), 200)) < len(drawn(run_page(status, 80), 80))


def test_a_lost_run_says_why(run):
    log(run, [*lost(0, 70), *lost(1, 90)])
    lines = drawn(run_page(read_status(run.path), 80), 80)
    assert "LOST" in lines[1]
    assert "attempt 2 of at most 2" in lines[1]
    assert "✖ Attempt 1 lost after 70 steps: the masks are empty (mean alpha 0.001)" in lines[3]
    assert "✖ Attempt 2 lost after 90 steps: " in lines[4]
    assert "✖ coverage " in "\n".join(lines)


def test_rendering_has_a_bar_of_its_own(run):
    (run.path / "bank").mkdir()
    for start in (0, 32, 64, 96, 128, 160, 192, 224):
        (run.path / "bank" / f"samples_{start:06d}.safetensors").write_bytes(b"")
    text = "\n".join(drawn(run_page(read_status(run.path), 80), 80))
    assert "RENDERING" in text
    assert "256 of 1,024 samples" in text
    assert " 25%" in text


def test_warm_up(run):
    log(run, entries(5))
    assert "step 5 of 20, then 100 more" in drawn(run_page(read_status(run.path), 80), 80)[1]


def test_a_page_in_ascii(status):
    text = "\n".join(drawn(run_page(status, 80, glyphs=ASCII), 80))
    marked = [line for line in text.splitlines() if "swap_gain" in line or "polarity" in line]
    assert [line[2] for line in marked] == ["+", "!"]
    # The bar is rich's own, which knows what the terminal can show.
    assert all(character.isascii() or character in "━╸╺" for character in text if character != "\n")


def test_several_runs(status, tmp_path):
    other = new_run(tmp_path / "cats")
    log(other, [*lost(0, 70), *lost(1, 90)])
    text = "\n".join(drawn(runs_page([status, read_status(other.path)], note="a note"), 130))
    assert "▲ training" in text
    assert "50 of 100" in text
    assert "✖ lost" in text
    assert "the masks are empty (mean alpha 0.001)" in text
    assert "swap_gain -1.000 (above 0: swapped is less real)" in text
    assert "a note" in text


def test_several_runs_in_a_narrow_terminal(status, tmp_path):
    text = "\n".join(drawn(runs_page([status, status]), 60))
    assert all(words in text for words in ("faces", "▲ training", "50 of 100", "0.500"))


def test_a_note_stands_at_the_bottom(status):
    assert "Ctrl-C leaves" in drawn(run_page(status, 80, note="Ctrl-C leaves"), 80)[-1]
    assert UNICODE.box.bottom_left == drawn(run_page(status, 80), 80)[-1][0]


def test_the_plain_report(status):
    text = plain_report(status)
    assert text.isascii()
    lines = text.splitlines()
    assert lines[0] == f"{status.path}: training"
    assert lines[1].split() == ["progress", "step", "50", "of", "100"]
    assert any(line.split()[:3] == ["swap_gain", "-1.000", "doubtful"] for line in lines)
    assert any(line.split()[:3] == ["coverage", "0.500", "good"] for line in lines)
    assert not any("problem" in line for line in lines)


def test_the_plain_report_of_a_lost_run(run):
    log(run, [*lost(0, 70), *lost(1, 90)])
    lines = plain_report(read_status(run.path)).splitlines()
    assert lines[0].endswith(": lost (the masks are empty (mean alpha 0.001))")
    assert sum(line.startswith("  problem ") for line in lines) == 2


def test_the_plain_line(status):
    assert plain_line(status).split("\t")[:4] == ["faces", "training", "50/100", "0.500"]
