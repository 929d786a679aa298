"""A folder of projections: for each photo its latents, picture, film and figures; and a sheet of all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from labels4free.checkpoints.foreign.rosinality_projection import write_projection
from labels4free.checkpoints.native import write_native
from labels4free.checkpoints.state_hash import state_hash
from labels4free.data.decoding import central_square, decode_image, read_bytes
from labels4free.errors import ConfigError, DataError
from labels4free.folders import claim, read_json, write_json
from labels4free.generating.latent_files import write_latents
from labels4free.generating.moves import fingerprint
from labels4free.generating.projection.losses import reduced
from labels4free.generating.rendering import shrunk
from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.metrics.images import psnr, ssim
from labels4free.metrics.masks import count, iou_foreground
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.pictures.films import FilmLayout, check_film, write_film
from labels4free.pictures.pixels import from_uint8, to_uint8, write_png
from labels4free.settings_fields import as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.evaluation.generators.feature_nets import FeatureNet
    from labels4free.generating.projection.projector import Projection, Projector, Start
    from labels4free.generators.base import Generator, Noise

NOTE, SHEET = "projections.json", "comparison.png"
"""Names in the folder: what it depends on, and the sheet."""
FIGURES, LATENTS, PICTURE, FILM, ROSINALITY, TUNED = (
    "projection.json", "latents.npz", "projection.png", "path.webp", "projection.pt", "generator.safetensors"
)  # fmt: skip
"""Names in the folder of each photo."""
MASK, PHOTO_MASK = "mask.png", "photo_mask.png"

_SMALLEST = 32  # pixels of a photo's shorter side
_CELL, _SHEET_ROWS, _FPS = 256, 64, 20


class Masks(NamedTuple):
    """Where masks come from, [H, W], uint8, 255 is the object.

    Attributes:
        of_projection: From a generator, of whose kind the alpha network is, ws [1, num_ws, w_dim] and noise.
        of_photo: From the photo's square [R, R, 3].
        identity: Says which networks these are.
    """

    of_projection: Callable[[Generator, Tensor, Noise], NDArray[np.uint8]]
    of_photo: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    identity: str


class Outcome(NamedTuple):
    """What became of a photo: its figures, and whether they are from an earlier call."""

    photo: Path
    figures: dict[str, Any]
    kept: bool


@dataclass
class Summary:
    """What a call made.

    Attributes:
        outcomes: The photos that are done, in order.
        problems: A sentence for each photo that cannot be.
        stopped: Whether somebody stopped it.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    stopped: bool = False


class ProjectionFolder:
    """Writes projections into a folder.

    Args:
        out: A new or empty folder, or one of the same generator and settings: what is done there is kept.
        projector: The generator and how.
        judge: Gives the perceptual distance among the figures: EfficientNet-Lite0.
        masks: Also write masks; None leaves them out.
        film: Also write a film of the path.

    Raises:
        RunError: If the folder holds something else.
        ConfigError: If no film can be written here.
    """

    def __init__(
        self, out: str | Path, projector: Projector, judge: FeatureNet, masks: Masks | None = None, *, film: bool = True
    ) -> None:
        self.out, self.projector, self.judge, self.masks, self.film = Path(out), projector, judge, masks, film
        if film:
            check_film(FILM, FilmLayout((2, 2), 1, _FPS))
        self._settings = {
            "generator": state_hash(projector.generator),
            "discriminator's maps": projector.has_discriminator,
            "perceptual network": projector.perceptual.identity,
            **as_json(projector.config),
        }
        claim(self.out, NOTE, self._settings, "projections")

    def write(
        self,
        photos: Sequence[tuple[Path, Path]],
        starts: Sequence[Start] = (),
        *,
        progress: Callable[[int, int, Mapping[str, float]], None] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> Summary:
        """Project photos one after the other; one that cannot be read or projected is named, the others are done.

        Args:
            photos: The file of each, and its folder, ``a`` of which gets ``a/projection.png`` and so on.
            starts: Where the searches start: none for the mean, one for all of them, or one for each.
            progress: Called as ``progress(steps done, steps of all photos, {"loss": ...})``.
            stopped: Asked after each step: whether to write what there is and end.

        Raises:
            ConfigError: If the number of starts fits neither.
            RunError, CheckpointError: If a file cannot be written.
        """
        if len(starts) not in (0, 1, len(photos)):
            wanted = "1 photo" if len(photos) == 1 else f"1 or of {len(photos)} photos"
            raise ConfigError(f"Give latents of {wanted} to start at, got {len(starts)}.")
        write_json(self.out / NOTE, self._settings)
        summary, steps, rows = Summary(), self.projector.config.all_steps, []
        for number, (photo, folder) in enumerate(photos):
            start = starts[min(number, len(starts) - 1)] if starts else None

            def step(done: int, loss: float, before: int = number * steps) -> None:
                if progress:
                    progress(before + done, len(photos) * steps, {"loss": loss})

            try:
                row, outcome = self._one(photo, folder, start, step, stopped)
            except DataError as error:
                summary.problems.append(str(error))
                continue
            summary.outcomes.append(outcome)
            rows.append([shrunk(picture, _CELL) for picture in row])
            if stopped and stopped():
                summary.stopped = True
                break
        if rows:
            write_png(self.out / SHEET, self._sheet(rows, [outcome.photo.name for outcome in summary.outcomes]))
        return summary

    def _one(
        self,
        photo: Path,
        folder: Path,
        start: Start | None,
        progress: Callable[[int, float], None],
        stopped: Callable[[], bool] | None,
    ) -> tuple[list[NDArray[np.uint8]], Outcome]:
        """One photo: the pictures of its row on the sheet, and its figures."""
        content, side = read_bytes(photo), self.projector.generator.resolution
        square = photo_square(content, side, str(photo))
        source = {
            "photo": str(photo),
            "photo_sha256": hashlib.sha256(content).hexdigest(),
            "start": None if start is None else fingerprint(start.ws),
        }
        if self.masks is not None:
            source["masks"] = self.masks.identity
        figures = self._done(folder, source)
        if figures is None:
            target = from_uint8(square[None])
            found = self.projector.project(target, start, progress=progress, stopped=stopped, name=str(photo))
            figures = source | self._write(folder, photo, square, found)
            write_json(folder / FIGURES, figures)  # the last: it says that the rest is there
            outcome = Outcome(photo, figures, kept=False)
        else:
            outcome = Outcome(photo, figures, kept=True)
        projected = decode_image(folder / PICTURE)
        row = [square, projected, difference(square, projected)]
        if self.masks is not None:
            row += [decode_image(folder / name) for name in (MASK, PHOTO_MASK)]
        return row, outcome

    def _done(self, folder: Path, source: Mapping[str, Any]) -> dict[str, Any] | None:
        """The figures of an earlier call, if it finished this photo and wrote all that is asked for."""
        config = self.projector.config
        names = [PICTURE, LATENTS, *([FILM] if self.film else []), *([MASK, PHOTO_MASK] if self.masks else [])]
        names += [TUNED] if config.tune_steps else []
        if not all((folder / name).is_file() for name in [FIGURES, *names]):
            return None
        figures = read_json(folder / FIGURES, "projections")
        same = all(figures.get(name) == value for name, value in source.items() if name != "photo")
        return figures if same and figures.get("steps") == config.all_steps else None

    def _write(self, folder: Path, photo: Path, square: NDArray[np.uint8], found: Projection) -> dict[str, Any]:
        generator, config = found.generator, self.projector.config
        for name in (FIGURES, TUNED):
            (folder / name).unlink(missing_ok=True)
        write_latents(folder / LATENTS, [found.ws], [-1], generator.w_avg)
        latent = found.ws[0, 0] if config.space == "w" else found.ws[0]
        noise = _noise_for_rosinality(generator, found.noise)
        write_projection(folder / ROSINALITY, photo.name, found.image[0], latent, noise)
        if found.tuned:
            info = {"tuned_from": self._settings["generator"], "tuned_to": photo.name}
            family, state = generator.family, generator.state_dict()
            write_native(
                folder / TUNED, kind="generator", family=family, config=generator.config(), state=state, info=info
            )
        projected = to_uint8(found.image)[0]
        write_png(folder / PICTURE, projected)
        if self.film:
            small = shrunk(square, len(found.frames[0]))
            frames = [np.concatenate((small, frame), axis=1) for frame in found.frames]
            layout = FilmLayout((frames[0].shape[1], frames[0].shape[0]), len(frames), _FPS)
            write_film(folder / FILM, layout, frames)
        figures = self._figures(from_uint8(square[None]), from_uint8(projected[None]), found)
        if self.masks is not None:
            masks = self.masks.of_projection(generator, found.ws, found.noise), self.masks.of_photo(square)
            for name, mask in zip((MASK, PHOTO_MASK), masks, strict=True):
                write_png(folder / name, mask)
            figures["mask_iou"] = _iou(*masks)
        return figures

    def _figures(self, photo: Tensor, projected: Tensor, found: Projection) -> dict[str, Any]:
        side = self.projector.config.side
        pair = [reduced(x, side).to(found.ws) for x in (photo, projected)]
        with torch.inference_mode():
            distance = float(self.judge.distance(*pair))
        return {
            "steps": found.steps,
            "seconds": round(found.seconds, 3),
            "loss_first": found.losses[0],
            "loss_last": found.losses[-1],
            "psnr": psnr(projected, photo),
            "ssim": ssim(projected, photo),
            f"distance_{self.judge.title}": distance,
        }

    def _sheet(self, rows: list[list[NDArray[np.uint8]]], names: list[str]) -> NDArray[np.uint8]:
        titles = ["photo", "projection", "difference"] + (
            ["mask of the projection", "of the photo"] if self.masks else []
        )
        return contact_sheet(rows[:_SHEET_ROWS], titles, names[:_SHEET_ROWS], cell=_CELL)


def photo_square(content: bytes, side: int, name: str) -> NDArray[np.uint8]:
    """A photo's central square, [side, side, 3], uint8.

    Raises:
        DataError: If it cannot be read, or has less than 32 pixels a side.
    """
    pixels = decode_image(content, None, name)
    height, width = pixels.shape[:2]
    if min(height, width) < _SMALLEST:
        raise DataError(f"{name} has {width}x{height} pixels, too few to find in a generator: {_SMALLEST} at least.")
    return np.array(central_square(Image.fromarray(pixels), side))


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How two pictures [H, W, 3] differ: grey where they are equal, a half of the difference to either side."""
    return (127.5 + (other.astype(np.float32) - one) / 2).astype(np.uint8)


def _noise_for_rosinality(generator: Generator, noise: Noise) -> Sequence[Tensor] | None:
    """The maps that rosinality's generator would be given; None where there is no such generator."""
    if not isinstance(noise, str):
        return noise
    if not isinstance(generator, StyleGAN2):
        return None
    return [conv.noise for block in generator.styled_blocks() for conv in block.convs()]


def _iou(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """IoU of the objects of two masks."""
    masks = [torch.from_numpy(mask > 127)[None, None] for mask in (one, other)]
    return float(iou_foreground(count(*masks)))
