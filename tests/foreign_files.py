"""Tiny files as other projects write them, made out of tiny networks of ours."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

import torch

from labels4free.checkpoints.foreign.original_alpha import original_keys
from labels4free.checkpoints.foreign.rosinality import to_rosinality
from labels4free.networks.paper_network import PaperNetwork
from tests.checkpoints.ir_writer import ir_files
from tests.tiny import tiny_stylegan2

if TYPE_CHECKING:
    from pathlib import Path

    from labels4free.generators.mobile_stylegan import MobileStyleGAN


def write_ir(folder: Path, generator: MobileStyleGAN) -> Path:
    """Write a generator as OpenVINO IR, four files in a folder."""
    folder.mkdir(exist_ok=True)
    names = [f"{network}Network.{ending}" for network in ("Mapping", "Synthesis") for ending in ("xml", "bin")]
    for name, data in zip(names, ir_files(generator), strict=True):
        (folder / name).write_bytes(data)
    return folder


def write_original(path: Path) -> Path:
    """Write a checkpoint of the original's alpha training, whole: 256x256 pixels, two channels a map."""
    generator = tiny_stylegan2(channels=dict.fromkeys([4, 8, 16, 32, 64, 128, 256], 2))
    torch.manual_seed(0)
    state = PaperNetwork(generator.feature_specs, 256).state_dict()
    names = original_keys("repro")
    alpha = {names[name]: value for name, value in state.items()}
    args = Namespace(size=256, reproduce_model=True, batch=2)
    torch.save({"g": to_rosinality(generator)["g_ema"], "bg_extractor_ema": alpha, "args": args}, path)
    return path
