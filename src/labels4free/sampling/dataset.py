"""Seeds in, a data set of images with their masks out: in shards, so that any number of processes can make it.

A shard is finished when its record lies in ``shards/``; whoever finds all of them finished writes what spans them. All
files are functions of the models and the settings alone, and appear whole or not at all: so processes need not know of
each other, a killed one costs the shard that it was at, and two that do the same do no harm.
"""

from __future__ import annotations

import platform
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL
import torch

from labels4free import __version__
from labels4free.checkpoints.state_hash import state_hash
from labels4free.data.names import KIND, MANIFEST
from labels4free.data.pairs.formats import PAIR_FORMATS
from labels4free.data.pairs.manifest import FORMAT, read_manifest
from labels4free.data.pairs.shard_records import SHARD_FOLDER, ShardRecord, file_entry, shard_path
from labels4free.errors import ConfigError, DataError, RunError
from labels4free.files import remove_leftovers
from labels4free.folders import claim, write_json
from labels4free.sampling.calibration import find_thresholds
from labels4free.sampling.card import data_card
from labels4free.sampling.config import SampleConfig
from labels4free.sampling.pair import PairRenderer
from labels4free.sampling.shards import Partition, check_shards, finished_shard, shard_count, shard_range, write_shards
from labels4free.sampling.sheets import Previews, write_sheets
from labels4free.sampling.summary import SampleSummary, Tally
from labels4free.sampling.workers import write_shards_in_processes
from labels4free.settings_fields import as_json, flat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from labels4free.data.pairs.record import PairRecord
    from labels4free.layered import LayeredGenerator
    from labels4free.sampling.filters import Thresholds

_LATENTS = (
    "sample i: z = sample_z(z_dim, seed, 2 * i), background z = sample_z(z_dim, seed, 2 * i + 1); truncation, style "
    "mixing and pictures by draw(seed, i, what)"
)


def sample_dataset(
    layered: LayeredGenerator,
    out: str | Path,
    num: int,
    config: SampleConfig | None = None,
    *,
    generator_name: str | None = None,
    alpha_name: str | None = None,
    partition: Partition | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SampleSummary:
    """Render pairs into a data set, or finish what an earlier call with equal settings left.

    Pair i depends on the models, the settings and i alone: on a CPU to the byte, whatever the number of threads,
    processes and machines; on an accelerator as far as its arithmetic repeats itself. Noise is the generator's fixed
    maps. The second call checks the finished shards by their checksums and makes again what is damaged.

    Args:
        layered: Generator and alpha network.
        out: Folder to write to: a new or empty one, or one of the same settings, generator and alpha network, where
            missing shards are added (``num`` may grow).
        num: Candidates of the finished data set, at least 1: the pairs that the filters drop are among them.
        config: See :class:`SampleConfig`; None for its defaults.
        generator_name: Name or file of the generator for the manifest, from which pairs can be made again.
        alpha_name: The same of the alpha network.
        partition: What of it this call makes, and with how many processes; None: all of it, in this one.
        progress: Called as ``progress(candidates done, candidates of this call's shards)``.

    Returns:
        The numbers of all finished shards; ``complete`` says whether these are all.

    Raises:
        ConfigError: If a setting is out of range or does not fit the generator.
        RunError: If the folder holds something else, or the filters left no pair.
        CheckpointError: If a discriminator or a network of an ensemble cannot be read.
        DataError: If a file cannot be written, for example because no space is left; or backgrounds cannot be read.
    """
    config, partition, out = config or SampleConfig(), partition or Partition(), Path(out)
    if num < 1:
        raise ConfigError(f"num must be at least 1 sample, got {num}.")
    mine = partition.shards(shard_count(num, config.shard_size))
    renderer = PairRenderer(layered, config)
    PAIR_FORMATS[config.format].check(config.layout(renderer.size))
    data_set = _DataSet(renderer, out, num)
    manifest = data_set.describe(generator_name, alpha_name)
    start = time.monotonic()
    _claim(out, manifest)
    remove_leftovers(out)
    rendered = data_set.make(mine, partition.workers, progress)
    return data_set.finish(manifest, rendered, start)


class _DataSet:
    """One data set at work."""

    def __init__(self, renderer: PairRenderer, out: Path, num: int) -> None:
        self.renderer, self.out, self.num = renderer, out, num
        self.config = renderer.config
        self.format, self.layout = PAIR_FORMATS[self.config.format], self.config.layout(renderer.size)
        self.count = shard_count(num, self.config.shard_size)
        self.previews = Previews(self.config)

    def make(self, shards: Sequence[int], workers: int, progress: Callable[[int, int], None] | None) -> int:
        """Make what is missing of some shards.

        Returns:
            How many candidates were rendered for it.
        """
        jobs = [(shard, shard_range(shard, self.num, self.config.shard_size)) for shard in shards]
        total, done = sum(len(candidates) for _, candidates in jobs), 0

        def advance(by: int) -> None:
            nonlocal done
            done += by
            if progress:
                progress(done, total)

        advance(0)
        missing = set(check_shards(self.out, jobs, advance))
        jobs = [job for job in jobs if job[0] in missing]
        if not jobs:
            return 0
        thresholds = find_thresholds(self.renderer, self.out)
        try:
            self._write(jobs, thresholds, min(workers, len(jobs)), advance)
        except DataError as error:
            left = sum(finished_shard(self.out, *job) is None for job in jobs)
            raise DataError(
                f"{error} {len(shards) - left} of {len(shards)} shards are finished and stay valid; the same command "
                f"goes on from there."
            ) from error
        return sum(len(candidates) for _, candidates in jobs)

    def _write(
        self, jobs: Sequence[tuple[int, range]], thresholds: Thresholds, workers: int, advance: Callable[[int], None]
    ) -> None:
        if workers > 1:
            write_shards_in_processes(self.renderer, self.out, jobs, thresholds, workers, advance)
            return
        with closing(write_shards(self.renderer, self.out, jobs, thresholds, self.previews.offer)) as finished:
            for _ in finished:
                advance(1)

    def finish(self, manifest: dict[str, Any], rendered: int, start: float) -> SampleSummary:
        """Sum up; if all shards are finished, write what spans them."""
        tally, entries = Tally(), []
        for shard in self.records():
            tally.add(shard)
            entry = file_entry(shard_path(self.out, shard.shard))
            size = sum(file.bytes for file in shard.files.values())
            entries.append([f"{SHARD_FOLDER}/{shard.shard:06d}.json", entry.sha256, len(shard.records), size])
        summary = tally.summary(self.out, self.num, rendered, time.monotonic() - start)
        summary.warn()
        if not summary.complete:
            return summary
        write_sheets(self.renderer, self.out, tally, self.previews)
        manifest |= {"complete": True, "summary": summary.to_json(), "files": {}, "shards": entries}
        if tally.kept:
            card = data_card(manifest)
            files = self.format.finish(self.out, self.layout, self._records_by_shard(), card)
            manifest["files"] = {name: [entry.bytes, entry.sha256] for name, entry in sorted(files.items())}
        write_json(self.out / MANIFEST, manifest)
        if not tally.kept:
            raise RunError(
                f"None of the {self.num} candidates passed the filters ({_reasons(summary)}), so that {self.out} holds "
                f"no pair: look at {summary.dropped_sheet.name} in it, widen the filters or use a better alpha network."
            )
        return summary

    def records(self) -> Iterator[ShardRecord]:
        """The records of all finished shards, in order."""
        for shard in range(self.count):
            record = finished_shard(self.out, shard, shard_range(shard, self.num, self.config.shard_size))
            if record is not None:
                yield record

    def _records_by_shard(self) -> Iterator[tuple[int, Sequence[PairRecord]]]:
        return ((shard.shard, shard.records) for shard in self.records())

    def describe(self, generator_name: str | None, alpha_name: str | None) -> dict[str, Any]:
        """The manifest of an unfinished data set. ``settings`` and the state hashes say which data set it is."""
        generator = self.renderer.layered.generator
        alpha_network = self.renderer.layered.alpha_network
        latents = _LATENTS
        if self.config.label is not None:
            latents += f"; class {self.config.label} for both"
        elif generator.c_dim:
            latents += "; class = sample_label(c_dim, seed, 2 * i), background class with 2 * i + 1"
        return {
            "format": FORMAT,
            "kind": KIND,
            "settings": self._settings(),
            "generator": {
                "name": generator_name,
                "family": generator.family,
                "resolution": generator.resolution,
                "state_hash": state_hash(generator),
            },
            "alpha_network": {
                "name": alpha_name,
                "parameters": sum(p.numel() for p in alpha_network.parameters()),
                "state_hash": state_hash(alpha_network),
            },
            "latents": latents,
            "versions": {
                "labels4free": __version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "pillow": PIL.__version__,
            },
            "device": generator.w_avg.device.type,
            "num": self.num,
            "shard_count": self.count,
            "complete": False,
        }

    def _settings(self) -> dict[str, Any]:
        """All settings, with what the defaults mean for this generator."""
        config, generator = self.config, self.renderer.layered.generator
        background = config.background or generator.default_background
        settings = as_json(replace(config, size=self.renderer.size, background=background))
        if self.renderer.on_cpu:
            del settings["batch_size"]  # does not change the pairs
        settings["noise"] = "fixed"
        if self.renderer.pictures is not None:
            settings["backgrounds_digest"] = self.renderer.pictures.digest
        return settings


def _claim(out: Path, manifest: Mapping[str, Any]) -> None:
    """Take the folder for the data set of a manifest, and write that where it is new."""
    if claim(out, MANIFEST, _identity(manifest), "samples", lambda: _identity(read_manifest(out))):
        earlier, num = read_manifest(out)["num"], manifest["num"]
        if earlier > num:
            raise RunError(
                f"{out} is for {earlier} samples of the same settings, asked for were {num}: ask for {earlier} or "
                f"more, or choose another output folder."
            )
        if earlier == num:
            return
    write_json(out / MANIFEST, manifest)  # first of all files: its presence says that the folder is a data set


def _identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a data set from another, however many pairs it has so far."""
    networks = {name.replace("_", " "): manifest[name].get("state_hash") for name in ("generator", "alpha_network")}
    return networks | dict(sorted(flat(manifest["settings"]).items()))


def _reasons(summary: SampleSummary) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in summary.dropped.items())
