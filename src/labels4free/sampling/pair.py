"""One pair: an image, its mask and what else was asked for, as a function of the models, the settings and an index."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from labels4free.checkpoints.loading import load_discriminator
from labels4free.data.pairs.record import Pair, measure
from labels4free.generators.base import check_rendering, mix_styles, sample_label
from labels4free.layered import composite
from labels4free.losses import binarization
from labels4free.ops.refine import refine_alpha
from labels4free.pictures.pixels import to_uint8
from labels4free.sampling.backgrounds import PictureBackgrounds, solid_background
from labels4free.sampling.config import GENERATED, SampleConfig
from labels4free.sampling.discriminator_score import measure_discriminator_score
from labels4free.sampling.uncertainty import UncertaintyMeter, load_members
from labels4free.seeds import MIXED_STYLES, draw, series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.layered import Foreground, LayeredGenerator


class Candidate(NamedTuple):
    """A rendered pair, and the names of the background pictures that could not be read for it."""

    pair: Pair
    skipped: tuple[str, ...]


class _Rows(NamedTuple):
    """The styles of a batch, [N, num_ws, w_dim]: of images and of generated backgrounds; and how they were drawn."""

    ws: Tensor
    background_ws: Tensor | None
    truncations: list[float]
    labels: list[int | None]


@contextlib.contextmanager
def single_thread() -> Iterator[int]:
    """Have PyTorch compute on one thread: how a sum is cut into parts, one a thread, shows in its last bits.

    Yields:
        The number of threads that it had, for as many pairs at a time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that are started from now on take this over
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


class PairRenderer:
    """Renders pairs. Several threads may use one, each in :func:`single_thread` on a CPU; it can be pickled.

    Args:
        layered: Generator and alpha network.
        config: The settings. What of them names files (pictures, ensemble, discriminator) is opened here.

    Attributes:
        layered: As given.
        config: As given.
        size: Side of the pictures, in pixels.
        pictures: The user's background pictures, if there are any.

    Raises:
        ConfigError: If the settings do not fit the generator.
        CheckpointError: If a file cannot be read.
        DataError: If the backgrounds cannot be.
    """

    def __init__(self, layered: LayeredGenerator, config: SampleConfig) -> None:
        generator = layered.generator
        check_rendering(generator, size=config.size, background=config.background, label=config.label)
        self.layered, self.config = layered, config
        self.size = config.size or generator.resolution
        device = generator.w_avg.device
        self.pictures: PictureBackgrounds | None = None
        if config.needs_background and config.backgrounds != GENERATED and config.colour is None:
            self.pictures = PictureBackgrounds(config.backgrounds, generator.resolution)
        self._meter = None
        if config.uncertainty.enabled:
            members = load_members(config.uncertainty, device)
            self._meter = UncertaintyMeter(layered, config.uncertainty, config.seed, members)
        self._discriminator = None
        if config.filters.min_discriminator_score_quantile is not None and config.discriminator is not None:
            self._discriminator = load_discriminator(config.discriminator, device).eval().requires_grad_(False)

    @property
    def on_cpu(self) -> bool:
        """Whether pairs are rendered one by one: batched kernels sum in another order."""
        return self.layered.generator.w_avg.device.type == "cpu"

    @torch.inference_mode()
    def render(self, indices: Sequence[int]) -> list[Candidate]:
        """Render pairs as one batch; a CPU takes one at a time, and an accelerator always full batches.

        Returns:
            A candidate for each index, in their order.
        """
        if self.on_cpu:
            return [candidate for index in indices for candidate in self._render([index])]
        missing = -len(indices) % self.config.batch_size
        return self._render([*indices, *[indices[-1]] * missing])[: len(indices)]

    def _render(self, indices: list[int]) -> list[Candidate]:
        config, layered = self.config, self.layered
        rows = self._draw_rows(indices)
        front = layered.foreground(rows.ws)
        soft = self._shrink(front.alpha).clamp(0, 1)
        decided: list[float | None] = [None] * len(indices)
        if config.refine is not None:
            # How sure the network is; afterwards soft alpha means fine hair, which is no reason to drop a pair.
            decided = [1 - 2 * float(binarization(one)) for one in soft]
            soft = refine_alpha(self._shrink(front.image), soft, config.refine)
        alpha = soft[:, 0]
        mask = ((alpha > config.threshold) * 255).to(torch.uint8).cpu().numpy()
        written_alpha = _to_integers(alpha, config.alpha_bits)
        colours: dict[str, NDArray[Any]] = {}
        if "image" in config.parts or "cutout" in config.parts:
            colours["image"] = to_uint8(self._shrink(front.image))
        skipped: list[tuple[str, ...]] = [()] * len(indices)
        if config.needs_background:
            behind, skipped = self._background(indices, rows)
            if "background" in config.parts:
                colours["background"] = to_uint8(self._shrink(behind))
            if "composite" in config.parts:
                if config.refine is None:
                    together = self._shrink(composite(front.image, behind, front.alpha))
                else:
                    together = composite(self._shrink(front.image), self._shrink(behind), soft)
                colours["composite"] = to_uint8(together)
        opacity = _to_integers(alpha, 8) if "cutout" in config.parts else None
        candidates = []
        for k, index in enumerate(indices):
            pictures = {name: values[k] for name, values in colours.items()}
            pictures |= {"alpha": written_alpha[k], "mask": mask[k]}
            if opacity is not None:
                pictures["cutout"] = np.dstack((pictures["image"], opacity[k]))
            record = measure(
                index,
                pictures["alpha"],
                pictures["mask"],
                truncation_psi=rows.truncations[k],
                label=rows.labels[k],
                uncertainty=self._uncertainty(rows, front, k, index),
                discriminator_score=self._discriminator_score(rows, front, k),
                sharpness=decided[k],
            )
            chosen = {part: pictures[part] for part in config.parts if part in pictures}
            candidates.append(Candidate(Pair(record, chosen, self._latents(rows, k)), skipped[k]))
        return candidates

    def _draw_rows(self, indices: list[int]) -> _Rows:
        generator, config = self.layered.generator, self.config
        truncations = [self._truncation(index) for index in indices]
        labels: list[int | None] = [config.label] * len(indices)
        if config.label is None and generator.c_dim:
            labels = [sample_label(generator.c_dim, config.seed, 2 * index) for index in indices]
        ws = []
        for index, psi, label in zip(indices, truncations, labels, strict=True):
            own = generator.draw_ws(config.seed, 2 * index, psi, label=label)
            if draw(config.seed, index, "mixing") < config.style_mixing:
                other = generator.draw_ws(series(config.seed, MIXED_STYLES), index, psi, label=label)
                crossover = 1 + int(draw(config.seed, index, "crossover") * (generator.num_ws - 1))
                own = mix_styles(own, other, crossover)
            ws.append(own)
        background_ws = None
        if config.needs_background and config.backgrounds == GENERATED:
            background_ws = torch.cat(
                [
                    generator.draw_ws(config.seed, 2 * index + 1, psi, label=config.label)
                    for index, psi in zip(indices, truncations, strict=True)
                ]
            )
        return _Rows(torch.cat(ws), background_ws, truncations, labels)

    def _truncation(self, index: int) -> float:
        low, high = self.config.min_truncation_psi, self.config.max_truncation_psi
        if low == high:
            return low
        return round(low + (high - low) * draw(self.config.seed, index, "truncation"), 6)

    def _background(self, indices: list[int], rows: _Rows) -> tuple[Tensor, list[tuple[str, ...]]]:
        """Backgrounds [N, 3, R, R], and the names of the pictures that were passed over for each."""
        config, generator = self.config, self.layered.generator
        none: list[tuple[str, ...]] = [()] * len(indices)
        if rows.background_ws is not None:
            return self.layered.background(rows.background_ws, config.background), none
        if config.colour is not None:
            one = solid_background(config.colour, generator.resolution)
            return one.expand(len(indices), -1, -1, -1).to(generator.w_avg.device), none
        assert self.pictures is not None
        found = [self.pictures.picture(draw(config.seed, index, "background")) for index in indices]
        behind = torch.cat([picture for picture, _ in found]).to(generator.w_avg.device)
        return behind, [passed for _, passed in found]

    def _uncertainty(self, rows: _Rows, front: Foreground, k: int, index: int) -> float | None:
        if self._meter is None:
            return None
        one = slice(k, k + 1)
        features = [maps[one] for maps in front.features]
        return self._meter.measure(rows.ws[one], features, front.alpha[one], index, label=rows.labels[k])

    def _discriminator_score(self, rows: _Rows, front: Foreground, k: int) -> float | None:
        if self._discriminator is None:
            return None
        label = rows.labels[k] if self._discriminator.c_dim else None
        return measure_discriminator_score(self._discriminator, front.image[k : k + 1], label)

    def _latents(self, rows: _Rows, k: int) -> Mapping[str, NDArray[np.float32]]:
        if "latents" not in self.config.parts:
            return {}
        latents = {"ws": rows.ws[k].float().cpu().numpy().copy()}
        if rows.background_ws is not None:
            latents["background_ws"] = rows.background_ws[k].float().cpu().numpy().copy()
        return latents

    def _shrink(self, maps: Tensor) -> Tensor:
        return maps if self.size == maps.shape[-1] else F.avg_pool2d(maps, maps.shape[-1] // self.size)


def _to_integers(alpha: Tensor, bits: int) -> NDArray[Any]:
    """Alpha [N, H, W] in [0, 1] as uint8 or uint16: the largest value is 1."""
    values = alpha.float().mul((1 << bits) - 1).round().to(torch.int32).cpu().numpy()
    return values.astype(np.uint8 if bits == 8 else np.uint16)
