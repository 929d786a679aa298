"""A generator and a feature net of a few formulas, for path lengths beside the published code."""

from __future__ import annotations

import torch
from torch.nn import functional as F

SIDE, WIDTH, EPSILON = 512, 8, 1e-2


def mapping(z):
    """w [N, 8] of z [N, 8]; knows only its direction, as StyleGAN's."""
    rng = torch.Generator().manual_seed(1)
    z = z / z.square().mean(dim=1, keepdim=True).sqrt()
    return torch.tanh(z @ torch.randn(WIDTH, WIDTH, generator=rng, dtype=z.dtype) / 2)


def synthesis(w):
    """Images [N, 3, 512, 512] in [-1, 1] of w [N, 8]."""
    rng = torch.Generator().manual_seed(2)
    waves = torch.randn(WIDTH, 3, 16, 16, generator=rng, dtype=w.dtype)
    return torch.sin(F.interpolate(torch.einsum("nk,kcyx->ncyx", w, waves), size=SIDE, mode="bilinear"))


def features(images):
    """Features [N, F] of images in [0, 255]."""
    return F.avg_pool2d((images / 50).sin(), 16).flatten(1)
