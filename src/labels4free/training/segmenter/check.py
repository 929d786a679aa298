"""Is this segmenter getting good? Measured on pairs that it never learned from, and on photos without labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from labels4free.metrics import masks as metrics
from labels4free.metrics.label_free import mask_numbers
from labels4free.metrics.masks import soft_agreement
from labels4free.seeds import SeededRandom, derive_seed
from labels4free.training.segmenter.augmentation.augment import Example, training_example
from labels4free.training.segmenter.augmentation.photo_effects import toned
from labels4free.training.segmenter.pseudo_labels import predict_with_tta
from labels4free.training_loop.contracts import Check

if TYPE_CHECKING:
    from torch import Tensor

    from labels4free.data.images.photos import PhotoStore
    from labels4free.networks.segmenter import SegmenterNetwork
    from labels4free.training.segmenter.augmentation.augment import Pictures
    from labels4free.training.segmenter.config import SegmenterConfig
    from labels4free.training.segmenter.pair_cache import PairCache

_CHECK = 0xC4EC  # draws of the check, none of the training's
_USELESS = 0.5  # mean IoU that a mask which is the same everywhere cannot exceed
_LIGHT = 0.3


def checked_example(held_out: PairCache, config: SegmenterConfig, index: int, pictures: Pictures | None) -> Example:
    """A validation pair that is held out, augmented by seeds that never change."""
    seed = derive_seed(config.seed, _CHECK)
    return training_example(held_out, config.augmentation, seed, index, pictures=pictures, example=held_out[index])


@torch.no_grad()
def check_segmenter(
    network: SegmenterNetwork,
    held_out: PairCache,
    config: SegmenterConfig,
    pictures: Pictures | None = None,
    photos: PhotoStore | None = None,
) -> Check:
    """Validate a segmenter on held-out pairs.

    Args:
        network: In evaluation mode.
        held_out: Pairs that it is not trained on.
        config: Settings of the run.
        pictures: Backgrounds of the user.
        photos: Unlabelled photos, of which the first ``monitor.photos`` are looked at.

    Returns:
        The numbers of :func:`mask_numbers`, and ``teacher_miou``, mean IoU with the masks of the pairs kept apart, in
        [0, 1]; ``augmented_miou``, the same where those pairs are augmented as in training, by draws that never change,
        which is the ``score``; ``teacher_error``, mean absolute difference of alpha from theirs on those; and
        ``agreement_tta``, agreement of alpha with that of the same images mirrored and in another light;
        ``agreement_photos``, of unlabelled photos with test-time augmentations of them, where there are photos.
    """
    plain = [held_out[index] for index in range(len(held_out))]
    changed = [checked_example(held_out, config, index, pictures) for index in range(len(held_out))]
    lit = [toned(x.image, SeededRandom(config.seed, _CHECK, index), _LIGHT) for index, x in enumerate(plain)]
    alpha, on_changed, on_lit, mirrored = (
        torch.cat([network_alpha(network, image) for image in images])
        for images in (
            [x.image for x in plain],
            [x.image for x in changed],
            lit,
            [x.image.flip(-1) for x in plain],
        )
    )
    taught, taught_changed = (torch.cat([x.alpha for x in examples]) for examples in (plain, changed))
    augmented_miou = _miou(on_changed, taught_changed)
    augmentations = [soft_agreement(alpha, on_lit), soft_agreement(alpha, mirrored.flip(-1))]
    numbers = {
        **mask_numbers(alpha),
        "score": augmented_miou,
        "teacher_miou": _miou(alpha, taught),
        "augmented_miou": augmented_miou,
        "teacher_error": float((on_changed - taught_changed).abs().mean()),
        "agreement_tta": sum(augmentations) / len(augmentations),
    }
    if photos is not None and config.monitor.photos:
        count = min(len(photos), config.monitor.photos)
        seen = [predict_with_tta(network, photos.photo(index), config.size).agreement for index in range(count)]
        numbers["agreement_photos"] = sum(seen) / count
    return Check(numbers, _problem(numbers))


def network_alpha(network: SegmenterNetwork, image: Tensor) -> Tensor:
    """Alpha [N, 1, S, S] of images [N, 3, S, S], on the CPU."""
    device = next(network.parameters()).device
    logits: Tensor = network(image.to(device).contiguous(memory_format=torch.channels_last))
    return logits.float().sigmoid().cpu()


def _miou(alpha: Tensor, taught: Tensor) -> float:
    return float(metrics.mean_iou(metrics.pool(metrics.count(alpha > 0.5, taught > 0.5))))


def _problem(numbers: dict[str, float]) -> str | None:
    if not all(math.isfinite(value) for value in numbers.values()):
        return "the masks are not finite numbers"
    if numbers["teacher_miou"] < _USELESS:
        return (
            f"the masks are no better than one that is the same everywhere (mean IoU {numbers['teacher_miou']:.3f} "
            "with the pairs')"
        )
    return None
