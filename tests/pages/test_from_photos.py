from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labels4free.checkpoints.native import write_native
from labels4free.pages.from_photos import StageRow, from_photos_report
from labels4free.pages.html import write_report
from labels4free.pictures.pixels import write_png

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [StageRow("generator", "9 images", 60.0, 61.0), StageRow("check", "look", None, 0.0)]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.zeros((8, 8, 3), np.uint8))


def page(folder: Path, problem: str | None = None) -> str:
    report = from_photos_report(folder, ROWS, "my photos", problem)
    return write_report(folder / "index.html", report).read_text()


def test_an_empty_chain_has_a_page(tmp_path: Path) -> None:
    found = page(tmp_path, "there are no photos")
    assert "It has stopped: there are no photos" in found
    assert "1 min 01 s" in found
    assert [title for title in ("Your photos", "The generator", "How to go on") if title in found] == []


def test_shows_what_there_is_of_each_stage(tmp_path: Path) -> None:
    for step in range(9):
        picture(tmp_path / "generator" / "pictures" / f"restart_0_step_{step:06d}.png")
    picture(tmp_path / "generator" / "neighbours.png")
    picture(tmp_path / "check" / "sheet.png")
    (tmp_path / "check" / "check.json").write_text('{"alpha": {"sharpness": 0.876}, "generator": null}')
    info = {"health": {"diversity": 0.765, "swd": 0.2}, "train": {"images": 1234}}
    made = tmp_path / "generator" / "generator.safetensors"
    write_native(made, kind="generator", family="stylegan2", config={}, state={}, info=info)
    found = page(tmp_path)
    words = ["1,234", "Out of the photos in my photos", "restart 0 step 0", "restart 0 step 8", "0.765", "0.876"]
    assert [word for word in words if word not in found] == []
    assert found.count("<img ") == 4 + 1 + 1
    assert "How to go on" not in found
    write_native(tmp_path / "segmenter.safetensors", kind="segmenter", family="f", config={}, state={}, info={})
    assert f"labels4free segment PHOTO.jpg --model {tmp_path}/segmenter.safetensors --out cut" in page(tmp_path)
