"""Directions ranked by what they change: the object, inside the alpha mask, or the scene around it. Without labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from labels4free.errors import ConfigError, DataError
from labels4free.generating.moves import Move, MovedSources
from labels4free.pictures.pixels import to_uint8

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.generating.directions import Directions
    from labels4free.generating.images import Sources
    from labels4free.generating.rendering import Renderer
    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.types import GeneratorOutput

MASK_THRESHOLD = 0.5
"""Alpha above which a pixel is inside."""


@dataclass(frozen=True)
class Change:
    """How much of the images of several samples a direction changes.

    Attributes:
        inside: Mean squared change of the pixels inside the mask: of the squared differences between moved and unmoved
            image, of all three colours and as a picture shows them, clamped to [-1, 1], the mean over the pixels whose
            alpha is above 0.5 in the unmoved image, then over all degrees but 0, then over the samples. From 0 to 4.
        outside: The same of all other pixels.
        ratios: Inside over outside of each sample that has both an object and a scene; None where nothing changes
            outside.
    """

    inside: float
    outside: float
    ratios: tuple[float | None, ...]

    @property
    def ratio(self) -> float | None:
        """``inside / outside``: above 1 the object changes more than the scene, below 1 the scene does.

        None where nothing changes outside.
        """
        return _over(self.inside, self.outside)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {"ratio": self.ratio, "inside": self.inside, "outside": self.outside, "ratios": list(self.ratios)}


@dataclass(frozen=True, eq=False)
class ShownDirection:
    """A direction as it was looked at.

    Attributes:
        number: Its number.
        change: What it changes; None without an alpha network.
        pictures: [samples][degrees], uint8 RGB, small.
    """

    number: int
    change: Change | None
    pictures: list[list[NDArray[np.uint8]]]


def look_at_directions(
    renderer: Renderer,
    sources: Sources,
    directions: Directions,
    numbers: Sequence[int],
    degrees: tuple[float, ...],
    alpha_network: AlphaNetwork | None = None,
    *,
    cell: int = 192,
    progress: Callable[[int, int], None] | None = None,
) -> list[ShownDirection]:
    """Move samples along directions, and measure what each changes inside and outside of the object.

    Args:
        renderer: Generator and settings; pictures are measured at the generator's resolution.
        sources: The samples.
        directions: Directions in w.
        numbers: Which of them.
        degrees: How far to go; 0 is the unmoved image.
        alpha_network: Finds the object in the unmoved images; None measures nothing.
        cell: Side of the pictures that are kept, at most.
        progress: Called as ``progress(images rendered, their number)``.

    Returns:
        The directions; where they are measured, from the one that changes the object most, compared with the scene, to
        the one that changes the scene most (:attr:`Change.ratio`), else in the order of their numbers.

    Raises:
        ConfigError: If there is nothing to move, no such direction, or no degree but 0.
        DataError: If no sample has both an object and a scene, or an image is not finite.
    """
    if not len(sources):
        raise ConfigError("There is nothing to move: give seeds or latents.")
    if not any(degrees):
        raise ConfigError("Degrees other than 0 are needed to see what a direction changes.")
    num_ws = renderer.generator.num_ws
    moves = {number: Move(str(number), directions.step(number, num_ws), degrees) for number in numbers}
    looks = [_Look(number, MovedSources.of(sources, move), cell) for number, move in moves.items()]
    done, total = 0, len(sources) * (1 + len(looks) * sum(degree != 0 for degree in degrees))

    def render(of: Sources, k: int) -> GeneratorOutput:
        nonlocal done
        output = _render(renderer, of, k)
        done += 1
        if progress:
            progress(done, total)
        return output

    with torch.inference_mode():
        for k in range(len(sources)):
            image, features = render(sources, k)
            inside = None if alpha_network is None else alpha_network(features)[:, 0] > MASK_THRESHOLD
            if inside is not None and (bool(inside.all()) or not bool(inside.any())):
                inside = None  # this sample has no object, or nothing else
            for look in looks:
                look.add(k, image, inside, render)
    shown = [ShownDirection(look.number, _change(look.pairs), look.pictures) for look in looks]
    if alpha_network is None:
        return shown
    if shown and shown[0].change is None:
        raise DataError("The alpha network finds no object in these samples, or nothing but one: give other seeds.")
    return sorted(shown, key=_objectness, reverse=True)


class _Look:
    """What has been seen of one direction so far."""

    def __init__(self, number: int, along: MovedSources, cell: int) -> None:
        self.number, self.pictures, self.pairs = number, list[list["NDArray[np.uint8]"]](), list[tuple[float, float]]()
        self._along, self._cell = along, cell

    def add(
        self, k: int, unmoved: Tensor, inside: Tensor | None, render: Callable[[Sources, int], GeneratorOutput]
    ) -> None:
        """Look at sample k moved by every degree."""
        row, squares, degrees = [], [], self._along.degrees
        for at, degree in enumerate(degrees):
            image = render(self._along, k * len(degrees) + at).image if degree else unmoved
            row.append(_small(image, self._cell))
            if degree and inside is not None:
                squares.append((image.clamp(-1, 1) - unmoved.clamp(-1, 1)).square().mean(dim=1))
        self.pictures.append(row)
        if inside is not None:
            mean = torch.stack(squares).mean(0)
            self.pairs.append((float(mean[inside].mean()), float(mean[~inside].mean())))


def _render(renderer: Renderer, sources: Sources, k: int) -> GeneratorOutput:
    noise = renderer.noise_of([sources.number(k)])
    output = renderer.generator.synthesize(sources.ws(k, renderer), noise=noise)
    if not bool(output.image.isfinite().all()):
        raise DataError(f"The picture {sources.name(k)} is not finite: choose smaller degrees or another direction.")
    return output


def _small(image: Tensor, cell: int) -> NDArray[np.uint8]:
    """[1, 3, R, R] as a picture of at most ``cell`` pixels, by a whole factor if there is one."""
    side = image.shape[-1]
    factor = next((f for f in range(max(side // cell, 1), side + 1) if side % f == 0 and side // f <= cell), side)
    small: NDArray[np.uint8] = to_uint8(F.avg_pool2d(image, factor) if factor > 1 else image)[0]
    return small


def _change(pairs: list[tuple[float, float]]) -> Change | None:
    if not pairs:
        return None
    inside, outside = (math.fsum(values) / len(pairs) for values in zip(*pairs, strict=True))
    return Change(inside, outside, tuple(_over(*pair) for pair in pairs))


def _over(inside: float, outside: float) -> float | None:
    return inside / outside if outside > 0 else None


def _objectness(shown: ShownDirection) -> float:
    """The ratio; what changes nothing at all comes last."""
    assert shown.change is not None
    if shown.change.ratio is not None:
        return shown.change.ratio
    return math.inf if shown.change.inside > 0 else -1.0
