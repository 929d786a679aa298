from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from labels4free.errors import RunError
from labels4free.training_loop import run_dir
from labels4free.training_loop.run_dir import Place, RunDir, state_digest

STATE = {
    "weights": OrderedDict(a=torch.arange(6.0).view(2, 3), b=torch.tensor(3, dtype=torch.int64)),
    "optimiser": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 1e-3, "betas": (0.0, 0.99)}]},
    "flags": [True, None, "text", -1, float("inf")],
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "nothing": torch.empty(0, 3),
}


def at(step):
    return Place(0, 0, step)


def names(run):
    """Of what lies among the checkpoints of a run of one member that was not started over."""
    return sorted(path.name for path in (run.checkpoints / "member_0" / "restart_0").iterdir())


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path / "run", {"seed": 3, "name": "größer"}, keep=2)


def damage(path, where: int = -1) -> None:
    """Flip one byte of tensor content, which PyTorch itself does not notice."""
    data = bytearray(path.read_bytes())
    position = data.index(torch.arange(6.0).numpy().tobytes()) if where < 0 else where
    data[position] ^= 1
    path.write_bytes(data)


# create and open


def test_create_makes_the_layout(tmp_path):
    run = RunDir.create(tmp_path / "deep" / "run", {"seed": 3})
    assert sorted(p.name for p in run.path.iterdir()) == ["checkpoints", "config.json", "pictures"]
    assert json.loads((run.path / "config.json").read_text()) == {"format": 2, "seed": 3}
    assert RunDir.open(run.path).config() == run.config() == {"seed": 3}


def test_create_takes_an_empty_folder_and_one_whose_creation_was_killed(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / ".config.json.1-ab.tmp").write_text("{")
    RunDir.create(tmp_path, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints", "config.json", "pictures"]


def test_create_refuses_another_run(run):
    with pytest.raises(RunError, match=r"holds a run already.*--resume, or choose another folder"):
        RunDir.create(run.path, {"seed": 4})
    assert run.config()["seed"] == 3


def test_create_refuses_other_files(tmp_path):
    for name in "dbcae":
        (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=r"not empty \(it holds a, b, c, \.\.\.\).*choose a new or empty folder"):
        RunDir.create(tmp_path, {})
    with pytest.raises(RunError, match="is a file, but a run needs a folder"):
        RunDir.create(tmp_path / "a", {})
    with pytest.raises(RunError, match="cannot be written"):
        RunDir.create(tmp_path / "a" / "below", {})
    assert sorted(p.name for p in tmp_path.iterdir()) == list("abcde")


def test_create_keeps_pictures_that_are_there(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "holiday.png").write_text("mine")
    with pytest.raises(RunError, match="it holds pictures"):
        RunDir.create(tmp_path, {})


def test_create_without_space_can_be_repeated(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(RunError, match="no space left"):
            RunDir.create(tmp_path / "run", {})
    RunDir.create(tmp_path / "run", {})


def test_a_config_that_is_not_json_makes_no_folder(tmp_path):
    with pytest.raises(TypeError, match="JSON"):
        RunDir.create(tmp_path / "run", {"path": tmp_path})
    assert not (tmp_path / "run").exists()


def test_open_without_a_run(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(RunError, match=r"no run to resume at .*start one without --resume"):
            RunDir.open(path)


@pytest.mark.parametrize("text", ["", '{"seed": 3', "[1]", "\udcff"])
def test_open_with_a_damaged_config(run, text):
    (run.path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        RunDir.open(run.path)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ({}, r"is a run of labels4free 0\.1\.0, which this version cannot go on with: train anew .* give its file"),
        ({"format": 3}, r"config\.json is in format 3 of a later labels4free.*upgrade"),
    ],
)
def test_open_with_a_run_of_another_version(run, version, said):
    (run.path / "config.json").write_text(json.dumps({**version, "train": {}}))
    with pytest.raises(RunError, match=said):
        RunDir.open(run.path)


def test_places_sort_and_are_found_again(run):
    places = [Place(0, 0, 900), Place(0, 1, 3), Place(0, 10, 2), Place(1, 0, 0), Place(1, 0, 1_000_000)]
    many = dataclasses.replace(run, keep=9)
    for place in reversed(places):
        many.save_checkpoint(place, STATE)
        (run.pictures / place.picture).write_bytes(b"")
    (run.pictures / "consensus.png").write_bytes(b"")
    assert [place for place, _ in run.checkpoint_files()] == places == sorted(places)
    assert [place for place, _ in run.picture_files()] == places
    assert [path for _, path in run.checkpoint_files()] == [run.checkpoints / place.checkpoint for place in places]
    assert places[1].checkpoint == "member_0/restart_1/step_000003.pt"
    assert places[-1].picture == "member_1_restart_0_step_1000000.png"
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    assert checkpoint.place == places[-1]


def test_open_removes_what_a_killed_process_left(run):
    run.save_checkpoint(at(1), STATE)
    (run.checkpoints / "member_0/restart_0/.step_000002.pt.12-ab.tmp").write_bytes(b"half")
    (run.path / ".config.json.12-ab.tmp").write_bytes(b"half")
    (run.path / "notes.tmp").write_text("mine")
    RunDir.open(run.path)
    assert names(run) == ["step_000001.pt"]
    assert sorted(p.name for p in run.path.iterdir()) == ["checkpoints", "config.json", "notes.tmp", "pictures"]


# The log


def test_log_round_trip(run):
    run.append_log({"step": 1, "loss": 0.5})
    run.append_log({"step": 2, "loss": float("nan"), "note": "größer"})
    assert run.read_log() == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": None, "note": "größer"}]
    assert run.log_path.read_text().count("\n") == 2


def test_log_that_is_missing_torn_or_damaged(run):
    assert run.read_log() == []
    run.log_path.write_text('{"step": 1}\n{"st')
    assert run.read_log() == [{"step": 1}]
    run.log_path.write_text('{"step": 1}\n{"st\n')
    with pytest.raises(RunError, match="cannot be read as a log"):
        run.read_log()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_log_without_space(run):
    run.log_path.symlink_to("/dev/full")
    with pytest.raises(RunError, match="no space left to write"):
        run.append_log({"step": 1})


def test_a_resumed_log_equals_an_uninterrupted_one(run):
    for step in range(1, 8):
        run.append_log({"step": step})
        if step == 4:
            run.append_log({"step": 0, "event": "restart"})  # step numbers may go back
            run.save_checkpoint(at(step), STATE)
    with run.log_path.open("a") as file:
        file.write('{"step": 8')
    again = RunDir.open(run.path)
    checkpoint = again.resume()
    assert checkpoint is not None
    for step in range(checkpoint.step + 1, 10):
        again.append_log({"step": step})
    assert [entry["step"] for entry in again.read_log()] == [1, 2, 3, 4, 0, 5, 6, 7, 8, 9]


def test_resume_without_a_checkpoint_starts_the_log_again(run):
    assert run.resume() is None
    run.append_log({"step": 1})
    assert run.resume() is None
    assert run.read_log() == []


def test_resume_with_a_log_that_was_shortened(run, caplog):
    run.append_log({"step": 1})
    run.save_checkpoint(at(1), STATE)
    run.log_path.write_text("")
    checkpoint = run.resume()
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert "earlier entries are missing" in caplog.text
    assert run.read_log() == []


# Checkpoints


def test_checkpoint_round_trip(run):
    path = run.save_checkpoint(at(123), STATE)
    assert path == run.checkpoints / "member_0" / "restart_0" / "step_000123.pt"
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.path, checkpoint.log_bytes) == (123, path, 0)
    assert checkpoint.state["flags"] == STATE["flags"]
    assert checkpoint.state["optimiser"]["param_groups"] == STATE["optimiser"]["param_groups"]
    assert torch.equal(checkpoint.state["weights"]["a"], STATE["weights"]["a"])
    assert checkpoint.state["half"].dtype == torch.bfloat16
    assert checkpoint.state["nothing"].shape == (0, 3)
    assert torch.load(path, weights_only=True)["step"] == 123


def test_keeps_the_newest_in_number_order(run):
    assert run.latest_checkpoint() is None
    for step in (8, 9, 10, 1_000_000):
        run.save_checkpoint(at(step), STATE)
    assert names(run) == ["step_000010.pt", "step_1000000.pt"]
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    assert checkpoint.step == 1_000_000


def test_other_files_among_the_checkpoints_stay(run):
    for name in ("best.pt", "step_1.pt", "step_000001.pt.bak"):
        (run.checkpoints / name).write_text("mine")
        (run.checkpoints / "member_0/restart_0").mkdir(parents=True, exist_ok=True)
        (run.checkpoints / "member_0/restart_0" / name).write_text("mine")
    for step in range(5):
        run.save_checkpoint(at(step), STATE)
    assert len(list(run.checkpoints.iterdir())) == 4
    assert names(run) == ["best.pt", "step_000001.pt.bak", "step_000003.pt", "step_000004.pt", "step_1.pt"]


@pytest.mark.parametrize("how", ["flipped", "short", "empty", "text", "foreign"])
def test_passes_over_a_damaged_checkpoint(run, how, caplog):
    run.save_checkpoint(at(1), STATE)
    path = run.save_checkpoint(at(2), STATE)
    data = path.read_bytes()
    if how == "flipped":
        damage(path)
    elif how == "foreign":
        torch.save({"other": 1}, path)
    else:
        path.write_bytes({"short": data[: len(data) // 2], "empty": b"", "text": b"not a checkpoint\n" * 9}[how])
    with caplog.at_level(logging.WARNING):
        checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert "step_000002.pt is damaged and was passed over" in caplog.text
    damage(run.checkpoints / at(1).checkpoint)
    assert run.latest_checkpoint() is None


def test_any_flipped_byte_is_noticed_or_harmless(run):
    """Every 29th byte of the file: the state that comes back is the one that was saved, or none."""
    path = run.save_checkpoint(at(1), STATE)
    expected, data = state_digest(STATE), path.read_bytes()
    passed_over = 0
    for position in range(0, len(data), 29):
        damage(path, position)
        checkpoint = run_dir._read_checkpoint(path)
        passed_over += checkpoint is None
        if checkpoint is not None:
            assert (checkpoint.step, checkpoint.log_bytes, state_digest(checkpoint.state)) == (1, 0, expected), position
        path.write_bytes(data)
    assert passed_over > 5


def test_a_damaged_newer_checkpoint_does_not_push_out_a_good_one(tmp_path):
    run = RunDir.create(tmp_path / "run", {}, keep=1)
    run.save_checkpoint(at(5), STATE)
    path = run.save_checkpoint(at(9), STATE)
    damage(path)
    run.save_checkpoint(at(7), STATE)  # a run that was resumed before 9
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    assert checkpoint.step == 7


def test_a_checkpoint_of_a_later_version(run, monkeypatch):
    monkeypatch.setattr(run_dir, "FORMAT", 3)
    run.save_checkpoint(at(1), STATE)
    monkeypatch.setattr(run_dir, "FORMAT", 2)
    with pytest.raises(RunError, match=r"in format 3 of a later labels4free.*upgrade"):
        run.latest_checkpoint()


def no_space(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_space_leaves_the_older_checkpoints(run, monkeypatch):
    for step in (1, 2):
        run.save_checkpoint(at(step), STATE)
    before = {p: p.read_bytes() for p in run.checkpoints.glob("*/*/*")}
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(
        RunError, match=r"no space left to write .*step_000003\.pt.*older checkpoints are intact.*--resume"
    ):
        run.save_checkpoint(at(3), STATE)
    assert {p: p.read_bytes() for p in run.checkpoints.glob("*/*/*")} == before


def test_a_program_in_a_checkpoint_is_not_run(run, tmp_path):
    class Program:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "was_run"),))

    path = run.save_checkpoint(at(1), STATE)
    torch.save({**torch.load(path, weights_only=True), "state": Program()}, path)
    assert run.latest_checkpoint() is None
    assert not (tmp_path / "was_run").exists()


# The digest


def test_digest_is_of_the_content():
    first = state_digest(STATE)
    assert state_digest({**STATE, "weights": dict(STATE["weights"])}) == first
    strided = STATE["weights"]["a"].t().contiguous().t()
    assert state_digest({**STATE, "weights": {**STATE["weights"], "a": strided}}) == first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.tensor(0.0), torch.tensor(-0.0)),
        (0.0, -0.0),
        (1, 1.0),
        (1, True),
        (1, "1"),
        (None, "None"),
        ([1, 2], (1, 2)),
        ([[1], 2], [[1, 2]]),
        (["ab", "c"], ["a", "bc"]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_digest_tells_apart(one, other):
    assert state_digest({"value": one}) != state_digest({"value": other})


def test_digest_of_not_a_number_is_stable():
    assert state_digest([float("nan")]) == state_digest([float("nan")])


def test_values_that_no_checkpoint_holds(run):
    with pytest.raises(TypeError, match="got <class 'set'>"):
        run.save_checkpoint(at(1), {"value": {1, 2}})
    with pytest.raises(TypeError, match=r"got <class '.*float64'>"):
        run.save_checkpoint(at(1), {"value": torch.zeros(1, dtype=torch.float64).numpy()[0]})
    assert list(run.checkpoints.iterdir()) == []
