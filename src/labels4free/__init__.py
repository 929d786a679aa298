"""Foreground masks for free, out of a pretrained image generator that is never changed.

The public names are looked up on first use, so that importing the package (and ``labels4free --help``) does not import
PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labels4free.checkpoints.loading import load_alpha_network, load_generator
    from labels4free.data.pairs.formats import open_pairs
    from labels4free.errors import Labels4FreeError
    from labels4free.layered import LayeredGenerator
    from labels4free.sampling.dataset import sample_dataset
    from labels4free.segmenting.segmenter import Segmenter
    from labels4free.training.alpha.config import TrainConfig
    from labels4free.training.alpha.run import train_alpha_network
    from labels4free.training.generator.config import GeneratorConfig
    from labels4free.training.generator.run import train_generator
    from labels4free.training.segmenter.config import SegmenterConfig
    from labels4free.training.segmenter.run import train_segmenter

__version__ = "0.1.0"

__all__ = [
    "GeneratorConfig",
    "Labels4FreeError",
    "LayeredGenerator",
    "Segmenter",
    "SegmenterConfig",
    "TrainConfig",
    "__version__",
    "load_alpha_network",
    "load_generator",
    "open_pairs",
    "sample_dataset",
    "train_alpha_network",
    "train_generator",
    "train_segmenter",
]

_HOME = {
    "GeneratorConfig": "labels4free.training.generator.config",
    "Labels4FreeError": "labels4free.errors",
    "LayeredGenerator": "labels4free.layered",
    "Segmenter": "labels4free.segmenting.segmenter",
    "SegmenterConfig": "labels4free.training.segmenter.config",
    "TrainConfig": "labels4free.training.alpha.config",
    "load_alpha_network": "labels4free.checkpoints.loading",
    "load_generator": "labels4free.checkpoints.loading",
    "open_pairs": "labels4free.data.pairs.formats",
    "sample_dataset": "labels4free.sampling.dataset",
    "train_alpha_network": "labels4free.training.alpha.run",
    "train_generator": "labels4free.training.generator.run",
    "train_segmenter": "labels4free.training.segmenter.run",
}

if not TYPE_CHECKING:  # a type checker knows the names from above, and no others

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
