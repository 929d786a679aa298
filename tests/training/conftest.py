"""Training runs of the tiny generator."""

from __future__ import annotations

import dataclasses
import os

import pytest
from tests.tiny_run import SETTINGS, any_masks_serve, whole_run
from tests.two_processes import Pair

from labels4free.training.alpha.run import train_alpha_network
from labels4free.training.alpha.trainer import AlphaTrainer


@pytest.fixture
def train(tiny_generator, tmp_path, monkeypatch):
    """Train the tiny generator in the folder ``run``, content with any masks; keywords may change all of that."""
    any_masks_serve(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power is cut here, and the disk takes its time

    def train(out="run", config=SETTINGS, generator=tiny_generator, **options):
        options.setdefault("generator_name", "tiny")
        return train_alpha_network(generator, tmp_path / out, config, **options)

    return train


@pytest.fixture(scope="session")
def pair():
    """Two processes."""
    with Pair() as pair:
        yield pair


@pytest.fixture(scope="session")
def whole(tiny_generator, tmp_path_factory):
    """What an uninterrupted run leaves."""
    return whole_run(tiny_generator, tmp_path_factory.mktemp("whole") / "run", SETTINGS)


@pytest.fixture(scope="session")
def whole_restarted(tiny_generator, tmp_path_factory):
    """What an uninterrupted run leaves whose first attempt is lost at step 4."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        lose(monkeypatch, {0})
        return whole_run(tiny_generator, tmp_path_factory.mktemp("restarted") / "run", SETTINGS)


@pytest.fixture
def lost(monkeypatch):
    """Attempts in the set are found lost at their check at step 4."""
    attempts: set[int] = set()
    lose(monkeypatch, attempts)
    return attempts


def lose(monkeypatch, attempts):
    """Have the check at step 4 find something wrong in these attempts."""
    check = AlphaTrainer.check

    def checked(self):
        health = check(self)
        if self.restart in attempts and self.alpha_step == 4:
            return dataclasses.replace(health, problem="the masks are empty (mean alpha 0.001)")
        return health

    monkeypatch.setattr(AlphaTrainer, "check", checked)
