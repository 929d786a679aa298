"""The replay bank: the frozen generator runs once a sample, and every training step draws from what it left.

Sample i is a function of the generator, the bank's settings and i alone. Finished parts of the bank lie in the run's
folder, so that a killed run neither renders again nor trains on anything else.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.nn import functional as F

from labels4free.checkpoints.loading import generator_fingerprint
from labels4free.errors import ConfigError, RunError
from labels4free.files import write_atomically, write_failure
from labels4free.training.projection import Projection, fit_projection
from labels4free.training.run_dir import state_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from labels4free.generators.base import Generator
    from labels4free.training.config import TrainConfig

_log = logging.getLogger(__name__)
PREVIEWS = 8
"""Samples that are rendered for the pictures alone."""
PREVIEW_RESOLUTION = 128
"""Side of those, in pixels, where training is at less."""

_CHUNK = 32
_GOLDEN = (math.sqrt(5) - 1) / 2
_CALIBRATION_SEED = 0x5EED  # latents of the calibration are none of the bank's
_STORED = torch.float16
_DIGEST = "sha256"  # key in the metadata of a chunk: safetensors does not notice flipped bits


class BankBatch(NamedTuple):
    """Samples drawn from the bank, float32, all at the training resolution R.

    Attributes:
        images: [N, 3, R, R], about [-1, 1].
        levels: Projected maps, one [N, K, r, r] a level of the alpha network, r <= R.
    """

    images: Tensor
    levels: list[Tensor]


@dataclass(frozen=True, eq=False)
class ReplayBank:
    """Rendered samples, float16.

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

    def take(self, indices: Tensor, flip: Tensor | None = None) -> BankBatch:
        """Collect samples, mirrored where ``flip`` [N] is true."""
        images, *levels = (mirrored(x[indices].float(), flip) for x in (self.images, *self.levels))
        return BankBatch(images, levels)


def mirrored(x: Tensor, flip: Tensor | None) -> Tensor:
    """Mirror the samples [N, C, H, W] for which flip [N] is true, left to right."""
    return x if flip is None else torch.where(flip[:, None, None, None], x.flip(-1), x)


def sample_truncation_psi(config: TrainConfig, index: int) -> float:
    """Truncation of bank sample ``index``: evenly spread between the bounds in every stretch of samples."""
    low, high = config.bank.min_truncation_psi, config.bank.max_truncation_psi
    return low + (high - low) * (index * _GOLDEN % 1)


def build_bank(
    generator: Generator,
    levels: Sequence[Sequence[int]],
    config: TrainConfig,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ReplayBank, ReplayBank]:
    """Render the bank, or what an earlier call has not rendered yet.

    Args:
        generator: The frozen generator.
        levels: Indices of the feature maps of each level, as ``MergeNetwork.levels``.
        config: Bank size, seed, resolution, background mode.
        folder: Where finished chunks are kept.
        progress: Called with (samples done, samples in all), calibration and previews included.

    Returns:
        The bank, and :data:`PREVIEWS` further samples of up to :data:`PREVIEW_RESOLUTION` pixels for the pictures; both
        on the generator's device.

    Raises:
        ConfigError: If the generator cannot serve the training resolution or background mode, or the folder holds
            samples of another generator or other settings.
        RunError: If a chunk cannot be written.
    """
    check_resolution(generator, config.resolution)
    claim_folder(generator, levels, config, folder)
    device, size = generator.w_avg.device, config.bank.size
    total, done = config.bank.calibration_samples + size + PREVIEWS, 0

    def advance(count: int = 1) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    projection = _projection(generator, config, folder / "projection.safetensors", advance)

    def render(indices: range, resolution: int, path: Path) -> dict[str, Tensor]:
        chunk = _read(path)
        if chunk is not None:
            advance(len(indices))
            return chunk
        samples = []
        for index in indices:
            samples.append(_render(generator, projection, levels, config, index, resolution))
            advance()
        chunk = {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}
        _write(path, chunk)
        return chunk

    def joined(chunks: Sequence[dict[str, Tensor]]) -> ReplayBank:
        whole = {name: torch.cat([chunk[name] for chunk in chunks]).to(device) for name in chunks[0]}
        maps = [whole[f"level.{i:03d}"] for i in range(len(levels))]
        return ReplayBank(whole["image"], whole["background"], maps, projection)

    preview_resolution = min(generator.resolution, max(config.resolution, PREVIEW_RESOLUTION))
    previews = render(range(size, size + PREVIEWS), preview_resolution, folder / "previews.safetensors")
    chunks = [
        render(range(start, min(size, start + _CHUNK)), config.resolution, folder / f"samples_{start:06d}.safetensors")
        for start in range(0, size, _CHUNK)
    ]
    return joined(chunks), joined([previews])


def check_resolution(generator: Generator, resolution: int) -> None:
    """Raise :class:`ConfigError` unless the generator's images can be averaged to this side."""
    if resolution > generator.resolution or generator.resolution % resolution:
        raise ConfigError(
            f"The generator makes images of {generator.resolution} pixels, which cannot be averaged to a training "
            f"resolution of {resolution}; choose a power of two of at most {generator.resolution}."
        )


def claim_folder(generator: Generator, levels: Sequence[Sequence[int]], config: TrainConfig, folder: Path) -> None:
    """Note what the folder's samples depend on, or compare with what is noted there.

    Raises:
        ConfigError: If the folder holds samples of another generator or other settings.
        RunError: If the note cannot be read or written.
    """
    names = [[generator.feature_specs[i].name for i in level] for level in levels]
    contents = {
        "generator": generator_fingerprint(generator),
        "levels": names,
        "resolution": config.resolution,
        "background": config.background.mode or generator.default_background,
        **{k: v for k, v in config.to_json()["bank"].items() if k not in ("folder", "seed")},
        "seed": config.bank_seed,
    }
    path = folder / "bank.json"
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
            f"{folder} holds samples of a run with another {', '.join(different)}; choose another bank.folder."
        )


def _projection(generator: Generator, config: TrainConfig, path: Path, advance: Callable[[int], None]) -> Projection:
    """Read the projection, or fit and write it."""
    state = _read(path)
    if state is None:
        features = _calibration_features(generator, config)
        fitted = fit_projection(generator.feature_specs, features, lambda: advance(1))
        state = {f"weight.{i:03d}": w for i, w in enumerate(fitted.weights)}
        state |= {f"bias.{i:03d}": b for i, b in enumerate(fitted.biases)}
        _write(path, state)
    else:
        advance(config.bank.calibration_samples)
    device, count = generator.w_avg.device, len(generator.feature_specs)
    return Projection(
        [state[f"weight.{i:03d}"].to(device) for i in range(count)],
        [state[f"bias.{i:03d}"].to(device) for i in range(count)],
    )


@torch.no_grad()
def _calibration_features(generator: Generator, config: TrainConfig) -> Iterator[tuple[Tensor, ...]]:
    for index in range(config.bank.calibration_samples):
        psi = sample_truncation_psi(config, index)
        yield generator.synthesize(generator.draw_ws(config.bank_seed ^ _CALIBRATION_SEED, index, psi)).features


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
    ws = generator.draw_ws(config.bank_seed, index, sample_truncation_psi(config, index))
    image, features = generator.synthesize(ws)
    background = generator.synthesize(ws, background=config.background.mode or generator.default_background).image
    shrink = generator.resolution // resolution
    kept = {"image": F.avg_pool2d(image, shrink), "background": F.avg_pool2d(background, shrink)}
    kept |= {f"level.{i:03d}": x for i, x in enumerate(projection.levels(features, levels, resolution))}
    return {name: x.to("cpu", _STORED).contiguous() for name, x in kept.items()}


def _read(path: Path) -> dict[str, Tensor] | None:
    """Read a chunk; None if it is not there or damaged (then it is rendered again)."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in sorted(file.keys())}
            digest = (file.metadata() or {}).get(_DIGEST)
        if state_digest(state) != digest:
            raise ValueError("its content does not have the checksum that was stored with it")
        return state
    except (SafetensorError, OSError, ValueError) as error:
        _log.warning("%s is damaged (%s) and is rendered again.", path, error)
        return None


def _write(path: Path, state: dict[str, Tensor]) -> None:
    try:
        state = {name: x.cpu() for name, x in sorted(state.items())}
        write_atomically(path, save(state, {_DIGEST: state_digest(state)}))
    except OSError as error:
        raise RunError(write_failure(path, error)) from error
