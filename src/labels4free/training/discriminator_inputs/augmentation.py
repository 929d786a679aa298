"""Augmentation before the discriminator: composites and real images are changed at random, by the same rules.

A discriminator with few images learns them by heart; one that sees them turned, moved and tinted cannot. That must not
leak: what made the images must not learn to make turned ones. It does not as long as the distribution of the changed
images still tells that of the unchanged ones, which holds when each transform is done with a probability below 1
(Karras et al. 2020, arXiv 2006.06676, section 2 and appendices B, C; the transforms and their strengths are those of
its appendix B). The *finished* composite is changed, so alpha stays where its image is, and gets its gradient through
the change.

All moves of a sample are one affine map, done in one resampling with reflected edges and an interpolating cubic
kernel; all its colour changes are one matrix. Mirroring, quarter turns and whole-pixel shifts only copy pixels, and a
sample that is not changed comes back bit for bit.

Not kornia: 0.9 takes 4.8 ms for 8 images of 32x32 on one thread where this takes 1.3, resamples for each move,
turns by 90 degrees inexactly, clips colours to [0, 1] (no gradient there), and draws from PyTorch's global generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from labels4free.errors import CheckpointError, ConfigError
from labels4free.settings_fields import at_least, check_types, fraction
from labels4free.training_loop.distributed import ProcessGroup, process_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_SHIFT = 0.125  # largest whole-pixel shift, and standard deviation of the other, in image sides
_SCALE = 0.2  # standard deviation of the binary logarithm of scaling and stretching
_BRIGHTNESS = 0.2  # standard deviation, in units of the image range [-1, 1]
_CONTRAST = 0.5  # standard deviation of the binary logarithm
_SATURATION = 1.0  # standard deviation of the binary logarithm

_UNIFORM, _NORMAL = False, True
_SLOTS = {  # what is drawn for a sample, in the order in which it is done to the image
    "mirror": _UNIFORM,
    "rotate_90": _UNIFORM,
    "shift": _UNIFORM,
    "scale": _NORMAL,
    "rotate": _UNIFORM,
    "stretch": _NORMAL,
    "rotate again": _UNIFORM,
    "subpixel_shift": _NORMAL,
    "brightness": _NORMAL,
    "contrast": _NORMAL,
    "flip_luma": _UNIFORM,
    "hue": _UNIFORM,
    "saturation": _NORMAL,
}
_STATE = {"probability": float, "signs": int, "images": int, "steps": int, "overfitting": float}


@dataclass(frozen=True)
class AugmentationConfig:
    """Which changes are made to the images that the discriminator sees, and how often.

    The transforms that are on by default move whole pixels or change colours: neither blurs the seams that a
    discriminator of small images looks for. Those that resample are for composites of 64x64 and above.
    """

    mode: Literal["off", "fixed", "adaptive"] = "off"
    """off: images stay as they are; fixed: always with the same probability; adaptive: as often as the discriminator's
    overfitting asks for."""
    probability: float = 0.2
    """Mode fixed: probability of each transform, in [0, 1]; at 1 it leaks. Mode adaptive begins at 0 instead."""
    target: float = 0.6
    """Mode adaptive: mean sign of the discriminator's logits for real images, in (-1, 1), above which the probability
    rises and below which it falls."""
    length: int = 10_000
    """Mode adaptive: real images in which the probability can go from 0 to 1. (500,000 in the paper, whose runs see
    25 million.)"""
    interval: int = 4
    """Mode adaptive: discriminator steps from one change of the probability to the next."""
    max_probability: float = 0.8
    """Mode adaptive: the probability never goes beyond this, in [0, 1]; the paper finds leaks unlikely
    below 0.8."""
    mirror: bool = False
    """Mirror left to right, in half of the cases. The trainers' own mirroring of samples is another matter."""
    rotate_90: bool = True
    """Turn by 0, 90, 180 or 270 degrees."""
    shift: bool = True
    """Move by whole pixels, up to an eighth of the side each way."""
    scale: bool = False
    """Scale by a factor of log-normal distribution, 2^(0.2 n)."""
    rotate: bool = False
    """Turn by any angle."""
    stretch: bool = False
    """Scale one axis by 2^(0.2 n) and the other by its inverse; with `rotate`, along any direction."""
    subpixel_shift: bool = False
    """Move by a normally distributed distance, an eighth of the side each way, pixels' fractions included."""
    brightness: bool = True
    """Add 0.2 n, in units of the image range [-1, 1]."""
    contrast: bool = True
    """Multiply by 2^(0.5 n)."""
    flip_luma: bool = True
    """Exchange light and dark and keep the hue, in half of the cases."""
    hue: bool = True
    """Turn the hue by any angle."""
    saturation: bool = True
    """Multiply the saturation by 2^n."""

    def __post_init__(self) -> None:
        check_types(self, "augmentation.")
        fraction("augmentation.probability", self.probability)
        fraction("augmentation.max_probability", self.max_probability)
        if not -1 < self.target < 1:
            raise ConfigError(f"augmentation.target must lie between -1 and 1, both excluded, got {self.target}.")
        at_least("augmentation.length", self.length, 1)
        at_least("augmentation.interval", self.interval, 1)
        names = [name for name in _SLOTS if hasattr(self, name)]
        if self.mode != "off" and not any(getattr(self, name) for name in names):
            raise ConfigError(
                f"augmentation.mode is {self.mode!r}, but every transform is off; switch on at least one of "
                f"{', '.join(names)}, or set augmentation.mode to 'off'."
            )


class Augmenter:
    """Adaptive discriminator augmentation (ADA): changes images at random, and adapts how often.

    Attributes:
        config: Settings.
        probability: Of each transform, for each image; 0 in mode off.
        overfitting: Mean sign of the discriminator's logits for the real images of the last interval, in [-1, 1]; the
            paper's r_t. 0 before the first.
    """

    def __init__(self, config: AugmentationConfig) -> None:
        """Begin with ``config.probability``, or with 0 where it adapts."""
        self.config = config
        self.probability = config.probability if config.mode == "fixed" else 0.0
        self.overfitting = 0.0
        self._signs = self._images = self._steps = 0

    def __call__(self, images: Tensor, rng: torch.Generator, *, sharded: bool = False) -> Tensor:
        """Change a batch, each image by draws of its own.

        Args:
            images: [N, 3, R, R], floating point, about [-1, 1]; on any device. This process's shard of the batch.
            rng: Source of every draw, on the CPU; the same in every process. It takes the same number of
                draws whatever the probability and the transforms, none in mode off.
            sharded: The images are this process's part of a batch that all processes share, and draw for together.

        Returns:
            The same shape, type and device, differentiable in ``images`` any number of times; ``images`` themselves
            where nothing is changed.

        Raises:
            ValueError: If the images are not square or have other than three channels.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ValueError(f"Augmentation needs square images [N, 3, R, R], got {list(images.shape)}.")
        if self.config.mode == "off":
            return images
        group = process_group() if sharded else ProcessGroup()
        draws = _draw(self.config, self.probability, len(images) * group.size, rng)
        if self.probability == 0:
            return images
        draws = {name: group.shard_batch(amounts, 1) for name, amounts in draws.items()}
        return recolour(warp(images, _affine_maps(draws, images.shape[-1])), _colour_matrices(draws))

    def update(self, real_logits: Tensor) -> None:
        """Adapt the probability, once every ``config.interval`` calls; call it after every discriminator step.

        Args:
            real_logits: [N, 1] or [N], the discriminator's logits for real images, as it was trained on them:
                augmented. This process's shard of them.
        """
        config = self.config
        if config.mode != "adaptive":
            return
        signs = int((real_logits > 0).sum()) - int((real_logits < 0).sum())
        signs, images = process_group().sum(signs, real_logits.numel())
        self._signs += signs
        self._images += images
        self._steps += 1
        if self._steps < config.interval or not self._images:
            return
        self.overfitting = self._signs / self._images
        direction = (self.overfitting > config.target) - (self.overfitting < config.target)
        moved = self.probability + direction * self._images / config.length
        self.probability = min(max(moved, 0.0), config.max_probability)
        self._signs = self._images = self._steps = 0

    def numbers(self) -> dict[str, float]:
        """What a log should have of it: nothing in mode off."""
        if self.config.mode == "off":
            return {}
        return {"augmentation_probability": self.probability, "overfitting": self.overfitting}

    def parts(self) -> dict[str, Augmenter]:
        """What a checkpoint should have of it, by name: nothing in mode off."""
        return {} if self.config.mode == "off" else {"augmenter": self}

    def state_dict(self) -> dict[str, Any]:
        """What the next calls depend on, but the settings: plain numbers."""
        return {
            "probability": self.probability,
            "signs": self._signs,
            "images": self._images,
            "steps": self._steps,
            "overfitting": self.overfitting,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            CheckpointError: If a number is missing or impossible; nothing is changed then.
        """
        for name, kind in _STATE.items():
            if type(state.get(name)) is not kind:
                raise CheckpointError(
                    f"The state of the augmentation needs {name!r} as {kind.__name__}, got {state.get(name)!r}; resume "
                    "from a checkpoint that was written with these settings."
                )
        if not 0 <= state["probability"] <= 1:
            raise CheckpointError(f"The augmentation's probability must lie in [0, 1], got {state['probability']}.")
        self.probability, self.overfitting = state["probability"], state["overfitting"]
        self._signs, self._images, self._steps = state["signs"], state["images"], state["steps"]


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Resample each image along an affine map, edges reflected, with the cubic kernel of Keys (1981), a = -1/2.

    Maps that lead from pixels to pixels copy them exactly; others blur as little as 4x4 pixels can. There is no filter
    against aliasing: shrunk images alias a little, real ones and composites alike.

    Args:
        images: [N, C, R, R], floating point.
        maps: [N, 2, 3], on the CPU: from (x, y, 1) of the result's pixels to (x, y) of the image's, in pixels from the
            centre, x to the right and y down.

    Returns:
        [N, C, R, R]; ``images`` themselves where every map is the identity.
    """
    if torch.equal(maps, torch.eye(2, 3, dtype=maps.dtype).expand_as(maps)):
        return images
    size = images.shape[-1]
    whole = torch.equal(maps, maps.round())
    a = maps.float().to(images.device)[..., None, None]  # [N, 2, 3, 1, 1]; not every device has doubles
    line = torch.arange(size, dtype=torch.float32, device=images.device) - (size - 1) / 2
    x, y = (a[:, i, 0] * line + a[:, i, 1] * line[:, None] + a[:, i, 2] + (size - 1) / 2 for i in (0, 1))
    if whole:
        index = _reflected(y, size) * size + _reflected(x, size)
        return _pick(images.flatten(2), index.flatten(1)).view_as(images)
    work = images if images.dtype in (torch.float32, torch.float64) else images.float()
    pixels = work.flatten(2)
    columns, rows = (_taps(position.flatten(1), size, work.dtype) for position in (x, y))
    out = torch.zeros_like(pixels)
    for row, row_weight in rows:
        line_out = torch.zeros_like(pixels)
        for column, column_weight in columns:
            line_out = line_out + _pick(pixels, row * size + column) * column_weight
        out = out + line_out * row_weight
    return out.view_as(images).to(images.dtype)


def recolour(images: Tensor, matrices: Tensor) -> Tensor:
    """Color transform: send every pixel's colour through an affine map of its sample.

    Args:
        images: [N, 3, H, W], floating point.
        matrices: [N, 3, 4], on the CPU: from (red, green, blue, 1) to (red, green, blue).

    Returns:
        [N, 3, H, W], nothing clipped; ``images`` themselves where every map is the identity.
    """
    if torch.equal(matrices, torch.eye(3, 4, dtype=matrices.dtype).expand_as(matrices)):
        return images
    work = images if images.dtype in (torch.float32, torch.float64) else images.float()
    m = matrices.to(work.dtype).to(images.device)[..., None, None]  # [N, 3, 4, 1, 1]
    # Written out: a matrix product might be done in fewer bits (TF32, autocast), and then change what should stay.
    mixed = m[:, :, 0] * work[:, :1] + m[:, :, 1] * work[:, 1:2] + m[:, :, 2] * work[:, 2:] + m[:, :, 3]
    return mixed.to(images.dtype)


def _draw(config: AugmentationConfig, probability: float, n: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Slot -> [2, n] amounts, float64: uniform in [-1, 1) or normal, 0 where the transform is not done to a sample."""
    chances = []
    for name in _SLOTS:
        if name.startswith("rotate") and name != "rotate_90":  # before or after stretching: at least once with p
            chances.append(config.rotate * (1 - math.sqrt(1 - probability)))
        else:
            chances.append(getattr(config, name) * probability)
    gate = torch.rand(len(_SLOTS), 1, n, generator=rng, dtype=torch.float64)
    uniform = 2 * torch.rand(len(_SLOTS), 2, n, generator=rng, dtype=torch.float64) - 1
    normal = torch.randn(len(_SLOTS), 2, n, generator=rng, dtype=torch.float64)
    amounts = torch.where(torch.tensor(list(_SLOTS.values()))[:, None, None], normal, uniform)
    done = gate < torch.tensor(chances, dtype=torch.float64)[:, None, None]
    return dict(zip(_SLOTS, torch.where(done, amounts, torch.zeros_like(amounts)), strict=True))


def _affine_maps(draws: Mapping[str, Tensor], size: int) -> Tensor:
    """[N, 2, 3], as :func:`warp` takes them: the inverses of what is done to the image, the last of it first."""
    quarter = (2 * draws["rotate_90"][0]).floor().long() % 4  # 0 stays 0
    cos = torch.tensor([1.0, 0.0, -1.0, 0.0], dtype=torch.float64)[quarter]
    sin = torch.tensor([0.0, 1.0, 0.0, -1.0], dtype=torch.float64)[quarter]
    mirror = torch.where(draws["mirror"][0] > 0, -1.0, 1.0).double()
    exact = torch.stack([mirror * cos, mirror * sin, -sin, cos], -1).view(-1, 2, 2)
    stretch = torch.diag_embed(torch.exp2(_SCALE * draws["stretch"][0][:, None] * torch.tensor([-1.0, 1.0])))
    zoom = torch.exp2(-_SCALE * draws["scale"][0])[:, None, None]
    fine = zoom * _rotation(draws["rotate"][0]) @ stretch @ _rotation(draws["rotate again"][0])
    shift = (_SHIFT * size * draws["shift"]).round().T[..., None]
    fine_shift = _SHIFT * size * draws["subpixel_shift"].T[..., None]
    return torch.cat([exact @ fine, -exact @ (fine @ fine_shift + shift)], -1)


def _rotation(turn: Tensor) -> Tensor:
    """[N, 2, 2] from half turns [N]."""
    cos, sin = (math.pi * turn).cos(), (math.pi * turn).sin()
    return torch.stack([cos, sin, -sin, cos], -1).view(-1, 2, 2)


def _colour_matrices(draws: Mapping[str, Tensor]) -> Tensor:
    """[N, 3, 4], as :func:`recolour` takes them.

    The grey axis and the plane of hues go their own ways: the axis is turned over or not, the plane turned by the hue's
    angle and stretched by the saturation, both times the contrast. Written as changes of the identity, so that no draw
    leaves exactly it.
    """
    grey = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    turned = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]).double() / math.sqrt(3)
    identity = torch.eye(3, dtype=torch.float64)
    contrast = torch.exp2(_CONTRAST * draws["contrast"][0])[:, None, None]
    luma = torch.where(draws["flip_luma"][0] > 0, -1.0, 1.0).double()[:, None, None]
    hue = math.pi * draws["hue"][0][:, None, None]
    saturation = torch.exp2(_SATURATION * draws["saturation"][0])[:, None, None]
    hues = (saturation * hue.cos() - 1) * (identity - grey) + saturation * hue.sin() * turned
    linear = contrast * (identity + (luma - 1) * grey + hues)
    offset = contrast * luma * _BRIGHTNESS * draws["brightness"][0][:, None, None]  # brightness comes before them
    return torch.cat([linear, offset.expand(-1, 3, 1)], -1)


def _taps(position: Tensor, size: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Indices [N, P] and weights [N, 1, P] of the four pixels around positions [N, P] on a line of ``size``."""
    base = position.floor()
    t = (position - base).to(dtype)
    weights = (
        t * (t * (1 - 0.5 * t) - 0.5),
        t * t * (1.5 * t - 2.5) + 1,
        t * (t * (2 - 1.5 * t) + 0.5),
        t * t * (0.5 * t - 0.5),
    )
    return [(_reflected(base + k - 1, size), weight[:, None]) for k, weight in enumerate(weights)]


def _reflected(position: Tensor, size: int) -> Tensor:
    """Whole positions on the infinite line -> indices into [0, size), mirrored at the middle of the edge pixels."""
    last = size - 1
    return (last - (last - position.remainder(max(1, 2 * last))).abs()).long()


def _pick(pixels: Tensor, index: Tensor) -> Tensor:
    """Pixels [N, C, P] at indices [N, P] -> [N, C, P]."""
    # A gather, not F.grid_sample: exact, differentiable twice, and repeatable where PyTorch is asked to be.
    return pixels.gather(2, index[:, None].expand(-1, pixels.shape[1], -1))
