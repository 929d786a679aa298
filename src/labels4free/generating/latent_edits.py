"""Edits of a generator's latents that keep the background: what ``editing.py`` does for photos, for tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.layered import composite
from labels4free.ops.inpainting import Fill, inpaint, margin_pixels
from labels4free.ops.push_pull import fill_holes
from labels4free.pictures.pixels import unit_to_uint8

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labels4free.generators.base import Noise
    from labels4free.layered import Foreground, LayeredGenerator

_HAZE = 0.04  # so close to 0 and 1 alpha is taken for 0 and 1
_SURE = 0.95  # alpha beyond which a pixel shows the foreground alone; mirrored for the background
_SAME = 0.01  # differences of colours, in [-1, 1], and of alpha that cannot be seen


def edit_latents(
    layered: LayeredGenerator,
    ws: Tensor,
    edited_ws: Tensor,
    *,
    noise: Noise = "fixed",
    fill: Fill = "patches",
    margin: int | None = None,
    rng: torch.Generator | None = None,
) -> Tensor:
    """Render edited latents over the background that the original latents have.

    Moving ws in a direction such as age changes the background, too. Here the object of the edited image is laid over
    the original's: what the old object and the margin around it cover is filled where the new one does not hide it, the
    new one's colours at its border are freed from the background it had, and pixels there that the edit left alone stay
    as they are. Where neither object is, the result is the original bit for bit. Gradients reach both latents, but not
    through a fill by patches.

    Args:
        layered: A generator with an alpha network.
        ws: [N, num_ws, w_dim], the original's styles.
        edited_ws: [N, num_ws, w_dim].
        noise: Per-layer noise, the same for both; ``random`` is drawn once.
        fill: ``patches`` of the original's background (the extra "inpainting"), or ``smooth``, its colours alone. The
            generator's own rendering without the object would not do: its textures do not match (seen in pictures).
        margin: How far around the old object the original is not trusted, in pixels; None is a fiftieth of the width.
        rng: Source of random noise.

    Returns:
        [N, 3, R, R], about [-1, 1].

    Raises:
        ConfigError: If the latents' shapes differ or do not fit, the margin is negative, or the fill is unknown or its
            library missing.
        DataError: If an image shows nothing of its background, and patches are to be found there.
    """
    if ws.shape != edited_ws.shape:
        raise ConfigError(f"Both latents must have one shape, got {list(ws.shape)} and {list(edited_ws.shape)}.")
    check_fill(fill, margin, layered.generator.resolution)
    if noise == "random":
        noise = _draw(layered, ws, rng)
    original, edited = layered.foreground(ws, noise=noise), layered.foreground(edited_ws, noise=noise)
    return keep_background_of(original, edited, fill=fill, margin=margin).image


class KeptBackground(NamedTuple):
    """An edited image over the original's background.

    Attributes:
        image: [N, 3, R, R], about [-1, 1].
        outside: [N, 1, R, R], bool: where neither object is, nor the margin around the old one; the image is the
            original there bit for bit.
    """

    image: Tensor
    outside: Tensor


def keep_background_of(
    original: Foreground, edited: Foreground, *, fill: Fill = "patches", margin: int | None = None
) -> KeptBackground:
    """Put an edited image over the original's background, as :func:`edit_latents` does, which renders the two.

    Args:
        original: What was edited.
        edited: Of the same shape.
        fill: As for :func:`edit_latents`.
        margin: As for :func:`edit_latents`. With 0 the result is the original bit for bit wherever both alphas are 0.

    Raises:
        ConfigError, DataError: As :func:`edit_latents`.
    """
    margin = check_fill(fill, margin, original.image.shape[-1])
    old, new = _without_haze(original.alpha), _without_haze(edited.alpha)
    same = (edited.image - original.image).abs().amax(dim=1, keepdim=True) <= _SAME
    untouched = same & ((new - old).abs() <= _SAME) & _widened(new > 0, margin)
    covered = _widened(old > 0, margin)
    hole = covered & ~untouched & (new < 1)
    if fill == "patches":
        filled = _patches(original.image, hole, covered & ~hole)
    else:
        filled = fill_holes(original.image, (~covered).to(original.image))
    background = torch.where(hole, filled, original.image)
    together = composite(_foreground_colours(edited.image, new), background, new)
    image = torch.where(untouched & (new < 1), original.image, together)
    return KeptBackground(image, ~covered & (new == 0))


def check_fill(fill: Fill, margin: int | None, side: int) -> int:
    """See whether a background can be filled so; returns the margin in pixels.

    Raises:
        ConfigError: If the fill is unknown or the margin negative.
    """
    if fill not in get_args(Fill):
        raise ConfigError(f"A hole can be filled by {' or '.join(get_args(Fill))}; got {fill!r}.")
    return margin_pixels(margin, side, side)


def _draw(layered: LayeredGenerator, ws: Tensor, rng: torch.Generator | None) -> Sequence[Tensor]:
    """A noise map for each layer and sample."""
    sides = [spec.resolution for spec in layered.generator.feature_specs]
    return [torch.randn((len(ws), 1, side, side), generator=rng, device=ws.device) for side in sides]


def _foreground_colours(image: Tensor, alpha: Tensor) -> Tensor:
    """The foreground's colours where alpha mixes it with the background, as ``ops/photo_refine.py`` estimates them."""
    front = fill_holes(image, (alpha >= _SURE).to(image))
    back = fill_holes(image, (alpha <= 1 - _SURE).to(image))
    estimate = front + alpha * (image - alpha * front - (1 - alpha) * back)
    return torch.where(alpha < 1, estimate, image)


def _without_haze(alpha: Tensor) -> Tensor:
    return ((alpha - _HAZE) / (1 - 2 * _HAZE)).clamp(0, 1)


def _widened(mask: Tensor, radius: int) -> Tensor:
    return F.max_pool2d(mask.float(), 2 * radius + 1, stride=1, padding=radius) > 0


def _patches(images: Tensor, hole: Tensor, hidden: Tensor) -> Tensor:
    """Fill by patches, at 8 bits: [N, 3, R, R] and twice [N, 1, R, R] to [N, 3, R, R]."""
    pixels = unit_to_uint8((images.detach().permute(0, 2, 3, 1).cpu() + 1) / 2)
    holes, others = (mask[:, 0].cpu().numpy() for mask in (hole, hidden))
    filled = np.stack([inpaint(*parts) for parts in zip(pixels, holes, others, strict=True)])
    return torch.from_numpy(filled).to(images).permute(0, 3, 1, 2) / 127.5 - 1
