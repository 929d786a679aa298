"""``labels4free edit``: pictures moved along a direction, over the backgrounds they had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from labels4free.cli.progress import progress_bar
from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from labels4free.generating.edit_folder import Edit


def run(
    generator: Annotated[Positional[str], arg(metavar="GENERATOR")],
    *,
    out: Annotated[Path, arg(metavar="DIR")],
    direction: Annotated[int, arg(metavar="K")],
    by: Annotated[str, arg(metavar="DEGREES")] = "3",
    seeds: Annotated[str | None, arg(metavar="0-5,1000", help_behavior_hint="")] = None,
    latents: Annotated[tuple[Path, ...], arg(metavar="FILE ...", help_behavior_hint="")] = (),
    directions: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    alpha: Annotated[str | None, arg(metavar="RUN_OR_ALPHA", help_behavior_hint="")] = None,
    truncation_psi: Annotated[float | None, arg(metavar="PSI", help_behavior_hint="")] = None,
    fill: Literal["patches", "smooth"] = "patches",
    margin: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="")] = None,
    device: str = "cpu",
) -> None:
    """Move pictures of a generator along a direction, and keep the background that each had.

    A direction changes the scene, too. Here the object of the moved picture is laid over the original's background, as
    the alpha network tells them apart; what the old object covered and the new one does not is filled from around. DIR
    gets each original, its edits, and before_after.png: the original, the moved picture, and that over the original's
    background. Where neither object is, an edit is the original bit for bit.

    Args:
        generator: A generator of the model zoo, or a file, as for "train".
        out: Folder to write to.
        direction: Number of the direction, from 0.
        by: How far: degrees and ranges with commas between them, a picture each, such as -3,3. As in rosinality's
            apply_factor.py: w + degree * direction, and truncated then.
        seeds: Numbers and ranges of the pictures to edit.
        latents: Files of latents in w to edit, as for "generate".
        directions: What "directions" wrote, or a factor.pt of rosinality; by default the directions of SeFa, of all
            layers.
        alpha: Run folder or file of the alpha network; by default that which ships for a model of the zoo.
        truncation_psi: By default 0.7 for seeds, where the degrees shrink with it, and no truncation for latents.
        fill: patches: textures from elsewhere in the original, which needs the extra "inpainting"; smooth: colours
            alone, for plain backgrounds.
        margin: How far around the old object the original is not trusted either, since hair and shadows reach there;
            by default a fiftieth of the side. With 0 all that neither alpha covers stays bit for bit.
        device: cpu, cuda, cuda:N or mps.
    """
    from labels4free.checkpoints.loading import load_layered
    from labels4free.cli.direction_flags import alpha_of, check_folder, parse_by, read_move
    from labels4free.generating.edit_folder import SHEET, write_edits
    from labels4free.generating.images import Sources
    from labels4free.generating.rendering import PictureConfig, Renderer
    from labels4free.generating.seed_ranges import parse_numbers

    check_folder(out)
    if seeds is None and not latents:
        raise ConfigError("There is nothing to edit: give --seeds such as 0-5, or --latents.")
    degrees, config = parse_by(by), PictureConfig(truncation_psi)
    numbers = [] if seeds is None else parse_numbers(seeds)
    source = alpha_of(generator, alpha)
    if source is None:
        raise ConfigError(f"No alpha network ships for {generator}: say with --alpha what tells its object apart.")
    layered, _ = load_layered(source, generator, device)
    move = read_move(directions, direction, degrees, layered.generator)
    sources, renderer = Sources.read(numbers, latents, layered.generator), Renderer(layered.generator, config)
    with progress_bar("Editing") as update:
        edits = write_edits(out, layered, renderer, sources, move, fill=fill, margin=margin, progress=update)
    _say(edits, out / SHEET)


def _say(edits: list[Edit], sheet: Path) -> None:
    for edit in edits:
        if edit.empty:
            print(f"labels4free: {edit.name}: no object was found in the moved picture.", file=sys.stderr)
        print(
            f"{edit.name}: outside of both objects ({edit.outside:.1%} of the picture) {edit.equal_outside:.2%} of the "
            f"pixels are the original's; {edit.equal_without:.2%} without keeping the background"
        )
    print(f"Before and after: {sheet}")
