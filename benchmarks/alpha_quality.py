"""How well an alpha network's masks agree with given masks of generated images.

    python benchmarks/alpha_quality.py RUN_OR_ALPHA FACES [--sheet PNG] [--json FILE]

FACES holds ``latents.npz`` (``w`` [N, w_dim], truncated) and ``gt/NNN.png`` (white is the object), one a latent. Alpha
is computed at the generator's resolution with its fixed noise, box-filtered to the size of the masks and thresholded.
"""

from __future__ import annotations

import json
import math
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003  tyro reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import tyro
from PIL import Image
from torch.nn import functional as F

from labels4free.checkpoints.loading import load_layered
from labels4free.data.images.dataset import read_image
from labels4free.errors import DataError, Labels4FreeError
from labels4free.losses import binarization
from labels4free.metrics.masks import count, mean_iou, score_images, score_pooled
from labels4free.pictures.contact_sheet import contact_sheet, overlay
from labels4free.pictures.pixels import to_uint8

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from labels4free.layered import LayeredGenerator

CAVEAT = "The given masks are a supervised model's own (silver): these figures are agreement with that model."
SCORES = ("miou", "iou_foreground", "iou_background")


@dataclass(frozen=True)
class Faces:
    """Latents with masks: w [N, w_dim] float32, truth boolean [N, H, W], names of the mask files."""

    w: Tensor
    truth: Tensor
    names: tuple[str, ...]


def read_faces(folder: Path) -> Faces:
    """Read the folder.

    Raises:
        DataError: If a file is missing or the latents and masks do not fit.
    """
    try:
        with (folder / "latents.npz").open("rb") as file, np.load(file) as latents:
            w = torch.from_numpy(latents["w"]).float()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{folder} has no latents.npz with an array w: {error}.") from error
    paths = sorted((folder / "gt").glob("*.png"))
    if len(paths) != len(w) or not paths:
        raise DataError(f"{folder} has {len(w)} latents and {len(paths)} masks gt/*.png, expected as many.")
    masks = [torch.from_numpy(read_image(path)[:, :, 0] > 127) for path in paths]
    if len({mask.shape for mask in masks}) > 1:
        raise DataError(f"The masks in {folder / 'gt'} differ in size; they must be of one size.")
    return Faces(w, torch.stack(masks), tuple(path.stem for path in paths))


@torch.inference_mode()
def render(layered: LayeredGenerator, faces: Faces, say: Callable[[str], None]) -> tuple[Tensor, Tensor]:
    """Render images [N, 3, H, W] and alpha [N, 1, H, W], box-filtered from the generator's size to that of the masks.

    Raises:
        DataError: If the latents or the size of the masks do not fit the generator.
    """
    generator, side = layered.generator, faces.truth.shape[1]
    if faces.w.shape[1] != generator.w_dim or generator.resolution % side or faces.truth.shape[2] != side:
        raise DataError(
            f"This generator needs latents of {generator.w_dim} numbers and square masks whose side divides "
            f"{generator.resolution}, got {faces.w.shape[1]} numbers and masks {list(faces.truth.shape[1:])}."
        )
    images, alphas = [], []
    for k, w in enumerate(faces.w):
        ws = w.to(generator.w_avg.device).expand(1, generator.num_ws, -1)
        output = generator.synthesize(ws, noise="fixed")
        alpha = layered.alpha_network(output.features)
        images.append(F.avg_pool2d(output.image, generator.resolution // side).cpu())
        alphas.append(F.avg_pool2d(alpha, generator.resolution // side).cpu())
        say(f"{k + 1} of {len(faces.w)}")
    return torch.cat(images), torch.cat(alphas)


def evaluate(alpha: Tensor, truth: Tensor, thresholds: Sequence[float]) -> dict[str, Any]:
    """All figures, by name: one entry a threshold and a trivial baseline, then foreground ratio and sharpness.

    Args:
        alpha: [N, 1, H, W] in [0, 1].
        truth: boolean [N, H, W].
        thresholds: A pixel is foreground where its alpha exceeds this.
    """
    masks = {f"alpha > {threshold:g}": alpha > threshold for threshold in thresholds}
    masks |= {"all foreground": torch.ones_like(alpha, dtype=torch.bool)}
    masks |= {"mean of the given masks": (truth.double().mean(0) > 0.5).expand_as(truth)}
    result: dict[str, Any] = {"images": len(truth), "masks": {}}
    for name, mask in masks.items():
        counts = count(mask, truth)
        each = mean_iou(counts)
        result["masks"][name] = {
            "pooled": {score: score_pooled(counts)[score] for score in SCORES},
            "per_image": {score: score_images(counts)[score] for score in SCORES},
            "per_image_miou_sd": float(each.std(correction=0)),
            "worst": [int(k) for k in each.argsort()[:3]],
            "worst_miou": [float(value) for value in each.sort().values[:3]],
            "foreground_ratio": float(mask.double().mean()),
        }
    result["foreground_ratio_given"] = float(truth.double().mean())
    result["alpha_mean"] = float(alpha.double().mean())
    result["sharpness"] = 1 - 2 * float(binarization(alpha.double()))
    return result


def table(result: Mapping[str, Any], names: Sequence[str]) -> str:
    """The figures as text; ``names`` are those of the images."""
    lines = [
        f"{'':<24} {'pooled over all pixels':>23} | {'mean over the images':>22}",
        f"{'mask':<24} {'mIoU':>7} {'fg IoU':>7} {'bg IoU':>7} | {'mIoU':>7} {'sd':>6} {'worst':>7}  image  fg ratio",
    ]
    for name, row in result["masks"].items():
        pooled = " ".join(f"{row['pooled'][score]:7.4f}" for score in SCORES)
        each = f"{row['per_image']['miou']:7.4f} {row['per_image_miou_sd']:6.4f} {row['worst_miou'][0]:7.4f}"
        lines.append(f"{name:<24} {pooled} | {each}  {names[row['worst'][0]]:<6} {row['foreground_ratio']:8.4f}")
    lines.append(
        f"{result['images']} images; the given masks cover {result['foreground_ratio_given']:.4f}; alpha has mean "
        f"{result['alpha_mean']:.4f}, sharpness {result['sharpness']:.4f} (1: every alpha is 0 or 1; 0: all are 0.5)."
    )
    return "\n".join([*lines, CAVEAT])


def write_sheet(path: Path, images: Tensor, mask: Tensor, cell: int = 112) -> None:
    """A picture of every image with its mask laid over it: PNG or JPEG by the file's ending.

    Args:
        path: The file; missing folders are made.
        images: [N, 3, H, W], about [-1, 1].
        mask: boolean [N, 1, H, W].
        cell: Side of one image on the sheet, in pixels.
    """
    columns = max(1, math.isqrt(len(images)))
    shown = [overlay(*one) for one in zip(to_uint8(images), mask[:, 0].cpu().numpy(), strict=True)]
    rows = [shown[first : first + columns] for first in range(0, len(shown), columns)]
    titles = [f"{first:03d}" for first in range(0, len(shown), columns)]
    sheet = Image.fromarray(contact_sheet(rows, row_titles=titles, cell=cell))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".jpg", ".jpeg"):
        sheet.save(path, quality=88, optimize=True)
    else:
        sheet.save(path, optimize=True)


def main(
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_ALPHA")],
    faces: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FACES")],
    threshold: tuple[float, ...] = (0.5, 0.9),
    sheet: Path | None = None,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    generator: str | None = None,
    device: str = "cpu",
) -> None:
    """Print how well the masks of an alpha network agree with given masks of generated images.

    Args:
        source: Folder of a training run, file of an alpha network, or the zoo name of a generator with one that ships.
        faces: Folder with latents.npz and gt/.
        threshold: Foreground is where alpha exceeds this; the first one makes the sheet.
        sheet: Write a picture of all images with their masks here (.png, or .jpg for a smaller file).
        json_file: Write the figures here.
        generator: Generator to use instead of the one that the alpha network was trained on (zoo name or file).
        device: cpu, cuda, cuda:N or mps.
    """
    layered, name = load_layered(source, generator, device)
    given = read_faces(faces)
    start = time.monotonic()
    images, alpha = render(layered, given, _say)
    seconds = (time.monotonic() - start) / len(given.names)
    result = evaluate(alpha, given.truth, threshold)
    result |= {"alpha_network": str(source), "generator": name, "note": CAVEAT}
    print(f"{source} on {name}, {seconds:.2f} s an image")
    print(table(result, given.names))
    if sheet is not None:
        write_sheet(sheet, images, alpha > threshold[0])
        print(f"{sheet}: {sheet.stat().st_size / 1e6:.2f} MB")
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except Labels4FreeError as error:
        sys.exit(f"alpha_quality: {error}")
