"""Seeds in, an image / mask data set out: numbered PNG files, a contact sheet and a manifest."""

from __future__ import annotations

import logging
import platform
import statistics
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch.nn import functional as F

from labels4free import __version__
from labels4free.checkpoints.loading import generator_fingerprint
from labels4free.data.contact_sheet import contact_sheet
from labels4free.data.images import to_uint8, write_png
from labels4free.data.sample_folder import (
    FOLDERS,
    KIND,
    SampleRecord,
    open_sample_folder,
    read_record,
    sample_path,
    write_manifest,
    write_sample,
)
from labels4free.errors import ConfigError
from labels4free.layered import composite

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.generators.base import Generator as ImageGenerator
    from labels4free.layered import LayeredGenerator

_log = logging.getLogger(__name__)

CONTACT_SHEET = "contact_sheet.png"
_SHEET_ROWS = 8
_WRITERS = 2  # PNG compression runs outside the interpreter lock: two threads keep up with a fast generator
_EMPTY, _FULL = 0.005, 0.995  # share of the pixels


@dataclass(frozen=True)
class SampleConfig:
    """How a data set is sampled.

    Attributes:
        seed: Sample i depends on (seed, i) alone, see :func:`labels4free.generators.base.sample_z`.
        truncation_psi: Truncation of the object's and the background's latents, in [-2, 2].
        threshold: A pixel is foreground in the mask where its alpha exceeds this, in [0, 1].
        batch_size: Samples rendered at once on an accelerator; a CPU renders one at a time, which is faster there.
        size: Side of the written pictures in pixels, a divisor of the generator's resolution (box filter); None for
            the generator's resolution.
        background: One of the generator's background modes; None for its default.
        label: Class of every sample, for class-conditional generators; None draws one for each.

    Raises:
        ConfigError: If a value is out of range.
    """

    seed: int = 0
    truncation_psi: float = 0.7
    threshold: float = 0.9
    batch_size: int = 4
    size: int | None = None
    background: str | None = None
    label: int | None = None

    def __post_init__(self) -> None:
        if not -2.0 <= self.truncation_psi <= 2.0:
            raise ConfigError(f"truncation_psi must lie in [-2, 2], got {self.truncation_psi}; 0.7 is usual.")
        if not 0.0 <= self.threshold <= 1.0:
            raise ConfigError(f"threshold must lie in [0, 1], got {self.threshold}; 0.9 is usual.")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}.")
        if self.size is not None and self.size < 1:
            raise ConfigError(f"size must be at least 1 pixel, got {self.size}.")
        if self.label is not None and self.label < 0:
            raise ConfigError(f"label must be the number of a class, from 0, got {self.label}.")


@dataclass(frozen=True)
class SampleSummary:
    """What :func:`sample_dataset` made. Shares are in [0, 1], taken from the files as written.

    Attributes:
        out: The data set's folder.
        num: Samples it holds.
        rendered: Samples rendered by this call; the others were there from an interrupted one.
        seconds: Duration of this call.
        coverage_mean: Mean over the samples of the mask's foreground share.
        coverage_sd: Its standard deviation over the samples.
        binarity: Mean over the samples of theirs, see :class:`labels4free.data.sample_folder.SampleRecord`.
        polarity: Mean over the samples of theirs, in [-1, 1].
        empty: Samples whose mask covers less than 0.5 % of the picture.
        full: Samples whose mask covers more than 99.5 % of the picture.
        inverted: Other samples whose polarity is below 0: probably background taken for object.
    """

    out: Path
    num: int
    rendered: int
    seconds: float
    coverage_mean: float
    coverage_sd: float
    binarity: float
    polarity: float
    empty: tuple[int, ...]
    full: tuple[int, ...]
    inverted: tuple[int, ...]

    @property
    def contact_sheet(self) -> Path:
        """The contact sheet's file."""
        return self.out / CONTACT_SHEET


def sample_dataset(
    layered: LayeredGenerator,
    out: str | Path,
    num: int,
    config: SampleConfig | None = None,
    *,
    generator_name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SampleSummary:
    """Render ``num`` image / mask pairs into a folder, or finish what an interrupted call with equal settings left.

    Sample i lies in ``images/``, ``alpha/``, ``masks/`` (0 or 255), ``composites/`` (the object over the background of
    an independent latent) and ``backgrounds/``, each as ``00000.png`` and so on. It depends on the seed and i alone: on
    a CPU to the byte, on an accelerator up to the rounding of its batched arithmetic. Noise is the generator's fixed
    maps. Every file appears whole or not at all, so an interrupted call loses nothing that it finished.

    Args:
        layered: Generator and alpha network.
        out: Folder to write to: a new or empty one, or one of the same settings, generator and alpha network, where
            missing samples are added (``num`` may grow).
        num: Samples in the finished data set, at least 1.
        config: See :class:`SampleConfig`; None for its defaults.
        generator_name: Name of the generator for the manifest.
        progress: Called as ``progress(samples done, num)`` at the start and after every sample.

    Raises:
        ConfigError: If a setting is out of range or does not fit the generator.
        RunError: If the folder holds something else.
        DataError: If a file cannot be written, for example because no space is left.
    """
    start = time.monotonic()
    config = config or SampleConfig()
    out = Path(out)
    _check(layered, num, config)
    manifest = _describe(layered, num, config, generator_name)
    open_sample_folder(out, manifest)
    size = config.size or layered.generator.resolution
    records = {i: record for i in range(num) if (record := read_record(out, i, size)) is not None}
    missing = [i for i in range(num) if i not in records]
    if progress:
        progress(len(records), num)
    with closing(_render_and_write(layered, out, missing, config)) as finished:
        for record in finished:
            records[record.index] = record
            if progress:
                progress(len(records), num)
    ordered = [records[i] for i in range(num)]
    _write_contact_sheet(out, ordered)
    summary = _summarise(out, ordered, len(missing), time.monotonic() - start)
    manifest |= {
        "complete": True,
        "summary": _manifest_summary(summary),
        "samples": [asdict(record) for record in ordered],
    }
    write_manifest(out, manifest)
    _warn(summary)
    return summary


def _check(layered: LayeredGenerator, num: int, config: SampleConfig) -> None:
    generator = layered.generator
    if num < 1:
        raise ConfigError(f"num must be at least 1 sample, got {num}.")
    if config.size is not None and generator.resolution % config.size:
        raise ConfigError(f"size must divide the generator's resolution {generator.resolution}, got {config.size}.")
    if config.background is not None and config.background not in generator.background_modes:
        modes = ", ".join(generator.background_modes)
        raise ConfigError(f"Unknown background mode {config.background!r}; {generator.family} has {modes}.")
    if config.label is not None and config.label >= generator.c_dim:
        has = f"classes 0 to {generator.c_dim - 1}" if generator.c_dim else "no classes, so leave the label out"
        raise ConfigError(f"This generator has {has}; got label {config.label}.")


def _render_and_write(
    layered: LayeredGenerator, out: Path, indices: list[int], config: SampleConfig
) -> Generator[SampleRecord, None, None]:
    """Yield the record of each sample once its files are on disk; writing overlaps rendering."""
    pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="png")
    pending: deque[Future[SampleRecord]] = deque()
    try:
        for index, pictures in _render(layered, indices, config):
            pending.append(pool.submit(write_sample, out, index, pictures))
            while pending and (pending[0].done() or len(pending) > 2 * _WRITERS):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _render(
    layered: LayeredGenerator, indices: list[int], config: SampleConfig
) -> Iterator[tuple[int, dict[str, NDArray[np.uint8]]]]:
    """Yield every sample's pictures, uint8 [H, W, 3] or [H, W] by folder name."""
    generator = layered.generator
    device = generator.w_avg.device
    # Batched kernels sum in another order, which moves the last bits: a CPU, where a batch brings no speed, takes one
    # sample at a time and so writes the same bytes whatever the batch size.
    batch_size = 1 if device.type == "cpu" else config.batch_size
    for first in range(0, len(indices), batch_size):
        batch = indices[first : first + batch_size]
        with torch.inference_mode():
            ws, background_ws = (torch.cat([_draw_ws(generator, config, 2 * i + k) for i in batch]) for k in (0, 1))
            image = layered(ws, background_ws=background_ws, noise="fixed", background=config.background)
            pictures = {
                "images": to_uint8(_shrink(image.foreground, config.size)),
                "composites": to_uint8(_shrink(composite(*image), config.size)),
                "backgrounds": to_uint8(_shrink(image.background, config.size)),
            }
            alpha = _shrink(image.alpha, config.size)[:, 0].clamp(0, 1)
            grey = {"alpha": alpha.mul(255).round(), "masks": (alpha > config.threshold) * 255}
            arrays = pictures | {name: values.to(torch.uint8).cpu().numpy() for name, values in grey.items()}
        for row, index in enumerate(batch):
            yield index, {name: arrays[name][row] for name in FOLDERS}


def _draw_ws(generator: ImageGenerator, config: SampleConfig, index: int) -> Tensor:
    return generator.draw_ws(config.seed, index, config.truncation_psi, label=config.label)


def _shrink(maps: Tensor, size: int | None) -> Tensor:
    return maps if size is None or size == maps.shape[-1] else F.avg_pool2d(maps, maps.shape[-1] // size)


def _write_contact_sheet(out: Path, records: list[SampleRecord]) -> None:
    rows = []
    for record in records[:_SHEET_ROWS]:
        row = []
        for folder in FOLDERS:
            with Image.open(sample_path(out, folder, record.index)) as picture:
                row.append(np.array(picture.convert("RGB")))
        rows.append(row)
    titles = [folder.removesuffix("s") for folder in FOLDERS]
    write_png(
        out / CONTACT_SHEET, contact_sheet(rows, titles, [f"{r.index:05d}" for r in records[: len(rows)]], cell=192)
    )


def _describe(layered: LayeredGenerator, num: int, config: SampleConfig, generator_name: str | None) -> dict[str, Any]:
    """The manifest of an unfinished data set. ``settings`` and the fingerprints say which data set it is."""
    generator = layered.generator
    settings = asdict(config) | {"background": config.background or generator.default_background, "noise": "fixed"}
    del settings["batch_size"]  # does not change the samples
    settings["size"] = config.size or generator.resolution
    latents = "sample i: z = sample_z(z_dim, seed, 2 * i), background z = sample_z(z_dim, seed, 2 * i + 1)"
    if config.label is not None:
        latents += f"; class {config.label} for both"
    elif generator.c_dim:
        latents += "; class = sample_label(c_dim, seed, 2 * i), background class with 2 * i + 1"
    alpha_network: Any = layered.alpha_network  # its weights are hashed as a generator's are
    return {
        "format": 1,
        "kind": KIND,
        "settings": settings,
        "generator": {
            "name": generator_name,
            "family": generator.family,
            "resolution": generator.resolution,
            "fingerprint": generator_fingerprint(generator),
        },
        "alpha_network": {
            "parameters": sum(p.numel() for p in alpha_network.parameters()),
            "fingerprint": generator_fingerprint(alpha_network),
        },
        "latents": latents,
        "versions": {
            "labels4free": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pillow": PIL.__version__,
        },
        "num": num,
        "complete": False,
    }


def _summarise(out: Path, records: list[SampleRecord], rendered: int, seconds: float) -> SampleSummary:
    coverages = [record.coverage for record in records]
    empty = tuple(r.index for r in records if r.coverage < _EMPTY)
    full = tuple(r.index for r in records if r.coverage > _FULL)
    return SampleSummary(
        out=out,
        num=len(records),
        rendered=rendered,
        seconds=seconds,
        coverage_mean=statistics.fmean(coverages),
        coverage_sd=statistics.pstdev(coverages),
        binarity=statistics.fmean(record.binarity for record in records),
        polarity=statistics.fmean(record.polarity for record in records),
        empty=empty,
        full=full,
        inverted=tuple(r.index for r in records if r.polarity < 0 and r.index not in empty and r.index not in full),
    )


def _manifest_summary(summary: SampleSummary) -> dict[str, Any]:
    """What depends on the samples alone: two data sets of equal settings have equal manifests."""
    return {name: value for name, value in asdict(summary).items() if name not in ("out", "rendered", "seconds")}


def _warn(summary: SampleSummary) -> None:
    for what, indices in (
        ("empty", summary.empty),
        ("full", summary.full),
        ("probably inverted (alpha is higher at the border than in the middle)", summary.inverted),
    ):
        if indices:
            shown = ", ".join(f"{i:05d}" for i in indices[:5]) + (", ..." if len(indices) > 5 else "")
            _log.warning("%d of %d masks are %s: %s.", len(indices), summary.num, what, shown)
