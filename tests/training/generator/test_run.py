from __future__ import annotations

import dataclasses
import json
import logging
import math
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny_generator_run import COUNT, SETTINGS, SIDE, STEPS, assert_same, changed, outcome, write_images
from tests.tiny_run import signalling

from labels4free.checkpoints.loading import load_discriminator, load_generator
from labels4free.checkpoints.native import read_native_header
from labels4free.checkpoints.state_hash import state_hash
from labels4free.data.images.dataset import open_images
from labels4free.errors import DataError
from labels4free.training.generator import recipe as recipe_module
from labels4free.training.generator.recipe import GeneratorRecipe
from labels4free.training.generator.run import explained, train_generator
from labels4free.training.generator.trainer import GeneratorTrainer
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
    "training.webp",
]


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


def test_classes_by_sub_folder(tmp_path):
    for number, name in enumerate(("dog", "cat", "dog")):
        write_images(tmp_path / "images" / name / str(number), count=8)
    config = changed(classes=True, images=12)
    result = train_generator(tmp_path / "images", tmp_path / "run", config)
    generator, judge = load_generator(result.file), load_discriminator(result.file)
    assert (generator.c_dim, judge.c_dim) == (2, 2)
    looks = [generator.synthesize(generator.draw_ws(0, 0, label=label)).image for label in (0, 1)]
    assert not torch.equal(*looks)
    with pytest.raises(DataError, match="has a single class"):
        train_generator(tmp_path / "images" / "cat", tmp_path / "other", config)
