from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from labels4free.settings_fields import change
from labels4free.training.generator.presets import CONFIGS

_FOLDER = Path(__file__).parents[2] / "benchmarks"
_NEIGHBOURS = ("drawn_end_to_end", "generator_choices", "generator_transfer")


@pytest.fixture
def benches(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The scripts by name, and in place of commands that run a record of them."""
    monkeypatch.syspath_prepend(str(_FOLDER))
    modules = {name: importlib.import_module(name) for name in _NEIGHBOURS}
    asked: list[list[str]] = []

    def command(*words: object) -> None:
        asked.append([str(word) for word in words])
        if words[0] == "train-generator":
            run = Path(asked[-1][asked[-1].index("--out") + 1])
            run.mkdir(parents=True, exist_ok=True)
            lines = [{"images": 8, "check_swd": 0.5}, {"images": 9}, {"images": 16, "check_swd": 0.25}]
            (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if "--json" in words:
            file = Path(asked[-1][asked[-1].index("--json") + 1])
            values = {"KID-EffLite0": [0.1, 0.3], "FD-EffLite0": [4.0]}
            total = {"pooled_miou": {"value": 0.5, "low": 0.4, "high": 0.6}}
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(
                json.dumps({"figures": [{"name": n, "values": v} for n, v in values.items()], "total": total})
            )

    for module in modules.values():
        monkeypatch.setattr(module, "command", command)
    yield modules, asked
    for name in _NEIGHBOURS:
        sys.modules.pop(name)


def test_every_row_is_settings_that_there_are(benches):
    modules, _ = benches
    tiny = CONFIGS["tiny"][0]
    changed = {name: change(tiny, settings=settings) for name, settings in modules["generator_choices"].ROWS.items()}
    assert [name for name, config in changed.items() if config == tiny] == ["ada"]
    assert changed["relativistic"].loss.r2
    assert changed["apa"].augmentation.mode == "adaptive"


def test_the_table_of_two_seeds(benches, tmp_path, capsys):
    modules, asked = benches
    modules["generator_choices"].main(tmp_path / "images", out=tmp_path / "runs", kimg=2, seeds=2, rows=("half width",))
    trained = [words for words in asked if words[0] == "train-generator"]
    assert [words[words.index("--seed") + 1] for words in trained] == ["0", "1"]
    assert all("network.channel_max=32" in words for words in trained)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        "| | KID-EffLite0 | FD-EffLite0 | SWD |",
        "|---|---|---|---|",
        "| half width | 0.2 ± 0 | 4 ± 0 | 0.25 ± 0 |",
    ]


def test_a_child_is_compared_with_one_that_begins_anew(benches, tmp_path, capsys):
    modules, asked = benches
    modules["generator_transfer"].main(tmp_path / "gan", tmp_path / "alpha", tmp_path / "child", out=tmp_path / "work")
    said = capsys.readouterr().out
    assert "from nothing: KID-EffLite0 0.2, FD-EffLite0 4, SWD 0.25; SWD by images: 8: 0.500, 16: 0.250" in said
    assert said.count("mIoU 0.500 (0.400 to 0.600)") == 3
    begun = [words[words.index("--out") + 2] for words in asked if words[0] == "train-generator"]
    assert begun == ["--preset", "--pretrained"]
    distilled = [words[1] for words in asked if words[0] == "distill"]
    assert [Path(source).name for source in distilled] == ["alpha", "alpha_tuned", "alpha_anew"]
