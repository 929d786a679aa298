"""``labels4free project``: photos found in a generator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from labels4free.cli.progress import progress_bar
from labels4free.cli.runs import EXIT_CODES, as_settings
from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from labels4free.evaluation.generators.feature_nets import FeatureNet
    from labels4free.generating.projection.config import ProjectionConfig
    from labels4free.generating.projection.folder import Masks, Summary
    from labels4free.generating.projection.projector import Projector
    from labels4free.generators.base import Generator, Noise
    from labels4free.layered import LayeredGenerator

_UNALIGNED = (
    "Photos are cut to their central square and not aligned: where the generator's training images had their objects "
    "elsewhere, or of another size, crop the photos like those first."
)


def run(
    photos: Annotated[Positional[tuple[str, ...]], arg(metavar="PHOTO ...", help_behavior_hint="")],
    *,
    generator: str,
    out: Annotated[Path, arg(metavar="DIR")],
    preset: Annotated[str, arg(metavar="NAME")] = "default",
    space: Annotated[Literal["w", "w+"] | None, arg(metavar="{w,w+}", help_behavior_hint="")] = None,
    steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    tune: Annotated[int | None, arg(metavar="STEPS", help_behavior_hint="")] = None,
    noise_maps: Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
    settings: Annotated[UseAppendAction[list[str]], arg(name="set", metavar="FIELD=VALUE")] = [],  # noqa: B006
    start: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    lpips: Annotated[Path | None, arg(metavar="FILE.pth", help_behavior_hint="")] = None,
    mask: Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
    alpha: Annotated[str | None, arg(metavar="RUN_OR_ALPHA", help_behavior_hint="")] = None,
    model: Annotated[str, arg(metavar="FILE")] = "faces",
    film: bool = True,
    device: str = "cpu",
) -> int | None:
    """Find photos in a generator (GAN inversion): the latents whose pictures come closest to them.

    What they are good for: "edit" and "generate" take them. For a mask of a photo alone, "segment" is far faster.
    DIR gets comparison.png, photos beside their projections, and a folder for each photo: latents.npz, and the same as
    rosinality's projector writes it (projection.pt); projection.png; path.webp, a film of the search; and
    projection.json, the figures. Photos that are done there already are kept, so that the same command goes on where it
    was interrupted; Ctrl-C writes what there is. A photo that cannot be read is named, the others are done, and the
    exit code is 2. Photos are cut to their central square and not aligned.

    Args:
        photos: Files, folders (every image below), or patterns in quotes.
        generator: A generator of the model zoo, or a file, as for "train".
        out: Folder to write to.
        preset: default; or stylegan2, the settings of its paper and of rosinality's and NVIDIA's projectors: 1000 steps
            in w with noise maps, and the perceptual network alone.
        space: w: one row of styles for all layers, better to edit; w+: one for each, closer to the photo.
        steps: Of the search.
        tune: Then tune a copy of the generator to the photo for so many steps, with the latents fixed (pivotal tuning,
            PTI). Each photo gets its own, generator.safetensors, to be given with its latents to the other verbs.
        noise_maps: Optimise the noise of each layer as well. Only projection.pt holds it, and tuning leaves it out.
        settings: Any other setting, such as pixels=1 or rampdown=0.5; may be given several times. An unknown name lists
            the valid ones.
        start: Begin at these latents, of one photo for all or of each in order: a file as for --latents of "generate".
        lpips: Your file of LPIPS, as for "metrics", in place of EfficientNet-Lite0.
        mask: Also write the alpha network's mask of the projection beside the segmenter's of the photo.
        alpha: mask: run folder or file of the alpha network; by default that which ships for a model of the zoo.
        model: mask: the segmenter, as for "segment".
        film: Write the films.
        device: cpu, cuda, cuda:N or mps.
    """
    from labels4free.cli.direction_flags import check_folder
    from labels4free.evaluation.generators.feature_nets import EFFICIENTNET, load_feature_net
    from labels4free.generating.projection.config import preset_named
    from labels4free.generating.projection.folder import ProjectionFolder
    from labels4free.generating.projection.projector import Projector, read_starts
    from labels4free.segmenting.photo_files import find_photos
    from labels4free.settings_fields import change
    from labels4free.training_loop.interrupts import Interrupts

    check_folder(out)
    if not photos:
        raise ConfigError("Give photos: files, folders, or patterns in quotes.")
    flags = {"space": space, "steps": steps, "tune_steps": tune, "noise_maps": "true" if noise_maps else None}
    config = change(preset_named(preset), settings=[*as_settings(flags), *settings])
    found = find_photos(photos, out)
    if not found.photos:
        raise ConfigError(" ".join(found.problems))
    loaded, masks = _loaded(generator, alpha, model, device, mask=mask)
    starts = read_starts(start, loaded) if start else []
    judge = load_feature_net(EFFICIENTNET, generator, device)
    perceptual = judge if lpips is None else _lpips(lpips, device)
    projector = Projector(loaded, config, perceptual, _discriminator(generator, config, device))
    folder = ProjectionFolder(out, projector, judge, masks, film=film)
    with Interrupts() as interrupts, progress_bar("Projecting") as update:
        summary = folder.write(
            [(path, target.with_suffix("")) for path, target in found.photos],
            starts,
            progress=update,
            stopped=lambda: interrupts.requested is not None,
        )
    summary.problems[:0] = found.problems
    _say(summary, projector, out)
    if interrupts.requested:
        return EXIT_CODES[interrupts.requested]
    return 2 if summary.problems else None


def _loaded(
    generator: str, alpha: str | None, model: str, device: str, *, mask: bool
) -> tuple[Generator, Masks | None]:
    """The generator, and what gives masks, if they are asked for."""
    from labels4free.checkpoints.loading import load_generator, load_layered
    from labels4free.cli.direction_flags import alpha_of

    if not mask:
        if alpha is not None:
            raise ConfigError("--alpha is for --mask: give both, or leave it out.")
        return load_generator(generator, device), None
    source = alpha_of(generator, alpha)
    if source is None:
        raise ConfigError(f"No alpha network ships for {generator}: give --alpha, or leave --mask out.")
    layered, _ = load_layered(source, generator, device)
    return layered.generator, _masks(layered, model, device)


def _masks(layered: LayeredGenerator, model: str, device: str) -> Masks:
    import numpy as np
    import torch

    from labels4free.checkpoints.state_hash import state_hash
    from labels4free.generating.projection.folder import Masks
    from labels4free.layered import LayeredGenerator
    from labels4free.segmenting.segmenter import Segmenter

    segmenter = Segmenter.load(model, device)

    def of_projection(generator: Generator, ws: torch.Tensor, noise: Noise) -> NDArray[np.uint8]:
        with torch.inference_mode():
            alpha = LayeredGenerator(generator, layered.alpha_network).foreground(ws, noise=noise).alpha
        return np.where(alpha[0, 0].cpu().numpy() > 0.5, np.uint8(255), np.uint8(0))

    def of_photo(square: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.where(segmenter.segment(square).mask(), np.uint8(255), np.uint8(0))

    return Masks(of_projection, of_photo, f"{state_hash(layered.alpha_network)} {model}")


def _lpips(path: Path, device: str) -> FeatureNet:
    """LPIPS of the user's file."""
    from labels4free.evaluation.generators.feature_nets import LpipsDistance, load_feature_net

    if not path.is_file():
        raise ConfigError(f"There is no file of LPIPS at {path}.")
    net = load_feature_net(str(path), None, device)
    if not isinstance(net, LpipsDistance):
        raise ConfigError(f"{path} holds {net.title}, no LPIPS, which --lpips is for.")
    return net


def _discriminator(generator: str, config: ProjectionConfig, device: str) -> FeatureNet | None:
    """The discriminator's maps, where it takes part and one is with the generator."""
    from labels4free.checkpoints.loading import read_checkpoint, resolve_device
    from labels4free.evaluation.generators.feature_nets import DiscriminatorFeatures

    found = read_checkpoint(generator).discriminator if config.discriminator else None
    if found is None:
        return None
    return DiscriminatorFeatures(found.to(resolve_device(device)).eval().requires_grad_(False))


def _say(summary: Summary, projector: Projector, out: Path) -> None:
    for outcome in summary.outcomes:
        figures = outcome.figures
        steps, asked = figures["steps"], projector.config.all_steps
        how = "from before" if outcome.kept else f"{figures['seconds']:.0f} s"
        stopped = "" if steps == asked else f", stopped at step {steps} of {asked}"
        iou = f", IoU of the masks {figures['mask_iou']:.3f}" if "mask_iou" in figures else ""
        distance = next(f", distance ({n[9:]}) {v:.3f}" for n, v in figures.items() if n.startswith("distance_"))
        close = f"PSNR {figures['psnr']:.2f} dB, SSIM {figures['ssim']:.3f}{distance}{iou}"
        print(f"{outcome.photo}: {close} ({how}{stopped})")
    for problem in summary.problems:
        print(f"labels4free: {problem}", file=sys.stderr)
    if summary.outcomes:
        print(_UNALIGNED)
        print(f"Projections: {out}; to look at: {out / 'comparison.png'}")
