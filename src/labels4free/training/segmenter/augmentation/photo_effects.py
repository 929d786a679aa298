"""What light, lens, sensor and file do to a photo, and moving it on its canvas: each a function of an image.

Images are [1, C, S, S], colours in [-1, 1]; none is changed in place. What is random takes its numbers from the
:class:`labels4free.seeds.SeededRandom` that it is given.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from labels4free.pictures.pixels import from_uint8, unit_to_uint8

if TYPE_CHECKING:
    from torch import Tensor

    from labels4free.seeds import SeededRandom

_LEAST_BLUR = 0.2  # pixels; less is not seen


class Placement(NamedTuple):
    """Where a picture comes to lie on a canvas of its own size.

    Attributes:
        scale: Side of the picture in sides of the canvas.
        angle: Radians, clockwise.
        shift: (to the right, down) of the picture's middle, in halves of the canvas's side.
        mirror: Left and right change places, before all else.
    """

    scale: float
    angle: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    mirror: bool = False


def moved(picture: Tensor, placement: Placement, padding: str = "border") -> Tensor:
    """Put a picture somewhere on its canvas, bilinearly.

    Args:
        picture: [1, C, S, S], any channels.
        placement: Where.
        padding: What lies beyond its edges: ``border`` (the edge pixels go on) or ``reflection``.
    """
    scale, angle, shift, mirror = placement
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    turn = torch.tensor([[-cos, -sin], [-sin, cos]] if mirror else [[cos, sin], [-sin, cos]])
    theta = torch.cat((turn, -(turn @ torch.tensor(shift))[:, None]), dim=1)
    grid = F.affine_grid(theta[None], list(picture.shape), align_corners=False)
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of so many pixels; edges go on beyond the border."""
    if sigma < _LEAST_BLUR:
        return image
    radius = min(math.ceil(2.5 * sigma), image.shape[-1] - 1)
    at = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-at * at / (2 * sigma * sigma))
    kernel /= kernel.sum()
    channels = image.shape[1]
    across = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    image = F.conv2d(F.pad(image, (radius, radius, 0, 0), mode="replicate"), across, groups=channels)
    down = across.transpose(2, 3)
    return F.conv2d(F.pad(image, (0, 0, radius, radius), mode="replicate"), down, groups=channels)


def toned(image: Tensor, random: SeededRandom, strength: float) -> Tensor:
    """Color jitter: change gamma, exposure, white balance, saturation and brightness at random.

    Args:
        image: [1, 3, S, S].
        random: Source of the numbers.
        strength: In [0, 1]; 0.3 changes gains by up to 30 %, twice (each colour alone, and all).

    Returns:
        Within [-1, 1].
    """
    k = strength
    gain = torch.tensor([random.uniform(1 - k, 1 + k) for _ in range(3)]).view(1, 3, 1, 1) * random.uniform(
        1 - k, 1 + k
    )
    gamma = math.exp(1.2 * random.uniform(-k, k))
    image = ((image + 1) / 2).clamp(0, 1) ** gamma * gain * 2 - 1
    grey = image.mean(dim=1, keepdim=True)
    image = torch.lerp(grey.expand_as(image), image, random.uniform(max(0.0, 1 - 2.5 * k), 1 + 1.5 * k))
    return (image + 0.6 * random.uniform(-k, k)).clamp(-1, 1)


def recoloured(image: Tensor, colour: Tensor, fraction: float) -> Tensor:
    """Shift the colours so that their mean goes a fraction of the way, in [0, 1], to a colour, [1, 3, 1, 1]."""
    mean = image.mean(dim=(2, 3), keepdim=True)
    return (image + fraction * (colour - mean)).clamp(-1, 1)


def lit_from_a_side(image: Tensor, random: SeededRandom, strength: float) -> Tensor:
    """Make one side, whichever, brighter and the other darker, by up to ``strength`` of the image range."""
    at = torch.linspace(-1, 1, image.shape[-1])
    angle = random.uniform(0, 2 * math.pi)
    slope = math.cos(angle) * at[None, :] + math.sin(angle) * at[:, None]
    return image + random.uniform(0, strength) * slope


def lit_by_a_spot(image: Tensor, random: SeededRandom, strength: float) -> Tensor:
    """Light by one soft spot of some colour: what is far from it loses up to ``strength``, in [0, 1], of its light."""
    at = torch.linspace(0, 1, image.shape[-1])
    x, y, radius = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.2, 0.8)
    spot = torch.exp(-((at[None, :] - x) ** 2 + (at[:, None] - y) ** 2) / (2 * radius * radius))
    light = torch.lerp(torch.tensor(1 - random.uniform(0.3, 1) * strength), torch.tensor(1.0), spot)
    tint = 1 + random.uniform(0, 0.4) * random.colour()
    return ((image + 1) * light * tint - 1).clamp(-1, 1)


def resampled(image: Tensor, fraction: float) -> Tensor:
    """Shrink to a fraction of the side, in (0, 1], and enlarge again: detail is lost, as in a small photo."""
    side = image.shape[-1]
    less = max(1, int(side * fraction))
    small = F.interpolate(image, size=(less, less), mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(small, size=(side, side), mode="bicubic", align_corners=False)


def noisy(image: Tensor, random: SeededRandom, sigma: float) -> Tensor:
    """Add noise of a standard deviation, in units of the image range [-1, 1]."""
    return image + sigma * random.normal(*image.shape)


def grey(image: Tensor) -> Tensor:
    """Grayscale: the mean of the colours, as three equal ones."""
    return image.mean(dim=1, keepdim=True).expand_as(image)


def through_jpeg(image: Tensor, quality: int) -> Tensor:
    """JPEG compression of a quality from 1 to 100, and back: rounded to 8 bits, within [-1, 1]."""
    pixels = unit_to_uint8((image[0].permute(1, 2, 0).contiguous() + 1) / 2)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as read:
        return from_uint8(np.array(read)[None])
