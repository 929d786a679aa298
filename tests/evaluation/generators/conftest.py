from __future__ import annotations

import pytest
from tests.evaluation.generators.small_nets import SmallNet, write_images
from tests.tiny import tiny_stylegan2


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache, and nothing looked at yet."""
    monkeypatch.setenv("LABELS4FREE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(SmallNet, "looked_at", 0)
    return tmp_path / "cache" / "statistics"


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of 40 images of 64 pixels."""
    return write_images(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def generator():
    return tiny_stylegan2()
