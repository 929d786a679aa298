"""Two processes train the generator that one process trains: the same losses, weights, checks and files."""

from __future__ import annotations

import copy
import os
import signal

import pytest
import torch
from tests.tiny_generator_run import STEPS, changed, generator_trainer, outcome, write_images
from tests.two_processes import results

from labels4free.errors import ConfigError
from labels4free.training.generator.run import train_generator
from labels4free.training.generator.trainer import GeneratorTrainer
from labels4free.training_loop.distributed import AlreadySaid, ProcessGroup
from labels4free.training_loop.run_dir import RunDir

ALONE = ProcessGroup()
NEAR = {"rtol": 1e-3, "atol": 1e-4}
CONFIG = changed(accumulation=2)


def steps(group, changes, count):
    trainer = generator_trainer(**changes)
    logs = [trainer.step() for _ in range(count)]
    return logs, copy.deepcopy(trainer.state_dict())


@pytest.mark.parametrize(
    "changes",
    [{}, {"loss": "relativistic", "discriminator": {"r2": True, "frozen_blocks": 1}}],
    ids=["plain", "relativistic"],
)
def test_the_steps(pair, changes):
    changes = changes | {"accumulation": 2}
    expected_logs, expected = steps(ALONE, changes, 3)
    (logs, state), (others_logs, other) = results(pair(steps, changes, 3))
    assert logs == others_logs
    for ours, theirs in zip(logs, expected_logs, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    for part in ("network", "average", "discriminator"):
        torch.testing.assert_close(state[part], expected[part], **NEAR)
        torch.testing.assert_close(state[part], other[part], rtol=0, atol=0)
    assert state["augmenter"] == expected["augmenter"]
    assert state["mean_path_length"] == other["mean_path_length"]
    assert state["mean_path_length"] == pytest.approx(expected["mean_path_length"], rel=1e-3)


def trained(group, images, out, config=None, stop=None):
    """Train; ``stop`` is (rank, iteration): a signal comes there."""
    step = GeneratorTrainer.step

    def stepping(self):
        if (group.rank, self.iteration) == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GeneratorTrainer, "step", stepping)
        return train_generator(images, out, config, resume="auto")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data") / "images")


def test_a_run(pair, images, tmp_path):
    first, second = results(pair(trained, images, tmp_path / "two", CONFIG))
    assert first == second
    alone = trained(ALONE, images, tmp_path / "one", CONFIG)
    assert first.check.numbers == pytest.approx(alone.check.numbers, rel=1e-3)
    ours, theirs = outcome(tmp_path / "two"), outcome(tmp_path / "one")
    assert ours["files"] == theirs["files"]
    log = RunDir(tmp_path / "one").read_log()
    for entry, expected in zip(RunDir(tmp_path / "two").read_log(), log, strict=True):
        assert entry == pytest.approx(expected, rel=1e-3, abs=1e-4)
    # stopped and gone on with, it is the same to the bit
    out = tmp_path / "stopped"
    stopped = results(pair(trained, images, out, CONFIG, (1, 2)))
    assert [(r.interrupted, r.steps, r.total) for r in stopped] == [("SIGTERM", 3, STEPS)] * 2
    results(pair(trained, images, out))
    assert outcome(out) == ours


def test_other_images_in_one_of_them(pair, images, tmp_path):
    others = write_images(tmp_path / "others", 25)
    outcomes = pair(trained_on_own, [images, others], tmp_path / "run")
    assert all(isinstance(outcome, Exception) for outcome in outcomes)
    assert not (tmp_path / "run").exists()


def trained_on_own(group, images, out):
    return train_generator(images[group.rank], out, CONFIG)


def test_micro_batches_that_cannot_be_shared(pair, images, tmp_path):
    first, second = pair(trained, images, tmp_path / "run", changed())
    assert {type(first), type(second)} == {ConfigError, AlreadySaid}  # one of them says it
    assert str(first) == str(second)
    assert str(first) == "2 processes cannot share 1 micro-batches evenly: set accumulation to a multiple of 2."
    assert not (tmp_path / "run").exists()
