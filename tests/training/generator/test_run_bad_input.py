"""Images, settings and checkpoints that no generator can be trained on."""

from __future__ import annotations

import logging
import signal

import pytest
from tests.tiny import tiny_generator
from tests.tiny_generator_run import COUNT, SETTINGS, SIDE, changed, write_images
from tests.tiny_run import signalling, write_generator

from labels4free.data.images.dataset import open_images
from labels4free.errors import CheckpointError, ConfigError, DataError
from labels4free.training.generator.recipe import GeneratorRecipe
from labels4free.training_loop import distributed
from labels4free.training_loop.distributed import ProcessGroup

pytestmark = pytest.mark.slow

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
