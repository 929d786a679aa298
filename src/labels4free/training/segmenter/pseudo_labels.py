"""A segmenter's own masks of unlabelled photos, where it is sure of them: what the next round learns from.

A photo is seen in several test-time augmentations: as it is, mirrored, and smaller. Their mean alpha is a better mask
than any of theirs, and where they differ nothing is known: such pixels count less, and photos with much of it not at
all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

from labels4free.metrics.masks import soft_agreement
from labels4free.ops.photo_scaling import working_copy
from labels4free.pictures.pixels import unit_to_uint8
from labels4free.training.segmenter.augmentation.augment import Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.data.images.photos import PhotoStore
    from labels4free.networks.segmenter import SegmenterNetwork
    from labels4free.training.segmenter.config import SelfTrainingConfig

_SMALLER = 0.75  # scale of the smaller copies
_CACHE_BYTES = 512 * 2**20


class TtaPrediction(NamedTuple):
    """A photo's mask by test-time augmentation (TTA).

    Attributes:
        image: [1, 3, S, S], in [-1, 1]: the photo at the upper left, its last row and column repeated.
        alpha: [1, 1, S, S]: the mean over the augmentations.
        spread: [1, 1, S, S], in [0, 0.5]: their standard deviation.
        inside: [1, 1, S, S]: 1 where the photo is, 0 where its edge is repeated.
        agreement: Mean agreement (:func:`labels4free.metrics.masks.soft_agreement`) of one augmentation with the mean,
            over the photo, in [0, 1].
    """

    image: Tensor
    alpha: Tensor
    spread: Tensor
    inside: Tensor
    agreement: float


@torch.no_grad()
def predict_with_tta(network: SegmenterNetwork, pixels: NDArray[np.uint8], size: int) -> TtaPrediction:
    """Segment a photo with test-time augmentation (TTA): at two sizes, each also mirrored.

    Args:
        network: In evaluation mode, on any device.
        pixels: [H, W, 3], uint8.
        size: Side S in pixels; the photo's longer side is scaled to it.

    Returns:
        The result, on the CPU.
    """
    values, (width, height) = working_copy(pixels, size, size)
    image = torch.from_numpy(values)
    device = next(network.parameters()).device
    smaller = max(network.multiple, round(_SMALLER * size / network.multiple) * network.multiple)
    augmentations = []
    for side in (size, smaller):
        x = image.to(device)
        if side != size:
            x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        for flipped in (False, True):
            logits = network(x.flip(-1)).flip(-1) if flipped else network(x)
            logits = logits.float()
            if side != size:
                logits = F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
            augmentations.append(logits.sigmoid().cpu())
    alphas = torch.cat(augmentations)
    inside = torch.zeros(1, 1, size, size)
    inside[..., :height, :width] = 1
    mean = alphas.mean(dim=0, keepdim=True)
    agreements = [soft_agreement(a[..., :height, :width], mean[0, :, :height, :width]) for a in alphas]
    spread = alphas.std(dim=0, correction=0, keepdim=True)
    return TtaPrediction(image, mean, spread, inside, sum(agreements) / len(agreements))


class PhotoLabels:
    """Pseudo-labels of photos by one network, each made when it is first asked for. Several threads may ask.

    Args:
        photos: The photos.
        network: Labels them; it must not change.
        config: Which labels are good enough.
    """

    def __init__(self, photos: PhotoStore, network: SegmenterNetwork, config: SelfTrainingConfig) -> None:
        self.photos, self.network, self.config = photos, network, config
        self._kept: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]] | None] = {}
        self._room = _CACHE_BYTES

    def __len__(self) -> int:
        return len(self.photos)

    def example(self, index: int) -> Example | None:
        """A photo with its label; None where the augmentations do not agree, or find all or nothing.

        Alpha is rounded to 8 bits. The weight is ``1 - 2 spread``, and 0 outside of the photo.
        """
        pixels = self.photos.photo(index)
        if index in self._kept:
            label = self._kept[index]
        else:
            label = self._label(pixels)
            self._keep(index, label)
        if label is None:
            return None
        size = self.photos.resolution
        image, _ = working_copy(pixels, size, size)
        alpha, weight = (torch.from_numpy(part.copy())[None, None].float() / 255 for part in label)
        return Example(torch.from_numpy(image), alpha, weight)

    def _label(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
        seen = predict_with_tta(self.network, pixels, self.photos.resolution)
        foreground_ratio = float((seen.alpha * seen.inside).sum() / seen.inside.sum())
        if seen.agreement < self.config.min_agreement:
            return None
        if not self.config.min_foreground_ratio <= foreground_ratio <= self.config.max_foreground_ratio:
            return None
        weight = (1 - 2 * seen.spread) * seen.inside
        return unit_to_uint8(seen.alpha[0, 0]), unit_to_uint8(weight[0, 0])

    def _keep(self, index: int, label: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None) -> None:
        needed = sum(part.nbytes for part in label) if label else 0
        if needed <= self._room:
            self._room -= needed
            self._kept[index] = label
