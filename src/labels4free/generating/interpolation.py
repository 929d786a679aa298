"""Films that go from picture to picture through the generator's space of latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from labels4free.errors import ConfigError
from labels4free.generators.base import sample_label, sample_z
from labels4free.pictures.films import FilmLayout, check_film, write_film
from labels4free.settings_fields import check_types, within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.generating.images import Sources
    from labels4free.generating.rendering import Renderer


@dataclass(frozen=True)
class FilmConfig:
    """How a film goes from picture to picture; it starts over when it ends.

    Attributes:
        frames: Frames from one picture to the next.
        fps: Frames a second.
        loop: Whether it goes from the last picture back to the first, rather than to jump there.
        space: w: between styles. z: between normal latents, on the sphere, which needs seeds.
        curve: In w, spline: through all pictures without a bend (Catmull-Rom). linear: straight from each to the next.

    Raises:
        ConfigError: If a value is not allowed.
    """

    frames: int = 60
    fps: int = 24
    loop: bool = False
    space: Literal["w", "z"] = "w"
    curve: Literal["spline", "linear"] = "spline"

    def __post_init__(self) -> None:
        check_types(self)
        within(self, "[1, inf)", "frames", "fps")

    def count(self, pictures: int) -> int:
        """Frames of the whole film."""
        return self.frames * pictures if self.loop else self.frames * (pictures - 1) + 1


def check_interpolation(path: str | Path, config: FilmConfig, renderer: Renderer, sources: Sources) -> FilmLayout:
    """See whether :func:`write_interpolation` can do it, before anything is made; returns the film's layout.

    Raises:
        ConfigError: If the kind of file cannot serve, there are fewer than two pictures, or z is asked for latents.
    """
    if len(sources) < 2:
        raise ConfigError(f"A film needs two pictures or more to go between, got {len(sources)}: give more seeds.")
    if config.space == "z" and len(sources) > len(sources.seeds):
        raise ConfigError("Latents from files are in w, a film in z needs seeds: leave --space z or the files out.")
    layout = FilmLayout((renderer.size, renderer.size), config.count(len(sources)), config.fps)
    check_film(path, layout)
    return layout


def write_interpolation(
    path: str | Path,
    renderer: Renderer,
    sources: Sources,
    config: FilmConfig,
    progress: Callable[[int, int], None] | None = None,
) -> FilmLayout:
    """Write a film through the pictures of all sources, in their order. It appears complete or not at all.

    Args:
        path: ``.gif``, ``.webp``, ``.apng`` or ``.mp4``; an older file is replaced.
        renderer: Generator and settings. Random noise is drawn once, for the first picture, and stays.
        sources: Two or more.
        config: See :class:`FilmConfig`.
        progress: Called as ``progress(frames written, their number)``.

    Returns:
        The film's size, number of frames and rate.

    Raises:
        ConfigError: As :func:`check_interpolation`.
        DataError: If the file cannot be written.
    """
    layout = check_interpolation(path, config, renderer, sources)
    write_film(path, layout, _frames(renderer, sources, config), progress=progress)
    return layout


def _frames(renderer: Renderer, sources: Sources, config: FilmConfig) -> Iterator[NDArray[np.uint8]]:
    noise = renderer.noise_of([sources.number(0)])
    path = _path_in_z(renderer, sources, config) if config.space == "z" else _path_in_w(renderer, sources, config)
    for ws in path:
        yield renderer.pictures(ws, noise)[0]


def _path_in_w(renderer: Renderer, sources: Sources, config: FilmConfig) -> Iterator[Tensor]:
    keys = torch.cat([sources.ws(k, renderer) for k in range(len(sources))])
    for frame in range(config.count(len(sources))):
        yield point_on_curve(keys, frame // config.frames, frame % config.frames / config.frames, config)[None]


def _path_in_z(renderer: Renderer, sources: Sources, config: FilmConfig) -> Iterator[Tensor]:
    generator, settings = renderer.generator, renderer.config
    device = generator.w_avg.device
    zs = torch.stack([sample_z(generator.z_dim, seed, 0) for seed in sources.seeds]).to(device)
    labels = None
    if generator.c_dim:
        chosen = [
            sample_label(generator.c_dim, seed, 0) if settings.label is None else settings.label
            for seed in sources.seeds
        ]
        labels = torch.eye(generator.c_dim, device=device)[chosen]
    for frame in range(config.count(len(zs))):
        step, t = frame // config.frames, frame % config.frames / config.frames
        after = (step + 1) % len(zs)
        z = slerp(zs[step], zs[after], t)
        label = None if labels is None else torch.lerp(labels[step], labels[after], t)[None]
        yield generator.map(z[None], renderer.psi, truncation_cutoff=settings.truncation_cutoff, labels=label)


def point_on_curve(keys: Tensor, step: int, t: float, config: FilmConfig) -> Tensor:
    """A point on the curve through the keys.

    Args:
        keys: [K, ...].
        step: Number of the key before the point.
        t: How far from there to the next key, in [0, 1).
        config: Its ``curve``; and its ``loop``, by which the first key follows the last.

    Returns:
        [...], the key itself at t = 0.
    """
    last = len(keys) - 1

    def key(at: int) -> Tensor:
        return keys[at % len(keys)] if config.loop else keys[min(max(at, 0), last)]

    if t == 0.0:
        return key(step)
    if config.curve == "linear":
        return torch.lerp(key(step), key(step + 1), t)
    a, b, c, d = (key(step + k) for k in (-1, 0, 1, 2))
    # Catmull-Rom: a cubic whose slope at each key is half the way from the key before to the key after.
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Go from a to b on a great circle, while the length goes from one's to the other's.

    Normal latents all have about the same length, which a straight line would leave.

    Args:
        a: [D], not zero.
        b: [D], not zero.
        t: How far, in [0, 1].

    Returns:
        [D]; exactly a at 0. Opposite directions, between which there is no one way, are joined by a straight line.
    """
    if t == 0.0:
        return a
    length_a, length_b = a.norm(), b.norm()
    along_a, along_b = a / length_a, b / length_b
    cosine = (along_a * along_b).sum().clamp(-1, 1)
    angle = cosine.acos()
    if float(angle.sin()) < 1e-4:
        return torch.lerp(a, b, t)
    direction = (((1 - t) * angle).sin() * along_a + (t * angle).sin() * along_b) / angle.sin()
    on_sphere: Tensor = direction * torch.lerp(length_a, length_b, t)
    return on_sphere
