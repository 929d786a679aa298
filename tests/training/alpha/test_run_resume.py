"""A training run that is stopped, killed or lost ends in the same bits as one that is left alone."""

from __future__ import annotations

import logging
import math
import shutil
import signal
from pathlib import Path

import pytest
from tests.tiny_run import (
    RENDERED,
    SETTINGS,
    STEPS,
    TOTAL,
    WARMUP,
    Killed,
    assert_same,
    killing,
    signalling,
    tiny_config,
)

from labels4free.checkpoints.loading import load_alpha_network
from labels4free.checkpoints.native import SNAPSHOT, read_native_header
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import CheckpointError, RunError
from labels4free.training.alpha import feature_cache as cache_module
from labels4free.training.alpha import monitor
from labels4free.training.alpha.trainer import AlphaTrainer
from labels4free.training_loop.run_dir import RunDir

_find_problem = monitor.find_problem

# Stopped by a signal


@pytest.mark.parametrize(
    ("number", "iteration"),
    [
        (signal.SIGTERM, 1),
        (signal.SIGINT, WARMUP),
        (signal.SIGTERM, WARMUP + 1),
        (signal.SIGINT, WARMUP + 4),
        (signal.SIGTERM, 10),  # has a checkpoint of its own
        (signal.SIGINT, TOTAL - 1),
    ],
)
def test_stopped_while_training_and_resumed(train, whole, tmp_path, number, iteration):
    before = signal.getsignal(number)
    stopped = train(progress=signalling(number, iteration=iteration))
    assert (stopped.interrupted, stopped.file) == (number.name, None)
    assert (stopped.steps, stopped.total) == (iteration, TOTAL)
    assert RunDir(tmp_path / "run").latest_checkpoint().step == iteration
    assert signal.getsignal(number) is before
    assert not (tmp_path / "run" / "alpha.safetensors").exists()
    result = train(config=None, resume=True)
    assert result.interrupted is None
    assert result.check == whole["result"].check
    assert_same(tmp_path / "run", whole)


def test_while_it_goes_on_the_network_of_the_last_good_check_serves(train, tmp_path, caplog):
    run = tmp_path / "run"
    train(progress=signalling(signal.SIGTERM, iteration=WARMUP + 1))
    with pytest.raises(CheckpointError, match=r"holds no alpha\.safetensors: its run has no good check yet"):
        load_alpha_network(run)
    train(config=None, resume=True, progress=signalling(signal.SIGTERM, iteration=TOTAL - 1))
    with caplog.at_level("INFO", "labels4free"):
        early = load_alpha_network(run)
    assert f"{run} is not finished: its network of the last good check is taken" in caplog.text
    noted = read_native_header(run / SNAPSHOT, "alpha_network").info
    assert noted["kept_step"] == SETTINGS.monitor.interval  # the next one is the last step's
    assert noted["problem"] is None
    train(config=None, resume=True)
    assert not (run / SNAPSHOT).exists()
    assert state_hash(early) != state_hash(load_alpha_network(run))


def test_a_check_that_finds_something_wrong_leaves_no_network(train, tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "find_problem", lambda **numbers: "all wrong")
    train(config=tiny_config(monitor={"grace_steps": 100}), progress=signalling(signal.SIGTERM, iteration=TOTAL - 1))
    assert not (tmp_path / "run" / SNAPSHOT).exists()


@pytest.mark.parametrize("rendered", [1, RENDERED - 4, RENDERED])
def test_stopped_while_rendering_and_resumed(train, whole, tmp_path, monkeypatch, rendered):
    monkeypatch.setattr(cache_module, "_CHUNK", 5)
    stopped = train(progress=signalling(signal.SIGTERM, rendered=rendered))
    assert (stopped.interrupted, stopped.file) == ("SIGTERM", None)
    assert (stopped.steps, stopped.total) == (0, TOTAL)
    train(config=None, resume=True)
    assert_same(tmp_path / "run", whole)


def test_stopped_after_every_single_step(train, whole, tmp_path):
    for iteration in range(1, TOTAL):
        stopped = train(resume=iteration > 1, progress=signalling(signal.SIGINT, iteration=iteration))
        assert stopped.steps == iteration
    train(resume=True)
    assert_same(tmp_path / "run", whole)


def test_a_signal_in_the_last_step_changes_nothing(train, whole, tmp_path):
    result = train(progress=signalling(signal.SIGTERM, iteration=TOTAL))
    assert result.interrupted is None
    assert result.file == tmp_path / "run" / "alpha.safetensors"
    assert_same(tmp_path / "run", whole)


def test_stopped_while_a_resumed_run_reads_its_cache(train, whole, tmp_path):
    train(progress=signalling(signal.SIGINT, iteration=6))
    stopped = train(resume=True, progress=signalling(signal.SIGINT, rendered=RENDERED))
    assert (stopped.interrupted, stopped.steps, stopped.total) == ("SIGINT", 6, TOTAL)
    train(resume=True)
    assert_same(tmp_path / "run", whole)


# Killed


@pytest.mark.parametrize("iteration", [2, 6, TOTAL])
def test_killed_between_checkpoints_and_resumed(train, whole, tmp_path, iteration):
    with pytest.raises(Killed):
        train(progress=killing(iteration))
    checkpoint = RunDir(tmp_path / "run").latest_checkpoint()
    assert (checkpoint.step if checkpoint else 0) == (iteration - 1) // 5 * 5
    train(resume=True)
    assert_same(tmp_path / "run", whole)


def test_killed_at_every_write_and_resumed(train, whole, tmp_path, monkeypatch):
    """Each file appears by renaming; the process dies just before one of them, in turn."""
    monkeypatch.setattr(cache_module, "_CHUNK", 8)
    rename, writes = Path.replace, []

    def fatal(path, target):
        writes.append(Path(target).name)
        if len(writes) == fatal.at:
            raise Killed
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", fatal)
    fatal.at = 0
    train("counted")
    names, runs = list(writes), range(1, len(writes) + 1)
    assert {"config.json", "cache.json", "projection.safetensors", "previews.safetensors", "step_000005.pt"} < set(
        names
    )
    assert names[-1] == "alpha.safetensors"
    for fatal.at in runs:
        writes.clear()
        out = f"killed_{fatal.at}_{names[fatal.at - 1]}"
        with pytest.raises(Killed):
            train(out)
        fatal.at = 0
        train(out, resume=(tmp_path / out / "config.json").exists())
        assert_same(tmp_path / out, whole)


def test_killed_while_the_cache_is_dropped(train, whole, tmp_path, monkeypatch):
    def remove_one(path, **options):
        next(path.iterdir()).unlink()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", remove_one)
        with pytest.raises(Killed):
            train()
    assert (tmp_path / "run" / "cache").exists()
    train(resume=True)
    assert_same(tmp_path / "run", whole)


def test_a_damaged_newest_checkpoint_costs_only_steps(train, whole, tmp_path):
    with pytest.raises(Killed):
        train(progress=killing(TOTAL))
    newest = tmp_path / "run" / "checkpoints" / "member_0" / "restart_0" / "step_000010.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    train(resume=True)
    assert_same(tmp_path / "run", whole)


# Lost runs


def test_a_lost_run_starts_over_by_itself(train, lost, tmp_path, caplog):
    lost.update({0, 1})
    with caplog.at_level(logging.WARNING, "labels4free"):
        result = train()
    assert (result.restarts, result.steps) == (2, 3 * WARMUP + STEPS)
    assert result.check.problem is None
    log = RunDir(tmp_path / "run").read_log()
    assert [(entry["restart"], entry["iteration"]) for entry in log if "lost" in entry] == [
        (0, WARMUP + 4),
        (1, 2 * WARMUP + 4),
    ]
    assert [entry["lost"] for entry in log if "lost" in entry] == ["the masks are empty (mean alpha 0.001)"] * 2
    assert [e["restart"] for e in log] == sorted(e["restart"] for e in log)
    assert [entry["iteration"] for entry in log if entry["restart"] == 2] == list(range(1, result.total + 1))
    assert caplog.messages == [
        f"Step 4: the masks are empty (mean alpha 0.001). Starting over ({k} of 3), with {SETTINGS.hardening(k)}."
        for k in (1, 2)
    ]
    info = read_native_header(tmp_path / "run" / "alpha.safetensors").info
    assert info["restarts"] == 2
    pictures = {p.name.split("_step")[0] for p in (tmp_path / "run" / "pictures").iterdir()}
    assert pictures == {"restart_0", "restart_1", "restart_2"}


@pytest.mark.parametrize("stops", [[(0, WARMUP + 4)], [(1, 1)], [(0, 2), (0, WARMUP + 4), (1, 7), (1, 10)]])
def test_resumed_around_a_restart(train, lost, whole_restarted, tmp_path, stops):
    """A stop is (attempt, iteration); (0, WARMUP + 4) is found lost, so that one comes right after the restart."""
    lost.add(0)
    for number, (restart, iteration) in enumerate(stops):

        def progress(done, total, numbers=None, restart=restart, iteration=iteration):
            is_second = total > TOTAL
            if numbers is not None and done == iteration and is_second == bool(restart):
                signal.raise_signal(signal.SIGTERM)

        stopped = train(resume=number > 0, progress=progress)
        right_after = (restart, iteration) == (0, WARMUP + 4)
        assert (stopped.restarts, stopped.steps) == ((1, 0) if right_after else (restart, iteration))
        assert stopped.total == WARMUP * (1 + stopped.restarts) + STEPS
        newest = RunDir(tmp_path / "run").latest_checkpoint().state
        assert (newest["restart"], newest["iteration"]) == (stopped.restarts, stopped.steps)
    result = train(resume=True)
    assert result.restarts == 1
    assert_same(tmp_path / "run", whole_restarted)


@pytest.mark.parametrize("kill", ["before", "after"])
def test_killed_at_the_restart(train, lost, whole_restarted, tmp_path, monkeypatch, kill):
    """Before the fresh attempt has its checkpoint, or just behind it."""
    lost.add(0)
    save = RunDir.save_checkpoint

    def fatal(self, step, state):
        if state["restart"] == 1 and kill == "before":
            raise Killed
        path = save(self, step, state)
        if state["restart"] == 1:
            raise Killed
        return path

    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "save_checkpoint", fatal)
        with pytest.raises(Killed):
            train()
    train(resume=True)
    assert_same(tmp_path / "run", whole_restarted)


def test_given_up_after_so_many_restarts(train, lost, tmp_path):
    lost.update(range(10))
    config = tiny_config(monitor={"max_restarts": 2})
    with pytest.raises(RunError) as caught:
        train(config=config)
    assert str(caught.value).startswith(
        "Training was lost in attempt 3, the last: the masks are empty (mean alpha 0.001). See "
        f"{tmp_path / 'run' / 'pictures'}; try another --seed"
    )
    assert len([entry for entry in RunDir(tmp_path / "run").read_log() if "lost" in entry]) == 3
    assert not (tmp_path / "run" / "alpha.safetensors").exists()
    with pytest.raises(RunError, match="Training was lost in attempt 3"):
        train(config=config, resume=True)
    assert len([entry for entry in RunDir(tmp_path / "run").read_log() if "lost" in entry]) == 3


def test_no_restarts_allowed(train, lost):
    lost.add(0)
    with pytest.raises(RunError, match="Training was lost in attempt 1, the last: the masks are empty"):
        train(config=tiny_config(monitor={"max_restarts": 0}))


def test_in_the_first_steps_a_lost_run_is_only_warned_of(train, lost, tmp_path, caplog):
    lost.add(0)
    with caplog.at_level(logging.WARNING, "labels4free"):
        result = train(config=tiny_config(monitor={"grace_steps": 5}))
    assert result.restarts == 0
    assert caplog.messages == ["Step 4: the masks are empty (mean alpha 0.001); it may still turn."]
    assert [e["step"] for e in RunDir(tmp_path / "run").read_log() if "problem" in e] == [4]


def test_a_problem_at_the_end_of_a_short_run_is_not_hidden(train, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(monitor, "find_problem", lambda **numbers: "the masks are full")
    config = tiny_config(monitor={"grace_steps": 100})
    with caplog.at_level(logging.WARNING, "labels4free"):
        result = train(config=config)
    assert result.check.problem == "the masks are full"
    assert caplog.messages[-1] == "Step 8: the masks are full."
    again = train(config=config, resume=True)
    assert again == result


def test_masks_that_are_no_numbers_are_never_kept(train, monkeypatch, tmp_path):
    """Whatever the grace: weights that are no numbers cannot come back."""
    monkeypatch.setattr(monitor, "find_problem", _find_problem)
    step = AlphaTrainer.step

    def broken(self):
        logs = step(self)
        if self.restart == 0 and self.alpha_step == STEPS:
            self.average.module.head.weight.data.fill_(math.nan)
        return logs

    monkeypatch.setattr(AlphaTrainer, "step", broken)
    result = train(config=tiny_config(monitor={"grace_steps": 100}))
    assert result.restarts == 1
    assert math.isfinite(result.check.numbers["foreground_ratio"])


def test_a_loss_that_is_no_number_starts_over(train, monkeypatch, tmp_path, whole):
    step = AlphaTrainer.step

    def broken(self):
        if self.restart == 0 and self.iteration == 6:
            raise FloatingPointError("The discriminator's loss is not finite (nan)")
        return step(self)

    monkeypatch.setattr(AlphaTrainer, "step", broken)
    result = train()
    assert result.restarts == 1
    lost = [entry for entry in RunDir(tmp_path / "run").read_log() if "lost" in entry]
    assert lost == [{"restart": 0, "iteration": 6, "lost": "The discriminator's loss is not finite (nan)"}]
