"""Make a trained alpha network the one that ships for its generator: half precision, into the package's weights folder.

python tools/ship_alpha.py RUN
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from labels4free.checkpoints.native import read_native, write_native

WEIGHTS = Path(__file__).parent.parent / "src" / "labels4free" / "weights"

if __name__ == "__main__":
    checkpoint = read_native(Path(sys.argv[1]) / "alpha.safetensors", "alpha_network")
    info = dict(checkpoint.info)
    info["train"]["bank"]["folder"] = None  # where samples lay on the machine that trained it concerns nobody
    target = WEIGHTS / f"{info['generator']['name']}.alpha.safetensors"
    state = {name: value.to(torch.float16) for name, value in checkpoint.state.items()}
    write_native(
        target, kind=checkpoint.kind, family=checkpoint.family, config=checkpoint.config, state=state, info=info
    )
    count = sum(value.numel() for value in state.values())
    sys.stdout.write(f"{target}: {count} weights, {target.stat().st_size / 1000:.0f} kB\n")
