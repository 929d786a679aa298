"""``labels4free directions``: what a generator can be moved along, ranked by object and scene."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from labels4free.cli.progress import progress_bar
from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from labels4free.generating.directions import Directions
    from labels4free.generating.ranking import ShownDirection
    from labels4free.generators.base import Generator


def run(
    generator: Annotated[Positional[str], arg(metavar="GENERATOR")],
    *,
    out: Annotated[Path, arg(metavar="DIR")],
    method: Literal["sefa", "pca"] | None = None,
    layers: Annotated[str | None, arg(metavar="2-5", help_behavior_hint="")] = None,
    to_rgb: Literal["first", "none", "all"] | None = None,
    samples: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    directions: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    factor: Annotated[Path | None, arg(metavar="FILE.pt", help_behavior_hint="")] = None,
    alpha: Annotated[str | None, arg(metavar="RUN_OR_ALPHA", help_behavior_hint="")] = None,
    number: Annotated[int, arg(metavar="K")] = 10,
    seeds: Annotated[str, arg(metavar="0-3")] = "0-3",
    by: Annotated[str, arg(metavar="DEGREES")] = "-3,0,3",
    truncation_psi: Annotated[float | None, arg(metavar="PSI", help_behavior_hint="")] = None,
    cell: int = 192,
    device: str = "cpu",
) -> None:
    """Find directions in a generator's space of styles, and rank them by what they change: the object, or the scene.

    No labels: the alpha network tells object from scene. DIR gets directions.safetensors, for --directions of
    "generate" and "edit"; index.html with the pictures of each; overview.png, the five at either end; and
    directions.json with the figures. The numbers of directions are those of the factorisation, the strongest is 0; the
    page orders them by the ratio of the mean squared change inside the object to that outside.

    Args:
        generator: A generator of the model zoo, or a file, as for "train".
        out: Folder to write to.
        method: sefa, the default: closed-form factorisation of the weights that turn w into styles, as rosinality's
            closed_form_factorization.py does it. pca: main axes of w, as in GANSpace.
        layers: Rows of ws that are moved and whose weights count, from 0, coarse to fine; by default all.
        to_rgb: sefa: whether the weights of to-RGB layers count as well. first, the default: that of 4x4 pixels alone,
            as in rosinality's code; none: as the authors of SeFa have it; all.
        samples: pca: number of mapped latents, by default 20000.
        directions: Rank these instead: a file of directions, or a factor.pt of rosinality.
        factor: Also write all directions as rosinality's factor.pt, whose apply_factor.py moves all layers.
        alpha: Run folder or file of the alpha network; by default that which ships for a model of the zoo. Without one
            the directions stay in their order.
        number: Directions to look at, from the strongest on.
        seeds: Samples that are moved, numbers and ranges.
        by: How far: degrees and ranges with commas between them, such as -3..3. All but 0 count for the ranking.
        truncation_psi: Of the samples, by default 0.7; the degrees shrink with it.
        cell: Side of the pictures on the page, in pixels.
        device: cpu, cuda, cuda:N or mps.
    """
    from labels4free.checkpoints.loading import load_generator, load_layered
    from labels4free.cli.direction_flags import alpha_of, check_folder, parse_by
    from labels4free.generating.direction_folder import LookConfig, write_direction_folder, write_factor_file
    from labels4free.generating.images import Sources
    from labels4free.generating.rendering import PictureConfig, Renderer
    from labels4free.generating.seed_ranges import parse_numbers
    from labels4free.pages.directions import write_directions_page

    check_folder(out)
    _check_given(directions, {"--method": method, "--layers": layers, "--to-rgb": to_rgb, "--samples": samples})
    config, numbers = LookConfig(number, parse_by(by), cell), parse_numbers(seeds)
    pictures = PictureConfig(truncation_psi)
    network, source = None, alpha_of(generator, alpha)
    if source is None:
        loaded = load_generator(generator, device)
    else:
        layered, _ = load_layered(source, generator, device)
        loaded, network = layered.generator, layered.alpha_network
    found = _found(loaded, method, layers, to_rgb, samples, directions)
    if factor is not None:
        write_factor_file(factor, found, generator)
    renderer, names = Renderer(loaded, pictures), {"generator": generator, "alpha_network": source}
    with progress_bar("Moving") as update:
        shown = write_direction_folder(
            out, renderer, Sources(numbers), found, config, alpha_network=network, names=names, progress=update
        )
    page = write_directions_page(out)
    _say(shown, generator, ranked=network is not None)
    print(f"Directions: {out / 'directions.safetensors'}; to look at: {page}")


def _check_given(directions: Path | None, others: dict[str, object]) -> None:
    """See whether the flags of finding directions go with a file of directions."""
    if directions is not None and (unused := [flag for flag, value in others.items() if value is not None]):
        raise ConfigError(f"--directions names directions that are there: leave {' and '.join(unused)} out.")
    if others["--method"] == "pca" and others["--to-rgb"] is not None:
        raise ConfigError("--to-rgb is for sefa: leave it out with pca.")
    if others["--method"] != "pca" and others["--samples"] is not None:
        raise ConfigError("--samples is for pca: give --method pca, or leave it out.")


def _found(
    generator: Generator,
    method: Literal["sefa", "pca"] | None,
    layers: str | None,
    to_rgb: Literal["first", "none", "all"] | None,
    samples: int | None,
    directions: Path | None,
) -> Directions:
    from labels4free.generating.directions import PCA_SAMPLES, pca, read_directions, sefa
    from labels4free.generating.seed_ranges import parse_numbers

    if directions is not None:
        return read_directions(directions, generator)
    rows = [] if layers is None else parse_numbers(layers, "layers", generator.num_ws - 1)
    if method == "pca":
        return pca(generator, rows, PCA_SAMPLES if samples is None else samples)
    return sefa(generator, rows, to_rgb or "first")


def _say(shown: list[ShownDirection], generator: str, *, ranked: bool) -> None:
    if not ranked:
        print(
            f"labels4free: No alpha network ships for {generator}: give --alpha to rank what is the object's and what "
            "the scene's.",
            file=sys.stderr,
        )
        return
    for one in shown:
        assert one.change is not None
        ratio = "-" if one.change.ratio is None else f"{one.change.ratio:.2f}"
        print(
            f"direction {one.number}: inside over outside {ratio} ({one.change.inside:.4f} to {one.change.outside:.4f})"
        )
