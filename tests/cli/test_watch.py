from __future__ import annotations

import os
import sys

import pytest
from tests.run_folders import EMPTY, SETTINGS, STEPS, WARMUP, checkpoint, entries, log, lost, new_run
from tests.tiny_run import content

from labels4free import cli
from labels4free.cli import watch


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "60")


@pytest.fixture
def run(tmp_path):
    return new_run(tmp_path / "run")


def watch_run(run, *flags):
    return cli.main(["watch", str(run.path), *flags])


def finish(run):
    log(run, entries(WARMUP + STEPS, start=60))
    (run.path / "alpha.safetensors").write_bytes(b"")


def test_one_plain_report_where_there_is_no_terminal(run, capsys):
    log(run, entries(60))
    assert watch_run(run) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"{run.path}: training"
    assert (out.isascii(), err) == (True, "")


@pytest.mark.parametrize("flag", ["--plain", "--once"])
def test_once_in_a_terminal(run, capsys, terminal, flag):
    log(run, entries(60))
    assert watch_run(run, flag) == 0
    out = capsys.readouterr().out
    assert ("\x1b[" in out, "TRAINING" in out, "Ctrl-C" in out) == (flag == "--once", flag == "--once", False)


@pytest.mark.parametrize(
    ("state", "code"), [("training", 0), ("finished", 0), ("problem", 1), ("lost", 3), ("stopped", 4), ("silent", 4)]
)
def test_exit_codes(run, capsys, state, code):
    log(run, [*lost(0, 70), *lost(1, 90)] if state == "lost" else entries(60))
    if state == "finished":
        finish(run)
    if state == "problem":
        log(run, [{**entries(70, foreground_ratio=0.01)[-1], "problem": EMPTY}])
    if state == "stopped":
        checkpoint(run, 60)
    if state == "silent":
        for path in (run.log_path, run.path / "config.json"):
            os.utime(path, (1e9, 1e9))
    assert watch_run(run) == code
    assert ("training" if state == "problem" else state) in capsys.readouterr().out.splitlines()[0]


def test_live_until_the_run_is_over(run, capsys, terminal, monkeypatch):
    log(run, entries(30))
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        log(run, entries(60, start=30)) if len(waits) == 1 else finish(run)

    monkeypatch.setattr(watch, "sleep", sleep)
    assert watch_run(run, "--interval", "7") == 0
    assert waits == [7, 7]
    out = capsys.readouterr().out
    at = [out.index(words) for words in ("step 10 of 100", "step 40 of 100", "FINISHED")]
    assert at == sorted(at)
    assert "Ctrl-C leaves" in out[: at[2]]
    assert "Ctrl-C" not in out[at[2] :].rpartition("FINISHED")[2]


def test_ctrl_c_leaves(run, capsys, terminal, monkeypatch):
    log(run, [*entries(69), {**entries(70, foreground_ratio=0.01)[-1], "problem": EMPTY}])
    before = content(run.path)

    def sleep(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "sleep", sleep)
    assert watch_run(run) == 1
    assert "Interrupted" not in capsys.readouterr().err
    assert content(run.path) == before


def test_a_log_that_cannot_be_read_for_a_moment(run, capsys, terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # the sentence stands on one line, behind a long path
    log(run, entries(30))
    aside = run.path / "aside"

    def sleep(seconds):
        if not aside.exists():
            run.log_path.rename(aside)
            run.log_path.mkdir()
        else:
            run.log_path.rmdir()
            aside.rename(run.log_path)
            finish(run)

    monkeypatch.setattr(watch, "sleep", sleep)
    assert watch_run(run) == 0
    out = capsys.readouterr().out
    assert all(words in out for words in ("cannot be read", "FINISHED"))


def test_several_runs(run, capsys, tmp_path):
    log(run, entries(60))
    log(new_run(tmp_path / "other"), [*lost(0, 70), *lost(1, 90)])
    assert cli.main(["watch", str(tmp_path)]) == 3
    headings, first, second = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert headings == ["run", "state", "step", "fg ratio", "score", "last word"]
    assert (first[:2], second[:3]) == (["other", "lost"], ["run", "training", "40/100"])


def test_several_runs_in_a_terminal(run, capsys, tmp_path, terminal):
    log(run, entries(60))
    new_run(tmp_path / "other")
    assert cli.main(["watch", str(tmp_path), "--once"]) == 0
    out = capsys.readouterr().out
    assert all(words in out for words in ("last word", "rendering"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "There is no run at "),
        (["run/checkpoints"], "There is no run at "),
        (["run/config.json"], "it is a file."),
        (["run", "--interval", "0"], "--interval must be above 0 seconds, got 0."),
        (["run", "--interval", "nan"], "--interval must be above 0 seconds, got nan."),
        (["run", "--track", "tensorboard"], "--track needs --into DIR"),
        (["run", "--track", "abacus", "--into", "x"], "Unknown tracker 'abacus'"),
        (["run", "--track", "wandb", "--into", "x"], "pip install wandb"),
        (["no_config"], "no_config/config.json"),
        (["no_log"], "no_log/log.jsonl"),
    ],
)
def test_bad_input(run, capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.setitem(sys.modules, "wandb", None)
    for name in ("config.json", "log.jsonl"):
        (new_run(tmp_path / f"no_{name.split('.')[0]}").path / name).write_text("{\n")
    before = content(tmp_path)
    assert cli.main(["watch", str(tmp_path / words[0]), *words[1:]]) == cli.FAILURE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("labels4free: ")
    assert said in err
    assert err.count("\n") == 1
    assert content(tmp_path) == before


@pytest.mark.slow
def test_a_tracker_follows(run, capsys, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log(run, entries(60))
    before = content(run.path)
    assert watch_run(run, "--track", "tensorboard", "--into", str(tmp_path / "into")) == 0
    assert content(run.path) == before
    events = EventAccumulator(str(tmp_path / "into" / "tensorboard" / "restart_0"), size_guidance={"scalars": 0})
    assert [scalar.step for scalar in events.Reload().Scalars("train/accuracy")] == list(range(1, 61))


def test_trackers_of_several_runs_have_a_folder_each(run, capsys, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra: pip install tensorboard")
    for one in (run, new_run(tmp_path / "other", SETTINGS)):
        log(one, entries(3))
    into = tmp_path / "into"
    assert cli.main(["watch", str(tmp_path), "--track", "tensorboard", "--into", str(into)]) == 0
    assert sorted(path.name for path in into.iterdir()) == ["other", "run"]
