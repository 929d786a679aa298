"""How real an image looks: the logit of the discriminator that the generator was trained against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from labels4free.networks.discriminator import Discriminator


@torch.inference_mode()
def measure_discriminator_score(discriminator: Discriminator, image: Tensor, label: int | None = None) -> float:
    """The discriminator score of one image: its logit, seen alone.

    Alone, an image has no variety to be judged by: the minibatch statistic is that of a batch of one for all of them,
    so logits can be compared with each other, but zero does not mean "undecided".

    Args:
        discriminator: One that judged whole images; see :func:`labels4free.checkpoints.loading.load_discriminator`.
        image: [1, 3, R, R], about [-1, 1]; box-filtered to the discriminator's size.
        label: Class of the image, for a discriminator with classes, and only for it.

    Returns:
        The logit, unbounded; larger is more real.

    Raises:
        ConfigError: If the discriminator's size does not divide the image's, or label and discriminator do not fit.
    """
    size, factor = discriminator.resolution, image.shape[-1] // discriminator.resolution
    if image.ndim != 4 or image.shape[:2] != (1, 3) or factor < 1 or image.shape[2:] != (factor * size, factor * size):
        raise ConfigError(
            f"This discriminator judges images of {size}x{size} pixels, or of a multiple of that, one at a time; got "
            f"shape {list(image.shape)}. Use the discriminator of this generator."
        )
    labels = None
    if label is not None:
        if not 0 <= label < discriminator.c_dim:
            has = f"classes 0 to {discriminator.c_dim - 1}" if discriminator.c_dim else "no classes"
            raise ConfigError(f"This discriminator has {has}, got label {label}.")
        labels = torch.eye(discriminator.c_dim, device=image.device)[label : label + 1]
    return float(discriminator(F.avg_pool2d(image, factor) if factor > 1 else image, labels))
