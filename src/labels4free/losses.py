"""Training losses: pure functions, one equation each, each a scalar. They import tensor operations alone.

In the equations D is the discriminator's logit, x a real image, y a composite and a an alpha map; E is the mean over
the samples of the batch. Weights belong to the trainer, so every function returns its bare term.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from labels4free.ops.push_pull import fill_holes

if TYPE_CHECKING:
    from torch import Tensor


def generator_nonsaturating(fake_logits: Tensor) -> Tensor:
    """Non-saturating loss of whoever made the composites: they should look real.

    ``E[softplus(-D(y))] = E[-log sigmoid(D(y))]`` (Goodfellow et al. 2014, arXiv 1406.2661, section 3).

    Args:
        fake_logits: [N, 1], the discriminator's logits for the composites.

    Returns:
        Scalar >= 0; log 2 where the discriminator is undecided.
    """
    return F.softplus(-fake_logits).mean()


def discriminator_logistic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logistic loss of the discriminator: real images should score high, composites low.

    ``E[softplus(-D(x))] + E[softplus(D(y))]`` (Goodfellow et al. 2014, arXiv 1406.2661, equation 1, negated).

    Args:
        real_logits: [N, 1], logits for real images.
        fake_logits: [M, 1], logits for composites.

    Returns:
        Scalar >= 0; 2 log 2 where the discriminator is undecided.
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def relativistic(better: Tensor, worse: Tensor) -> Tensor:
    """Relativistic loss (RpGAN): one image of each pair should score higher than the other.

    ``E[softplus(D(w) - D(b))]`` (Jolicoeur-Martineau 2018, arXiv 1807.00734; as in Huang et al. 2024, arXiv 2501.05441,
    equation 2): the discriminator's with b real and w generated, the generator's the other way round.

    Args:
        better: [N, 1], logits for the images that should score higher.
        worse: [N, 1], logits for the others.

    Returns:
        Scalar >= 0; log 2 where the discriminator is undecided.
    """
    return F.softplus(worse - better).mean()


def path_lengths(image: Tensor, ws: Tensor, direction: Tensor) -> Tensor:
    """Path lengths: how far an image moves with its styles, along a random direction (perceptual path regularisation).

    ``|| J^T y ||`` with ``J = d image / d ws``, ``y = direction / sqrt(H W)``, root of the mean over the rows of ws of
    the squared norm of each (Karras et al. 2020, arXiv 1912.04958, section 3.2). The penalty is their squared distance
    to their running mean.

    Args:
        image: [N, 3, H, W], computed from ``ws``.
        ws: [N, num_ws, w_dim], part of the graph.
        direction: [N, 3, H, W], standard normal.

    Returns:
        [N], >= 1e-4 (the root has no gradient at 0), differentiable in the generator's weights.
    """
    scaled = direction / (image.shape[2] * image.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((image * scaled).sum(), ws, create_graph=True)
    return (gradient.square().sum(dim=2).mean(dim=1) + 1e-8).sqrt()


def r1_penalty(real_logits: Tensor, real_images: Tensor) -> Tensor:
    """Gradient penalty of the discriminator on real images, without its weight gamma / 2.

    ``E[ || d sum D(x) / d x ||^2 ]`` (Mescheder et al. 2018, arXiv 1801.04406, equation 9). The sum runs over the
    batch, so that with a minibatch statistic in D a sample's gradient holds its effect on the other samples' logits as
    well.

    Args:
        real_logits: [N, 1], computed from ``real_images``.
        real_images: [N, 3, H, W], with ``requires_grad``.

    Returns:
        Scalar >= 0, differentiable in the weights of D.

    Raises:
        RuntimeError: If ``real_images`` did not require a gradient or the logits do not depend on them.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()


def binarization(alpha: Tensor) -> Tensor:
    """Binarization loss: distance of alpha from a hard mask.

    ``mean of min(a, 1 - a)`` over all pixels and samples (Labels4Free, Abdal et al. 2021, arXiv 2103.14968, section
    3.4).

    Args:
        alpha: [N, 1, H, W], in [0, 1].

    Returns:
        Scalar in [0, 0.5]; 0 where every pixel is 0 or 1.
    """
    return torch.minimum(alpha, 1 - alpha).mean()


def foreground_coverage(alpha: Tensor, minimum: float) -> Tensor:
    """Foreground coverage loss: a penalty where the foreground is smaller than it should be.

    ``E[ relu(minimum - mean(a)) ]``, mean(a) over the pixels of one sample (Labels4Free, arXiv 2103.14968, section
    3.4).

    Args:
        alpha: [N, 1, H, W], in [0, 1].
        minimum: Least fraction of the image that is foreground, in [0, 1].

    Returns:
        Scalar in [0, minimum]; 0 where every sample has enough foreground.
    """
    return F.relu(minimum - alpha.flatten(1).mean(dim=1)).mean()


def background_coverage(alpha: Tensor, minimum: float) -> Tensor:
    """Background coverage loss: a penalty where the background is smaller than it should be.

    ``E[ relu(minimum - mean(1 - a)) ]``: :func:`foreground_coverage` of ``1 - a`` (the original code's term; weight 0
    there by default).

    Args:
        alpha: [N, 1, H, W], in [0, 1].
        minimum: Least fraction of the image that is background, in [0, 1].

    Returns:
        Scalar in [0, minimum]; 0 where every sample has enough background.
    """
    return foreground_coverage(1 - alpha, minimum)


def inpainting_error(image: Tensor, alpha: Tensor) -> Tensor:
    """Inpainting error: mean squared error of filling each side of a mask from the other.

    With ``fill(x, w)`` as :func:`labels4free.ops.push_pull.fill_holes` and sums over pixels::

        mean_n [ sum a |x - fill(x, 1 - a)|^2 / sum a  +  sum (1 - a) |x - fill(x, a)|^2 / sum (1 - a) ]

    The idea is inpainting-error maximisation (Savarese et al. 2021, arXiv 2012.07287): a border inside the object, or
    outside of it, leaves a strip that its neighbourhood predicts well.

    Args:
        image: [N, 3, R, R], about [-1, 1], R a power of two.
        alpha: [N, 1, R, R], in [0, 1].

    Returns:
        Scalar >= 0, differentiable in alpha.
    """
    total = image.new_zeros(())
    for side in (alpha, 1 - alpha):
        error = (image - fill_holes(image, 1 - side)).square().mean(dim=1, keepdim=True)
        total = total + ((side * error).sum(dim=(1, 2, 3)) / (side.sum(dim=(1, 2, 3)) + 1e-3)).mean()
    return total


def border_emphasis(alpha: Tensor, width: int) -> Tensor:
    """How far alpha varies around each pixel: ``max - min`` over a square of ``width`` pixels, an odd number.

    Args:
        alpha: [N, 1, H, W], in [0, 1].
        width: In pixels; 1 gives 0 everywhere.

    Returns:
        [N, 1, H, W], in [0, 1]; no scalar: a weight for the pixels in the other terms.
    """
    around = width // 2
    return F.max_pool2d(alpha, width, 1, around) + F.max_pool2d(-alpha, width, 1, around)


def soft_iou_loss(alpha: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """One minus the soft intersection over union, mean over the images.

    ``E[1 - (1 + sum w a t) / (1 + sum w (a + t - a t))]``; the ones keep empty masks finite.

    Args:
        alpha: [N, 1, H, W], in [0, 1].
        target: Of the same shape, in [0, 1].
        weight: Of the same shape, >= 0.

    Returns:
        Scalar in [0, 1); 0 for hard masks that are equal.
    """
    both = (weight * alpha * target).sum(dim=(1, 2, 3))
    either = (weight * (alpha + target - alpha * target)).sum(dim=(1, 2, 3))
    return (1 - (both + 1) / (either + 1)).mean()


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """``sum w x / sum w`` over all pixels of all images; 0 where there is no weight."""
    return (values * weight).sum() / weight.sum().clamp_min(1e-6)
