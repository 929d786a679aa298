"""The feature cache: the frozen generator runs once a sample, and every training step draws from what it left.

Sample i is a function of the generator, the cache's settings and i alone. Finished parts of the cache lie in the run's
folder, so that a killed run neither renders again nor trains on anything else. Several processes share the parts among
them; what a process does not find in the folder then, since it is not one folder to all, it renders by itself.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import ConfigError, RunError
from labels4free.files import write_atomically, write_failure
from labels4free.seeds import CALIBRATION, series
from labels4free.training.alpha.projection import Projection, fit_projection
from labels4free.training_loop.chunks import read_chunk, write_chunk
from labels4free.training_loop.distributed import process_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from labels4free.generators.base import Generator
    from labels4free.training.alpha.config import TrainConfig

PREVIEWS = 8
"""Samples that are rendered for the pictures alone."""
PREVIEW_RESOLUTION = 128
"""Side of those, in pixels, where training is at less."""

_CHUNK = 32
_GOLDEN = (math.sqrt(5) - 1) / 2
_STORED = torch.float16


class CachedBatch(NamedTuple):
    """A batch of cached samples, float32, all at the training resolution R.

    Attributes:
        images: [N, 3, R, R], about [-1, 1].
        levels: Projected maps, one [N, K, r, r] a level of the alpha network, r <= R.
    """

    images: Tensor
    levels: list[Tensor]


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """Cached features: samples of the generator that were rendered once, float16.

    Attributes:
        images: [S, 3, R, R].
        backgrounds: [S, 3, R, R], the same latents rendered without their object.
        levels: One [S, K, r, r] a level of the alpha network.
        projection: How the levels came from the generator's maps.
    """

    images: Tensor
    backgrounds: Tensor
    levels: list[Tensor]
    projection: Projection

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor, flip: Tensor | None = None) -> CachedBatch:
        """Collect samples, mirrored where ``flip`` [N] is true."""
        images, *levels = (mirrored(x[indices].float(), flip) for x in (self.images, *self.levels))
        return CachedBatch(images, levels)


def mirrored(x: Tensor, flip: Tensor | None) -> Tensor:
    """Mirror the samples [N, C, H, W] for which flip [N] is true, left to right."""
    return x if flip is None else torch.where(flip[:, None, None, None], x.flip(-1), x)


def sample_truncation_psi(config: TrainConfig, index: int) -> float:
    """Truncation of cache sample ``index``: evenly spread between the bounds in every stretch of samples."""
    low, high = config.cache.min_truncation_psi, config.cache.max_truncation_psi
    return low + (high - low) * (index * _GOLDEN % 1)


def rendered_samples(config: TrainConfig) -> int:
    """How many samples :func:`build_cache` renders in all, calibration and previews included."""
    return config.cache.calibration_samples + config.cache.size + PREVIEWS


def build_cache(
    generator: Generator,
    levels: Sequence[Sequence[int]],
    config: TrainConfig,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[FeatureCache, FeatureCache]:
    """Render and cache the generator's images and features, or what an earlier call has not rendered yet.

    Args:
        generator: The frozen generator.
        levels: Indices of the feature maps of each level, as ``MergeNetwork.levels``.
        config: Cache size, seed, resolution, background mode.
        folder: Where finished chunks are kept.
        progress: Called with (samples done, samples in all), calibration and previews included; with several processes
            the others are taken to be as far as this one. It may raise, to stop: :class:`Stopped` stops all processes.

    Returns:
        The cache, and :data:`PREVIEWS` further samples of up to :data:`PREVIEW_RESOLUTION` pixels for the pictures;
        both on the generator's device.

    Raises:
        ConfigError: If the generator cannot serve the training resolution or background mode, or the folder holds
            samples of another generator or other settings.
        RunError: If a chunk cannot be written.
    """
    check_resolution(generator, config.resolution)
    group = process_group()
    group.on_main(lambda: claim_folder(generator, levels, config, folder))
    size = config.cache.size
    preview_resolution = min(generator.resolution, max(config.resolution, PREVIEW_RESOLUTION))
    jobs = [_Job(range(size, size + PREVIEWS), preview_resolution, folder / "previews.safetensors")]
    jobs += [
        _Job(range(start, min(size, start + _CHUNK)), config.resolution, folder / f"samples_{start:06d}.safetensors")
        for start in range(0, size, _CHUNK)
    ]
    count = _Counter(rendered_samples(config), progress)
    path = folder / "projection.safetensors"
    projection = group.on_main(lambda: _projection(generator, config, path, count.advance))
    projection = Projection(*([x.to(generator.w_avg.device) for x in part] for part in projection))

    def done(job: _Job, each: int) -> dict[str, Tensor]:
        chunk = read_chunk(job.path)
        if chunk is not None:
            count.advance(each * len(job.indices))
            return chunk
        samples = []
        for index in job.indices:
            samples.append(_render(generator, projection, levels, config, index, job.resolution))
            count.advance(each)
        chunk = {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}
        write_chunk(job.path, chunk)
        return chunk

    def rest() -> list[dict[str, Tensor]]:
        chunks = [mine[job.path] if job.path in mine else done(job, 0) for job in jobs]
        count.finish()
        return chunks

    mine = group.in_all(lambda: {job.path: done(job, group.size) for job in group.shard(jobs)})
    chunks = group.in_all(rest)

    def joined(chunks: Sequence[dict[str, Tensor]]) -> FeatureCache:
        whole = {name: torch.cat([chunk[name] for chunk in chunks]).to(generator.w_avg.device) for name in chunks[0]}
        maps = [whole[f"level.{i:03d}"] for i in range(len(levels))]
        return FeatureCache(whole["image"], whole["background"], maps, projection)

    return joined(chunks[1:]), joined(chunks[:1])


class _Job(NamedTuple):
    """Samples that become one file."""

    indices: range
    resolution: int
    path: Path


class _Counter:
    """Samples that are done, of how many."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def advance(self, count: int = 1) -> None:
        self.done = min(self.total, self.done + count)
        if self.progress:
            self.progress(self.done, self.total)

    def finish(self) -> None:
        if self.done < self.total:
            self.advance(self.total - self.done)


def check_resolution(generator: Generator, resolution: int) -> None:
    """Raise :class:`ConfigError` unless the generator's images can be averaged to this side."""
    if resolution > generator.resolution or generator.resolution % resolution:
        raise ConfigError(
            f"The generator makes images of {generator.resolution} pixels, which cannot be averaged to a training "
            f"resolution of {resolution}; choose a power of two of at most {generator.resolution}."
        )


def claim_folder(generator: Generator, levels: Sequence[Sequence[int]], config: TrainConfig, folder: Path) -> None:
    """Check that a cache folder belongs to this generator and these settings, or note that it does.

    Raises:
        ConfigError: If the folder holds samples of another generator or other settings.
        RunError: If the note cannot be read or written.
    """
    names = [[generator.feature_specs[i].name for i in level] for level in levels]
    contents = {
        "generator": state_hash(generator),
        "levels": names,
        "resolution": config.resolution,
        "background": config.background.mode or generator.default_background,
        **{k: v for k, v in config.to_json()["cache"].items() if k not in ("folder", "seed")},
        "seed": config.cache_seed,
    }
    path = folder / "cache.json"
    try:
        if not path.exists() or not any(folder.glob("*.safetensors")):  # no note, or of a run that left no sample
            write_atomically(path, (json.dumps(contents, indent=1) + "\n").encode())
            return
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(write_failure(path, error)) from error
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); delete {folder} to render its samples again.") from error
    different = [name for name, value in contents.items() if not isinstance(found, dict) or found.get(name) != value]
    if different:
        raise ConfigError(
            f"{folder} holds samples of a run with another {', '.join(different)}; choose another cache.folder."
        )


def _projection(generator: Generator, config: TrainConfig, path: Path, advance: Callable[[int], None]) -> Projection:
    """Read the projection, or fit and write it; on the CPU."""
    state = read_chunk(path)
    if state is None:
        features = calibration_features(generator, config)
        fitted = fit_projection(generator.feature_specs, features, lambda: advance(1))
        state = {f"weight.{i:03d}": w for i, w in enumerate(fitted.weights)}
        state |= {f"bias.{i:03d}": b for i, b in enumerate(fitted.biases)}
        write_chunk(path, state)
    else:
        advance(config.cache.calibration_samples)
    count = len(generator.feature_specs)
    return Projection([state[f"weight.{i:03d}"] for i in range(count)], [state[f"bias.{i:03d}"] for i in range(count)])


@torch.no_grad()
def calibration_features(generator: Generator, config: TrainConfig) -> Iterator[tuple[Tensor, ...]]:
    """All maps of each sample that the projection is fitted on."""
    for index in range(config.cache.calibration_samples):
        psi = sample_truncation_psi(config, index)
        yield generator.synthesize(generator.draw_ws(series(config.cache_seed, CALIBRATION), index, psi)).features


@torch.no_grad()
def _render(
    generator: Generator,
    projection: Projection,
    levels: Sequence[Sequence[int]],
    config: TrainConfig,
    index: int,
    resolution: int,
) -> dict[str, Tensor]:
    """Render one sample twice, whole and without its object, and keep what training needs (float16, on the CPU)."""
    ws = generator.draw_ws(config.cache_seed, index, sample_truncation_psi(config, index))
    image, features = generator.synthesize(ws)
    background = generator.synthesize(ws, background=config.background.mode or generator.default_background).image
    shrink = generator.resolution // resolution
    kept = {"image": F.avg_pool2d(image, shrink), "background": F.avg_pool2d(background, shrink)}
    kept |= {f"level.{i:03d}": x for i, x in enumerate(projection.levels(features, levels, resolution))}
    return {name: x.to("cpu", _STORED).contiguous() for name, x in kept.items()}
