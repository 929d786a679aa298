"""Make a trained segmenter the one that ships under a name, its kernels in half precision.

python tools/ship_segmenter.py RUN [NAME]

NAME is "faces" unless given. Where things lay on the machine that trained it is left out of the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from labels4free.checkpoints.loading import load_segmenter
from labels4free.checkpoints.native import read_native_header, write_native
from labels4free.checkpoints.places import SHIPPED_SEGMENTER, segmenter_file

WEIGHTS = Path(__file__).parent.parent / "src" / "labels4free" / "weights"


if __name__ == "__main__":
    run, name = sys.argv[1], (sys.argv[2:] or [SHIPPED_SEGMENTER])[0]
    network, file = load_segmenter(run), segmenter_file(run)
    info = dict(read_native_header(file, "segmenter").info)
    train = info["train"]
    for places, key in (
        (train, "pretrained"),
        (train["pairs"], "background_pictures"),
        (train["self_training"], "unlabelled"),
        (info["source"], "name"),
    ):
        if places.get(key):
            places[key] = Path(places[key]).name
    target = WEIGHTS / f"{name}.segmenter.safetensors"
    state = network.state_dict()
    write_native(
        target,
        kind="segmenter",
        family=network.family,
        config=network.config(),
        state=state,
        info=info,
        half=True,
    )
    count = sum(value.numel() for value in network.parameters())
    sys.stdout.write(f"{target}: {count:,} weights, {target.stat().st_size / 1000:,.0f} kB\n")
