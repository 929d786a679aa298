"""A generator's training that is stopped or killed ends in the same bits as one that is left alone."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import pytest
from tests.folders import content
from tests.tiny_generator_run import COUNT, SETTINGS, SIDE, STEPS, assert_same, changed, write_images
from tests.tiny_run import Killed, killing, signalling

from labels4free.checkpoints.loading import load_generator
from labels4free.checkpoints.native import read_native_header
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import ConfigError
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.generator.run import train_generator
from labels4free.training.generator.trainer import GeneratorTrainer
from labels4free.training_loop.resume import to_run_json
from labels4free.training_loop.run_dir import RunDir

pytestmark = pytest.mark.slow

GENERATOR, SNAPSHOT = "generator.safetensors", "snapshot.safetensors"


# While it goes on


def test_a_snapshot_of_the_average_while_it_goes_on(train, tmp_path):
    run = tmp_path / "run"
    train(progress=signalling(signal.SIGTERM, iteration=2))
    assert not (run / SNAPSHOT).exists()  # no check yet
    train(None, resume=True, progress=signalling(signal.SIGTERM, iteration=4))
    info = read_native_header(run / SNAPSHOT, "generator").info
    assert (info["kept_step"], info["source"]["count"]) == (3, COUNT)
    generator = load_generator(run / SNAPSHOT)
    assert generator.resolution == SIDE
    assert list(generator.parameters()) == []
    train(None, resume=True)
    assert not (run / SNAPSHOT).exists()


@pytest.mark.parametrize(
    ("number", "iteration"),
    [(signal.SIGTERM, 1), (signal.SIGINT, 2), (signal.SIGTERM, 3), (signal.SIGINT, STEPS - 1)],
)
def test_interrupted_it_goes_on_bit_for_bit(train, tmp_path, whole, number, iteration):
    stopped = train(progress=signalling(number, iteration=iteration))
    assert (stopped.interrupted, stopped.file) == (number.name, None)
    assert (stopped.steps, stopped.total) == (iteration, STEPS)
    assert RunDir(tmp_path / "run").latest_checkpoint().step == iteration
    assert not (tmp_path / "run" / GENERATOR).exists()
    assert train(None, resume="auto").check == whole["result"].check
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("iteration", [1, 2, 3, 5, STEPS])
def test_killed_it_goes_on_bit_for_bit(train, tmp_path, whole, iteration):
    with pytest.raises(Killed):
        train(progress=killing(iteration))
    checkpoint = RunDir(tmp_path / "run").latest_checkpoint()
    assert (checkpoint.step if checkpoint else 0) == (iteration - 1) // 2 * 2
    train(None, resume=True)
    assert_same(tmp_path / "run", whole)


def test_killed_at_every_write_and_resumed(train, whole, tmp_path, monkeypatch):
    """Each file appears by renaming; the process dies just before one of them, in turn."""
    rename, writes = Path.replace, []

    def fatal(path, target):
        writes.append(Path(target).name)
        if len(writes) == fatal.at:
            raise Killed
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", fatal)
    fatal.at = 0
    train(out="counted")
    names = list(writes)
    assert names[-1] == GENERATOR
    assert {SNAPSHOT, "generator.discriminator.safetensors", "config.json", "step_000002.pt"} < set(names)
    for fatal.at in range(1, len(names) + 1):
        writes.clear()
        out = f"killed_{fatal.at}_{names[fatal.at - 1]}"
        with pytest.raises(Killed):
            train(out=out)
        fatal.at = 0
        train(None if (tmp_path / out / "config.json").exists() else SETTINGS, out=out, resume="auto")
        assert_same(tmp_path / out, whole)


@pytest.mark.parametrize("iteration", [None, 3, STEPS + 1])
def test_lengthened_it_is_the_longer_run(train, tmp_path, iteration):
    longer = changed(images=SETTINGS.images + 8)
    train(longer, out="longer")
    train(progress=signalling(signal.SIGTERM, iteration=iteration) if iteration == 3 else None)
    if iteration == STEPS + 1:  # interrupted after it was lengthened
        stopped = train(longer, resume=True, progress=signalling(signal.SIGTERM, iteration=iteration))
        assert (stopped.steps, stopped.total) == (STEPS + 1, STEPS + 2)
        assert load_generator(tmp_path / "run").resolution == SIDE  # the shorter run's is there until then
        train(None, resume=True)
    else:
        train(longer, resume=True)
    assert state_hash(load_generator(tmp_path / "run")) == state_hash(load_generator(tmp_path / "longer"))
    assert RunDir(tmp_path / "run").config()["train"]["images"] == longer.images
    with pytest.raises(ConfigError, match=r"has images=.* \(asked for: .*\)\. Start a new run"):
        train(resume=True)  # no run is shortened


def test_killed_before_the_snapshot_is_dropped(train, whole, tmp_path, monkeypatch):
    unlink = Path.unlink

    def fatal(path, **options):
        if path.name == SNAPSHOT:
            raise Killed
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fatal)
        with pytest.raises(Killed):
            train()
    train(None, resume=True)
    assert_same(tmp_path / "run", whole)


# Going on


def test_a_finished_run_is_left_alone(train, tmp_path, whole, monkeypatch, caplog):
    first = train()
    before = content(tmp_path / "run")
    monkeypatch.setattr(GeneratorTrainer, "step", None)
    with caplog.at_level(logging.INFO, "labels4free"):
        for config in (None, SETTINGS):
            assert train(config, resume=True) == first
    assert f"The run in {tmp_path / 'run'} is finished: nothing is left to do." in caplog.messages
    assert content(tmp_path / "run") == before


def test_a_resumed_run_keeps_its_settings(train, tmp_path):
    train(progress=signalling(signal.SIGTERM, iteration=3))
    before = content(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"has images=24 \(asked for: 20\)"):
        train(changed(images=20), resume=True)
    assert content(tmp_path / "run") == before


def test_a_run_keeps_its_images(train, tmp_path):
    own = write_images(tmp_path / "own")
    train(images=own, progress=signalling(signal.SIGTERM, iteration=3))
    for change in ((own / "000.png").unlink, lambda: write_images(own / "more", 3)):
        change()
        with pytest.raises(ConfigError) as caught:
            train(None, images=own, resume=True)
        assert str(caught.value) == (
            f"{tmp_path / 'run'} was started on {own} as it was then, not on {own} as it is now: give those images, or "
            "start a new run."
        )


def test_images_may_have_moved(train, tmp_path):
    own = write_images(tmp_path / "own")
    train(images=own, progress=signalling(signal.SIGTERM, iteration=3))
    moved = own.rename(tmp_path / "moved")
    assert train(None, images=moved, resume=True).file is not None


def test_an_alpha_networks_run_is_no_generators(images, tmp_path):
    RunDir.create(tmp_path / "run", {"generator": {"name": "g", "state_hash": "1"}, **to_run_json(TrainConfig())})
    with pytest.raises(ConfigError, match="run: recipe must be one of stylegan2, got 'replay'"):
        train_generator(images, tmp_path / "run", resume=True)
