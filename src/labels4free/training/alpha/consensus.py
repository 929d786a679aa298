"""The consensus of several alpha networks that were trained on the same samples, as one network.

How good a network gets varies with its seed, and no number of its own tells (``docs/experiments.md``). What tells is
whether the others agree: their mistakes differ, what they have right does not. The consensus is a network as small as
any of them, which learns the mean of their alphas from the cache: as good as that mean, and as fast as one. The mean is
sharpened first: the members' masks are nearly binary, each with its border elsewhere; their mean's borders are wide.
"""

from __future__ import annotations

import copy
import statistics
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

from labels4free.metrics.masks import soft_agreement
from labels4free.seeds import generator_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from labels4free.networks.merge_network import MergeNetwork
    from labels4free.training.alpha.config import TrainConfig
    from labels4free.training.alpha.feature_cache import FeatureCache

_SHARPNESS = 4.0  # of the mean's logits: the consensus is then as binary as its members
_RATE = 2.0  # times the learning rate of training: learning from masks needs no caution
_DRAWS = 0xD157  # keeps these draws apart from those of training
_FAR = 0.05  # so far below the others' median: ten good seeds on faces lay within 0.03


class Consensus(NamedTuple):
    """The consensus of an ensemble: which members agree.

    Attributes:
        kept: Numbers of the members that are in the consensus.
        agreements: For every member, agreement of its alpha with the mean of the others', in [0, 1]; 1 for a single
            one.
        agreement: The mean of the same over the members kept, among themselves.
    """

    kept: tuple[int, ...]
    agreements: tuple[float, ...]
    agreement: float


def find_consensus(alphas: Sequence[Tensor], sound: Sequence[bool] | None = None) -> Consensus:
    """Find the ensemble members that agree, and leave outliers out.

    Members whose last check found something wrong are left out, unless all are such. Then those are left out whose
    agreement with the mean of the others is more than 0.05 below the median of the agreements: a collapsed or inverted
    mask, not one that is a little worse (leaving those out made the consensus of good runs no better).

    Args:
        alphas: Each member's alpha on the same samples, in [0, 1].
        sound: Whether nothing is wrong with a member, one each; None means all are sound.
    """
    everyone = range(len(alphas))
    trusted = [i for i in everyone if sound is None or sound[i]] or list(everyone)
    among = _agreements([alphas[i] for i in trusted])
    least = statistics.median(among) - _FAR
    kept = tuple(i for i, agreement in zip(trusted, among, strict=True) if agreement >= least)
    return Consensus(kept, tuple(_agreements(alphas)), statistics.mean(_agreements([alphas[i] for i in kept])))


def distill(networks: Sequence[MergeNetwork], cache: FeatureCache, config: TrainConfig) -> MergeNetwork:
    """Distill an ensemble: one network learns what several find on average.

    It begins as the first of them, sees the cache's training samples in batches of ``config.batch_size``, and learns
    their :func:`sharpened_mean` by cross-entropy, for ``config.consensus_steps`` steps of Adam: constant for the first
    half, then down to 0 along a line.

    Args:
        networks: For the cache's maps, of one configuration.
        cache: Its last ``config.monitor.samples`` samples are not learned from.
        config: Settings of the run, whose seed decides the draws.

    Returns:
        A network of the same configuration, in evaluation mode, without gradients; for a single network a copy of it.
    """
    student = copy.deepcopy(networks[0])
    if len(networks) > 1:
        teachers = [copy.deepcopy(network).eval().requires_grad_(False) for network in networks]
        rate = _RATE * config.alpha.learning_rate
        optimizer = torch.optim.Adam(student.train().requires_grad_(True).parameters(), rate)
        for step in range(config.consensus_steps):
            rng = generator_for(config.seed, _DRAWS, step)
            indices = torch.randint(len(cache) - config.monitor.samples, (config.batch_size,), generator=rng)
            levels = cache.take(indices).levels
            target = sharpened_mean([teacher.merge(levels).sigmoid() for teacher in teachers])
            loss = F.binary_cross_entropy_with_logits(student.merge(levels), target)
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, 2 * (1 - step / config.consensus_steps))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return student.eval().requires_grad_(False)


def sharpened_mean(alphas: Sequence[Tensor]) -> Tensor:
    """The mean of several alphas, its logits multiplied by 4: 0.5 stays where it is, and borders become narrow.

    Args:
        alphas: Of one shape, in [0, 1].

    Returns:
        Of that shape, in [0, 1].
    """
    mean = torch.stack(list(alphas)).mean(dim=0)
    return mean.logit(eps=1e-6).mul(_SHARPNESS).sigmoid()


def _agreements(alphas: Sequence[Tensor]) -> list[float]:
    """Agreement of each with the mean of the others; 1 where there are no others."""
    if len(alphas) == 1:
        return [1.0]
    total = torch.stack([alpha.double() for alpha in alphas]).sum(dim=0)
    return [soft_agreement(alpha, (total - alpha) / (len(alphas) - 1)) for alpha in alphas]
