"""Is a generator's training going well? Diversity and distance of its images, without any network of others.

Mode collapse shows in the diversity: a generator that makes nearly the same image from every latent has lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labels4free.metrics.images import diversity, sliced_wasserstein
from labels4free.training_loop.contracts import Check

if TYPE_CHECKING:
    from torch import Tensor


def check_images(images: Tensor, real: Tensor, min_diversity: float, max_diversity: float) -> Check:
    """Check generated images beside real ones.

    Args:
        images: [N, 3, R, R], of a generator.
        real: [N, 3, R, R].
        min_diversity: A diversity below this counts as collapsed.
        max_diversity: One above this counts as blown up.

    Returns:
        ``diversity`` (:func:`labels4free.metrics.images.diversity`), ``swd``
        (:func:`labels4free.metrics.images.sliced_wasserstein`) and ``score``, 1 / (1 + swd), in [0, 1].
    """
    real = real.to(images.device)
    varied, distance = diversity(images, real), sliced_wasserstein(images, real)
    problem = None
    if not bool(images.isfinite().all()):
        problem = "the generated images hold numbers that are not finite"
    elif varied < min_diversity:
        problem = (
            f"the generator has collapsed: its images differ from each other by {varied:.0%} of what real ones do, "
            f"less than {min_diversity:.0%}"
        )
    elif varied > max_diversity:
        problem = (
            f"the generated images have blown up: they differ from each other by {varied:.0%} of what real ones do, "
            f"more than {max_diversity:.0%}"
        )
    return Check({"diversity": varied, "swd": distance, "score": 1 / (1 + distance)}, problem)
