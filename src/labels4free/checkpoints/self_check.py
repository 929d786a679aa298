"""Does a loaded generator work? A picture to look at, and numbers that tell the usual mistakes of a conversion.

Every number has a range that trained generators keep with room to spare; outside of it there is a warning, which is a
reason to look at the picture and no proof. What numbers cannot tell is in ``docs/checkpoints.md``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from labels4free.errors import CheckpointError
from labels4free.generators.base import sample_label, sample_z
from labels4free.ops.wavelets import haar
from labels4free.pictures.contact_sheet import contact_sheet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    from labels4free.generators.base import Generator
    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.networks.discriminator import Discriminator

TRUNCATION_PSI = 0.7
SAMPLES = 6
LATENTS = 1000
_SEED = 0
_STYLE_BIASES = (".affine.bias", ".modulation.bias", ".up.bias")
_KERNEL_SAMPLES = 2
_KERNEL_CHANGES: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "flipped_up-sampling_kernels": (".conv0.", lambda kernel: kernel.flip(2, 3)),
    "all_kernels_flipped": ("", lambda kernel: kernel.flip(2, 3)),
    "all_kernels_transposed": ("", lambda kernel: kernel.transpose(2, 3)),
}
"""Change -> part of the names of the kernels that it is done to, and what is done."""
_CELL = (96, 256)  # smallest and largest picture on the sheet, in pixels

# "FFHQ" is the generator of the model zoo, with StyleGAN2's own mapping network. "Random" is a StyleGAN2 with the
# weights that training starts from.
MAX_W_AVG_DISTANCE = 0.25
"""In spreads of w. FFHQ 0.04, which is the error of a mean of 1,000; w_avg = 0 gives 0.41, transposed weights 1.5."""
MIN_W_VARIETY = 0.1
"""Spread of w over its size. FFHQ 0.92, random 0.6; a learning-rate multiplier ten times too small gives 1e-9."""
W_SIZE = (0.01, 30.0)
"""Root mean square of w. FFHQ 0.48, random 0.7 to 1; a multiplier ten times too large gives 1e5 and more."""
MIN_STYLE_BIAS = 0.3
"""Mean bias of the layers' styles. Training starts from 1; FFHQ 3.3, a StyleGAN2 fitted to its images 0.85, and -0.15
without the 1 that TensorFlow files leave out."""
LAYER_SIZE = (0.01, 100.0)
"""Root mean square of a feature map. FFHQ 0.16 to 5, random 0.4 to 0.9."""
MAX_LAYER_STEP = 20.0
"""Ratio between the sizes of neighbouring maps. FFHQ up to 5.8, random 1.8."""
IMAGE_DEVIATION = (0.15, 1.0)
"""Standard deviation of the pixels. FFHQ 0.51, photos 0.4 to 0.6; above 1 they cannot all lie in [-1, 1]."""
MAX_OUTSIDE = 0.25
"""Fraction of values outside [-1, 1]. FFHQ 0.0002; pictures with white backgrounds overshoot somewhat more often."""
MIN_VARIETY = 0.1
"""Deviation between samples over that of the pixels. FFHQ 0.9, random 0.4 to 0.6, equal samples 0."""
MAX_FINE_FRACTION = 0.25
"""Fraction of the image's variance in the finest Haar bands. FFHQ 0.005, random 0.05 to 0.09 at 64² and 32², white
noise 0.75."""
MAX_KERNEL_GAIN = 1.35
"""How much larger the feature maps would be with flipped or transposed kernels, on average over the layers. Trained:
0.6 to 0.7 (FFHQ; a StyleGAN2 fitted to its images); the same converted wrongly, so that the change mends it: 1.4 to
1.6; random 0.8 to 1.3, the further from 1 the narrower the network."""
MAX_CHECKERBOARD = 1.5
"""Variance of the diagonal finest band over the mean of the other two. FFHQ 0.26, random 0.6, white noise 1."""
MAX_LOGIT = 1000.0
"""Size of a discriminator's output. Trained ones stay within some tens."""


@dataclass(frozen=True)
class SelfCheck:
    """What a self-check found.

    Attributes:
        numbers: Measurements by name; fractions in [0, 1], image values in units of the image range [-1, 1].
        layers: Root mean square of each feature map, coarse to fine.
        warnings: What lies outside the range of trained generators, one sentence each; empty if nothing does.
        picture: [H, W, 3], uint8: samples, the same without their objects and, with an alpha network, their alpha.
    """

    numbers: dict[str, float]
    layers: dict[str, float]
    warnings: tuple[str, ...]
    picture: NDArray[np.uint8]


@torch.inference_mode()
def self_check(
    generator: Generator,
    discriminator: Discriminator | None = None,
    alpha_network: AlphaNetwork | None = None,
    *,
    what: str = "The generator",
    progress: Callable[[int, int], None] | None = None,
) -> SelfCheck:
    """Render a few samples and measure them, at truncation 0.7 with fixed noise and fixed seeds.

    Args:
        generator: In evaluation mode, on any device.
        discriminator: One of the same resolution; it judges the samples.
        alpha_network: One that fits the generator; its alpha is drawn.
        what: The file, for messages.
        progress: Called as ``progress(steps done, steps)``.

    Raises:
        CheckpointError: If anything comes out as NaN or infinite.
    """
    numbers, warnings = _check_mapping(generator, what)
    biases = [float(v.mean()) for k, v in generator.state_dict().items() if k.endswith(_STYLE_BIASES)]
    if biases:
        numbers["style_bias"] = sum(biases) / len(biases)
        if numbers["style_bias"] < MIN_STYLE_BIAS:
            warnings.append(
                f"The biases of the layers' styles have a mean of {numbers['style_bias']:.2f}, expected at least "
                f"{MIN_STYLE_BIAS:g}: the 1 that some formats leave out may not have been added."
            )
    samples = _Samples(generator, discriminator, alpha_network, what)
    for index in range(SAMPLES):
        samples.render(index)
        if progress:
            progress(index + 1, SAMPLES + 1)
    layers = samples.layers()
    warnings += _layer_warnings(layers)
    kernels, told = _check_kernels(generator)
    if progress:
        progress(SAMPLES + 1, SAMPLES + 1)
    numbers |= kernels
    warnings += told
    found = samples.image_numbers()
    warnings += _image_warnings(found, generator.resolution)
    if discriminator is not None:
        found["discriminator_logit_max"] = samples.largest_logit
        if samples.largest_logit > MAX_LOGIT:
            warnings.append(
                f"The discriminator gives logits of up to {samples.largest_logit:.3g}, expected at most "
                f"{MAX_LOGIT:g}: its weights may be scaled wrongly."
            )
    return SelfCheck(numbers | found, layers, tuple(warnings), samples.sheet())


def _check_mapping(generator: Generator, what: str) -> tuple[dict[str, float], list[str]]:
    device, c_dim = generator.w_avg.device, generator.c_dim
    z = torch.stack([sample_z(generator.z_dim, _SEED, i) for i in range(LATENTS)]).to(device)
    labels = None
    if c_dim:
        labels = torch.eye(c_dim, device=device)[[sample_label(c_dim, _SEED, i) for i in range(LATENTS)]]
    w = generator.map(z, labels=labels)[:, 0].double()
    _require_finite(w, "its mapping network", what)
    _require_finite(generator.w_avg, "w_avg", what)
    mean = w.mean(0)
    spread = (w - mean).square().sum(1).mean().sqrt()
    size = w.square().mean().sqrt()
    numbers = {
        "w_size": float(size),
        "w_variety": float(spread / w.square().sum(1).mean().sqrt().clamp(min=1e-30)),
        "w_avg_distance": float((generator.w_avg.double() - mean).norm() / spread.clamp(min=1e-30)),
    }
    warnings = []
    if not W_SIZE[0] <= numbers["w_size"] <= W_SIZE[1]:
        warnings.append(
            f"The mapped latents have values of size {numbers['w_size']:.3g}, expected {W_SIZE[0]:g} to "
            f"{W_SIZE[1]:g}: the mapping network or its learning-rate multiplier may be wrong."
        )
    if numbers["w_variety"] < MIN_W_VARIETY:
        warnings.append(
            f"The mapped latents are nearly all the same (they vary by {numbers['w_variety']:.2g} of their size): the "
            "mapping network or its learning-rate multiplier may be wrong."
        )
    elif numbers["w_avg_distance"] > MAX_W_AVG_DISTANCE:
        unless = ", unless some classes were far more frequent in training" if c_dim else ""
        warnings.append(
            f"w_avg lies {numbers['w_avg_distance']:.2f} times the spread of w away from the mean of mapped latents, "
            f"expected at most {MAX_W_AVG_DISTANCE:g}: it or the mapping network's weights may be wrong{unless}."
        )
    return numbers, warnings


class _Samples:
    """Renders the samples one at a time, keeping sums and small pictures only."""

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator | None,
        alpha_network: AlphaNetwork | None,
        what: str,
    ) -> None:
        self.generator, self.discriminator, self.alpha_network = generator, discriminator, alpha_network
        self.what = what
        self.rows: dict[str, list[Tensor]] = {"image": [], "without object": []}
        self.largest_logit = 0.0
        self._squares = [0.0] * len(generator.feature_specs)
        self._images: list[Tensor] = []

    def render(self, index: int) -> None:
        """Render and measure one sample."""
        generator = self.generator
        label = index % generator.c_dim if generator.c_dim else None
        ws = generator.draw_ws(_SEED, index, TRUNCATION_PSI, label=label)
        image, features = generator.synthesize(ws)
        for k, (spec, values) in enumerate(zip(generator.feature_specs, features, strict=True)):
            norm = torch.linalg.vector_norm(values)  # not finite if a value is not; needs no memory for the widest maps
            _require_finite(norm, f"layer {spec.name}", self.what)
            self._squares[k] += float(norm) ** 2 / values.numel() / SAMPLES
        _require_finite(image, "its image", self.what)
        behind = generator.synthesize(ws, background=generator.default_background).image
        _require_finite(behind, "its image without the object", self.what)
        self._images.append(image.cpu())
        self.rows["image"].append(self._small(image))
        self.rows["without object"].append(self._small(behind))
        if self.alpha_network is not None:
            alpha = self.alpha_network(features)
            _require_finite(alpha, "its alpha network", self.what)
            self.rows.setdefault("alpha", []).append(self._small(alpha))
        if self.discriminator is not None:
            labels = None if label is None else torch.eye(generator.c_dim, device=ws.device)[label : label + 1]
            logits = self.discriminator(image, labels)
            _require_finite(logits, "its discriminator", self.what)
            self.largest_logit = max(self.largest_logit, float(logits.abs().max()))

    def layers(self) -> dict[str, float]:
        """Root mean square of each feature map."""
        return {s.name: q**0.5 for s, q in zip(self.generator.feature_specs, self._squares, strict=True)}

    def image_numbers(self) -> dict[str, float]:
        """Statistics of the images."""
        images = torch.cat(self._images)
        deviation = float(images.std())
        bands = haar(images).chunk(4, dim=1)
        # The transform is orthonormal, four values a 2x2 block: a quarter of the bands' power is the pixels' variance.
        rows, columns, diagonal = (float(band.square().mean()) / 4 for band in bands[1:])
        tiny = 1e-30
        return {
            "image_mean": float(images.mean()),
            "image_deviation": deviation,
            "image_min": float(images.min()),
            "image_max": float(images.max()),
            "outside_fraction": float((images.abs() > 1).float().mean()),
            "variety": float(images.std(dim=0).mean()) / max(deviation, tiny),
            "fine_fraction": (rows + columns + diagonal) / max(deviation**2, tiny),
            "checkerboard": 2 * diagonal / max(rows + columns, tiny),
        }

    def sheet(self) -> NDArray[np.uint8]:
        """The contact sheet: a row each of images, backgrounds and alphas."""
        cell = min(max(self.generator.resolution, _CELL[0]), _CELL[1])
        return contact_sheet(list(self.rows.values()), row_titles=list(self.rows), cell=cell)

    def _small(self, picture: Tensor) -> Tensor:
        shrink = max(1, picture.shape[-1] // _CELL[1])
        return F.avg_pool2d(picture.float(), shrink).cpu()


def _check_kernels(generator: Generator) -> tuple[dict[str, float], list[str]]:
    """Flip and transpose the kernels: those of a trained network answer to each other only as they were trained."""
    numbers: dict[str, float] = {}
    right = _log_sizes(generator)
    for change, (part, act) in _KERNEL_CHANGES.items():
        other = copy.deepcopy(generator)
        kernels = [v for k, v in other.state_dict().items() if v.ndim == 4 and v.shape[2:] == (3, 3) and part in k]
        for value in kernels:
            value.copy_(act(value).clone())
        if kernels:
            numbers[f"gain_{change}"] = float((_log_sizes(other) - right).mean().exp())
    if not numbers:
        return numbers, []
    best = max(numbers, key=lambda name: numbers[name])
    if not numbers[best] > MAX_KERNEL_GAIN:
        return numbers, []
    warning = (
        f"With {best.removeprefix('gain_').replace('_', ' ')} the feature maps would be {numbers[best]:.2f} times as "
        f"large, expected at most {MAX_KERNEL_GAIN:g} times: that may be how they were trained."
    )
    return numbers, [warning]


def _log_sizes(generator: Generator) -> Tensor:
    """Logarithm of each feature map's root mean square, over a few samples."""
    squares = torch.zeros(len(generator.feature_specs), dtype=torch.float64)
    for index in range(_KERNEL_SAMPLES):
        features = generator.synthesize(generator.draw_ws(_SEED, index, TRUNCATION_PSI)).features
        squares += torch.tensor([float(torch.linalg.vector_norm(f)) ** 2 / f.numel() for f in features])
    return squares.clamp(min=1e-60).log() / 2


def _require_finite(values: Tensor, part: str, what: str) -> None:
    if not values.isfinite().all():
        raise CheckpointError(
            f"{what} does not work: {part} gives values that are NaN or infinite. Its weights are damaged or were "
            "converted wrongly; try another file of it."
        )


def _layer_warnings(layers: dict[str, float]) -> list[str]:
    warnings = []
    odd = {name: size for name, size in layers.items() if not LAYER_SIZE[0] <= size <= LAYER_SIZE[1]}
    if odd:
        name, size = next(iter(odd.items()))
        warnings.append(
            f"Layer {name} gives values of size {size:.3g}, expected {LAYER_SIZE[0]:g} to {LAYER_SIZE[1]:g} "
            f"({len(odd)} of {len(layers)} layers): their weights, biases or noise may be scaled wrongly."
        )
        return warnings
    steps = _steps(layers.items())
    if steps and steps[0][0] > MAX_LAYER_STEP:
        ratio, before, after = steps[0]
        warnings.append(
            f"The values of layers {before} and {after} differ in size by a factor of {ratio:.0f}, expected at most "
            f"{MAX_LAYER_STEP:g}: the weights, bias or noise of one may be scaled wrongly."
        )
    return warnings


def _steps(layers: Iterable[tuple[str, float]]) -> list[tuple[float, str, str]]:
    """Ratios of neighbouring layers, the largest first."""
    steps = ((max(a / b, b / a), before, after) for (before, a), (after, b) in pairwise(layers))
    return sorted(steps, reverse=True)


def _image_warnings(numbers: dict[str, float], resolution: int) -> list[str]:
    warnings = []
    deviation, outside = numbers["image_deviation"], numbers["outside_fraction"]
    if not IMAGE_DEVIATION[0] <= deviation <= IMAGE_DEVIATION[1] or outside > MAX_OUTSIDE:
        warnings.append(
            f"The pixels have a standard deviation of {deviation:.2g} and {outside:.0%} of them lie outside [-1, 1], "
            f"expected {IMAGE_DEVIATION[0]:g} to {IMAGE_DEVIATION[1]:g} and at most {MAX_OUTSIDE:.0%}: the generator "
            "is untrained or its weights were converted wrongly."
        )
    if numbers["variety"] < MIN_VARIETY:
        warnings.append(
            f"The samples hardly differ (by {numbers['variety']:.2g} of the pixels' deviation): the mapping network "
            "or the layers' styles may be wrong."
        )
    if resolution > 4 and (numbers["fine_fraction"] > MAX_FINE_FRACTION or numbers["checkerboard"] > MAX_CHECKERBOARD):
        warnings.append(
            f"The finest details carry {numbers['fine_fraction']:.0%} of the images' variance, the diagonal ones "
            f"{numbers['checkerboard']:.1f} times as much as the others, expected at most {MAX_FINE_FRACTION:.0%} and "
            f"{MAX_CHECKERBOARD:g} times: noise or checkerboards, as wrong noise or resampling makes them."
        )
    return warnings
