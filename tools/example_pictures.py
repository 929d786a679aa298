"""Draw docs/training_examples.jpg: what a segmenter is trained on, made of generated pairs.

python tools/example_pictures.py PAIRS

PAIRS is a data set that "labels4free sample" wrote.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from labels4free.data.pairs.formats import open_pairs
from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.training.segmenter.augmentation.augment import training_example
from labels4free.training.segmenter.augmentation.config import PairAugmentationConfig
from labels4free.training.segmenter.pair_cache import build_pair_cache

ROWS, COLUMNS, SIZE, SIDE, SEED = 5, 8, 256, 128, 5
TARGET = Path(__file__).parent.parent / "docs" / "training_examples.jpg"

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        pairs = build_pair_cache(open_pairs(sys.argv[1]), SIZE, Path(folder), uncertainty=0)
        rows = []
        for row in range(ROWS):
            line = []
            for column in range(COLUMNS):
                example = training_example(pairs, PairAugmentationConfig(), SEED, row * COLUMNS + column)
                line += [example.image[0], example.alpha[0].expand(3, -1, -1) * 2 - 1]
            rows.append(line)
    sheet = contact_sheet(rows, cell=SIDE)
    Image.fromarray(np.asarray(sheet)).save(TARGET, quality=85)
