"""Claim: our MobileStyleGAN makes the image that OpenVINO makes of the shipped network, to 1e-3.

    python benchmarks/generator_parity.py

Both sides run in float32 on the CPU, each through its own mapping and synthesis network. Exits with 1 beyond 1e-3.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from openvino_reference import MODEL, OpenVinoGenerator

from labels4free.checkpoints.loading import load_generator
from labels4free.generators.base import sample_z

TOLERANCE = 1e-3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, default=4, help="how many latents to compare (default 4)")
    parser.add_argument("--threads", type=int, default=2, help="threads for each side (default 2)")
    parser.add_argument("--wheel", type=Path, help="the random-face wheel, if pip shall not download it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    theirs = OpenVinoGenerator(arguments.wheel, arguments.threads)
    ours = load_generator(MODEL.name)

    print(f"{MODEL.name}: labels4free against OpenVINO {theirs.version}, both float32, largest absolute difference")
    print(f"{'latent':>6}  {'w':>9}  {'image':>9}  image of OpenVINO")
    worst = 0.0
    for k in range(arguments.latents):
        z = sample_z(ours.z_dim, seed=0, index=k)[None]
        with torch.inference_mode():
            ws = ours.map(z)
            image = ours.synthesize(ws).image.numpy()
        w = theirs.map(z.numpy())
        reference = theirs.synthesize(w)
        w_difference, difference = np.abs(ws[:, 0].numpy() - w).max(), np.abs(image - reference).max()
        print(f"{k:6}  {w_difference:9.2e}  {difference:9.2e}  {reference.min():.2f} to {reference.max():.2f}")
        worst = max(worst, float(difference))
    within = worst <= TOLERANCE  # so that NaN fails
    print(f"largest image difference {worst:.2e}: {'within' if within else 'BEYOND'} {TOLERANCE:g}")
    return 0 if within else 1


if __name__ == "__main__":
    raise SystemExit(main())
