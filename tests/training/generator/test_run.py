from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.folders import content
from tests.tiny import tiny_generator
from tests.tiny_generator_run import COUNT, SETTINGS, SIDE, STEPS, changed, outcome, write_images
from tests.tiny_run import Killed, killing, signalling, write_generator

from labels4free.checkpoints.loading import load_discriminator, load_generator
from labels4free.checkpoints.native import read_native_header
from labels4free.checkpoints.state_hash import state_hash
from labels4free.data.images.dataset import open_images
from labels4free.errors import CheckpointError, ConfigError, DataError, RunError
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.generator import recipe as recipe_module
from labels4free.training.generator.recipe import GeneratorRecipe
from labels4free.training.generator.run import explained, train_generator
from labels4free.training.generator.trainer import GeneratorTrainer
from labels4free.training_loop import distributed
from labels4free.training_loop.distributed import ProcessGroup
from labels4free.training_loop.resume import to_run_json
from labels4free.training_loop.run_dir import RunDir
from labels4free.watching.status import RunWatcher, State

pytestmark = pytest.mark.slow

GENERATOR, SNAPSHOT = "generator.safetensors", "snapshot.safetensors"
LEFT = [
    "checkpoints",
    "config.json",
    "generator.discriminator.safetensors",
    GENERATOR,
    "log.jsonl",
    "neighbours.png",
    "pictures",
]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture
def train(tmp_path, images):
    """Train in the folder ``run``."""

    def train(config=SETTINGS, images=images, out="run", **options):
        return train_generator(images, tmp_path / out, config, **options)

    return train


@pytest.fixture(scope="session")
def whole(tmp_path_factory, images):
    """What an uninterrupted run leaves."""
    run = tmp_path_factory.mktemp("whole") / "run"
    result = train_generator(images, run, SETTINGS)
    return {"result": result, **outcome(run)}


def assert_same(run, whole):
    for name, value in outcome(run).items():
        assert value == whole[name], name


def state_of(run):
    """The state in the newest checkpoint of a run."""
    return RunDir(run).latest_checkpoint().state


# A whole run


def test_what_a_run_leaves(whole, images):
    result = whole["result"]
    run = result.file.parent
    assert whole["files"] == LEFT
    assert sorted(whole["pictures"]) == [f"restart_0_step_{step:06d}.png" for step in (3, 6)]
    assert (result.file.name, result.interrupted, result.restarts) == (GENERATOR, None, 0)
    assert (result.steps, result.total, result.kept_step) == (STEPS, STEPS, STEPS)
    checkpoints = run / "checkpoints" / "member_0" / "restart_0"
    assert sorted(p.name for p in checkpoints.iterdir()) == [f"step_{k:06d}.pt" for k in (2, 4, 6)]
    config = RunDir(run).config()
    assert (config["recipe"], config["train"]) == ("stylegan2", SETTINGS.to_json())
    assert (config["source"]["name"], config["source"]["count"]) == (str(images), COUNT)


def test_log_of_the_run(whole):
    log = [json.loads(line) for line in whole["log"].splitlines()]
    assert [entry["step"] for entry in log] == list(range(1, STEPS + 1))
    assert [entry["images"] for entry in log] == [4.0 * step for step in range(1, STEPS + 1)]
    assert ["r1" in entry for entry in log] == [True, False, False, True, False, False]
    assert ["path_length" in entry for entry in log] == [True, False] * 3
    assert ["check_diversity" in entry for entry in log] == [False, False, True] * 2
    assert all(math.isfinite(value) for entry in log for value in entry.values())
    found = whole["result"].check.numbers
    assert found.keys() == {"diversity", "swd", "score"}
    assert found["score"] == pytest.approx(1 / (1 + found["swd"]))
    assert {f"check_{name}": value for name, value in found.items()}.items() <= log[-1].items()


def test_the_average_is_what_is_saved(whole):
    generator = load_generator(whole["result"].file)
    assert list(generator.parameters()) == []
    average = state_of(whole["result"].file.parent)["average"]
    saved = generator.state_dict()
    differs = {name for name in saved if not torch.equal(saved[name], average[name])}
    assert differs == {"w_avg"}  # the mean latent is found in the end
    z = torch.randn(4000, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(generator.w_avg, generator.map(z)[:, 0].mean(0), atol=0.1, rtol=0)
    image = generator.synthesize(generator.map(z[:2])).image
    assert image.shape == (2, 3, SIDE, SIDE)
    info = read_native_header(whole["result"].file, "generator").info
    assert info["train"] == SETTINGS.to_json()
    assert info["health"] == whole["result"].check.numbers
    assert (info["steps"], info["restarts"], info["source"]["count"]) == (STEPS, 0, COUNT)


def test_the_discriminator_lies_beside_the_generator(whole):
    path = whole["result"].file
    discriminator = load_discriminator(path)
    assert state_hash(discriminator) == state_hash(load_discriminator(path.parent / LEFT[2]))
    trained = state_of(path.parent)["discriminator"]
    assert all(torch.equal(value, trained[name]) for name, value in discriminator.state_dict().items())
    info = read_native_header(path.parent / LEFT[2], "discriminator").info
    assert info["generator"]["state_hash"] == state_hash(load_generator(path))


def test_pictures_and_neighbours(whole):
    run = whole["result"].file.parent
    for path in (*(run / "pictures").iterdir(), run / "neighbours.png"):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.std() > 20
        assert min(pixels.shape[:2]) > 3 * SIDE
    first, last = (whole["pictures"][name] for name in sorted(whole["pictures"]))
    assert first != last


def test_neighbours_are_the_nearest_real_ones(train, images, monkeypatch):
    """A generator that makes real images stands beside them."""

    shown = []
    monkeypatch.setattr(recipe_module, "contact_sheet", lambda rows, titles, cell: shown.append(rows))
    store = open_images(images, SIDE)
    recipe = GeneratorRecipe(store, SETTINGS)

    class Copying:
        @staticmethod
        def sample(count):
            return torch.stack([store[3 * k] + 0.01 for k in range(count)])

    recipe.neighbours(Copying())
    assert len(shown[0]) == 8
    for k, (made, nearest, *others) in enumerate(shown[0]):
        assert torch.equal(nearest, store[3 * k])
        distances = [float((made - image).norm()) for image in (nearest, *others)]
        assert distances == sorted(distances)
        assert len(others) == 2


def test_the_same_run_twice_is_the_same_to_the_bit(train, whole, tmp_path):
    torch.manual_seed(12345)
    train()
    assert_same(tmp_path / "run", whole)


def test_another_seed_is_another_run(train, whole, tmp_path):
    train(changed(seed=1))
    found = outcome(tmp_path / "run")
    assert found["log"] != whole["log"]
    assert found["generator"] != whole["generator"]


def test_mirrored_images_are_other_ones(train, whole, tmp_path):
    train(changed(mirror=True))
    assert outcome(tmp_path / "run")["generator"] != whole["generator"]


@pytest.mark.xfail(strict=True, reason="watching/status.py takes the setting `loss`, a word, for a section")
def test_it_can_be_watched(whole, images):
    status = RunWatcher(whole["result"].file.parent).look()
    assert (status.state, status.recipe, *status.progress[4:6]) == (State.FINISHED, "stylegan2", STEPS, STEPS)
    assert {"diversity", "swd"} <= {judged.name for judged in status.checks}


def test_it_says_what_the_formulas_made_of_the_settings(train, caplog):
    with caplog.at_level(logging.INFO, "labels4free"):
        train(progress=signalling(signal.SIGINT, iteration=1))
        train(None, resume=True)
    assert caplog.messages.count(explained(SETTINGS)) == 1  # not again where it goes on
    assert explained(SETTINGS) == (
        "24 images of 16x16 in batches of 4: discriminator.r1_gamma=0.0128, generator.learning_rate=0.0025, "
        "generator.ema_half_life=1250 images."
    )


def test_of_all_images_the_compared_ones_are_some(train, images):

    store = open_images(images, SIDE)
    compared = GeneratorRecipe(store, SETTINGS).trainer().compared
    assert compared.shape == (20, 3, SIDE, SIDE)
    every = {tuple(image.flatten().tolist()) for image in store}
    assert len({tuple(image.flatten().tolist()) for image in compared} & every) == 20
    assert torch.equal(compared, GeneratorRecipe(store, SETTINGS).trainer(1).compared)


# While it goes on


def test_a_snapshot_of_the_average_while_it_goes_on(train, tmp_path):
    run = tmp_path / "run"
    train(progress=signalling(signal.SIGTERM, iteration=2))
    assert not (run / SNAPSHOT).exists()  # no check yet
    train(None, resume=True, progress=signalling(signal.SIGTERM, iteration=4))
    info = read_native_header(run / SNAPSHOT, "generator").info
    assert (info["images"], info["source"]["count"]) == (12, COUNT)
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


# What is kept


def test_the_best_check_s_average_may_be_kept(train, tmp_path, monkeypatch):
    """The best is the first; the discriminator and the sheet of neighbours belong to it, too."""
    check = GeneratorTrainer.check

    def first_is_best(self):
        found = check(self)
        return dataclasses.replace(found, numbers=found.numbers | {"score": 1 - self.iteration / 100})

    def neighbours(self, trainer):
        shown.append(trainer.kept.constant.clone())
        return draw(self, trainer)

    shown, draw = [], GeneratorRecipe.neighbours
    monkeypatch.setattr(GeneratorTrainer, "check", first_is_best)
    monkeypatch.setattr(GeneratorRecipe, "neighbours", neighbours)
    result = train(changed(checks={"keep": "best", "grace": 0}))
    assert result.kept_step == 3
    run = tmp_path / "run"
    generator = load_generator(result.file)
    best = state_of(run)["best"]["network"]
    assert torch.equal(generator.constant, best["constant"])
    assert not torch.equal(generator.constant, state_of(run)["average"]["constant"])
    assert torch.equal(shown[0], best["constant"])
    info = read_native_header(run / "generator.discriminator.safetensors").info
    assert info["generator"]["state_hash"] == state_hash(generator)


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
    assert read_native_header(tmp_path / "run" / SNAPSHOT).info["images"] == 12  # that of the check before


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
    with pytest.raises(ConfigError, match=r"has images=24 \(asked for: 28\)"):
        train(changed(images=28), resume=True)
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


# Bad input


@pytest.mark.parametrize(
    ("count", "changes", "error", "said"),
    [
        (
            19,
            {"checks": {"samples": 10}},
            DataError,
            "has 19 images; a generator cannot learn from fewer than 20, and hardly from fewer than 300: give more",
        ),
        (
            22,
            {"checks": {"samples": 23}},
            DataError,
            "has 22 images, but the checks compare 23: give more, or set checks.samples to 22 or less",
        ),
        (20, {"discriminator": {"frozen_blocks": 3}}, ConfigError, "frozen_blocks must be below 3"),
        (20, {"pretrained": "nothing"}, CheckpointError, "nothing is neither a file nor a model of the zoo"),
        (20, {"precision": "float16"}, ConfigError, "float16"),
    ],
)
def test_nothing_is_left_of_a_run_that_cannot_begin(train, tmp_path, count, changes, error, said):
    own = write_images(tmp_path / "own", count)
    with pytest.raises(error, match=said):
        train(changed(**changes), images=own)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("folder", "said"), [("none", "does not exist"), ("empty", "no image files in it")])
def test_no_images(train, tmp_path, folder, said):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=said):
        train(images=tmp_path / folder)
    assert not (tmp_path / "run").exists()


def test_few_images_are_warned_of(train, tmp_path, images, caplog):
    caplog.set_level(logging.WARNING, "labels4free")
    stop = signalling(signal.SIGINT, iteration=1)
    train(progress=stop)
    (said,) = caplog.messages
    assert said == (
        f"{images} has only {COUNT} images: a generator of few images repeats them. Begin with a trained one "
        "(--pretrained), which needs far fewer."
    )
    caplog.clear()
    enough = write_images(tmp_path / "enough", 300)
    train(images=enough, out="enough_run", progress=stop)
    assert caplog.messages == []


def test_with_a_trained_one_few_images_are_no_matter(train, whole, caplog):
    parent = str(whole["result"].file)
    with caplog.at_level(logging.INFO, "labels4free"):
        result = train(changed(pretrained=parent))
    assert result.file is not None
    assert [m for m in caplog.messages if "begins as" in m] == [
        f"The generator begins as that of {parent}.",
        f"The discriminator begins as that of {parent}.",
    ]
    assert not [message for message in caplog.messages if "only" in message]


def test_what_a_transfer_begins_with_is_said_once(train, whole, caplog):
    config = changed(pretrained=str(whole["result"].file))
    with caplog.at_level(logging.INFO, "labels4free"):
        train(config, progress=signalling(signal.SIGTERM, iteration=2))
        train(None, resume=True)
    assert len([message for message in caplog.messages if "begins as" in message]) == 2


def test_a_generator_of_another_family_is_not_begun_with(train, tmp_path):
    path = write_generator(tmp_path / "g.safetensors", tiny_generator())
    with pytest.raises(CheckpointError, match="holds a generator of the family mobile_stylegan; training begins with"):
        train(changed(pretrained=str(path)))


def test_unreadable_images_are_skipped(train, tmp_path, caplog):
    own = write_images(tmp_path / "own", 22)
    (own / "none.jpg").write_text("no image")
    (own / "007.png").write_bytes((own / "007.png").read_bytes()[:60])
    train(images=own)
    assert "none.jpg" in caplog.text
    assert "007.png" in caplog.text


def test_micro_batches_that_cannot_be_shared(images, monkeypatch):

    monkeypatch.setattr(distributed, "_group", ProcessGroup(0, 2))
    store = open_images(images, SIDE)
    GeneratorRecipe(store, changed(accumulation=4))
    with pytest.raises(ConfigError) as caught:
        GeneratorRecipe(store, SETTINGS)
    assert str(caught.value) == (
        "2 processes cannot share 1 micro-batches evenly: set accumulation to a multiple of 2."
    )
