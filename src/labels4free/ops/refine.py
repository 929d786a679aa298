"""Alpha at the border: let it follow the edges of the image.

Alpha networks read maps that are coarser than the image, so that their borders are smooth where the image's are not.
Two methods, both optional: the guided filter, plain PyTorch, and closed-form matting by the library ``pymatting``.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch.nn import functional as F

from labels4free.errors import ConfigError
from labels4free.ops.photo_refine import solve_slopes

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_log = logging.getLogger(__name__)

_WIDTHS_PER_RADIUS = 32
_FIT_RADIUS = 8  # pixels: larger windows are fitted on maps pooled until they are no larger than twice that

Refinement = Literal["guided", "closed-form"]
"""The ways of refining alpha."""


def refine_alpha(
    image: Tensor, alpha: Tensor, method: Refinement = "guided", *, radius: int | None = None, eps: float = 1e-3
) -> Tensor:
    """Refine alpha at the border with the image as a guide.

    Borders become softer where the image does not decide: a mask of the result is best taken at 0.5. At 0.9 it loses
    more than the refinement gains (``docs/experiments.md``).

    Args:
        image: [N, 3, H, W], about [-1, 1].
        alpha: [N, 1, H, W], in [0, 1].
        method: ``guided`` or ``closed-form``.
        radius: How far around the border alpha may change, in pixels, at least 1; None for a 32nd of the width.
        eps: See :func:`guided_filter`; closed-form matting does not use it.

    Returns:
        [N, 1, H, W], in [0, 1].

    Raises:
        ConfigError: If the method is unknown, a number is out of range, the shapes do not fit, or closed-form matting
            is asked for and ``pymatting`` is not installed.
    """
    if image.ndim != 4 or image.shape[1] != 3 or alpha.shape != (len(image), 1, *image.shape[2:]):
        raise ConfigError(
            f"Refining needs images [N, 3, H, W] and alpha [N, 1, H, W], got {list(image.shape)} and "
            f"{list(alpha.shape)}."
        )
    radius = max(1, image.shape[-1] // _WIDTHS_PER_RADIUS) if radius is None else radius
    if radius < 1 or eps <= 0:
        raise ConfigError(f"Refining needs a radius of at least 1 pixel and eps above 0, got {radius} and {eps}.")
    guide = (image.clamp(-1, 1) + 1) / 2
    if method == "guided":
        return guided_filter(guide, alpha, radius, eps)
    if method == "closed-form":
        return closed_form(guide, alpha, radius)
    raise ConfigError(f"Alpha can be refined by {' or '.join(get_args(Refinement))}, got {method!r}.")


def guided_filter(guide: Tensor, alpha: Tensor, radius: int, eps: float) -> Tensor:
    """Make alpha a locally linear function of the guide's colours (He et al. 2013, Guided Image Filtering, section 3).

    In every window of (2 radius + 1)² pixels, cut at the picture's edge, alpha is fitted by ``a . I + b`` with penalty
    ``eps |a|²``; a pixel takes the mean of the fits of all windows that hold it. Where alpha is constant it stays. From
    a radius of 16 on the fits are made on pooled maps and enlarged (He and Sun 2015, Fast Guided Filter, arXiv
    1505.00996), which changes little: they are smooth.

    Args:
        guide: [N, 3, H, W], in [0, 1].
        alpha: [N, 1, H, W], in [0, 1].
        radius: Half the window's side in pixels, at least 1.
        eps: Colours whose variance within a window is far below this are taken for flat; above 0.

    Returns:
        [N, 1, H, W], in [0, 1].
    """
    # Metal has no float64: there the CPU fits.
    image, values = (x.to("cpu" if x.device.type == "mps" else x.device, torch.float64) for x in (guide, alpha))
    step = max(1, radius // _FIT_RADIUS)
    if step > 1:
        image, values = (F.avg_pool2d(x, step, ceil_mode=True) for x in (image, values))
    fits = torch.cat(_local_fits(image, values, radius // step, eps), dim=1).to(guide)
    if step > 1:
        fits = F.interpolate(fits, size=guide.shape[2:], mode="bilinear", align_corners=False)
    return ((fits[:, :3] * guide).sum(dim=1, keepdim=True) + fits[:, 3:]).clamp(0, 1)


def _local_fits(guide: Tensor, alpha: Tensor, radius: int, eps: float) -> tuple[Tensor, Tensor]:
    """Slope [N, 3, H, W] and offset [N, 1, H, W] of alpha over the guide, each the mean over a pixel's windows.

    In float64: colours within a window often lie on a line, and differences of squares then cancel.
    """

    def mean(x: Tensor) -> Tensor:  # over the window, along one axis after the other
        for kernel, padding in (((1, 2 * radius + 1), (0, radius)), ((2 * radius + 1, 1), (radius, 0))):
            x = F.avg_pool2d(x, kernel, stride=1, padding=padding, count_include_pad=False)
        return x

    guide_mean, alpha_mean = mean(guide), mean(alpha)
    left, right = (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)
    variances = mean(guide[:, left] * guide[:, right]) - guide_mean[:, left] * guide_mean[:, right]
    covariances = mean(guide * alpha) - guide_mean * alpha_mean
    slope = torch.cat(solve_slopes(variances.split(1, dim=1), covariances.split(1, dim=1), eps), dim=1)
    offset = alpha_mean - (slope * guide_mean).sum(dim=1, keepdim=True)
    return mean(slope), mean(offset)


def closed_form(guide: Tensor, alpha: Tensor, radius: int) -> Tensor:
    """Solve for alpha in a band around the border (Levin et al. 2008, A Closed-Form Solution to Natural Image Matting).

    Known are the pixels whose alpha is beyond 0.9 or 0.1 and that are further than ``radius`` from any that is not.
    Runs on the CPU, one image after the other. The first use after an installation of ``pymatting`` compiles for one to
    two minutes.

    Args:
        guide: [N, 3, H, W], in [0, 1].
        alpha: [N, 1, H, W], in [0, 1].
        radius: Half the band's width in pixels, at least 1.

    Returns:
        [N, 1, H, W], in [0, 1]; an alpha without known foreground or background stays as it is.

    Raises:
        ConfigError: If ``pymatting`` is not installed.
    """
    estimate = _closed_form_solver()
    kernel = 2 * radius + 1
    known = [1 - F.max_pool2d((side < 0.9).float(), kernel, stride=1, padding=radius) for side in (alpha, 1 - alpha)]
    trimap = (0.5 + 0.5 * (known[0] - known[1])).double().cpu().numpy()
    pictures = guide.double().permute(0, 2, 3, 1).cpu().numpy()
    refined = alpha.clone()
    for index, (picture, values) in enumerate(zip(pictures, trimap[:, 0], strict=True)):
        if (values == 1).any() and (values == 0).any() and (values == 0.5).any():
            solved = np.clip(estimate(np.ascontiguousarray(picture), values), 0, 1)
            refined[index, 0] = torch.from_numpy(solved).to(alpha)
    return refined


def _closed_form_solver() -> Callable[..., Any]:
    """What the library solves with: (image [H, W, 3] float64 in [0, 1], trimap [H, W] of 0, 0.5 and 1) -> [H, W]."""
    if "pymatting" not in sys.modules:
        _log.warning("Loading pymatting: when it is used for the first time, this compiles for one to two minutes.")
    try:
        from pymatting import estimate_alpha_cf
    except ImportError as error:
        raise ConfigError(
            "Closed-form matting needs the library pymatting: pip install pymatting, or refine by guided."
        ) from error
    solver: Callable[..., Any] = estimate_alpha_cf
    return solver
