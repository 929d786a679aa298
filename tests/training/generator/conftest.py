"""Runs of tiny generators: on drawn images, without waiting for the disk."""

from __future__ import annotations

import os

import pytest
from tests.tiny_generator_run import SETTINGS, outcome, write_images

from labels4free.training.generator.run import train_generator


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
