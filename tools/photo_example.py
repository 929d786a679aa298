"""Draw pictures beside what the segmenter that ships makes of them: on white, on a colour, before its own blur.

python tools/photo_example.py PICTURE ... OUT.jpg

For the documentation: pictures whose licence allows it alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from labels4free.pictures.contact_sheet import contact_sheet
from labels4free.segmenting.segmenter import Segmenter

BACKGROUNDS = ("white", "#2f6f4f", "blur")
PICTURES_A_ROW, SIDE = 2, 200

if __name__ == "__main__":
    *pictures, target = (Path(word) for word in sys.argv[1:])
    segmenter = Segmenter.load()
    cells = []
    for path in pictures:
        cutout = segmenter.segment(path)
        cells += [cutout.photo, *(np.asarray(cutout.picture("composite", behind)) for behind in BACKGROUNDS)]
    width = PICTURES_A_ROW * (1 + len(BACKGROUNDS))
    rows = [cells[first : first + width] for first in range(0, len(cells), width)]
    Image.fromarray(contact_sheet(rows, cell=SIDE)).save(target, quality=88)
