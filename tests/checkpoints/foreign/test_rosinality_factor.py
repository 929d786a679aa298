from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from tests.refusals import refuses
from tests.tiny import tiny_stylegan2

from labels4free.checkpoints.foreign.rosinality_factor import read_factor, write_factor
from labels4free.errors import CheckpointError

THEIRS = Path(__file__).parents[2] / "fixtures" / "rosinality_factor.pt"
"""What closed_form_factorization.py of rosinality wrote of ``to_rosinality(tiny_stylegan2())``."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "factor.pt"


def test_their_file_is_read_a_direction_a_row():
    theirs = torch.load(THEIRS, weights_only=True)["eigvec"]
    rows = read_factor(THEIRS, tiny_stylegan2())
    assert rows.dtype == torch.float32
    assert torch.equal(rows, theirs.T)


def test_what_is_written_is_what_apply_factor_reads(path):
    rows = read_factor(THEIRS, tiny_stylegan2())
    write_factor(path, rows, "tiny.pt")
    theirs, ours = (torch.load(file, weights_only=True) for file in (THEIRS, path))
    assert theirs.keys() == ours.keys()
    assert ours["ckpt"] == theirs["ckpt"] == "tiny.pt"
    assert torch.equal(ours["eigvec"][:, 3], theirs["eigvec"][:, 3])
    assert torch.equal(read_factor(path, tiny_stylegan2()), rows)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("hostile",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_file_is_refused_and_nothing_is_run(path, legacy, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    content = {"ckpt": "x", "eigvec": Hostile()}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    refuses(CheckpointError, "posix|mkdir", read_factor, path, tiny_stylegan2())
    path.write_bytes(pickle.dumps(content))
    refuses(CheckpointError, "factor.pt", read_factor, path, tiny_stylegan2())
    assert not (tmp_path / "hostile").exists()


NAN = torch.full((8, 8), torch.nan)
BAD = [
    ({"ckpt": "x"}, "no factor file of rosinality: it has no tensor 'eigvec'"),
    ([torch.eye(8)], "no factor file of rosinality"),
    ({"eigvec": [1.0]}, "no factor file of rosinality"),
    ({"eigvec": torch.eye(8).long()}, r"should be floating-point numbers \[w_dim, K\], it is torch.int64 \[8, 8\]"),
    ({"eigvec": torch.ones(8)}, r"it is torch.float32 \[8\]"),
    ({"eigvec": torch.ones(8, 0)}, r"it is torch.float32 \[8, 0\]"),
    ({"eigvec": torch.eye(512)}, "of another generator: its directions have 512 numbers, this generator's w has 8"),
    ({"eigvec": NAN}, "should have length 1"),
    ({"eigvec": 2 * torch.eye(8)}, "should have length 1"),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=[message[:30] for _, message in BAD])
def test_bad_files_are_refused_in_one_sentence(path, content, message):
    torch.save(content, path)
    refuses(CheckpointError, message, read_factor, path, tiny_stylegan2())


def test_a_missing_file_and_a_folder_that_cannot_be_written(path):
    refuses(CheckpointError, "factor.pt", read_factor, path, tiny_stylegan2())
    path.write_text("x")
    refuses(CheckpointError, "factor.pt", write_factor, path / "below.pt", torch.eye(8), "x")
