from __future__ import annotations

import hashlib

from tests.refusals import refuses

from labels4free.errors import CheckpointError
from labels4free.evaluation.predictor import Predictor


def test_the_checksum_is_that_of_the_file(tmp_path):
    file = tmp_path / "a.onnx"
    file.write_bytes(b"weights")
    predictor = Predictor.of_file("runs/a", file, "guided", mirrored=False)
    assert predictor == Predictor("runs/a", hashlib.sha256(b"weights").hexdigest(), "guided", mirrored=False)
    refuses(CheckpointError, "There is no checkpoint at", Predictor.of_file, "b", tmp_path / "b", None, mirrored=False)


def test_as_a_sentence():
    digest = "0123456789abcdef" * 4
    assert str(Predictor("a", digest, "guided", mirrored=False)) == (
        "Masks of a (SHA-256 0123456789ab), refined (guided)."
    )
    assert str(Predictor("a", digest, None, mirrored=True)) == (
        "Masks of a (SHA-256 0123456789ab), not refined, averaged with the mirrored images'."
    )
