"""Trainings of generators that are lost: collapses, and numbers that are none."""

from __future__ import annotations

import dataclasses
import logging
import math
import re

import pytest
from tests.tiny_generator_run import SIDE, changed

from labels4free.checkpoints.loading import load_generator
from labels4free.checkpoints.native import read_native_header
from labels4free.errors import RunError
from labels4free.training.generator.trainer import GeneratorTrainer
from labels4free.training_loop.run_dir import RunDir

pytestmark = pytest.mark.slow

GENERATOR, SNAPSHOT = "generator.safetensors", "snapshot.safetensors"


def state_of(run):
    """The state in the newest checkpoint of a run."""
    return RunDir(run).latest_checkpoint().state


# Collapse, and numbers that are none


COLLAPSING = changed(
    images=48,
    # Path lengths are drawn to 0, whatever else: in the end no image differs from another.
    generator={
        "learning_rate": 0.05,
        "path_length": 1e4,
        "path_length_interval": 1,
        "path_length_decay": 0.0,
        "ema_half_life": 0.0,
    },
    augmentation={"mode": "off"},
    checks={"grace": 0, "min_diversity": 0.5},
)


def test_a_collapse_ends_the_run_and_leaves_its_checkpoints(train, tmp_path):
    """A real one."""
    with pytest.raises(RunError) as caught:
        train(COLLAPSING)
    said = str(caught.value)
    run = tmp_path / "run"
    collapsed = "the generator has collapsed: its images differ from each other by 4.% of what real ones do, .* 50%"
    advice = (
        f"See {run / 'pictures'}; snapshot.safetensors, if there is one, is the last average whose check found nothing "
        "wrong. Try twice or half the discriminator.r1_gamma, or begin with --pretrained."
    )
    assert re.fullmatch(rf"Training was lost in attempt 1, the last: {collapsed}\. {re.escape(advice)}", said)
    assert RunDir(run).latest_checkpoint() is not None
    assert load_generator(run / SNAPSHOT).resolution == SIDE
    assert not (run / GENERATOR).exists()
    (lost,) = (entry for entry in RunDir(run).read_log() if "lost" in entry)
    assert lost["lost"] in said
    with pytest.raises(RunError, match="Training was lost in attempt 1, the last"):
        train(None, resume=True)


def collapse_at(monkeypatch, *steps):
    check = GeneratorTrainer.check

    def checked(self):
        problem = "the generator has collapsed: all the same" if (self.restart, self.iteration) in steps else None
        return dataclasses.replace(check(self), problem=problem)

    monkeypatch.setattr(GeneratorTrainer, "check", checked)


def test_the_snapshot_is_not_that_of_a_collapse(train, tmp_path, monkeypatch):
    collapse_at(monkeypatch, (0, 6))
    with pytest.raises(RunError, match="the generator has collapsed"):
        train(changed(images=32, checks={"grace": 0}))
    assert read_native_header(tmp_path / "run" / SNAPSHOT).info["kept_step"] == 3  # that of the check before


def test_within_the_grace_a_collapse_is_warned_of(train, monkeypatch, caplog):
    collapse_at(monkeypatch, (0, 3))
    with caplog.at_level(logging.WARNING, "labels4free"):
        assert train(changed(checks={"grace": 24})).restarts == 0
    assert "Step 3: the generator has collapsed: all the same; it may still turn." in caplog.messages


def test_it_may_start_over_with_more_of_the_penalty(train, tmp_path, monkeypatch, caplog):
    collapse_at(monkeypatch, (0, 3))
    config = changed(checks={"grace": 0, "max_restarts": 1})
    with caplog.at_level(logging.WARNING, "labels4free"):
        assert train(config).restarts == 1
    said = "Step 3: the generator has collapsed: all the same. Starting over (1 of 1), with a discriminator.r1_gamma of"
    assert [message for message in caplog.messages if message.startswith(said)] == [f"{said} 0.0256."]
    assert [entry["restart"] for entry in RunDir(tmp_path / "run").read_log() if "lost" in entry] == [0]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_checkpoint(train, tmp_path, monkeypatch, number):
    loss = GeneratorTrainer._generator_loss

    def broken(self, m):
        found, logs = loss(self, m)
        return (found * number if self.iteration == 4 else found), logs

    monkeypatch.setattr(GeneratorTrainer, "_generator_loss", broken)
    with pytest.raises(RunError, match=rf"The generator's loss is not finite \({number}\)\. See .*pictures; snapshot"):
        train()
    state = state_of(tmp_path / "run")
    assert state["iteration"] == 4
    for part in ("network", "average", "discriminator"):
        assert all(bool(value.isfinite().all()) for value in state[part].values())
    monkeypatch.undo()


def test_weights_that_are_no_numbers_end_the_run_whatever_the_grace(train, monkeypatch):
    step = GeneratorTrainer.step

    def broken(self):
        logs = step(self)
        if self.iteration == 3:
            self.kept.constant.data.fill_(math.nan)
        return logs

    monkeypatch.setattr(GeneratorTrainer, "step", broken)
    with pytest.raises(RunError, match="the generated images hold numbers that are not finite"):
        train()
