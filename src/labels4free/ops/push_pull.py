"""Push-pull interpolation: fill the holes of an image smoothly from around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def fill_holes(image: Tensor, weight: Tensor) -> Tensor:
    """Keep an image where its weight is 1 and fill it smoothly from around where it is 0 (push-pull interpolation).

    Weighted averages are pushed to ever coarser levels and pulled back into the holes (Gortler et al. 1996, The
    Lumigraph, section 3.4).

    Args:
        image: [N, C, R, R], R a power of two.
        weight: [N, 1, R, R], in [0, 1].

    Returns:
        [N, C, R, R]; exactly the image where the weight is 1.
    """
    if image.shape[-1] == 1:
        return image
    pooled = F.avg_pool2d(weight, 2)
    coarse = F.avg_pool2d(weight * image, 2) / (pooled + 1e-6)
    # The weights of a 2x2 block saturate at half of them: a level that knows enough is not asked further.
    filled = fill_holes(coarse, (2 * pooled).clamp_max(1))
    around = F.interpolate(filled, scale_factor=2, mode="bilinear", align_corners=False)
    return weight * image + (1 - weight) * around
