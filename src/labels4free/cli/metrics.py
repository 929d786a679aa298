"""``labels4free metrics``: how good a generator is beside real images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg, configure

from labels4free.cli.progress import progress_bar
from labels4free.cli.tables import print_table
from labels4free.errors import ConfigError
from labels4free.files import in_full
from labels4free.folders import write_json

if TYPE_CHECKING:
    from labels4free.data.images.dataset import ImageStore
    from labels4free.evaluation.generators.report import MetricsConfig, MetricsReport
    from labels4free.generators.base import Generator


@configure(FlagCreatePairsOff)
def run(
    generator: Annotated[Positional[str | None], arg(metavar="[GENERATOR]", help_behavior_hint="")] = None,
    *,
    metric: Annotated[tuple[str, ...], arg(metavar="NAME ...")],
    data: Annotated[Path | None, arg(metavar="IMAGES", help_behavior_hint="")] = None,
    samples: Annotated[Path | None, arg(metavar="IMAGES", help_behavior_hint="")] = None,
    features: Annotated[tuple[str, ...], arg(metavar="NAME ...")] = ("efficientnet-lite0",),
    truncation_psi: Annotated[float, arg(metavar="PSI", aliases=["--psi"])] = 1.0,
    noise: Literal["random", "fixed", "none"] = "random",
    seed: int = 0,
    seeds: Annotated[int, arg(metavar="N")] = 1,
    epsilon: float = 1e-4,
    resolution: Annotated[int | None, arg(metavar="R", help_behavior_hint="")] = None,
    batch_size: int = 8,
    workers: Annotated[int, arg(metavar="N")] = 1,
    device: str = "cpu",
    json_file: Annotated[Path | None, arg(name="json", metavar="FILE", help_behavior_hint="")] = None,
) -> None:
    """Measure a generator beside real images: Fréchet and kernel distance (FID, KID), precision, recall, path length.

    Every figure is named by the network whose features it is of: FD-EffLite0 is no FID, and the two cannot be compared.
    What is known of real images is kept in the cache (LABELS4FREE_HOME).

    Args:
        generator: A generator of the model zoo, a file, or the folder of its training.
        metric: fid, kid and pr with a number of images, such as fid5k, kid5k and pr5k3; with _full behind it, as in
            fid50k_full, beside all real images, else beside as many as generated ones; is50k; and path lengths:
            ppl2_wend, or ppl_zfull, ppl_wfull, ppl_zend and ppl_wend of the middle of the pictures, 50,000 pairs or as
            many as stand behind it: ppl2_wend_1k.
        data: The real images: a folder, a zip file, an LMDB or tar shards. They are never mirrored.
        samples: Images to measure in place of a generator's.
        features: efficientnet-lite0, which is fetched; discriminator, the generator's own, for watching a training; or
            your file of FID's Inception-v3 (as pytorch-fid publishes it) for FID and KID, or of LPIPS for PPL. Each
            metric is of those that serve it.
        truncation_psi: 1 is the generator's full variety, which published figures are of.
        noise: Of the generator's images: random is other noise for each, as published; fixed; none.
        seed: First seed. Image i depends on the seed and on i alone.
        seeds: Measure so many times, with one seed after the other, and give mean and standard deviation.
        epsilon: Step of path lengths.
        resolution: Side in pixels that samples and real images are brought to; by default that of the smallest sample,
            and with a generator its own.
        batch_size: Images at once.
        workers: Processes, for CPUs. The figures do not depend on it.
        device: cpu, cuda, cuda:N or mps.
        json_file: Write all figures here.
    """
    from labels4free.evaluation.generators.feature_nets import load_feature_net
    from labels4free.evaluation.generators.measure import measure_generator
    from labels4free.evaluation.generators.report import MetricsConfig

    config = MetricsConfig(metric, truncation_psi, noise, seed, seeds, epsilon, batch_size, workers)
    if (generator is None) == (samples is None):
        raise ConfigError("Give a GENERATOR, or --samples IMAGES in its place.")
    _check(config, samples, resolution, device)
    loaded, real, made = _subject(generator, data, samples, resolution, device)
    nets = [load_feature_net(name, generator, device) for name in dict.fromkeys(features)]
    with progress_bar("Measuring") as update:
        report = measure_generator(loaded, real, nets, config, samples=made, progress=update)
    _show(report)
    if json_file is not None:
        write_json(json_file, _sources(generator, loaded, data, real, samples) | report.to_json())
        print(f"Figures: {json_file}")


def _check(config: MetricsConfig, samples: Path | None, resolution: int | None, device: str) -> None:
    if samples is None and resolution is not None:
        raise ConfigError("--resolution is for --samples: a generator's images have their own.")
    if samples is not None and (config.seeds > 1 or config.truncation_psi != 1):
        raise ConfigError("--seeds and --truncation-psi are for generators; leave them out with --samples.")
    if config.workers > 1 and device != "cpu":
        raise ConfigError("--workers shares a CPU; leave it out with another device.")


def _subject(
    generator: str | None, data: Path | None, samples: Path | None, resolution: int | None, device: str
) -> tuple[Generator | None, ImageStore | None, ImageStore | None]:
    """The generator, the real images and the samples, of which nothing is kept in memory."""
    from labels4free.checkpoints.loading import load_generator
    from labels4free.data.images.dataset import open_images, open_source
    from labels4free.evaluation.generators.measure import smallest_side

    loaded, made = None, None
    if samples is not None:
        side = resolution or smallest_side(open_source(samples))
        made = open_images(samples, side, cache_bytes=0)
    else:
        assert generator is not None
        loaded = load_generator(generator, device)
        side = loaded.resolution
    return loaded, None if data is None else open_images(data, side, cache_bytes=0), made


def _show(report: MetricsReport) -> None:
    rows = []
    for figure in report.figures:
        beside = f" beside {figure.real:,} real" if figure.real else ""
        what = "pairs" if figure.name.startswith("PPL") else "images"
        rows.append((f"{figure.name} ({figure.metric})", f"{figure}   {figure.generated:,} {what}{beside}"))
    print_table(rows)
    for note in report.notes:
        print(note)


def _sources(
    name: str | None, generator: Generator | None, data: Path | None, real: ImageStore | None, samples: Path | None
) -> dict[str, Any]:
    """What was measured, for the file of figures."""
    from labels4free.checkpoints.state_hash import state_hash

    found: dict[str, Any] = {}
    if generator is not None:
        found["generator"] = {"name": in_full(str(name)), "state_hash": state_hash(generator)}
    if samples is not None:
        found["samples"] = in_full(str(samples))
    if data is not None and real is not None:
        found["data"] = {"path": in_full(str(data)), "images": len(real), "content_hash": real.source.content_hash()}
        found["resolution"] = real.resolution
    return found
