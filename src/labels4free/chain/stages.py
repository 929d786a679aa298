"""The stages of a chain: what each makes of what was made before it. Each goes on where an earlier call has left it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from labels4free.chain.config import stage_seed
from labels4free.checkpoints.loading import load_layered, resolve_device
from labels4free.checkpoints.native import read_native_header
from labels4free.data.images.base import MANIFEST
from labels4free.data.images.dataset import open_images, open_source
from labels4free.data.images.prepare import PrepareConfig, prepare_images
from labels4free.errors import DataError, RunError
from labels4free.files import failing_as, write_atomically
from labels4free.folders import write_json
from labels4free.metrics.label_free import mask_numbers
from labels4free.pages.data_set import write_sample_page
from labels4free.pictures.contact_sheet import contact_sheet, overlay, save_sheet
from labels4free.pictures.pixels import to_uint8, write_png
from labels4free.sampling.dataset import sample_dataset
from labels4free.segmenting.segmenter import Segmenter
from labels4free.segmenting.sheet import LeastCertain
from labels4free.training.alpha.run import load_shared, train_alpha_network
from labels4free.training.generator.run import train_generator
from labels4free.training.segmenter.rendered_pairs import pair_settings
from labels4free.training.segmenter.run import train_segmenter
from labels4free.training_loop.contracts import ALPHA, GENERATOR, SEGMENTER

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from labels4free.chain.config import ChainConfig
    from labels4free.layered import LayeredGenerator
    from labels4free.training_loop.contracts import TrainProgress, TrainResult

SHEET, NUMBERS = "sheet.png", "check.json"
PHOTO_SHEET = "photos.jpg"

_CHECKED, _ABREAST, _PSI = 24, 3, 0.7
_CELL = 128
_SEGMENTED = 24


class Watch(Protocol):
    """Who is told how a chain is doing."""

    def say(self, sentence: str, /) -> None:
        """Say something that stays."""

    def bar(self, label: str, before: str | None = None, /) -> AbstractContextManager[TrainProgress]:
        """A progress bar, open as long as the context."""


class Silence:
    """A :class:`Watch` that says nothing."""

    def say(self, sentence: str, /) -> None:
        """Say nothing."""

    def bar(self, label: str, before: str | None = None, /) -> AbstractContextManager[TrainProgress]:  # noqa: ARG002
        """Show nothing."""

        def update(done: int, total: int, numbers: object = None, /) -> None:
            pass

        return nullcontext(update)


@dataclass(frozen=True)
class Work:
    """What the stages of a chain work on.

    Attributes:
        photos: The user's photos, any store of images.
        folder: The chain's folder.
        config: Settings, with the lengths that the plan has found.
        device: cpu, cuda, cuda:N or mps.
        watch: Who is told.
    """

    photos: Path
    folder: Path
    config: ChainConfig
    device: str
    watch: Watch

    @property
    def generator(self) -> Path:
        """File of the trained generator."""
        return self.folder / "generator" / GENERATOR.file

    def layered(self) -> LayeredGenerator:
        """The trained generator and its alpha network."""
        return load_layered(str(self.folder / "alpha"), str(self.generator), self.device)[0]


class Ended(NamedTuple):
    """How a stage ended.

    Attributes:
        problem: What is wrong with what it made, so that nothing can be made of it; None if nothing is.
        interrupted: Name of the signal that stopped it; None if it is done.
    """

    problem: str | None = None
    interrupted: str | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of a chain.

    Attributes:
        name: What it is called.
        words: What it does.
        product: What is there once it is done, in the chain's folder.
        needs: Names of the stages whose products it uses.
        work: Does it, or goes on with it.
        share: Part of a budget that it gets, in [0, 1]; the generator gets what the others leave.
    """

    name: str
    words: str
    product: str
    needs: tuple[str, ...]
    work: Callable[[Work], Ended]
    share: float | None = None


def prepare(work: Work) -> Ended:
    """Crop the photos to squares of the generator's and the segmenter's pixels, in a store that reads fast."""
    sizes = {work.config.generator.resolution, work.config.segmenter.size}
    config = PrepareConfig(sizes=tuple(sizes), encoding="png")
    with work.watch.bar("Preparing") as update:
        made = prepare_images(work.photos, work.folder / "images", config, progress=update)
    if made.skipped:
        first = next(iter(made.skipped.values()))
        more = f", and {len(made.skipped) - 1} more" if len(made.skipped) > 1 else ""
        work.watch.say(f"Skipped: {first}{more}; {work.folder / 'images' / MANIFEST} lists all.")
    if made.enlarged:
        side = config.sizes[-1]
        work.watch.say(f"{made.enlarged} of {made.images} photos were smaller than {side} pixels: enlarged.")
    return Ended()


def generator(work: Work) -> Ended:
    """Train a generator on the prepared photos."""
    config, images = work.config.generator, work.folder / "images"
    there = len(open_images(images, config.resolution))
    config = replace(config, checks=replace(config.checks, samples=min(config.checks.samples, there)))
    with work.watch.bar("Training") as update:
        result = train_generator(
            images, work.folder / "generator", config, resume="auto", device=work.device, progress=update
        )
    return _ended(result)


def alpha(work: Work) -> Ended:
    """Train an alpha network on the generator. What is wrong with its masks the next stage says."""
    loaded = load_shared(str(work.generator), work.device)
    with work.watch.bar("Training", "Rendering") as update:
        result = train_alpha_network(
            loaded,
            work.folder / "alpha",
            work.config.alpha,
            resume="auto",
            generator_name=str(work.generator.resolve()),
            progress=update,
        )
    return Ended(interrupted=result.interrupted)


@torch.inference_mode()
def check(work: Work) -> Ended:
    """Look at the masks without labels: the alpha network's own check, and a sheet of samples that it never saw."""
    info = read_native_header(work.folder / "alpha" / ALPHA.file, ALPHA.kind).info
    of_generator = read_native_header(work.generator, GENERATOR.kind).info
    layered, seed = work.layered(), stage_seed(work.config.alpha.seed, "check")
    rows, alphas = [], []
    for index in range(_CHECKED):
        found = layered.foreground(layered.generator.draw_ws(seed, index, _PSI))
        image, mask = to_uint8(found.image)[0], found.alpha[0, 0].cpu() > 0.5
        alphas.append(found.alpha.cpu())
        rows.append([image, found.alpha.cpu(), overlay(image, mask.numpy())])
    side_by_side = [list(chain.from_iterable(rows[at : at + _ABREAST])) for at in range(0, len(rows), _ABREAST)]
    titles = ("image", "alpha", "mask") * _ABREAST
    write_png(work.folder / "check" / SHEET, contact_sheet(side_by_side, titles, cell=_CELL))
    numbers = {
        "generator": of_generator.get("health"),
        "alpha": info.get("health"),
        "masks": mask_numbers(torch.cat(alphas)),
        "problem": info.get("problem"),
    }
    write_json(work.folder / "check" / NUMBERS, numbers)
    return Ended(info.get("problem"))


def pairs(work: Work) -> Ended:
    """Render images with their masks; those whose mask cannot be right are left out."""
    config = work.config.segmenter
    out, settings = work.folder / "pairs", pair_settings(config, work.config.generator.resolution)
    with work.watch.bar("Sampling") as update:
        sample_dataset(
            work.layered(),
            out,
            config.pairs.num,
            settings,
            generator_name=str(work.generator.resolve()),
            alpha_name=str((work.folder / "alpha").resolve()),
            progress=update,
        )
    write_sample_page(out)
    return Ended()


def segmenter(work: Work) -> Ended:
    """Train a segmenter on the pairs, then on its own masks of the photos too, and put it where it is looked for."""
    device, run, config = str(resolve_device(work.device)), work.folder / "segmenter", work.config.segmenter
    if config.self_training.unlabelled is None:
        own = str((work.folder / "images").resolve())
        config = replace(config, self_training=replace(config.self_training, unlabelled=own))
    with work.watch.bar("Training", "Reading") as update:
        result = train_segmenter(run, work.folder / "pairs", config, resume="auto", device=device, progress=update)
    if result.file:
        target = work.folder / SEGMENTER.file
        with failing_as(RunError, target):
            write_atomically(target, result.file.read_bytes())
    return _ended(result)


def photos(work: Work) -> Ended:
    """Cut out some of the user's own photos."""
    own = Segmenter.load(work.folder / SEGMENTER.file, work.device)
    source, seen = open_source(work.photos, check_headers=True), LeastCertain()
    with work.watch.bar("Segmenting") as update:
        wanted = range(0, len(source), max(1, len(source) // _SEGMENTED))[:_SEGMENTED]
        for done, index in enumerate(wanted, start=1):
            try:
                seen.add(source.names[index], own.segment(source.read(index), name=source.label(index)))
            except DataError as error:
                work.watch.say(f"Skipped: {error}")
            update(done, len(wanted))
    save_sheet(work.folder / PHOTO_SHEET, seen.draw())
    return Ended()


def _ended(result: TrainResult) -> Ended:
    problem = result.check.problem if result.check and result.file else None
    return Ended(problem, result.interrupted)


STAGES = (
    Stage("prepare", "crop and shrink the photos", f"images/{MANIFEST}", (), prepare),
    Stage("generator", "learn to make such pictures", f"generator/{GENERATOR.file}", ("prepare",), generator),
    Stage("alpha", "learn where the object ends in them", f"alpha/{ALPHA.file}", ("generator",), alpha, 0.2),
    Stage("check", "look at the masks", f"check/{NUMBERS}", ("generator", "alpha"), check),
    Stage("pairs", "make pictures with masks", "pairs/manifest.json", ("generator", "alpha", "check"), pairs, 0.05),
    Stage("segmenter", "learn to find the object in photos", SEGMENTER.file, ("pairs",), segmenter, 0.15),
    Stage("photos", "cut out some of the photos", PHOTO_SHEET, ("segmenter",), photos),
)
"""The stages of a chain, in order."""
