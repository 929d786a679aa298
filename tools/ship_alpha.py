"""Make a trained alpha network the one that ships for its generator, in half precision.

python tools/ship_alpha.py RUN [RUN ...]

Of several runs of one member each, on one cache (``cache.folder``), it ships the consensus, as if they were the members
of one run (``training/alpha/consensus.py``).
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from labels4free.checkpoints.loading import load_alpha_network, load_generator
from labels4free.checkpoints.native import read_native_header, write_native
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.alpha.consensus import distill, find_consensus
from labels4free.training.alpha.run import CachedRecipe
from labels4free.training.recipes import RECIPES
from labels4free.training_loop.resume import own_settings
from labels4free.training_loop.run_dir import RunDir

if TYPE_CHECKING:
    from labels4free.networks.alpha_network import AlphaNetwork

WEIGHTS = Path(__file__).parent.parent / "src" / "labels4free" / "weights"


def consensus(runs: list[Path], generator_name: str) -> AlphaNetwork:
    """One network that has learned the mean of what finished runs of one member left."""
    config = own_settings(RunDir.open(runs[0]), RECIPES)
    if not isinstance(config, TrainConfig) or config.members != 1 or config.cache.folder is None:
        sys.exit("Runs of one member on a shared cache are needed: --set members=1 --set cache.folder=FOLDER.")
    generator = load_generator(generator_name)
    recipe = CachedRecipe(generator, config)
    recipe.prepare(Path(config.cache.folder), lambda *_: None)
    trainer = recipe.trainer()
    networks, alphas = [], []
    for run in runs:
        checkpoint = RunDir(run).latest_checkpoint()
        if checkpoint is None:
            sys.exit(f"{run} has no checkpoint.")
        trainer.load_state_dict(checkpoint.state)
        networks.append(copy.deepcopy(trainer.kept))
        alphas.append(trainer.held_out_alpha(networks[-1]))
    found = find_consensus(alphas)
    sys.stdout.write(f"{len(found.kept)} of {len(runs)} agree, by {found.agreement:.3f}\n")
    agreed = sorted(found.kept, key=lambda k: -found.agreements[k])
    network = distill([networks[k] for k in agreed], recipe.cache, config)
    return recipe.cache.projection.fold(network, generator.feature_specs)


if __name__ == "__main__":
    runs = [Path(word) for word in sys.argv[1:]]
    torch.set_num_threads(1)  # as many as decide about the last bits
    info = dict(read_native_header(runs[0] / "alpha.safetensors", "alpha_network").info)
    name = info["generator"]["name"]
    network = consensus(runs, name) if len(runs) > 1 else load_alpha_network(runs[0])
    if len(runs) > 1:
        info = {"generator": info["generator"], "train": info["train"], "runs": len(runs)}
    info["train"]["cache"]["folder"] = None  # where samples lay on the machine that trained it concerns nobody
    target = WEIGHTS / f"{name}.alpha.safetensors"
    state = {key: value.to(torch.float16) for key, value in network.state_dict().items()}
    write_native(target, kind="alpha_network", family=network.family, config=network.config(), state=state, info=info)
    count = sum(value.numel() for value in state.values())
    sys.stdout.write(f"{target}: {count} weights, {target.stat().st_size / 1000:.0f} kB\n")
