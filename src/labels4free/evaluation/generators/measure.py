"""Measure a generator, or images that lie on disk, against real images: metrics by name, with their spread over seeds.

An image is rendered and looked at once for all metrics and networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from labels4free.data.images.dataset import shorter_sides
from labels4free.errors import ConfigError, DataError
from labels4free.evaluation.generators.path_length import PathPairs, measure_path_length
from labels4free.evaluation.generators.reference import Statistics, compute_statistics, reference_statistics
from labels4free.evaluation.generators.report import Figure, MetricsReport
from labels4free.evaluation.generators.streams import GeneratedImages, StoredImages
from labels4free.metrics.distributions import (
    Moments,
    frechet_distance,
    inception_score,
    kernel_distance_of_subsets,
    precision_recall,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from labels4free.data.images.base import ImageSource
    from labels4free.data.images.dataset import ImageStore
    from labels4free.evaluation.generators.feature_nets import FeatureNet
    from labels4free.evaluation.generators.recipes import Recipe
    from labels4free.evaluation.generators.report import MetricsConfig
    from labels4free.evaluation.generators.streams import ImageSequence
    from labels4free.generators.base import Generator

_LEAST = {"fid": 2, "kid": 2, "pr": 4, "is": 10, "ppl": 1}
_HEADERS = 200  # of real images that are looked at for their size


class _Value(NamedTuple):
    """A figure of one seed, and the deviation of the parts that it is the mean of."""

    value: float
    within: float | None = None


@dataclass
class _Progress:
    """Counts images over all stages."""

    total: int
    show: Callable[[int, int], object] | None
    done: int = 0

    def __call__(self, count: int) -> None:
        self.done += count
        if self.show is not None:
            self.show(self.done, self.total)


@dataclass(frozen=True)
class _Subject:
    """What is measured, and how many images each metric gets of it."""

    generator: Generator | None
    samples: ImageStore | None
    data: ImageStore | None
    config: MetricsConfig

    @property
    def seeds(self) -> range:
        """Samples that lie on disk are always the same: their one seed decides kid's subsets."""
        return range(self.config.seed, self.config.seed + (1 if self.generator is None else self.config.seeds))

    def generated(self, recipe: Recipe) -> int:
        """Images of the generator, or samples."""
        return recipe.generated if self.samples is None else min(recipe.generated, len(self.samples))

    def real(self, recipe: Recipe) -> int:
        """Real images."""
        return 0 if self.data is None else min(recipe.real, len(self.data))

    def images(self, count: int, seed: int) -> ImageSequence:
        """So many generated images, or samples."""
        if self.samples is not None:
            return StoredImages(self.samples, count)
        assert self.generator is not None
        return GeneratedImages(self.generator, count, seed, self.config.truncation_psi, self.config.noise)


def measure_generator(
    generator: Generator | None,
    data: ImageStore | None,
    nets: Sequence[FeatureNet],
    config: MetricsConfig,
    *,
    samples: ImageStore | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> MetricsReport:
    """Measure a generator, or images that lie on disk, against real images.

    Args:
        generator: The generator; None where samples are given.
        data: Real images at the resolution of the generated ones; None where no metric looks at them.
        nets: The networks whose features are used; each gives its own figures of the metrics that it serves.
        config: The metrics.
        samples: Images in place of the generator's.
        progress: Called with images done and images in all: real ones, and for path lengths pairs.

    Raises:
        ConfigError: If a metric needs what is not given, or no network serves it.
        DataError: If there are too few images, or they cannot be read.
    """
    subject = _Subject(generator, samples, data, config)
    _check(subject, nets)
    paths = [recipe for recipe in config.recipes if recipe.kind == "ppl"]
    others = [recipe for recipe in config.recipes if recipe.kind != "ppl"]
    most = max(map(subject.generated, others), default=0)
    real_counts = {subject.real(recipe) for recipe in others if recipe.real}
    lookers = [net for net in nets if any(recipe.kind in net.kinds for recipe in others)]
    pairs = sum(recipe.generated * len(_serving(nets, recipe)) for recipe in paths)
    count = _Progress(sum(real_counts) + len(subject.seeds) * (most + pairs), progress)
    options: dict[str, Any] = {"batch_size": config.batch_size, "workers": config.workers, "progress": count}

    reference = {}
    for size in sorted(real_counts):
        assert data is not None
        keep = any(recipe.kind in ("kid", "pr") for recipe in others if subject.real(recipe) == size)
        reference[size] = reference_statistics(StoredImages(data, size), lookers, keep_features=keep, **options)
    found: dict[tuple[Recipe, str], list[_Value]] = {}
    for seed in subject.seeds:
        made = compute_statistics(subject.images(most, seed), lookers, keep_features=True, **options) if most else []
        for recipe in config.recipes:
            for net in _serving(nets, recipe):
                if recipe.kind == "ppl":
                    values = {"ppl": _Value(_path_length(subject, recipe, net, seed, count))}
                else:
                    k = lookers.index(net)
                    vectors = made[k].features
                    assert vectors is not None
                    real = reference[subject.real(recipe)][k] if recipe.real else None
                    values = _values(recipe, net, real, vectors[: subject.generated(recipe)], seed)
                for name, value in values.items():
                    found.setdefault((recipe, net.figure(name)), []).append(value)
    return MetricsReport(config, _figures(subject, found), (*_notes(subject, nets),))


def _serving(nets: Sequence[FeatureNet], recipe: Recipe) -> list[FeatureNet]:
    return [net for net in nets if recipe.kind in net.kinds]


def _values(
    recipe: Recipe, net: FeatureNet, real: Statistics | None, generated: Tensor, seed: int
) -> dict[str, _Value]:
    """Figures of one metric for one seed, by kind."""
    if recipe.kind == "is":
        return {"is": _Value(*inception_score(net.logits(generated)))}
    assert real is not None
    if recipe.kind == "fid":
        return {"fid": _Value(frechet_distance(real.moments, Moments.of(generated)))}
    assert real.features is not None
    if recipe.kind == "kid":
        return {"kid": _Value(*kernel_distance_of_subsets(generated, real.features, seed=seed))}
    found = precision_recall(real.features, generated)
    return {"precision": _Value(found.precision), "recall": _Value(found.recall)}


def _path_length(subject: _Subject, recipe: Recipe, net: FeatureNet, seed: int, progress: _Progress) -> float:
    config = subject.config
    assert subject.generator is not None
    assert recipe.path is not None
    pairs = PathPairs(
        subject.generator,
        net,
        recipe.path,
        recipe.generated,
        seed,
        truncation_psi=config.truncation_psi,
        epsilon=config.epsilon,
        batch_size=max(1, config.batch_size // 2),
    )
    return measure_path_length(pairs, workers=config.workers, progress=progress)


def _figures(subject: _Subject, found: dict[tuple[Recipe, str], list[_Value]]) -> tuple[Figure, ...]:
    figures = []
    for (recipe, name), values in found.items():
        within = tuple(value.within for value in values if value.within is not None)
        counts = subject.generated(recipe), subject.real(recipe)
        figures.append(Figure(name, recipe.name, tuple(value.value for value in values), within, *counts))
    return tuple(figures)


def _check(subject: _Subject, nets: Sequence[FeatureNet]) -> None:
    """Find what cannot be measured before anything is rendered."""
    if (subject.generator is None) == (subject.samples is None):
        raise ConfigError("Give a generator or samples, and not both.")
    sides = {store.resolution for store in (subject.data, subject.samples) if store is not None}
    sides |= set() if subject.generator is None else {subject.generator.resolution}
    if len(sides) > 1:
        raise ConfigError(f"Images of one resolution are needed, got {' and '.join(map(str, sorted(sides)))} pixels.")
    for recipe in subject.config.recipes:
        if recipe.kind == "ppl" and subject.generator is None:
            raise ConfigError(f"{recipe.name} needs a generator: a path length is not a matter of finished samples.")
        if recipe.real and subject.data is None:
            raise ConfigError(f"{recipe.name} compares with real images: say where they are.")
        if not _serving(nets, recipe):
            nets[0].require(recipe.kind)
        least = _LEAST[recipe.kind]
        for what, count in (("generated", subject.generated(recipe)), ("real", subject.real(recipe))):
            if count < least and (what == "generated" or recipe.real):
                raise DataError(f"{recipe.name} needs at least {least} {what} images, got {count}.")


def _notes(subject: _Subject, nets: Sequence[FeatureNet]) -> list[str]:
    """What must be known to read the figures."""
    notes = []
    for recipe in subject.config.recipes:
        counts = {"generated": subject.generated(recipe), "real": subject.real(recipe)}
        if counts["generated"] < recipe.generated:
            notes.append(f"{recipe.name}: only {counts['generated']:,} of {recipe.generated:,} samples are there.")
        if recipe.kind != "fid":
            continue
        what, least = min(counts.items(), key=lambda item: item[1])
        notes += [
            f"{net.figure('fid')} of {recipe.name} is too large, whatever the images: {least:,} {what} images are no "
            f"more than its {net.width:,} features. Take kid{recipe.name[3:]}, which is unbiased."
            for net in _serving(nets, recipe)
            if least <= net.width
        ]
    if subject.data is not None:
        side = smallest_side(subject.data.source)
        if side < subject.data.resolution:
            notes.append(
                f"Real images have sides down to {side} pixels and were enlarged to {subject.data.resolution}, which "
                "features may tell: compare at their own size."
            )
    return notes


def smallest_side(source: ImageSource) -> int:
    """Shorter side in pixels of the smallest of about 200 images that lie evenly over a store, by their headers.

    Raises:
        DataError: If none of them can be read.
    """
    sides = shorter_sides(source, _HEADERS)
    if not sides:
        raise DataError(f"{source.path} holds no readable image.")
    return min(sides)
