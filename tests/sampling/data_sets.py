"""Small data sets: a tiny generator, whose objects are soft discs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.soft_disc import SoftDisc
from tests.tiny import tiny_generator

from labels4free.layered import LayeredGenerator
from labels4free.sampling.config import SampleConfig
from labels4free.sampling.dataset import sample_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from labels4free.sampling.summary import SampleSummary

ALL = ("image", "alpha", "mask", "composite", "background", "cutout", "latents")

CALL = {"partition", "progress", "generator_name", "alpha_name"}


def discs(**settings: float) -> LayeredGenerator:
    """The generator and its discs."""
    return LayeredGenerator(tiny_generator(), SoftDisc(**settings)).eval()


def sample(out: Path, num: int, layered: LayeredGenerator | None = None, **settings: Any) -> SampleSummary:
    """Sample candidates into shards of two.

    Args:
        out: The folder.
        num: How many.
        layered: Of :func:`discs` by default.
        settings: Of the configuration; those of :data:`CALL` are arguments of the call.
    """
    call = {name: settings.pop(name) for name in CALL & settings.keys()}
    return sample_dataset(layered or discs(), out, num, SampleConfig(**{"shard_size": 2} | settings), **call)
