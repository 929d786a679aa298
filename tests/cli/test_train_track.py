from __future__ import annotations

import sys

import pytest
from tests.tiny_run import TOTAL, content, outcome

from labels4free import cli


def steps_shown(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard" / "restart_0"), size_guidance={"scalars": 0}).Reload()
    return [scalar.step for scalar in events.Scalars("loss/discriminator")]


def test_a_tracker_follows_and_changes_nothing(words, whole, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra: pip install tensorboard")
    assert cli.main(words("--track", "tensorboard")) == cli.SUCCESS
    assert steps_shown(tmp_path / "run") == list(range(1, TOTAL + 1))
    left = outcome(tmp_path / "run")
    assert left.pop("files") == sorted([*whole["files"], "tensorboard"])
    assert left == {name: value for name, value in whole.items() if name != "files"}


@pytest.mark.parametrize(("name", "said"), [("abacus", "Unknown tracker"), ("wandb", "pip install wandb")])
def test_an_unknown_or_missing_tracker_is_said_before_anything_begins(words, capsys, tmp_path, monkeypatch, name, said):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert cli.main(words("--track", name)) == cli.FAILURE
    assert said in capsys.readouterr().err
    assert content(tmp_path) == {}
