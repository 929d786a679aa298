"""What every test shares: one thread, a tiny generator, and the data folder beside the repository."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.small_segmenters import red_segmenter, write_segmenter
from tests.tiny import tiny_generator as build_tiny_generator

pytest.register_assert_rewrite(
    "tests.generators.contract", "tests.generators.trainable_contract", "tests.networks.contract"
)
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in a shell's background does not have
torch.set_num_threads(1)  # more are slower on maps this small, and sums must not depend on the machine
settings.register_profile("labels4free", deadline=None, derandomize=True, max_examples=50, database=None)
settings.load_profile("labels4free")

SHARED = Path(__file__).resolve().parents[2] / "shared"

SLOW_FIXTURES = {
    "fitted", "lost", "pair", "parity", "reals", "red_onnx", "resume", "train", "whole", "whole_members",
    "whole_restarted", "words", "zoo_generator", "zoo_wheel",
}  # fmt: skip
"""What takes seconds to make or to use: whole runs, a second process, real networks."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ask for one of them as slow."""
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository: skips without it, fails without it where CI=true."""
    if not SHARED.is_dir():
        reason = "needs the folder `shared` beside the repository"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return SHARED


@pytest.fixture(scope="session")
def tiny_generator():
    """A 64x64 MobileStyleGAN. Shared by all tests: to change it, build your own with tests.tiny.tiny_generator."""
    return build_tiny_generator()


@pytest.fixture(scope="session")
def red_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The native file of a segmenter that finds what is red or white."""
    return write_segmenter(tmp_path_factory.mktemp("segmenter") / "red.safetensors", red_segmenter())


@pytest.fixture(scope="session")
def red_onnx(red_file: Path) -> Path:
    """The same, exported."""
    from labels4free.export import export_onnx

    return export_onnx(red_file, red_file.with_suffix(".onnx")).path
