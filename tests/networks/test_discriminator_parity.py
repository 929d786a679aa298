"""NVIDIA's discriminators: that the comparisons with the originals' logits, in ``tests/checkpoints``, can fail."""

from __future__ import annotations

import torch
from tests.checkpoints.foreign.parity import LOGITS, Fixture, logit_errors

from labels4free.checkpoints.foreign import nvlabs
from labels4free.checkpoints.untrusted.safe_pickle import read_pickle


def converted(shared, name):
    fixture = Fixture(shared, name)
    return fixture, nvlabs.convert(read_pickle(fixture.path), "x.pkl").discriminator


def test_the_label_decides(shared, monkeypatch):
    fixture, network = converted(shared, "ada_cond")
    assert logit_errors(fixture, network, batches=(1,))[1] < LOGITS
    monkeypatch.setattr("tests.checkpoints.foreign.parity.labels", lambda *_: torch.eye(3)[[1]])
    assert logit_errors(fixture, network, batches=(1,))[1] > 100 * LOGITS


def test_the_limits_matter(shared):
    """Those that the fixture's maps reach: without one of them, or with another limit, the logits are others."""
    fixture, network = converted(shared, "ada_fp16_clamp")
    assert logit_errors(fixture, network, batches=(4,))[4] < LOGITS
    for layer in (network.convs[0], network.convs[1].conv1, network.convs[1].conv2, network.convs[2].conv1):
        limit = layer.limit
        for wrong in (None, 0.9 * limit):
            layer.limit = wrong
            assert logit_errors(fixture, network, batches=(4,))[4] > 10 * LOGITS
        layer.limit = limit
