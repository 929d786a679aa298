"""What a data set consists of: pairs of an image and its mask, their measurements, and how they lie on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from labels4free.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SPECK = 0.001
"""Components of a mask below this fraction of the picture are not counted: single pixels are no objects."""


@dataclass(frozen=True)
class PairRecord:
    """Measurements of one pair, from its pixels as they are written: reading a file back gives the same.

    Attributes:
        index: The candidate's number.
        foreground_ratio: Fraction of the pixels that are foreground in the mask, in [0, 1].
        alpha_mean: Mean alpha, in [0, 1].
        sharpness: 1 where every alpha is 0 or 1, 0 where all are 0.5: ``1 - 2 mean min(alpha, 1 - alpha)``; of alpha
            before any refinement, which softens hair on purpose.
        center_bias: Mean alpha of the middle (the disc of half the width) minus that of the border (the frame of an
            eighth of the width), in [-1, 1]; objects sit in the middle.
        components: Parts of the mask that do not touch (by an edge), each with at least :data:`SPECK` of the pixels.
        largest_component_fraction: Fraction of the mask's pixels that are in its largest part, in [0, 1]; 0 for an
            empty mask.
        truncation_psi: Truncation that the latents were drawn with.
        label: Class of the image, for class-conditional generators.
        uncertainty: In [0, 1], see :mod:`labels4free.sampling.uncertainty`; None where it was not asked for.
        discriminator_score: The discriminator's logit for the image: larger looks more real; None where there is none.
    """

    index: int
    foreground_ratio: float
    alpha_mean: float
    sharpness: float
    center_bias: float
    components: int
    largest_component_fraction: float
    truncation_psi: float
    label: int | None = None
    uncertainty: float | None = None
    discriminator_score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The attributes as JSON values; what is None is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_json`.

        Raises:
            DataError: If a value is missing, of another kind or unknown.
        """
        known = {f.name: f for f in fields(cls)}
        try:
            for name, value in values.items():
                kinds = (int,) if known[name].type in ("int", "int | None") else (int, float)
                if type(value) not in kinds:
                    raise TypeError(f"{name} is {value!r}")
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise DataError(f"These are no measurements of a pair ({error}): {str(values)[:200]}.") from error


@dataclass(frozen=True, eq=False)
class Pair:
    """One pair, ready for a file.

    Attributes:
        record: Its measurements.
        pictures: Part -> pixels, for the parts that were asked for: uint8 [H, W, 3] RGB for ``image``, ``composite``
            and ``background``; uint8 or uint16 [H, W] for ``alpha`` (the largest value is 1); uint8 [H, W], 0 or 255,
            for ``mask``; uint8 [H, W, 4] RGBA, not premultiplied, for ``cutout``.
        latents: float32 arrays by name, where asked for: ``ws`` [num_ws, w_dim] of the image, ``background_ws`` of the
            generated background.
    """

    record: PairRecord
    pictures: Mapping[str, NDArray[Any]]
    latents: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class PairLayout:
    """How pairs are written.

    Attributes:
        parts: What of each pair, names of :data:`labels4free.data.names.PARTS`.
        image_format: ``png``, ``jpeg`` or ``webp``, of the colour pictures; masks, alphas and cut-outs lose nothing.
        quality: Of JPEG and WebP, 1 to 100.
        alpha_bits: 8 or 16.
        category: What the object is called, in formats that name it.
        shard_size: Candidates of a shard.
        size: Side of every picture, in pixels.
    """

    parts: tuple[str, ...]
    image_format: str
    quality: int
    alpha_bits: int
    category: str
    shard_size: int
    size: int


@dataclass(frozen=True)
class FileEntry:
    """What a finished file must be: its length in bytes and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


def measure(
    index: int,
    alpha: NDArray[np.uint8] | NDArray[np.uint16],
    mask: NDArray[np.uint8],
    *,
    truncation_psi: float = 1.0,
    label: int | None = None,
    uncertainty: float | None = None,
    discriminator_score: float | None = None,
    sharpness: float | None = None,
) -> PairRecord:
    """Measure a pair.

    Args:
        index: The candidate's number.
        alpha: [H, W], uint8 or uint16, as written: the type's largest value is 1.
        mask: [H, W], uint8, 0 or 255.
        truncation_psi: Goes into the record, as do the following.
        label: See :class:`PairRecord`.
        uncertainty: See there.
        discriminator_score: See there.
        sharpness: Taken as it is; None measures it here.

    Returns:
        The record; fractions are rounded to six digits.
    """
    top = int(np.iinfo(alpha.dtype).max)
    middle, border = _regions(alpha.shape[0], alpha.shape[1])
    counts = np.bincount(alpha.ravel(), minlength=top + 1)
    values = np.arange(top + 1)
    total = alpha.size
    if sharpness is None:
        sharpness = 1 - 2 * float(counts @ np.minimum(values, top - values)) / (top * total)
    center_bias = 0.0
    if middle.any() and border.any():  # a picture of one pixel has no border
        center_bias = (float(alpha[middle].mean(dtype=np.float64)) - float(alpha[border].mean(dtype=np.float64))) / top
    sizes = component_sizes(mask > 127)
    foreground = int(sizes.sum())
    numbers = {
        "foreground_ratio": foreground / total,
        "alpha_mean": float(counts @ values) / (top * total),
        "sharpness": sharpness,
        "center_bias": center_bias,
        "largest_component_fraction": int(sizes.max()) / foreground if foreground else 0.0,
    }
    return PairRecord(
        index=index,
        **{name: round(float(number), 6) for name, number in numbers.items()},
        components=int((sizes >= SPECK * total).sum()),
        truncation_psi=truncation_psi,
        label=label,
        uncertainty=None if uncertainty is None else round(float(uncertainty), 6),
        discriminator_score=None if discriminator_score is None else round(float(discriminator_score), 6),
    )


@lru_cache(maxsize=4)
def _regions(height: int, width: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The middle and the border of a picture, boolean [H, W]."""
    y, x = (np.abs((np.arange(side) + 0.5) / side - 0.5) for side in (height, width))
    return y[:, None] ** 2 + x[None, :] ** 2 < 0.25**2, (y[:, None] > 0.375) | (x[None, :] > 0.375)


def component_sizes(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pixels of each 4-connected component of a mask [H, W]: pixels that touch by an edge belong together.

    Returns:
        One count a component, in the order of their first pixels; empty for an empty mask.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    # Runs of foreground in the flattened rows; one column of background keeps those of two rows apart.
    edges = np.diff(padded.ravel())
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if not len(starts):
        return np.zeros(0, dtype=np.int64)
    pitch = width + 2
    # The runs of the row below that a run touches are neighbours in the list: first .. last - 1.
    first = np.searchsorted(stops, starts + pitch, side="right")
    last = np.searchsorted(starts, stops + pitch, side="left")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(starts)), counts)
    lower = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    roots = np.arange(len(starts))
    while len(upper):
        # Each run hangs itself below the smallest of its neighbours' roots, then paths are shortened to their end.
        a, b = roots[upper], roots[lower]
        apart = a != b
        upper, lower, a, b = upper[apart], lower[apart], a[apart], b[apart]
        np.minimum.at(roots, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(shorter := roots[roots], roots):
            roots = shorter
    sizes = np.bincount(roots, weights=stops - starts)
    return sizes[sizes > 0].astype(np.int64)
