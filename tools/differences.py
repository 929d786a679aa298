"""Draw where predicted masks differ from true ones, without the images: for photos that may not be shown.

python tools/differences.py PREDICTED TRUE OUT.jpg

White is the object found, black the background, red too much, blue missed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from labels4free.evaluation.config import EvaluationConfig
from labels4free.evaluation.pairing import pair_files
from labels4free.evaluation.pictures import compare
from labels4free.pictures.contact_sheet import contact_sheet

COLUMNS, SIDE = 8, 96

if __name__ == "__main__":
    predicted, true, target = (Path(word) for word in sys.argv[1:])
    pairs = pair_files(true, predicted, None, "natural")
    errors = [compare(pair, EvaluationConfig()).errors for pair in pairs]
    rows = [errors[start : start + COLUMNS] for start in range(0, len(errors), COLUMNS)]
    sheet = contact_sheet(rows, cell=SIDE)
    Image.fromarray(sheet).save(target, quality=85)
