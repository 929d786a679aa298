"""``labels4free generate``: pictures of a generator alone, grids of mixed styles, and films from one to the next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from tyro.conf import FlagCreatePairsOff, Positional, arg, configure

from labels4free.cli.progress import progress_bar
from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from labels4free.generating.images import Sources
    from labels4free.generating.interpolation import FilmConfig
    from labels4free.generating.moves import Move
    from labels4free.generating.picture_folder import FileFormat
    from labels4free.generating.rendering import Renderer
    from labels4free.generating.style_mixing import Mixing


@configure(FlagCreatePairsOff)
def run(
    generator: Annotated[Positional[str], arg(metavar="GENERATOR")],
    *,
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None,
    seeds: Annotated[str | None, arg(metavar="0-99,1000", help_behavior_hint="")] = None,
    latents: Annotated[tuple[Path, ...], arg(metavar="FILE ...", help_behavior_hint="")] = (),
    save_latents: bool = False,
    truncation_psi: Annotated[float | None, arg(metavar="PSI", help_behavior_hint="")] = None,
    truncation_cutoff: Annotated[int | None, arg(metavar="K", help_behavior_hint="")] = None,
    noise: Literal["fixed", "random", "none"] = "fixed",
    label: Annotated[int | None, arg(metavar="K", help_behavior_hint="")] = None,
    background: Annotated[str | None, arg(metavar="MODE", help_behavior_hint="")] = None,
    size: Annotated[int | None, arg(metavar="S", help_behavior_hint="")] = None,
    format: Literal["png", "jpeg", "webp"] = "png",  # noqa: A002  the flag's name
    quality: int = 95,
    direction: Annotated[int | None, arg(metavar="K", help_behavior_hint="")] = None,
    by: Annotated[str | None, arg(metavar="DEGREES", help_behavior_hint="")] = None,
    directions: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    mix_rows: Annotated[str | None, arg(metavar="1,2,3", help_behavior_hint="")] = None,
    mix_columns: Annotated[str | None, arg(metavar="10-15", help_behavior_hint="")] = None,
    mix_layers: Annotated[str | None, arg(metavar="0-6", help_behavior_hint="")] = None,
    mix_singles: bool = False,
    interpolate: Annotated[Path | None, arg(metavar="FILM", help_behavior_hint="")] = None,
    frames: int = 60,
    fps: int = 24,
    loop: bool = False,
    space: Literal["w", "z"] = "w",
    curve: Literal["spline", "linear"] = "spline",
    batch_size: int = 4,
    device: str = "cpu",
) -> None:
    """Write pictures of a generator: one for each seed, grids of mixed styles or steps, films from one to the next.

    A picture depends on its seed and the settings alone. The same command continues where an interrupted one stopped;
    other seeds add pictures. --out asks for pictures in a folder, --interpolate for a film; give either or both.

    Args:
        generator: A generator of the model zoo, or a file, as for "train".
        out: Folder for seed00000.png and so on, a contact sheet, and grids.
        seeds: Numbers and ranges, both ends included, from 0 to 4294967295.
        latents: Files of latents in w, rendered behind the seeds as latent00000.png and so on: .npz with ws or w
            (projected_w.npz of NVIDIA, or what --save-latents wrote), .npy, .safetensors, or .pt of rosinality's
            projector.
        save_latents: Also write latents.npz, with every picture's ws.
        truncation_psi: From 1, the generator's full variety, towards 0, its average image. By default 0.7 for seeds,
            and no truncation for latents.
        truncation_cutoff: Truncate this many coarse layers only; by default all.
        noise: fixed: the maps that ship with the weights. random: drawn from each picture's seed. none.
        label: Class of every seed, for generators with classes; without it each seed draws its own.
        background: Render the image without its object, in one of the generator's modes, or "default".
        size: Side of the pictures in pixels, a divisor of the generator's resolution; by default that.
        format: Of the pictures; sheets and grids are PNG.
        quality: Of JPEG and WebP, 1 to 100.
        direction: Move the seeds and latents along this direction, from 0, instead of rendering them as they are: --out
            asks for a grid, a row each, and --interpolate for a film through all steps.
        by: How far: degrees and ranges with commas between them, such as -3..3:0.5 or -5,0,5; by default -3..3. As in
            rosinality's apply_factor.py: w + degree * direction, and truncated then.
        directions: What "directions" wrote, or a factor.pt of rosinality; by default the directions of SeFa, of all
            layers, which take a moment to compute.
        mix_rows: Seeds for the rows of a grid of mixed styles, which goes to DIR.
        mix_columns: Seeds for its columns.
        mix_layers: Layers that come from the column, from 0, coarse to fine; by default the coarser two fifths: 0-6 of
            the 18 that StyleGAN2 has at 1024 pixels.
        mix_singles: Write the mixed pictures one by one as well.
        interpolate: Film through the seeds and latents in their order: .gif, .webp, .apng, or .mp4 (needs PyAV, the
            extra "video").
        frames: Frames from one picture to the next.
        fps: Frames a second.
        loop: Let the film go back to its first picture.
        space: Of the film's way: w, between styles, or z, between seeds' normal latents.
        curve: Of the film's way in w: spline, smooth through all pictures, or linear.
        batch_size: Pictures rendered at once on a GPU. A CPU renders one at a time.
        device: cpu, cuda, cuda:N or mps.
    """
    from labels4free.checkpoints.loading import load_generator
    from labels4free.cli.direction_flags import parse_by, read_move
    from labels4free.generating.images import Sources
    from labels4free.generating.interpolation import FilmConfig
    from labels4free.generating.picture_folder import FileFormat
    from labels4free.generating.rendering import PictureConfig, Renderer

    config = PictureConfig(truncation_psi, truncation_cutoff, noise, label, size, background, batch_size)
    file_format, film = FileFormat(format, quality), FilmConfig(frames, fps, loop, space, curve)
    numbers = _parse(seeds, "seeds")
    mixing = _mixing(mix_rows, mix_columns, mix_layers, mix_singles)
    _check_asked(out, interpolate, mixing, has_sources=bool(numbers or latents), save_latents=save_latents)
    _check_move(direction, directions, by, space=space, save_latents=save_latents)
    degrees = parse_by("-3..3" if by is None else by)
    renderer = Renderer(load_generator(generator, device), config)
    sources = Sources.read(numbers, latents, renderer.generator)
    move = None if direction is None else read_move(directions, direction, degrees, renderer.generator)
    work = _Work(renderer, sources, file_format, generator, move)
    _check_fits(work, interpolate, film, mixing)
    if out and move:
        _write_moves(work, out, move)
    elif out and len(work.sources):
        _write_images(work, out, save_latents)
    if out and mixing:
        _write_grid(work, out, mixing)
    if interpolate:
        _write_film(work, interpolate, film)


class _Work(NamedTuple):
    """What all parts of the command share."""

    renderer: Renderer
    sources: Sources
    file_format: FileFormat
    generator_name: str
    move: Move | None = None

    @property
    def filmed(self) -> Sources:
        """What a film goes through."""
        from labels4free.generating.moves import MovedSources

        return self.sources if self.move is None else MovedSources.of(self.sources, self.move)


def _parse(text: str | None, what: str) -> list[int]:
    from labels4free.generating.seed_ranges import parse_numbers

    return [] if text is None else parse_numbers(text, what)


def _mixing(rows: str | None, columns: str | None, layers: str | None, singles: bool) -> Mixing | None:
    from labels4free.generating.style_mixing import Mixing

    if (rows is None) != (columns is None):
        raise ConfigError("A grid of mixed styles needs both --mix-rows and --mix-columns, got one of them.")
    if rows is None:
        if layers is not None or singles:
            raise ConfigError("--mix-layers and --mix-singles are for a grid: give --mix-rows and --mix-columns too.")
        return None
    return Mixing(_parse(rows, "mix-rows"), _parse(columns, "mix-columns"), _parse(layers, "mix-layers"), singles)


def _check_asked(
    out: Path | None, film: Path | None, mixing: Mixing | None, *, has_sources: bool, save_latents: bool
) -> None:
    """See whether the flags go together."""
    if out is None and film is None:
        raise ConfigError("Say what to write: --out DIR for pictures, --interpolate FILM for a film, or both.")
    if out is None and (mixing or save_latents):
        raise ConfigError(f"{'A grid of mixed styles' if mixing else '--save-latents'} needs a folder: give --out DIR.")
    if not has_sources and film is not None:
        raise ConfigError("A film goes from picture to picture: give --seeds or --latents, two or more.")
    if not has_sources and (mixing is None or save_latents):
        what = "There are no latents to save" if save_latents else "There is nothing to render"
        raise ConfigError(f"{what}: give --seeds such as 0-99,1000, or --latents.")


def _check_move(
    direction: int | None, directions: Path | None, by: str | None, *, space: str, save_latents: bool
) -> None:
    """See whether the flags of a direction go with the others."""
    if direction is None:
        if directions is not None or by is not None:
            flag = "--by" if directions is None else "--directions"
            raise ConfigError(f"{flag} is for pictures that are moved: say along which direction with --direction.")
        return
    if space == "z":
        raise ConfigError("A film along a direction goes through w: leave --space z out.")
    if save_latents:
        raise ConfigError("--save-latents is for pictures as they are: leave it or --direction out.")


def _check_fits(work: _Work, film: Path | None, config: FilmConfig, mixing: Mixing | None) -> None:
    """Find what cannot be done later before anything is written."""
    from labels4free.generating.interpolation import check_interpolation
    from labels4free.generating.style_mixing import check_layers

    if mixing:
        check_layers(work.renderer, mixing.layers)
    if film:
        check_interpolation(film, config, work.renderer, work.filmed)


def _write_images(work: _Work, out: Path, save_latents: bool) -> None:
    from labels4free.generating.images import LATENTS, generate_images

    def stopped(done: int, _: int) -> str:
        return f"{done} of {len(work.sources)} pictures are in {out}; the same command goes on from there."

    with progress_bar("Rendering", stopped=stopped) as update:
        summary = generate_images(
            work.renderer,
            out,
            work.sources,
            work.file_format,
            generator_name=work.generator_name,
            save_latents=save_latents,
            progress=update,
        )
    there = summary.num - summary.rendered
    print(f"{summary.num} pictures in {out}" + (f", {there} of them from before" if there else ""))
    print(f"Contact sheet: {summary.contact_sheet}")
    if save_latents:
        print(f"Latents: {out / LATENTS}")


def _write_moves(work: _Work, out: Path, move: Move) -> None:
    from labels4free.generating.moves import write_moves

    with progress_bar("Moving") as update:
        grid = write_moves(work.renderer, out, work.sources, move, generator_name=work.generator_name, progress=update)
    print(f"Grid: {grid}")


def _write_grid(work: _Work, out: Path, mixing: Mixing) -> None:
    from labels4free.generating.style_mixing import write_mixing

    with progress_bar("Mixing") as update:
        grid = write_mixing(
            work.renderer, out, mixing, work.file_format, generator_name=work.generator_name, progress=update
        )
    print(f"Grid: {grid}")


def _write_film(work: _Work, path: Path, config: FilmConfig) -> None:
    from labels4free.generating.interpolation import write_interpolation

    with progress_bar("Filming") as update:
        film = write_interpolation(path, work.renderer, work.filmed, config, progress=update)
    width, height = film.size
    print(f"Film: {path}, {film.frames} frames of {width}x{height}, {film.frames / film.fps:.1f} s")
