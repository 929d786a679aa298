"""Draw docs/backgrounds.jpg: a generator's images and, below each, every background mode of the same latent."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional as F

from labels4free import load_generator
from labels4free.generators.base import sample_z
from labels4free.pictures.contact_sheet import contact_sheet

GENERATOR, SAMPLES, SIDE = "mobilestylegan-ffhq-1024", 8, 128
TARGET = Path(__file__).parent.parent / "docs" / "backgrounds.jpg"

if __name__ == "__main__":
    generator = load_generator(GENERATOR)
    rows = []
    with torch.inference_mode():
        ws = [generator.map(sample_z(generator.z_dim, 0, index)[None], 0.7) for index in range(SAMPLES)]
        for mode in (None, *generator.background_modes):
            images = [generator.synthesize(w, background=mode).image for w in ws]
            rows.append([F.avg_pool2d(image, generator.resolution // SIDE)[0] for image in images])
    sheet = contact_sheet(rows, row_titles=("image", *generator.background_modes), cell=SIDE)
    Image.fromarray(sheet).save(TARGET, quality=88)
