"""How far two sets of images are apart, from their features: Fréchet distance (FID), kernel distance (KID), precision.

Pure functions of feature vectors [N, F], whichever network gave them; what a figure may be called is for whoever knows
the network. Everything is computed in double precision, but for precision and recall.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from labels4free.seeds import generator_for

if TYPE_CHECKING:
    from torch import Tensor

_KID_DRAWS = 0x51D2
_TILE = 10_000  # rows and columns of distances held at once, as published: 400 MB


class Moments:
    """Mean and covariance of feature vectors that come batch by batch; the vectors themselves are not kept.

    Batches are merged by Chan, Golub and LeVeque 1979, so that nothing cancels and no order is better than another.

    Args:
        width: Numbers of a feature vector.

    Attributes:
        count: Vectors seen so far.
        mean: [F], float64.
        scatter: [F, F], float64: the sum of the outer products of what is left without the mean.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        self.scatter = torch.zeros(width, width, dtype=torch.float64)

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Of vectors [N, F] that are all there."""
        found = cls(features.shape[1])
        found.add(features)
        return found

    def add(self, features: Tensor) -> None:
        """Take in more vectors, [N, F], of any floating-point type and device."""
        x = features.detach().to("cpu", torch.float64)
        if not len(x):
            return
        mean = x.mean(dim=0)
        x = x - mean
        total, difference = self.count + len(x), mean - self.mean
        self.scatter += x.T @ x + torch.outer(difference, difference) * (self.count * len(x) / total)
        self.mean += difference * (len(x) / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance, [F, F], float64.

        Raises:
            ValueError: If there were fewer than two vectors.
        """
        if self.count < 2:
            raise ValueError(f"A covariance needs at least two feature vectors, got {self.count}.")
        return self.scatter / (self.count - 1)


def frechet_distance(one: Moments, other: Moments) -> float:
    """Fréchet distance of the two normal distributions with these moments: "FID" for features of Inception.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` (Heusel et al. 2017, arXiv 1706.08500). The trace of the root is the
    sum of the roots of the eigenvalues of ``C1^(1/2) C2 C1^(1/2)``, which is symmetric: no root of a matrix is taken,
    and nothing becomes complex where there are fewer images than features. Then, however, the distance is too large.

    Returns:
        >= 0 up to rounding. Symmetric.

    Raises:
        ValueError: If a set has fewer than two vectors, or the widths differ.
    """
    _check_widths(len(one.mean), len(other.mean))
    values, vectors = torch.linalg.eigh(one.covariance)
    root = vectors * values.clamp(min=0).sqrt()  # root @ root.T is the covariance
    middle = torch.linalg.eigvalsh(root.T @ other.covariance @ root)
    cross = middle.clamp(min=0).sqrt().sum()
    between = (one.mean - other.mean).square().sum()
    return float(between + one.covariance.trace() + other.covariance.trace() - 2 * cross)


def kernel_distance(one: Tensor, other: Tensor) -> float:
    """Squared maximum mean discrepancy, kernel ``(x . y / F + 1)^3``, unbiased: "KID" for features of Inception.

    Binkowski et al. 2018, arXiv 1801.01401. Its expectation does not depend on the number of images.

    Args:
        one: Features [N, F], N >= 2.
        other: Features [M, F], M >= 2.

    Returns:
        About 0 for two draws of one distribution, then as often below 0 as above it.

    Raises:
        ValueError: If there are too few, or the widths differ.
    """
    _check_widths(one.shape[1], other.shape[1])
    n, m = len(one), len(other)
    if min(n, m) < 2:
        raise ValueError(f"A kernel distance needs at least two feature vectors of each set, got {n} and {m}.")
    x, y = one.double(), other.double()
    return float(_off_diagonal_mean(x) + _off_diagonal_mean(y) - 2 * _kernel(x, y).mean())


class KernelDistance(NamedTuple):
    """Mean and standard deviation over subsets."""

    mean: float
    deviation: float


def kernel_distance_of_subsets(
    one: Tensor, other: Tensor, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> KernelDistance:
    """:func:`kernel_distance` of random subsets of both sets, as KID is published.

    Args:
        one: Features [N, F].
        other: Features [M, F].
        subsets: How many.
        size: Vectors of a subset of each set; at most those that there are.
        seed: Of the draws.

    Raises:
        ValueError: As :func:`kernel_distance`.
    """
    size = min(size, len(one), len(other))
    subsets = 1 if size == len(one) == len(other) else subsets  # they would all be the same
    found = []
    for index in range(subsets):
        rng = generator_for(seed, _KID_DRAWS, index)
        parts = (features[torch.randperm(len(features), generator=rng)[:size]] for features in (one, other))
        found.append(kernel_distance(*parts))
    values = torch.tensor(found, dtype=torch.float64)
    return KernelDistance(float(values.mean()), float(values.std(correction=0)))


class PrecisionRecall(NamedTuple):
    """Both in [0, 1].

    Attributes:
        precision: Generated images that lie among the real ones: fidelity.
        recall: Real images that lie among the generated ones: variety.
    """

    precision: float
    recall: float


def precision_recall(real: Tensor, generated: Tensor, *, neighbours: int = 3, tile: int = _TILE) -> PrecisionRecall:
    """Improved precision and recall: whether images of one set lie within the other set's balls.

    The ball of an image reaches to its k-th nearest neighbour of its own set, the border belongs to it
    (Kynkäänniemi et al. 2019, arXiv 1904.06991). In NVIDIA's code the features are rounded to half precision before.

    Args:
        real: Features [N, F].
        generated: Features [M, F].
        neighbours: k.
        tile: Rows and columns of distances that are held at once.

    Raises:
        ValueError: If a set has no more than k vectors, or the widths differ.
    """
    _check_widths(real.shape[1], generated.shape[1])
    if min(len(real), len(generated)) <= neighbours:
        raise ValueError(
            f"Precision and recall need more than {neighbours} images of each set, got {len(real)} and "
            f"{len(generated)}."
        )
    centre = real.mean(dim=0)  # distances by products lose digits far from the origin
    real, generated = real - centre, generated - centre
    return PrecisionRecall(
        _share_within(generated, real, neighbours, tile), _share_within(real, generated, neighbours, tile)
    )


class InceptionScore(NamedTuple):
    """Mean and standard deviation over parts."""

    mean: float
    deviation: float


def inception_score(logits: Tensor, *, splits: int = 10) -> InceptionScore:
    """How sharply a classifier tells images apart: the exponential of the mean divergence of p(y|x) from p(y).

    Salimans et al. 2016, arXiv 1606.03498, with the classes of the network that gave the logits. It sees no real image,
    and says little of images that are not of those classes.

    Args:
        logits: [N, C] of generated images.
        splits: Parts of consecutive images that are scored one by one.

    Returns:
        From 1, where all images look alike to it, to C.

    Raises:
        ValueError: If there are fewer images than parts.
    """
    if len(logits) < splits:
        raise ValueError(f"An inception score of {splits} parts needs as many images, got {len(logits)}.")
    log_p = logits.double().log_softmax(dim=1)
    scores = []
    for part in log_p.tensor_split([index * len(log_p) // splits for index in range(1, splits)]):
        p = part.exp()
        log_mean = part.logsumexp(dim=0) - math.log(len(part))
        divergence = torch.where(p > 0, p * (part - log_mean), 0.0).sum(dim=1)
        scores.append(divergence.mean().exp())
    values = torch.stack(scores)
    return InceptionScore(float(values.mean()), float(values.std(correction=0)))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _off_diagonal_mean(x: Tensor) -> Tensor:
    k = _kernel(x, x)
    return (k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1))


def _share_within(probes: Tensor, of: Tensor, neighbours: int, tile: int) -> float:
    """The share of the probes that lie in a ball of any vector of ``of``."""
    radii = torch.cat([_distances(part, of, tile).kthvalue(neighbours + 1).values for part in of.split(tile)])
    within = [(_distances(part, of, tile) <= radii).any(dim=1) for part in probes.split(tile)]
    return float(torch.cat(within).float().mean())


def _distances(rows: Tensor, columns: Tensor, tile: int) -> Tensor:
    return torch.cat([torch.cdist(rows, part) for part in columns.split(tile)], dim=1)


def _check_widths(one: int, other: int) -> None:
    if one != other:
        raise ValueError(f"Features of one network are needed, got vectors of {one} and of {other} numbers.")
