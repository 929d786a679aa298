"""How long the steps of a chain's trainings take on this machine: a few of each are done, on photos of the user's."""

from __future__ import annotations

import io
import math
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from labels4free.chain.budget import Costs
from labels4free.data.decoding import central_square, decode_image
from labels4free.data.images.base import ImageSource
from labels4free.data.images.dataset import ImageStore
from labels4free.data.pairs.formats import PAIR_FORMATS
from labels4free.data.parallel import available_cores
from labels4free.errors import DataError
from labels4free.layered import LayeredGenerator
from labels4free.sampling.pair import PairRenderer
from labels4free.sampling.stream import Choice, finished_candidates
from labels4free.training.alpha.config import CacheConfig, MonitorConfig
from labels4free.training.alpha.consensus import distill
from labels4free.training.alpha.feature_cache import PREVIEWS
from labels4free.training.alpha.run import CachedRecipe
from labels4free.training.generator.recipe import GeneratorRecipe
from labels4free.training.segmenter.config import SelfTrainingConfig
from labels4free.training.segmenter.example_stream import ExampleStream
from labels4free.training.segmenter.pair_cache import PairCache
from labels4free.training.segmenter.rendered_pairs import pair_settings
from labels4free.training.segmenter.trainer import Drawn, SegmenterData, SegmenterTrainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from labels4free.chain.config import ChainConfig
    from labels4free.generators.base import Generator
    from labels4free.training.alpha.trainer import AlphaTrainer
    from labels4free.training.generator.trainer import GeneratorTrainer

_PHOTOS, _PAIRS, _EXAMPLES = 16, 8, 16
_REPEATS, _ENOUGH = 3, 2.0  # times that a step is timed, but no more once it has taken so many seconds
_AUGMENTED = 0.4  # how often adaptive augmentation is reckoned to change the images: it begins at 0 and grows
_WARMUP, _STEPS = 4, 8  # of the alpha network: with its eight steps of two, one is penalised


def measure(photos: ImageStore, config: ChainConfig, device: str) -> Costs:
    """Measure what the steps of a chain take on this machine, with networks of its settings and a few of the photos.

    Nothing that is trained here is kept.

    Args:
        photos: The photos, at the resolution of the settings.
        config: Settings of the chain.
        device: cpu, cuda, cuda:N or mps.

    Raises:
        CheckpointError: If the checkpoint to begin with cannot be read or holds no StyleGAN2.
        ConfigError: If the settings do not fit each other, or the device cannot serve.
        DataError: If no photo can be read.
    """
    start = time.monotonic()
    where = torch.device(device)
    few, photo = _prepared(photos, config.generator.resolution)
    checks = replace(config.generator.checks, samples=2)
    of_generator = GeneratorRecipe(few, replace(config.generator, checks=checks), where)
    trainer = of_generator.trainer()
    generator_step = _generator_step(trainer)
    generator = of_generator.finished(trainer).to(where)
    del trainer
    with TemporaryDirectory(prefix="labels4free-") as scratch:
        rendering, alpha = _cached(generator, config, Path(scratch))
    warmup_step, alpha_step, consensus_step = _alpha_steps(alpha.trainer(), config)
    pair = _pair(LayeredGenerator(generator, alpha.finished(alpha.trainer())).eval(), config)
    segmenter_step = _segmenter_step(config, where)
    return Costs(
        measuring=time.monotonic() - start,
        photo=photo,
        generator_step=generator_step,
        rendering=rendering,
        warmup_step=warmup_step,
        alpha_step=alpha_step,
        consensus_step=consensus_step,
        pair=pair,
        segmenter_step=segmenter_step,
    )


class _Repeated(ImageSource):
    """A few images again and again, so that what asks for many has them."""

    def __init__(self, path: Path, encoded: Sequence[bytes], count: int = 1024) -> None:
        self.path, self.encoded, self.skipped = path, encoded, {}
        self.names = [str(index) for index in range(count)]

    def read(self, index: int) -> bytes:
        return self.encoded[index % len(self.encoded)]


def _prepared(photos: ImageStore, side: int) -> tuple[ImageStore, float]:
    """A few photos as they will be prepared, and the seconds that each takes."""
    encoded: list[bytes] = []
    source, start = photos.source, time.monotonic()
    tried = range(0, len(source), max(1, len(source) // _PHOTOS))
    for index in tried:
        try:
            whole = Image.fromarray(decode_image(source.read(index), None, source.label(index)))
        except DataError:  # preparing skips and lists it
            continue
        buffer = io.BytesIO()
        central_square(whole, side).save(buffer, "PNG", compress_level=2)
        encoded.append(buffer.getvalue())
    if not encoded:
        raise DataError(f"{photos.path} holds no readable image: all {len(tried)} that were looked at are damaged.")
    seconds = (time.monotonic() - start) / len(tried) / available_cores()
    return ImageStore(_Repeated(photos.path, encoded), side), seconds


def _generator_step(trainer: GeneratorTrainer) -> float:
    """Mean over a whole period of the lazy penalties; each kind of step is timed, and weighs as often as it comes."""
    own = trainer.config
    every = own.discriminator.r1_interval if own.resolved.r1_gamma else 1
    also = own.generator.path_length_interval if own.generator.path_length else 1
    if own.augmentation.mode == "adaptive":
        trainer.augmenter.probability = _AUGMENTED * own.augmentation.max_probability
    kinds: dict[tuple[bool, bool], list[int]] = defaultdict(list)
    period = math.lcm(every, also)
    for iteration in range(period):
        kinds[iteration % every == 0, iteration % also == 0].append(iteration)
    _synchronised(trainer.step, trainer.device)

    def seconds(iteration: int) -> float:
        def step() -> None:
            trainer.iteration = iteration
            trainer.step()

        return _timed(step, trainer.device)

    return sum(len(iterations) * seconds(iterations[0]) for iterations in kinds.values()) / period


def _cached(generator: Generator, config: ChainConfig, scratch: Path) -> tuple[float, CachedRecipe]:
    """Seconds that a rendering for the cache takes, and the recipe with a small cache."""
    own = replace(
        config.alpha,
        steps=_STEPS,
        members=1,
        cache=CacheConfig(size=4 * _EXAMPLES, calibration_samples=_EXAMPLES),
        discriminator=replace(config.alpha.discriminator, warmup_steps=_WARMUP),
        background=replace(config.alpha.background, filled_from_step=0, filled_full_step=1),  # the costlier ones
        monitor=MonitorConfig(samples=_EXAMPLES, noise_samples=0, mixing_samples=0),
    )
    recipe = CachedRecipe(generator, own)
    start = time.monotonic()
    recipe.prepare(scratch, lambda *_: None)
    rendered = own.cache.calibration_samples + 2 * (own.cache.size + PREVIEWS)
    return (time.monotonic() - start) / rendered, recipe


def _alpha_steps(trainer: AlphaTrainer, config: ChainConfig) -> tuple[float, float, float]:
    """A step of the warm-up, one after it, and one of learning the consensus."""

    def mean(step: Callable[[], object], count: int) -> float:
        _synchronised(step, trainer.device)  # the first one is slower
        start = time.monotonic()
        for _ in range(count):
            step()
        _synchronised(lambda: None, trainer.device)
        return (time.monotonic() - start) / count

    warmup = mean(trainer.step, _WARMUP - 1)
    step = mean(trainer.step, _STEPS - 1)
    if config.alpha.members == 1:
        return warmup, step, 0.0
    own = replace(trainer.config, consensus_steps=_STEPS)
    start = time.monotonic()
    distill([trainer.kept] * config.alpha.members, trainer.cache, own)
    _synchronised(lambda: None, trainer.device)
    return warmup, step, (time.monotonic() - start) / _STEPS


def _pair(layered: LayeredGenerator, config: ChainConfig) -> float:
    own = pair_settings(config.segmenter, layered.generator.resolution)
    renderer, kind = PairRenderer(layered, own), PAIR_FORMATS[own.format]
    choice = Choice(format=kind, layout=own.layout(renderer.size))
    took = []
    for indices in (range(2), range(2, 2 + _PAIRS)):  # the first ones are slower
        start = time.monotonic()
        with closing(finished_candidates(renderer, indices, choice)) as candidates:
            took.append((sum(1 for _ in candidates), time.monotonic() - start))
    count, seconds = took[-1]
    return seconds / count


def _segmenter_step(config: ChainConfig, device: torch.device) -> float:
    """Steady state: examples are made ahead of the steps, beside them."""
    own = replace(config.segmenter, steps=10 * _REPEATS, self_training=SelfTrainingConfig(), pretrained=None)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (_EXAMPLES, own.size, own.size, 3), np.uint8)
    alphas = np.zeros((_EXAMPLES, own.size, own.size), np.uint8)
    alphas[:, own.size // 4 : 3 * own.size // 4, own.size // 4 : 3 * own.size // 4] = 255
    pairs = PairCache(images, alphas, [1.0] * _EXAMPLES)
    stream: ExampleStream[Drawn] = ExampleStream(device)
    with closing(stream):
        trainer = SegmenterTrainer(SegmenterData(pairs, pairs), own, stream, device=device)
        for _ in range(_REPEATS):
            _synchronised(trainer.step, device)
        start = time.monotonic()
        for _ in range(2 * _REPEATS):
            trainer.step()
        _synchronised(lambda: None, device)
        return (time.monotonic() - start) / (2 * _REPEATS)


def _timed(step: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a few steps."""
    took: list[float] = []
    while len(took) < _REPEATS and sum(took) < _ENOUGH:
        start = time.monotonic()
        _synchronised(step, device)
        took.append(time.monotonic() - start)
    return median(took)


def _synchronised(step: Callable[[], object], device: torch.device) -> None:
    """Do a step, and wait until the device has done it."""
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
