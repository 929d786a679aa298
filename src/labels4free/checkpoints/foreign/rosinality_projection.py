"""What rosinality/stylegan2-pytorch projector.py writes: for each photo its picture, latent and noise maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from labels4free.checkpoints.foreign.torch_writer import write_torch_file
from labels4free.checkpoints.untrusted.torch_file import read_torch_file
from labels4free.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from labels4free.generators.base import Generator


def read_projection_noise(path: str | Path, generator: Generator) -> list[list[Tensor]] | None:
    """Read the noise maps of a projector's ``.pt``; nothing in it is ever executed.

    Args:
        path: The file; :func:`labels4free.generating.latent_files.read_latents` reads its latents.
        generator: The generator that it is for.

    Returns:
        For each photo a map [1, 1, R, R] a layer, float32, on the CPU; None where the file has no noise.

    Raises:
        CheckpointError: If the file cannot be read as data, or its maps do not fit the generator or are not finite.
    """
    content = read_torch_file(path)
    entries = content.values() if isinstance(content, dict) and "latent" not in content else [content]
    found = [entry.get("noise") if isinstance(entry, dict) else None for entry in entries]
    if not found or any(not maps for maps in found):
        return None
    for maps in found:
        if not isinstance(maps, list | tuple) or not all(isinstance(m, Tensor) and m.is_floating_point() for m in maps):
            raise CheckpointError(f"{path} is damaged: its 'noise' should be a list of maps.")
        if not all(bool(m.isfinite().all()) for m in maps):
            raise CheckpointError(f"{path} is damaged: its noise maps are not all finite numbers.")
        try:
            generator.check_synthesize_arguments(torch.zeros(1, generator.num_ws, generator.w_dim), maps, None)
        except ConfigError as error:
            raise CheckpointError(f"{path} is a projection into another generator. {error}") from error
    return [[m.to(torch.float32) for m in maps or ()] for maps in found]


def write_projection(
    path: str | Path, photo: str, image: Tensor, latent: Tensor, noise: Sequence[Tensor] | None
) -> None:
    """Write a ``.pt`` as the projector does; it appears complete or not at all.

    Args:
        path: The file; an older one is replaced.
        photo: Name of the photo's file, under which the rest stands.
        image: [3, R, R], about [-1, 1].
        latent: [w_dim] in w, or [num_ws, w_dim] in w+.
        noise: A map [1, 1, R, R] a layer; None leaves them out.

    Raises:
        CheckpointError: If it cannot be written.
    """
    entry: dict[str, Tensor | list[Tensor]] = {"img": _plain(image), "latent": _plain(latent)}
    if noise is not None:
        entry["noise"] = [_plain(one) for one in noise]
    write_torch_file(path, {photo: entry})


def _plain(value: Tensor) -> Tensor:
    return value.detach().to("cpu", torch.float32).contiguous().clone()
