"""Do uncertainty and filters tell good masks from bad, and does refinement at the border mend them?

    python benchmarks/uncertainty.py RUN_OR_ALPHA FACES [--ensemble FILE ...] [--json FILE]
    python benchmarks/uncertainty.py RUN_OR_ALPHA FACES --refine

FACES as for ``alpha_quality.py``. Every measurement is compared with the mIoU of its image (alpha > 0.5, at the size of
the given masks): rank correlation, mIoU of what is kept when the most uncertain part is dropped, what the filters drop.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path  # noqa: TC003  tyro reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import tyro
from alpha_quality import CAVEAT, read_faces
from torch.nn import functional as F

from labels4free.checkpoints.loading import load_alpha_network, load_layered
from labels4free.data.pairs.record import measure
from labels4free.errors import Labels4FreeError
from labels4free.metrics.masks import count, mean_iou, score_pooled
from labels4free.ops.refine import refine_alpha
from labels4free.sampling.filters import FilterConfig, calibrate, drop_reason
from labels4free.sampling.uncertainty import UncertaintyConfig, UncertaintyMeter, disagreement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from alpha_quality import Faces
    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.data.pairs.record import PairRecord
    from labels4free.layered import LayeredGenerator
    from labels4free.networks.alpha_network import AlphaNetwork

FRACTIONS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
KEPT = 0.9
THRESHOLD = 0.9  # of the masks that the filters see: the default of a data set
REFINEMENTS: tuple[dict[str, Any], ...] = (
    *({"side": 1024, "method": "guided", "radius": r, "eps": 1e-3} for r in (16, 32, 64, 128)),
    *({"side": 256, "method": "guided", "radius": r, "eps": 1e-3} for r in (4, 8, 16, 32)),
    *({"side": 256, "method": "guided", "radius": 16, "eps": eps} for eps in (1e-4, 1e-2)),
    *({"side": 256, "method": "closed-form", "radius": r} for r in (2, 4, 8, 16)),
)


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Rank correlation in [-1, 1]; equal values share their mean rank; 0 where one side is constant."""
    ranks = []
    for values in (x, y):
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts + 1) / 2)[place])
    if any(np.ptp(r) == 0 for r in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def risk_coverage(uncertainty: NDArray[np.float64], miou: NDArray[np.float64]) -> list[float]:
    """Mean mIoU of the most certain images, for every fraction in FRACTIONS."""
    order = np.argsort(uncertainty, kind="stable")
    return [float(miou[order[: max(1, round(fraction * len(order)))]].mean()) for fraction in FRACTIONS]


def partial(xy: float, xz: float, yz: float) -> float:
    """Correlation of x and y that is left when z is held fixed; 0 where z decides one of them."""
    rest = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / rest**0.5 if rest > 1e-9 else 0.0


def compare(
    measures: Mapping[str, NDArray[np.float64]], miou: NDArray[np.float64], foreground_ratio: NDArray[np.float64]
) -> dict[str, dict[str, Any]]:
    """What each measurement (larger: less certain) says of mIoU, and says beyond what the mask's size does."""
    result = {}
    for name, values in measures.items():
        order = np.argsort(values, kind="stable")
        kept, dropped = np.split(order, [int(KEPT * len(order))])
        result[name] = {
            "mean": float(values.mean()),
            "spearman": spearman(-values, miou),
            "partial": partial(
                spearman(-values, miou), spearman(-values, foreground_ratio), spearman(miou, foreground_ratio)
            ),
            "risk_coverage": risk_coverage(values, miou),
            "kept": float(miou[kept].mean()),
            "dropped": float(miou[dropped].mean()),
        }
    return result


@torch.inference_mode()
def observe(
    layered: LayeredGenerator, faces: Faces, members: Sequence[AlphaNetwork], augmentations: int, seed: int
) -> Iterator[tuple[Tensor, dict[str, float], PairRecord]]:
    """Alpha of each face at the generator's size, its uncertainties by name, and its record."""
    meters = {
        "noise": UncertaintyMeter(layered, UncertaintyConfig(noise=augmentations), seed),
        "mixing": UncertaintyMeter(layered, UncertaintyConfig(mixing=augmentations), seed),
        "mixing from 0.35": UncertaintyMeter(layered, UncertaintyConfig(mixing=augmentations, mixing_from=0.35), seed),
    }
    for index, w in enumerate(faces.w):
        ws = w.to(layered.generator.w_avg.device).expand(1, layered.generator.num_ws, -1)
        _, alpha, features = layered.foreground(ws)
        found = {name: meter.measure(ws, features, alpha, index) for name, meter in meters.items()}
        found["noise + mixing"] = (found["noise"] + found["mixing"]) / 2
        others = [disagreement(alpha, [member(features)]) for member in members]
        for size in sorted({min(2, len(others)), len(others)} - {0}):
            found[f"ensemble, {size} others"] = float(np.mean(others[:size]))
        if others:
            found["all, mean over the kinds"] = float(np.mean([found["noise"], found["mixing"], np.mean(others)]))
        grey = alpha[0, 0].mul(255).round().byte().cpu().numpy()
        mask = (alpha[0, 0] > THRESHOLD).mul(255).byte().cpu().numpy()
        record = measure(index, grey, mask, uncertainty=found["noise + mixing"])
        found["1 - sharpness (costs nothing)"] = 1 - record.sharpness
        yield alpha, found, record


def score(alphas: Tensor, truth: Tensor, threshold: float = 0.5) -> tuple[float, NDArray[np.float64]]:
    """Pooled mIoU and that of every image: alpha [N, 1, H, W] > threshold against boolean [N, H, W]."""
    counts = count(alphas > threshold, truth)
    return score_pooled(counts)["miou"], mean_iou(counts).numpy()


def filtered(records: Sequence[PairRecord], miou: NDArray[np.float64], config: FilterConfig) -> dict[str, Any]:
    """What a configuration of filters keeps and drops, and how good it is."""
    thresholds = calibrate(records[: config.calibration], config)
    reasons = [drop_reason(record, thresholds) for record in records]
    kept = np.array([reason is None for reason in reasons])
    return {
        "kept": int(kept.sum()),
        "kept_miou": float(miou[kept].mean()) if kept.any() else None,
        "dropped_miou": float(miou[~kept].mean()) if not kept.all() else None,
        "reasons": {reason: reasons.count(reason) for reason in sorted({r for r in reasons if r})},
    }


def shrink(maps: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(maps, maps.shape[-1] // side)


def uncertainties(
    layered: LayeredGenerator, given: Faces, members: Sequence[AlphaNetwork], augmentations: int, seed: int
) -> dict[str, Any]:
    """Figures of every uncertainty and filter; prints them."""
    alphas, found, records = [], [], []
    for alpha, measured, record in observe(layered, given, members, augmentations, seed):
        alphas.append(shrink(alpha, given.truth.shape[-1]))
        found.append(measured)
        records.append(record)
        say(f"{len(records)} of {len(given.names)}")
    pooled, miou = score(torch.cat(alphas), given.truth)
    measures = {name: np.array([row[name] for row in found]) for name in found[0]}
    foreground_ratio = np.array([record.foreground_ratio for record in records])
    measures |= {"foreground ratio (costs nothing)": foreground_ratio, "as if the mIoU were known": -miou}
    configs = {
        "by default": FilterConfig(),
        "with one component": FilterConfig(max_components=1),
        f"by default, {KEPT:.0%} quantile of noise + mixing": FilterConfig(max_uncertainty_quantile=KEPT),
        f"by default, {1 - KEPT:.0%} quantile of sharpness": FilterConfig(min_sharpness_quantile=round(1 - KEPT, 6)),
    }
    rows = zip(records, found, miou, strict=True)
    result: dict[str, Any] = {
        "images": len(miou),
        "miou_pooled": pooled,
        "miou_per_image": float(miou.mean()),
        "measures": compare(measures, miou, foreground_ratio),
        "filters": {name: filtered(records, miou, config) for name, config in configs.items()},
        "faces": [asdict(record) | row | {"miou": float(value)} for record, row, value in rows],
    }
    print(f"{len(miou)} faces, mIoU {pooled:.4f} pooled over all pixels, {miou.mean():.4f} mean over the images")
    print_table(result)
    return result


def print_table(result: Mapping[str, Any]) -> None:
    curve = " ".join(f"{fraction:>6.0%}" for fraction in FRACTIONS)
    print(
        f"{'uncertainty':<30} {'mean':>7} {'rho':>6} {'beyond fg ratio':>15} | mIoU of the kept fraction: {curve} | "
        f"{KEPT:.0%} kept  dropped"
    )
    for name, row in result["measures"].items():
        points = " ".join(f"{value:6.4f}" for value in row["risk_coverage"])
        print(
            f"{name:<30} {row['mean']:7.4f} {row['spearman']:6.2f} {row['partial']:15.2f} | {'':<23} {points} | "
            f"{row['kept']:8.4f} {row['dropped']:8.4f}"
        )
    for name, row in result["filters"].items():
        good = f"kept mIoU {row['kept_miou']:.4f}" if row["kept_miou"] is not None else "nothing kept"
        bad = f", dropped {row['dropped_miou']:.4f}" if row["dropped_miou"] is not None else ""
        reasons = row["reasons"] or "no reasons"
        print(f"filters {name}: {row['kept']} of {result['images']} kept, {good}{bad}; {reasons}")


@torch.inference_mode()
def refinements(layered: LayeredGenerator, given: Faces) -> dict[str, Any]:
    """Figures of every refinement; prints them."""
    side = given.truth.shape[-1]
    maps: dict[str, list[Tensor]] = {}
    seconds: dict[str, float] = {}
    for index, w in enumerate(given.w):
        front = layered.foreground(w.expand(1, layered.generator.num_ws, -1))
        maps.setdefault("none", []).append(shrink(front.alpha, side))
        for name, better, duration in tried(front.image, front.alpha, side):
            maps.setdefault(name, []).append(better)
            seconds[name] = seconds.get(name, 0.0) + duration
        say(f"{index + 1} of {len(given.names)}")
    result: dict[str, Any] = {}
    for name, alphas in maps.items():
        alpha = torch.cat(alphas)
        (pooled, each), (strict, _) = (score(alpha, given.truth, threshold) for threshold in (0.5, THRESHOLD))
        if name == "none":
            before = each
        result[name] = {
            "miou_pooled": pooled,
            f"miou_pooled_{THRESHOLD:g}": strict,
            "better": int((each > before).sum()),
            "worse": int((each < before).sum()),
            "sharpness": 1 - 2 * float(torch.minimum(alpha, 1 - alpha).mean()),
            "seconds": seconds.get(name, 0.0) / len(alphas),
        }
        print(
            f"{name:<40} mIoU of alpha > 0.5 {pooled:.4f}, > {THRESHOLD:g} {strict:.4f}; better on "
            f"{result[name]['better']}, worse on {result[name]['worse']}; sharpness {result[name]['sharpness']:.3f}; "
            f"{result[name]['seconds']:.2f} s an image"
        )
    return result


def tried(image: Tensor, alpha: Tensor, side: int) -> Iterator[tuple[str, Tensor, float]]:
    """Every refinement of one face: name, alpha at the size of the masks, seconds."""
    for options in REFINEMENTS:
        at, method, radius = options["side"], options["method"], options["radius"]
        small = shrink(image, at), shrink(alpha, at)
        settings = {"eps": options["eps"]} if "eps" in options else {}
        start = time.monotonic()
        better = refine_alpha(*small, method, radius=radius, **settings)
        duration = time.monotonic() - start
        text = "".join(f", {name} {value:g}" for name, value in settings.items())
        yield f"{method} at {at}, radius {radius}{text}", shrink(better, side), duration


def main(
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_ALPHA")],
    faces: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FACES")],
    ensemble: tuple[Path, ...] = (),
    augmentations: int = 2,
    seed: int = 0,
    refine: bool = False,
    limit: int | None = None,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Print what uncertainties and filters, or refinements, do for masks of given faces.

    Args:
        source: Folder of a training run, file of an alpha network, or the zoo name of a generator with one that ships.
        faces: Folder with latents.npz and gt/.
        ensemble: Other alpha networks for the same generator.
        augmentations: Augmentations of each kind.
        seed: Of the augmentations.
        refine: Try refinements of alpha, not uncertainties.
        limit: Only the first so many faces, at least 2.
        json_file: Write the figures here.
    """
    layered, _ = load_layered(source, None, "cpu")
    given = read_faces(faces)
    given = replace(given, w=given.w[:limit], truth=given.truth[:limit], names=given.names[:limit])
    if refine:
        result = {"refinements": refinements(layered, given)}
    else:
        members = [load_alpha_network(path) for path in ensemble]
        result = uncertainties(layered, given, members, augmentations, seed)
    print(CAVEAT)
    if json_file is not None:
        json_file.write_text(json.dumps(result | {"note": CAVEAT}, indent=1) + "\n", encoding="utf-8")


def say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except Labels4FreeError as error:
        sys.exit(f"uncertainty: {error}")
