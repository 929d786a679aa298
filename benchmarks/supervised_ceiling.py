"""How much of the mask is in the features: the alpha network trained with labels on half of the given masks.

The other half is the test, so the figure is what an alpha network of this shape can be expected to reach against these
masks. Training sees feature maps pooled to ``--resolution``; the test is on maps of up to 128x128.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  tyro reads the annotation
from typing import Annotated

import torch
import tyro
from alpha_quality import read_faces
from torch.nn import functional as F

from labels4free import load_generator
from labels4free.metrics.masks import count, score_pooled
from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha.projection import fit_projection

TEST_RESOLUTION = 128


def main(
    generator: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GENERATOR")],
    faces: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FACES")],
    resolution: int = 32,
    steps: int = 600,
    batch_size: int = 4,
    seed: int = 0,
) -> None:
    """Train on the first half of the faces, score on both halves.

    Args:
        generator: Zoo name or native file.
        faces: Folder with latents and masks, as for alpha_quality.py.
        resolution: Side to which maps and masks are pooled while training.
        steps: Optimiser steps (Adam, 3e-3).
        batch_size: Images a step.
        seed: First weights and draws.
    """
    torch.manual_seed(seed)
    loaded, given = load_generator(generator), read_faces(faces)
    ws = given.w[:, None].expand(-1, loaded.num_ws, -1)
    half = len(ws) // 2
    network = MergeNetwork(loaded.feature_specs, loaded.resolution)
    with torch.no_grad():
        features = (loaded.synthesize(w[None]).features for w in ws[:half])
        projection = fit_projection(loaded.feature_specs, features)
        fine = [projection.levels(loaded.synthesize(w[None]).features, network.levels, TEST_RESOLUTION) for w in ws]
    levels = [torch.cat(level) for level in zip(*fine, strict=True)]
    network = projection.network_like(network)
    pooled = [F.adaptive_avg_pool2d(x, min(x.shape[-1], resolution)) for x in levels]
    truth = given.truth.bool()[:, None]
    target = F.adaptive_avg_pool2d(truth.float(), resolution)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(steps):
        pick = torch.randint(half, (batch_size,))
        loss = F.binary_cross_entropy_with_logits(network.merge([x[pick] for x in pooled]), target[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits = torch.cat([network.merge([x[i : i + 8] for x in levels]) for i in range(0, len(ws), 8)])
    masks = F.interpolate(logits, size=truth.shape[-2:], mode="bilinear", align_corners=False) > 0
    for name, part in (("trained on", slice(0, half)), ("held out", slice(half, None))):
        scores = score_pooled(count(masks[part], truth[part]))
        print(
            f"{name:<11} mIoU {scores['miou']:.4f}  foreground {scores['iou_foreground']:.4f}  "
            f"background {scores['iou_background']:.4f}"
        )


if __name__ == "__main__":
    tyro.cli(main)
