"""Statistics of real images' features, kept in the cache folder, since they cost as much as those of a generator."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from labels4free.checkpoints.model_zoo import cache_dir
from labels4free.checkpoints.native import read_native_header, read_tensors, write_native
from labels4free.errors import CheckpointError
from labels4free.evaluation.generators.streams import stream_features
from labels4free.metrics.distributions import Moments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from labels4free.evaluation.generators.feature_nets import FeatureNet
    from labels4free.evaluation.generators.streams import ImageSequence, StoredImages

_log = logging.getLogger(__name__)

_KIND = "reference_statistics"
_VERSION = 1  # counts changes of how real images are read


@dataclass
class Statistics:
    """What is known of a set of images' features.

    Attributes:
        moments: Their mean and covariance.
        features: The vectors themselves, [N, F], where they are wanted.
    """

    moments: Moments
    features: Tensor | None = None


def reference_statistics(
    images: StoredImages,
    nets: Sequence[FeatureNet],
    *,
    keep_features: bool = False,
    batch_size: int = 8,
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> list[Statistics]:
    """Statistics of real images, from the cache folder if they are there, else computed and put there.

    They are kept by the hash of the images' names and sizes, the resolution, the number of images and the network.

    Args:
        images: The real images.
        nets: The networks.
        keep_features: Also give the feature vectors.
        batch_size: Images at once.
        workers: Processes, for CPUs.
        progress: Called with the number of images that were done, batch by batch; all at once where they are kept.

    Returns:
        One for each network.

    Raises:
        DataError: If images cannot be read.
    """
    found = {
        net.identity: known for net in nets if (known := _read(_file(images, net), net, with_features=keep_features))
    }
    missing = [net for net in nets if net.identity not in found]
    if missing:
        made = compute_statistics(
            images, missing, keep_features=keep_features, batch_size=batch_size, workers=workers, progress=progress
        )
        for net, statistics in zip(missing, made, strict=True):
            found[net.identity] = statistics
            _write(_file(images, net), net, statistics)
    elif progress is not None:
        progress(len(images))
    return [found[net.identity] for net in nets]


def compute_statistics(
    images: ImageSequence,
    nets: Sequence[FeatureNet],
    *,
    keep_features: bool = False,
    batch_size: int = 8,
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> list[Statistics]:
    """Statistics of any images, without the cache; arguments and results as for :func:`reference_statistics`."""
    moments = [Moments(net.width) for net in nets]
    kept: list[list[Tensor]] = [[] for _ in nets]
    for batch in stream_features(images, nets, batch_size=batch_size, workers=workers):
        for k, features in enumerate(batch):
            moments[k].add(features)
            if keep_features:
                kept[k].append(features)
        if progress is not None:
            progress(len(batch[0]))
    return [Statistics(m, torch.cat(parts) if parts else None) for m, parts in zip(moments, kept, strict=True)]


def _file(images: StoredImages, net: FeatureNet) -> Path:
    key: Mapping[str, Any] = {
        "images": images.store.source.content_hash(),
        "resolution": images.store.resolution,
        "count": len(images),
        "net": net.identity,
        "version": _VERSION,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_dir() / "statistics" / f"{digest}.safetensors"


def _read(path: Path, net: FeatureNet, *, with_features: bool) -> Statistics | None:
    """What is kept; None if nothing is, or less than is wanted."""
    try:
        count = read_native_header(path, _KIND).config["count"]
        tensors = read_tensors(path, _KIND)
        moments = Moments(net.width)
        moments.count, moments.mean, moments.scatter = int(count), tensors["mean"], tensors["scatter"]
    except (CheckpointError, KeyError):
        return None
    if with_features and "features" not in tensors:
        return None
    return Statistics(moments, tensors.get("features"))


def _write(path: Path, net: FeatureNet, statistics: Statistics) -> None:
    """Keep statistics; where the disk does not take them they are computed again the next time."""
    m = statistics.moments
    state = {"mean": m.mean, "scatter": m.scatter}
    if statistics.features is not None:
        state["features"] = statistics.features
    try:
        write_native(path, kind=_KIND, family=net.title, config={"count": m.count}, state=state)
    except CheckpointError as error:
        _log.warning("The statistics of the real images are not kept: %s", error)
