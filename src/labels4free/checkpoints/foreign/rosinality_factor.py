"""Directions in w as rosinality/stylegan2-pytorch keeps them: ``closed_form_factorization.py`` writes ``factor.pt``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from labels4free.checkpoints.foreign.torch_writer import write_torch_file
from labels4free.checkpoints.untrusted.torch_file import read_torch_file
from labels4free.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from labels4free.generators.base import Generator

_ENTRY = "eigvec"
_TOLERANCE = 1e-3  # of the columns' lengths, which are 1


def read_factor(path: str | Path, generator: Generator) -> Tensor:
    """Read the directions of a ``factor.pt``; nothing in it is ever executed.

    Args:
        path: The file: ``eigvec``, one direction a column. It does not say which weights it was made of.
        generator: The generator that it is for.

    Returns:
        [K, w_dim], float32, on the CPU: a direction of length 1 in each row, the strongest first.

    Raises:
        CheckpointError: If the file cannot be read as data, holds something else, or its numbers are not finite, of
            another length than this generator's w, or no directions of length 1.
    """
    content = read_torch_file(path)
    vectors = content.get(_ENTRY) if isinstance(content, dict) else None
    if not isinstance(vectors, Tensor):
        raise CheckpointError(f"{path} is no factor file of rosinality: it has no tensor {_ENTRY!r}.")
    if not vectors.is_floating_point() or vectors.ndim != 2 or not vectors.numel():
        raise CheckpointError(
            f"{path} is damaged: its {_ENTRY!r} should be floating-point numbers [w_dim, K], it is {vectors.dtype} "
            f"{list(vectors.shape)}."
        )
    if len(vectors) != generator.w_dim:
        raise CheckpointError(
            f"{path} is a factor file of another generator: its directions have {len(vectors)} numbers, this "
            f"generator's w has {generator.w_dim}."
        )
    rows = vectors.to(torch.float32).T.contiguous()
    lengths = rows.norm(dim=1)
    if not bool(((lengths - 1).abs() <= _TOLERANCE).all()):  # false for NaN as well
        raise CheckpointError(f"{path} is damaged: its directions should have length 1, and some have not.")
    return rows


def write_factor(path: str | Path, vectors: Tensor, checkpoint: str) -> None:
    """Write directions as a ``factor.pt`` that ``apply_factor.py`` takes; it appears complete or not at all.

    Args:
        path: The file; an older one is replaced.
        vectors: [K, w_dim], of length 1.
        checkpoint: Name of the generator's file, which that code notes and never reads.

    Raises:
        CheckpointError: If it cannot be written.
    """
    columns = vectors.detach().to("cpu", torch.float32).T.contiguous()
    write_torch_file(path, {"ckpt": checkpoint, _ENTRY: columns})
