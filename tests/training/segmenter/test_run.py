from __future__ import annotations

import dataclasses
import logging
import os
import signal

import pytest
import torch
from tests.tiny_distillation import SETTINGS, changed, write_pairs, write_photos
from tests.tiny_run import Killed, content, killing, outcome, signalling

from labels4free.checkpoints.loading import load_segmenter
from labels4free.checkpoints.native import read_native_header
from labels4free.data.pairs.formats import open_pairs
from labels4free.errors import CheckpointError, ConfigError, DataError, RunError
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.segmenter import trainer as segmenter_trainer
from labels4free.training.segmenter.recipe import SegmenterRecipe
from labels4free.training.segmenter.run import train_segmenter
from labels4free.training.segmenter.trainer import SegmenterTrainer
from labels4free.training_loop.resume import to_run_json
from labels4free.training_loop.run_dir import RunDir
from labels4free.watching.status import RunWatcher, State

pytestmark = pytest.mark.slow

SEGMENTER = "segmenter.safetensors"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs")


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """Two rounds of self-training within the four steps; any label is good enough."""
    photos = write_photos(tmp_path_factory.mktemp("data") / "photos")
    lenient = {
        "unlabelled": str(photos),
        "photo_fraction": 0.7,
        "min_agreement": 0.0,
        "min_foreground_ratio": 0.0,
        "max_foreground_ratio": 1.0,
    }
    return changed(self_training=lenient)


def left(run):
    """All that a finished run leaves and that must not depend on how often it was stopped."""
    (run / "alpha.safetensors").hardlink_to(run / SEGMENTER)
    found = outcome(run)
    (run / "alpha.safetensors").unlink()
    return found


@pytest.fixture(scope="session")
def whole(tmp_path_factory, pairs, config):
    run = tmp_path_factory.mktemp("whole") / "run"
    result = train_segmenter(run, pairs, config)
    return {"result": result, **left(run)}


@pytest.fixture
def train(tmp_path, pairs, config):
    def train(config=config, pairs=pairs, **options):
        return train_segmenter(tmp_path / "run", pairs, config, **options)

    return train


def assert_same(run, whole):
    for name, value in left(run).items():
        assert value == whole[name], name


# A run


def test_what_a_run_leaves(whole, pairs, config):
    result = whole["result"]
    run = result.file.parent
    assert (result.file.name, result.interrupted, result.steps, result.total) == (SEGMENTER, None, 4, 4)
    names = {"config.json", "log.jsonl", "pictures", "checkpoints", SEGMENTER}
    assert {path.name for path in run.iterdir()} == names
    assert sorted(whole["pictures"]) == ["restart_0_step_000002.png", "restart_0_step_000004.png"]
    info = read_native_header(result.file, "segmenter").info
    assert info["source"]["name"] == str(pairs)
    assert info["source"]["count"] == 8
    assert info["recipe"] == "segmenter"
    assert info["train"] == config.to_json()
    assert info["health"]["score"] == info["health"]["augmented_miou"] == result.check.score
    assert RunDir(run).config()["source"] == info["source"]


def test_what_it_logs(whole):
    log = RunDir(whole["result"].file.parent).read_log()
    assert [entry["step"] for entry in log] == [1, 2, 3, 4]
    for entry in log:
        total = entry["loss_cross_entropy"] + entry["loss_iou"] + entry["loss_absolute"]
        assert entry["loss"] == pytest.approx(total)
    assert ["photo_fraction" in entry for entry in log] == [False, False, True, True]
    assert sum(entry.get("photo_fraction", 0) for entry in log) > 0
    checks = [{name for name in entry if name.startswith("check_")} for entry in log]
    assert checks[0] == checks[2] == set()
    assert {"check_teacher_miou", "check_agreement_tta", "check_agreement_photos", "check_score"} <= checks[1]
    assert not {"check_swap_gain", "check_inpainting_error"} & checks[1]  # there is nobody who could say


def test_the_segmenter_serves(whole):
    network = load_segmenter(whole["result"].file)
    assert network.working_size == SETTINGS.photo_size
    assert network.segment(torch.zeros(1, 3, 20, 50)).shape == (1, 1, 20, 50)


def test_what_is_checked_is_not_trained_on(tmp_path, pairs):
    recipe = SegmenterRecipe(SETTINGS)
    recipe.use(open_pairs(pairs))
    recipe.prepare(tmp_path, lambda done, total: None)
    try:
        data = recipe.data
        assert (len(data.pairs), len(data.held_out)) == (6, 2)
        images = [data.pairs[k].image for k in range(6)]
        assert not any(torch.equal(data.held_out[k].image, image) for k in range(2) for image in images)
    finally:
        recipe.close()


def test_without_photos_there_is_no_self_training(train, tmp_path):
    train(config=SETTINGS)
    log = RunDir(tmp_path / "run").read_log()
    assert not any("photo_fraction" in entry or "check_agreement_photos" in entry for entry in log)


def test_it_may_begin_with_a_segmenter(train, tmp_path, pairs):
    first = tmp_path / "first"
    train_segmenter(first, pairs, SETTINGS)
    still = changed(pretrained=str(first), seed=7, optimizer={"learning_rate": 1e-12})
    train(still)
    before, after = (dict(load_segmenter(run).named_parameters()) for run in (first, tmp_path / "run"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_a_segmenter_of_another_size_is_not_begun_with(train, tmp_path, pairs):
    first = tmp_path / "first"
    train_segmenter(first, pairs, changed(network={"width": 3}))
    sentence = r"has widths \(3, 6, .*but the settings ask for widths \(2, 4, .*change the section network"
    with pytest.raises(ConfigError, match=sentence):
        train(changed(pretrained=str(first)))
    with pytest.raises(CheckpointError, match="nothing"):
        train(changed(pretrained=str(tmp_path / "nothing")))
    assert not (tmp_path / "run").exists()


def test_it_can_be_watched(whole):
    status = RunWatcher(whole["result"].file.parent).look()
    assert (status.state, status.recipe, *status.progress[4:6]) == (State.FINISHED, "segmenter", 4, 4)
    assert status.generator.endswith("pairs")
    assert "augmented_miou" in {judged.name for judged in status.checks}


def test_pairs_may_be_made_first(tmp_path, whole, config):
    made = []

    def make(folder, settings):
        made.append((folder, settings))
        write_pairs(folder)

    source = {"name": "teacher", "state_hash": "1"}
    train_segmenter(tmp_path / "run", make, config, source=source)
    assert made == [(tmp_path / "run" / "pairs", config)]
    assert (tmp_path / "run" / SEGMENTER).exists()
    assert (tmp_path / "run" / "pairs" / "images").is_dir()  # they are worth keeping
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert log == whole["log"]
    assert read_native_header(tmp_path / "run" / SEGMENTER).info["source"] == source


def test_lost_runs_start_over_at_half_the_rate(tmp_path, pairs, monkeypatch, caplog):
    check = SegmenterTrainer.check

    def lost_at_first(self):
        return dataclasses.replace(check(self), problem="the masks are empty" if self.restart == 0 else None)

    monkeypatch.setattr(SegmenterTrainer, "check", lost_at_first)
    with caplog.at_level(logging.WARNING):
        result = train_segmenter(tmp_path / "run", pairs, changed(monitor={"grace_steps": 0}))
    assert result.restarts == 1
    assert "Starting over (1 of 2), with a learning rate of 0.001." in caplog.text


def test_a_loss_that_is_not_finite_loses_the_attempt(tmp_path, pairs, monkeypatch):
    loss = segmenter_trainer.segmenter_loss

    def broken(*given):
        found, numbers = loss(*given)
        return found * float("nan"), numbers

    monkeypatch.setattr(segmenter_trainer, "segmenter_loss", broken)
    with pytest.raises(RunError, match=r"the segmenter's loss is not finite \(nan\).*try another --seed"):
        train_segmenter(tmp_path / "run", pairs, SETTINGS)


# Stopped and resumed


@pytest.mark.parametrize("iteration", [1, 3, 4])
def test_killed_it_goes_on_bit_for_bit(train, tmp_path, whole, iteration):
    with pytest.raises(Killed):
        train(progress=killing(iteration))
    assert train(config=None, resume=True).interrupted is None
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("iteration", [1, 2, 3])
def test_interrupted_it_goes_on_bit_for_bit(train, tmp_path, whole, iteration):
    stopped = train(progress=signalling(signal.SIGTERM, iteration=iteration))
    assert (stopped.interrupted, stopped.file, stopped.steps) == ("SIGTERM", None, iteration)
    train(resume="auto")
    assert_same(tmp_path / "run", whole)


def test_interrupted_while_pairs_are_decoded(train, tmp_path, whole):
    stopped = train(progress=signalling(signal.SIGINT, rendered=3))
    assert (stopped.interrupted, stopped.steps) == ("SIGINT", 0)
    train(resume=True)
    assert_same(tmp_path / "run", whole)


def test_a_finished_run_is_left_alone(train, tmp_path, whole):
    first = train()
    before = content(tmp_path / "run")
    again = train(resume=True)
    assert again == first
    assert content(tmp_path / "run") == before


def test_auto_starts_where_there_is_no_run(train):
    assert train(resume="auto").file is not None


def test_a_resumed_run_keeps_its_settings_and_pairs(train, tmp_path, config, pairs):
    train(progress=signalling(signal.SIGTERM, iteration=3))
    with pytest.raises(ConfigError, match=r"has steps=4 \(asked for: 5\)"):
        train(config=dataclasses.replace(config, steps=5), resume=True)
    more = write_pairs(tmp_path / "more", 9)
    with pytest.raises(ConfigError, match=r"was started on .*pairs as it was then, not on .*more as it is now"):
        train(config=None, pairs=more, resume=True)


def test_pairs_whose_pixels_changed_are_noticed(tmp_path, config):
    pairs = write_pairs(tmp_path / "pairs")
    train_segmenter(tmp_path / "run", pairs, config, progress=signalling(signal.SIGTERM, iteration=3))
    (pairs / "images" / "00000.png").write_bytes((pairs / "images" / "00001.png").read_bytes())
    for path in (tmp_path / "run" / "cache" / "pairs").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match="is of a run on other pairs than these"):
        train_segmenter(tmp_path / "run", pairs, resume=True)


# Bad input


def test_nothing_is_left_of_a_run_that_cannot_begin(tmp_path, pairs):
    for config, given, sentence in (
        (SETTINGS, tmp_path / "none", "does not exist"),
        (changed(monitor={"samples": 8}), pairs, "holds 8 readable pairs, but 8 are kept apart"),
        (changed(self_training={"unlabelled": str(tmp_path / "x")}), pairs, "x"),
        (changed(pairs={"background_pictures": str(tmp_path / "y")}), pairs, "y"),
    ):
        with pytest.raises(DataError, match=sentence):
            train_segmenter(tmp_path / "run", given, config)
        assert not (tmp_path / "run").exists()


def test_damaged_pairs_are_left_out(tmp_path, caplog):
    pairs = write_pairs(tmp_path / "pairs")
    (pairs / "images" / "00002.png").write_bytes(b"none")
    train_segmenter(tmp_path / "run", pairs, SETTINGS)
    assert "Skipped 1 pair(s)" in caplog.text


def test_an_alpha_networks_run_is_no_segmenters(tmp_path, pairs):
    RunDir.create(tmp_path / "run", {"generator": {"name": "g", "state_hash": "1"}, **to_run_json(TrainConfig())})
    with pytest.raises(ConfigError, match="run: recipe must be one of segmenter, got 'replay'"):
        train_segmenter(tmp_path / "run", pairs, resume=True)
