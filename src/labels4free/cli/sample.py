"""``labels4free sample``: images with their masks, from a trained alpha network and its generator."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from labels4free.cli.progress import progress_bar
from labels4free.cli.sample_flags import Files, Latents, Trust, Work, parse_count, parse_shards, settings_of
from labels4free.errors import ConfigError
from labels4free.files import in_full

if TYPE_CHECKING:
    from labels4free.layered import LayeredGenerator
    from labels4free.sampling.config import SampleConfig
    from labels4free.sampling.shards import Partition
    from labels4free.sampling.summary import SampleSummary


def run(
    source: Annotated[Positional[str], arg(metavar="RUN_OR_ALPHA")],
    *,
    out: Annotated[Path, arg(metavar="DIR")],
    num: Annotated[str, arg(metavar="N")],
    preset: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None,
    generator: Annotated[str | None, arg(metavar="NAME_OR_FILE")] = None,
    latents: Annotated[Latents, OmitArgPrefixes] = Latents(),  # noqa: B008  frozen
    files: Annotated[Files, OmitArgPrefixes] = Files(),  # noqa: B008
    trust: Annotated[Trust, OmitArgPrefixes] = Trust(),  # noqa: B008
    work: Annotated[Work, OmitArgPrefixes] = Work(),  # noqa: B008
) -> None:
    """Write a data set of images with their masks, and contact sheets of the first few.

    The same command continues where an interrupted one stopped, checks what is there and makes again what is damaged;
    a larger --num adds samples. Several machines share the work under torchrun, or by --shards in a job array.

    Args:
        source: Folder of a training run, file of an alpha network (native, or a .pt of the original Labels4Free),
            or name of a generator that one ships for.
        out: Folder to write to.
        num: Number of candidates, such as 1000, 10k or 10M; what the filters drop is among them.
        preset: "paper": truncation 0.5, masks at 0.9, composites and backgrounds too, no filters, and pages of
            sixteen pictures in grids/, as test_sample.py of the original writes them.
        generator: Generator to use instead of the one that the alpha network was trained on.
            Like that of "train", a name of the zoo or a file.
        latents: Which images.
        files: What is written.
        trust: What is left out.
        work: How it is done.
    """
    count, partition = parse_count(num), _partition(work)
    files = dataclasses.replace(files, backgrounds=in_full(files.backgrounds))
    trust = dataclasses.replace(trust, ensemble=tuple(map(in_full, trust.ensemble)))
    if trust.min_discriminator_score_quantile is not None:
        trust = dataclasses.replace(trust, discriminator=in_full(trust.discriminator or generator or source))
    config = settings_of(preset, latents, files, trust, work)
    from labels4free.checkpoints.loading import load_layered

    layered, name = load_layered(source, generator, _own_device(work.device))
    summary = sample_with_bar(layered, out, count, config, name, alpha_name=in_full(source), partition=partition)
    if preset is not None and summary.complete:
        from labels4free.sampling.paper_grids import write_grids

        write_grids(out)
    if summary.complete:
        from labels4free.pages.data_set import write_sample_page

        write_sample_page(out)
    _say(summary)


def _say(summary: SampleSummary) -> None:
    if not summary.complete:
        print(
            f"This part is done; {summary.done} of {summary.num} samples are in {summary.out} so far. Whoever finishes "
            f"the last part writes what spans all of them."
        )
        return
    print(f"{summary.kept} samples in {summary.out}, masks cover {describe_foreground_ratio(summary)} of the picture")
    if summary.dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.dropped.items())
        print(f"Dropped {sum(summary.dropped.values())} of {summary.num}: {reasons}; see {summary.dropped_sheet}")
    print(f"Contact sheet: {summary.contact_sheet}")
    print(f"How to read it: {summary.card}; to look at: {summary.page}")


def _partition(work: Work) -> Partition:
    """What of the data set this process makes: torchrun says which of how many it is."""
    from labels4free.sampling.shards import Partition

    numbers = {"RANK": 0, "WORLD_SIZE": 1}
    for name, usual in numbers.items():
        value = os.environ.get(name, "") or str(usual)
        if not value.isdecimal():
            raise ConfigError(f"{name} must be a number, as torchrun sets it; got {value!r}.")
        numbers[name] = int(value)
    first, last = parse_shards(work.shards) if work.shards is not None else (0, None)
    return Partition(work.workers, first, last, numbers["RANK"], numbers["WORLD_SIZE"])


def _own_device(device: str) -> str:
    """Under torchrun ``cuda`` is the process's own GPU."""
    local = os.environ.get("LOCAL_RANK", "")
    return f"cuda:{local}" if device == "cuda" and local.isdecimal() else device


def sample_with_bar(
    layered: LayeredGenerator,
    out: Path,
    num: int,
    config: SampleConfig,
    generator_name: str,
    *,
    alpha_name: str | None = None,
    partition: Partition | None = None,
) -> SampleSummary:
    """Sample with a progress bar on stderr; after Ctrl-C say how to go on."""
    from labels4free.sampling.dataset import sample_dataset

    def stopped(done: int, total: int) -> str:
        return (
            f"Stopped after {done} of {total or num} samples. Finished shards are in {out}; the same command goes on "
            f"behind them."
        )

    with progress_bar("Sampling", stopped=stopped) as update:
        return sample_dataset(
            layered,
            out,
            num,
            config,
            generator_name=in_full(generator_name),
            alpha_name=alpha_name,
            partition=partition,
            progress=update,
        )


def describe_foreground_ratio(summary: SampleSummary) -> str:
    """Mean and standard deviation of the masks' foreground ratio, in per cent."""
    return f"{100 * summary.foreground_ratio_mean:.0f} % (sd {100 * summary.foreground_ratio_sd:.0f})"
