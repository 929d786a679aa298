"""Pairs and settings for segmenters that train in a second, for tests."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from labels4free.training.segmenter.augmentation.augment import Example
from labels4free.training.segmenter.augmentation.config import FRACTIONS, PairAugmentationConfig
from labels4free.training.segmenter.config import (
    NetworkConfig,
    OptimizerConfig,
    PairsConfig,
    SegmenterConfig,
    SegmenterMonitorConfig,
)

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 32

SETTINGS = SegmenterConfig(
    steps=4,
    batch_size=2,
    size=SIZE,
    checkpoint_interval=3,
    picture_interval=2,
    pairs=PairsConfig(num=6),
    network=NetworkConfig(width=2, detail_width=2, head_width=2),
    optimizer=OptimizerConfig(warmup_steps=1, ema_half_life=2.0),
    monitor=SegmenterMonitorConfig(interval=2, samples=2, photos=1, grace_steps=100),
)
"""Everything that happens in a long run happens in these four steps."""

OFF = PairAugmentationConfig(geometry=False, **dict.fromkeys(FRACTIONS, 0.0))
"""Nothing is changed."""


def changed(config: SegmenterConfig = SETTINGS, **changes: Any) -> SegmenterConfig:
    """Settings with changes: ``steps=9`` for a field, ``monitor={"interval": 2}`` for fields of a section."""
    for name, value in changes.items():
        if isinstance(value, dict):
            changes[name] = dataclasses.replace(getattr(config, name), **value)
    return dataclasses.replace(config, **changes)


def disc(size: int = SIZE, radius: float = 0.5, centre: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    """A disc with a soft edge, [1, 1, size, size] in [0, 1]; lengths in halves of the side, the centre as (x, y)."""
    at = (torch.arange(size) + 0.5) / size * 2 - 1
    distance = ((at[None, :] - centre[0]) ** 2 + (at[:, None] - centre[1]) ** 2).sqrt()
    return ((radius - distance) * size / 2 + 0.5).clamp(0, 1)[None, None]


def white_disc(**where: Any) -> Example:
    """A white disc on black, with its alpha."""
    alpha = disc(**where)
    return Example((alpha * 2 - 1).expand(1, 3, -1, -1), alpha, torch.ones_like(alpha))


class Discs:
    """Discs of several colours and places on noise."""

    def __init__(self, count: int = 8, size: int = SIZE) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = torch.Generator().manual_seed(index)
        colour, place = torch.rand(1, 3, 1, 1, generator=rng), torch.rand(2, generator=rng) * 0.4 - 0.2
        alpha = disc(self.size, 0.55, (float(place[0]), float(place[1])))
        behind = torch.rand(1, 3, self.size, self.size, generator=rng) - 1
        return Example(alpha * colour + (1 - alpha) * behind, alpha, torch.ones_like(alpha))


def write_pairs(folder: Path, count: int = 8, size: int = SIZE) -> Path:
    """Write :class:`Discs` as a folder of images and masks, without a manifest."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index, (image, alpha, _) in enumerate(Discs(count, size)):
        Image.fromarray(to_pixels(image)).save(folder / "images" / f"{index:05d}.png")
        mask = np.where(alpha[0, 0].numpy() > 0.5, 255, 0).astype(np.uint8)
        Image.fromarray(mask).save(folder / "masks" / f"{index:05d}.png")
    return folder


def write_photos(folder: Path, count: int = 3) -> Path:
    """Write photos of several shapes."""
    folder.mkdir(parents=True)
    for index in range(count):
        picture = Image.fromarray(to_pixels(Discs()[index].image))
        picture.resize((40 + 8 * index, 40)).save(folder / f"{index}.png")
    return folder


def to_pixels(image: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[1, 3, S, S] in [-1, 1] as uint8 [S, S, 3]."""
    return ((image[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
