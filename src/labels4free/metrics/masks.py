"""Scores of masks: counts first, every score from the counts; then those that counts do not tell.

The four counts of an image say how many of its pixels are foreground or background in the prediction and in the truth.
Scores take counts of shape [N] (one image each) or [] (pooled over a set) and give values of that shape in [0, 1].
Boundary F and the S-measure need to know where the pixels are: they take one image at a time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


BOUNDARY_TOLERANCE = 0.0075
"""How far contours may lie apart, as a fraction of the image's diagonal (Csurka et al., BMVC 2013)."""


class Counts(NamedTuple):
    """Pixels by what was predicted and what is true; int64 (or floats: fractions of pixels), [N] or [].

    Attributes:
        tp: Foreground in both.
        fp: Foreground in the prediction only.
        fn: Foreground in the truth only.
        tn: Background in both.
    """

    tp: Tensor
    fp: Tensor
    fn: Tensor
    tn: Tensor


def count(prediction: Tensor, truth: Tensor, valid: Tensor | None = None) -> Counts:
    """Count the pixels of each image.

    Args:
        prediction: boolean [N, H, W] or [N, 1, H, W], True is foreground.
        truth: boolean, of the same images; the masks may differ in whether they have the channel axis.
        valid: boolean, of the same images: which pixels count; None means all.

    Returns:
        Counts of shape [N].

    Raises:
        DataError: If a mask is not boolean, or the shapes do not fit.
    """
    flat = []
    for name, mask in (("predicted", prediction), ("true", truth), ("valid", truth if valid is None else valid)):
        if mask.dtype != torch.bool:
            raise DataError(
                f"The {name} mask must be boolean, got {mask.dtype}; threshold it first, as in alpha > 0.5."
            )
        if mask.ndim not in (3, 4) or (mask.ndim == 4 and mask.shape[1] != 1):
            raise DataError(f"The {name} mask must have shape [N, H, W] or [N, 1, H, W], got {list(mask.shape)}.")
        flat.append(mask.squeeze(1) if mask.ndim == 4 else mask)
    p, t, v = flat
    if p.shape != t.shape:
        raise DataError(
            f"Masks of the same images must have one shape, got {list(p.shape)} predicted and {list(t.shape)} true."
        )
    if v.shape != t.shape:
        raise DataError(f"The valid pixels of masks {list(t.shape)} must have their shape, got {list(v.shape)}.")
    parts: tuple[Tensor, ...] = (p & t, p & ~t, ~p & t, ~(p | t))
    if valid is not None:
        parts = tuple(part & v for part in parts)
    return Counts(*(part.flatten(1).sum(dim=1) for part in parts))


def pool(counts: Counts) -> Counts:
    """Add the counts of all images: [N] -> []. Large images then weigh more than small ones."""
    return Counts(*(values.sum() for values in counts))


def swap_classes(counts: Counts) -> Counts:
    """The counts with the background for the object: what a score says of it is what it says of the background."""
    return Counts(tp=counts.tn, fp=counts.fn, fn=counts.fp, tn=counts.tp)


def iou_foreground(counts: Counts) -> Tensor:
    """Intersection over union of the foreground: tp / (tp + fp + fn)."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn, counts)


def iou_background(counts: Counts) -> Tensor:
    """Intersection over union of the background: tn / (tn + fp + fn)."""
    return _ratio(counts.tn, counts.tn + counts.fp + counts.fn, counts)


def mean_iou(counts: Counts) -> Tensor:
    """mIoU: the mean of :func:`iou_foreground` and :func:`iou_background`."""
    return (iou_foreground(counts) + iou_background(counts)) / 2


def precision(counts: Counts) -> Tensor:
    """Fraction of the predicted foreground that is right: tp / (tp + fp)."""
    return _ratio(counts.tp, counts.tp + counts.fp, counts)


def recall(counts: Counts) -> Tensor:
    """Fraction of the true foreground that was found: tp / (tp + fn)."""
    return _ratio(counts.tp, counts.tp + counts.fn, counts)


def f1(counts: Counts) -> Tensor:
    """Harmonic mean of precision and recall (Dice): 2 tp / (2 tp + fp + fn)."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn, counts)


def accuracy(counts: Counts) -> Tensor:
    """Fraction of the pixels that are right: (tp + tn) / all."""
    return _ratio(counts.tp + counts.tn, counts.tp + counts.fp + counts.fn + counts.tn, counts)


METRICS: Mapping[str, Callable[[Counts], Tensor]] = {
    "miou": mean_iou,
    "iou_foreground": iou_foreground,
    "iou_background": iou_background,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "accuracy": accuracy,
}
"""Every score by name; larger is better, 1 is perfect."""


def score_images(counts: Counts) -> dict[str, float]:
    """Every score of :data:`METRICS`, computed for each image, then averaged: every image weighs the same.

    Args:
        counts: Of shape [N].

    Raises:
        DataError: If there is no image.
    """
    if counts.tp.numel() == 0:
        raise DataError("There is no image to score; give at least one pair of masks.")
    return {name: float(metric(counts).mean()) for name, metric in METRICS.items()}


def score_pooled(counts: Counts) -> dict[str, float]:
    """Every score of :data:`METRICS`, computed once from all images together: every pixel weighs the same.

    Args:
        counts: Of shape [N] or [].

    Raises:
        DataError: If there is no image.
    """
    if counts.tp.numel() == 0:
        raise DataError("There is no image to score; give at least one pair of masks.")
    return {name: float(metric(pool(counts))) for name, metric in METRICS.items()}


def e_measure(counts: Counts) -> Tensor:
    """Enhanced alignment of a hard mask with its truth (Fan et al., IJCAI 2018, equations 1 to 6).

    Every pixel's deviations from the means of its two masks are compared. In hard masks there are four kinds of pixels,
    so that the counts tell all. Their mean is over H x W as in the paper; the authors' code divides by H x W - 1.

    Returns:
        float64 in [0, 1]; a constant mask of a truth with both classes gets 1/4.
    """
    tp, fp, fn, tn = (values.double() for values in counts)
    total = (tp + fp + fn + tn).clamp(min=1)
    mean_p, mean_t = (tp + fp) / total, (tp + fn) / total
    aligned = torch.zeros_like(total)
    for number, p, t in ((tp, 1, 1), (fp, 1, 0), (fn, 0, 1), (tn, 0, 0)):
        a, b = p - mean_p, t - mean_t
        alignment = 2 * a * b / (a.square() + b.square()).clamp(min=torch.finfo(torch.float64).tiny)
        aligned += number * (1 + alignment).square() / 4
    # A truth of one class has no deviations: there the fraction of the pixels that are right.
    return torch.where((mean_t == 0) | (mean_t == 1), tp + tn, aligned) / total


def threshold_counts(alpha: Tensor, truth: Tensor, valid: Tensor | None = None) -> Counts:
    """Count at each of the 256 thresholds of 8-bit masks: foreground is where ``round(255 alpha) >= k``.

    Args:
        alpha: float [H, W] in [0, 1].
        truth: boolean [H, W].
        valid: boolean [H, W]: which pixels count; None means all.

    Returns:
        Counts of shape [256], k = 0 (everything is foreground) to 255.
    """
    _check_one_image(alpha, truth, valid)
    levels = alpha.mul(255).round_().clamp_(0, 255).to(torch.uint8)
    valid = torch.ones_like(truth) if valid is None else valid
    histograms = [torch.bincount(levels[truth_ & valid], minlength=256) for truth_ in (truth, ~truth)]
    tp, fp = (histogram.flip(0).cumsum(0).flip(0) for histogram in histograms)
    return Counts(tp=tp, fp=fp, fn=histograms[0].sum() - tp, tn=histograms[1].sum() - fp)


def mean_absolute_error(alpha: Tensor, truth: Tensor, valid: Tensor | None = None) -> float:
    """Mean of |alpha - truth| over the pixels that count; 0 is perfect, and no such pixel counts as perfect.

    Args:
        alpha: float [H, W] in [0, 1].
        truth: float [H, W] in [0, 1]: soft masks are compared as they are.
        valid: boolean [H, W]: which pixels count; None means all.
    """
    error = (alpha - truth).abs()
    if valid is None:
        return float(error.mean(dtype=torch.float64))
    return float((error * valid).sum(dtype=torch.float64) / valid.sum().clamp(min=1))


def soft_agreement(alpha: Tensor, other: Tensor) -> float:
    """How far two soft masks are the same: the mean of the foreground's and the background's intersection over union.

    With a, b the two, summed over all pixels of all images::

        (sum min(a, b) / sum max(a, b) + sum min(1 - a, 1 - b) / sum max(1 - a, 1 - b)) / 2

    Args:
        alpha: In [0, 1], any shape.
        other: Of the same shape.

    Returns:
        In [0, 1]; 1 where they are equal, for hard masks the mean IoU.
    """
    # Rows are summed where the maps lie, the rest in float64 (which not every device has): the order of a million
    # float32 would show.
    both, either = (float(f(alpha, other).sum(dim=-1).cpu().double().sum()) for f in (torch.minimum, torch.maximum))
    outside_either, outside_both = alpha.numel() - either, alpha.numel() - both  # min(1 - a, 1 - b) = 1 - max(a, b)
    foreground = both / either if either else 1.0  # neither has any: no difference
    background = outside_either / outside_both if outside_both else 1.0
    return (foreground + background) / 2


def s_measure(alpha: Tensor, truth: Tensor, balance: float = 0.5) -> float:
    """Structure measure of a soft mask against a hard truth (Fan et al., ICCV 2017).

    ``balance`` x object-aware + (1 - ``balance``) x region-aware similarity. Three details are those of the authors'
    code, on which published figures rest: the four regions weigh as their areas, the deviation inside object and
    background is that of a sample (n - 1), and a negative result counts as 0.

    Args:
        alpha: float [H, W] in [0, 1]; it is not stretched to that range first.
        truth: boolean [H, W].
        balance: alpha in the paper's equation 1.

    Returns:
        In [0, 1]. If the truth is all background or all foreground: one minus alpha's mean, or that mean.
    """
    _check_one_image(alpha, truth, None)
    fraction = float(truth.double().mean())
    mean = float(alpha.mean(dtype=torch.float64))
    if fraction in (0.0, 1.0):
        return mean if fraction else 1 - mean
    rows, columns = truth.nonzero(as_tuple=True)
    # The centroid's own row and column belong to the upper left region.
    y, x = (int(torch.round(where.double().mean())) + 1 for where in (rows, columns))
    regions = [(slice(a, b), slice(c, d)) for a, b in ((0, y), (y, None)) for c, d in ((0, x), (x, None))]
    sums = torch.stack([_sums(alpha[region], truth[region]) for region in regions])
    region_aware: float = sum(_similarity(*row) * row[0] for row in sums.tolist()) / truth.numel()
    _, s, ss, n1, s1, ss1 = sums.sum(dim=0).tolist()
    n0, s0, ss0 = truth.numel() - n1, s - s1, ss - ss1
    # 1 - alpha in the background: n - s is the sum of 1 - alpha, n - 2 s + ss that of its squares.
    object_aware = fraction * _object(n1, s1, ss1) + (1 - fraction) * _object(n0, n0 - s0, n0 - 2 * s0 + ss0)
    return max(0.0, balance * object_aware + (1 - balance) * region_aware)


def boundary_f(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, tolerance: float = BOUNDARY_TOLERANCE
) -> float:
    """F1 of the contours (Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013).

    Precision is the fraction of the predicted contour that lies within the tolerance of the true one, recall the
    reverse. A contour is the object's pixels beside the background (four neighbours); the image's border is none.

    Args:
        prediction: boolean [H, W], True is foreground.
        truth: boolean [H, W].
        valid: boolean [H, W]: which pixels count; contours beside the others are left out. None means all.
        tolerance: Fraction of the image's diagonal.

    Returns:
        In [0, 1]. Without any contour: 1 if the masks are equal, else 0.
    """
    _check_one_image(prediction, truth, valid)
    if valid is not None:
        prediction, truth = prediction & valid, truth & valid
    contours = [_contour(mask, valid) for mask in (prediction, truth)]
    lengths = [int(contour.sum()) for contour in contours]
    if not any(lengths):
        return float(bool((prediction == truth).all()))
    if not all(lengths):
        return 0.0
    distance = tolerance * math.hypot(*truth.shape)
    precise, found = (_near(contours[k], contours[1 - k], distance) / lengths[k] for k in range(2))
    return 2 * precise * found / (precise + found) if precise + found else 0.0


def _check_one_image(prediction: Tensor, truth: Tensor, valid: Tensor | None) -> None:
    shapes = [list(mask.shape) for mask in (prediction, truth, valid) if mask is not None]
    if truth.ndim != 2 or 0 in truth.shape or any(shape != shapes[0] for shape in shapes):
        raise DataError(f"Masks of one image must have one shape [H, W], got {' and '.join(map(str, shapes))}.")
    if truth.dtype != torch.bool:
        raise DataError(f"The true mask must be boolean, got {truth.dtype}; threshold it first, as in alpha > 0.5.")


def _sums(alpha: Tensor, truth: Tensor) -> Tensor:
    """[6] float64: pixels, sums of alpha and of its square, and the same three where the truth is foreground."""
    alpha = alpha.float()
    square = alpha * alpha
    parts = (torch.ones_like(truth), alpha, square, truth, alpha * truth, square * truth)
    return torch.stack([part.sum(dtype=torch.float64) for part in parts])


def _similarity(n: float, s: float, ss: float, n1: float, s1: float, _: float) -> float:
    """Structural similarity of alpha and truth in one region, equation 2: 4 x y cov / ((x^2 + y^2)(var x + var y))."""
    if n == 0:
        return 0.0
    x, y = s / n, n1 / n
    var_x, var_y, cov = max(ss / n - x * x, 0.0), y - y * y, s1 / n - x * y
    upper, lower = 4 * x * y * cov, (x * x + y * y) * (var_x + var_y)
    if lower <= 1e-12:  # both constant: in nothing do they differ that this measures
        return 1.0
    return upper / lower


def _object(n: float, s: float, ss: float) -> float:
    """Equation 5: 2 x / (x^2 + 1 + deviation), of the n values whose sum is s and whose squares' sum is ss."""
    x = s / n
    deviation = math.sqrt(max(ss - n * x * x, 0.0) / (n - 1)) if n > 1 else 0.0
    return 2 * x / (x * x + 1 + deviation)


def _contour(mask: Tensor, valid: Tensor | None) -> Tensor:
    outside = ~mask
    beside = torch.zeros_like(mask)
    beside[1:] |= outside[:-1]
    beside[:-1] |= outside[1:]
    beside[:, 1:] |= outside[:, :-1]
    beside[:, :-1] |= outside[:, 1:]
    contour = mask & beside
    if valid is not None:
        near_void = F.max_pool2d((~valid)[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
        contour &= ~near_void
    return contour


def _near(points: Tensor, others: Tensor, distance: float) -> int:
    """How many of the points [H, W] have one of the others within a distance in pixels."""
    reach = int(distance)
    # Sums along the rows: whether a stretch of a row holds a point is then one subtraction.
    sums = F.pad(others.int(), (reach + 1, reach, reach, reach)).cumsum(dim=1, dtype=torch.int32)
    rows, columns = points.nonzero(as_tuple=True)
    near = torch.zeros_like(rows, dtype=torch.bool)
    for dy in range(-reach, reach + 1):
        half = int(math.sqrt(distance * distance - dy * dy))
        row = rows + reach + dy
        centre = columns + reach + 1
        near |= sums[row, centre + half] > sums[row, centre - half - 1]
    return int(near.sum())


def _ratio(numerator: Tensor, denominator: Tensor, counts: Counts) -> Tensor:
    """Divide in float64; 0 / 0, a class that does not occur, scores 1 if the image has no error and else 0."""
    faultless = ((counts.fp + counts.fn) == 0).double()
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1).double(), faultless)
