"""``labels4free sample``: images with their masks, from a trained alpha network."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from labels4free.cli.progress import progress_bar

if TYPE_CHECKING:
    from labels4free.layered import LayeredGenerator
    from labels4free.sampling import SampleConfig, SampleSummary

_log = logging.getLogger(__name__)


def run(
    source: Annotated[Positional[str], arg(metavar="RUN_OR_ALPHA")],
    *,
    out: Annotated[Path, arg(metavar="DIR")],
    num: Annotated[int, arg(metavar="N")],
    seed: int = 0,
    truncation_psi: float = 0.7,
    threshold: float = 0.9,
    batch_size: int = 4,
    size: int | None = None,
    label: Annotated[int | None, arg(metavar="K", help_behavior_hint="")] = None,
    generator: Annotated[str | None, arg(metavar="NAME_OR_FILE")] = None,
    device: str = "cpu",
) -> None:
    """Write numbered images, alphas, masks, composites and backgrounds, and a contact sheet of the first few.

    The same command continues where an interrupted one stopped; a larger --num adds samples.

    Args:
        source: Folder of a training run, file of an alpha network (native, or a .pt of the original Labels4Free),
            or name of a generator that one ships for.
        out: Folder to write to.
        num: Number of samples.
        seed: Sample i depends on the seed and i alone.
        truncation_psi: From 1, the generator's full variety, towards 0, its average image.
        threshold: A pixel is foreground in the mask where its alpha exceeds this.
        batch_size: Samples rendered at once on a GPU. A CPU renders one at a time.
        size: Side of the pictures in pixels, a divisor of the generator's resolution; by default that.
        label: Class of the samples, for generators with classes; without it each sample draws its own.
        generator: Generator to use instead of the one that the alpha network was trained on.
            Like that of "train", a name of the zoo or a file.
        device: cpu, cuda, cuda:N or mps.
    """
    from labels4free.sampling import SampleConfig

    config = SampleConfig(
        seed=seed,
        truncation_psi=truncation_psi,
        threshold=threshold,
        batch_size=batch_size,
        size=size,
        label=label,
    )
    layered, name = load_layered(source, generator, device)
    summary = sample_with_bar(layered, out, num, config, name)
    print(f"{summary.num} samples in {summary.out}, masks cover {describe_coverage(summary)} of the picture")
    print(f"Contact sheet: {summary.contact_sheet}")


def load_layered(source: str, generator: str | None, device: str) -> tuple[LayeredGenerator, str]:
    """Load an alpha network together with its generator.

    Args:
        source: Folder of a training run, file of an alpha network, or zoo name of a generator that one ships for.
        generator: Zoo name or file of the generator; None for the one that the alpha network was trained on.
        device: Where to put them.

    Returns:
        Both joined, in evaluation mode, and the generator's zoo name or file. A checkpoint of the original that holds
        both serves as both.

    Raises:
        CheckpointError: If one of them cannot be read, or the alpha network's own generator has other weights now.
        ConfigError: If the two do not fit each other, or the device cannot be used.
        ModelZooError: If the generator cannot be fetched.
    """
    from labels4free.checkpoints.loading import (
        generator_fingerprint,
        generator_name_of,
        load_generator,
        read_alpha_network,
    )
    from labels4free.errors import CheckpointError
    from labels4free.layered import LayeredGenerator

    alpha = read_alpha_network(source, device)
    if generator is None and alpha.generator is not None:
        return LayeredGenerator(alpha.generator, alpha.network).eval(), str(alpha.path)
    name = generator or generator_name_of(alpha)
    if name is None:
        if not (own := alpha.made_for.get("name")):
            raise CheckpointError(f"{source} does not say which generator it belongs to; name it with --generator.")
        raise CheckpointError(
            f"{source} was trained on {own}, which is not there; name its generator with --generator."
        )
    loaded = load_generator(name, device)
    if alpha.made_for.get("fingerprint") not in (None, generator_fingerprint(loaded)):
        if generator is None:
            raise CheckpointError(
                f"{name} is not the generator that {source} was trained on: its weights are others. Name the right one "
                f"with --generator, or {name} itself to use it all the same."
            )
        _log.warning("%s was trained on other weights than those of %s: its masks may be wrong.", source, name)
    return LayeredGenerator(loaded, alpha.network).eval(), name


def sample_with_bar(
    layered: LayeredGenerator, out: Path, num: int, config: SampleConfig, generator_name: str
) -> SampleSummary:
    """Sample with a progress bar on stderr; after Ctrl-C say how to go on."""
    from labels4free.sampling import sample_dataset

    done = 0
    try:
        with progress_bar("Sampling") as update:

            def show(finished: int, total: int) -> None:
                nonlocal done
                done = finished
                update(finished, total)

            return sample_dataset(layered, out, num, config, generator_name=generator_name, progress=show)
    except KeyboardInterrupt:
        print(f"{done} of {num} samples are in {out}; the same command goes on from there.", file=sys.stderr)
        raise


def describe_coverage(summary: SampleSummary) -> str:
    """Mean and standard deviation of the masks' foreground share, in per cent."""
    return f"{100 * summary.coverage_mean:.0f} % (sd {100 * summary.coverage_sd:.0f})"
