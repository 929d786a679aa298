"""The paper's trainer: what it does with losses that are no numbers, its check, and its state."""

from __future__ import annotations

import math

import pytest
import torch
from tests.tiny import tiny_stylegan2
from tests.tiny_paper import CHANNELS, Reals, advanced, changed, digests, paper_trainer
from tests.training.trainer_contract import TrainerContract

from labels4free import losses
from labels4free.networks.paper_network import PaperNetwork
from labels4free.seeds import derive_seed
from labels4free.training.alpha import paper_trainer as trainer_module
from labels4free.types import LayeredImage

pytestmark = pytest.mark.slow

JUDGES = {"discriminator", "discriminator_optimizer"}


@pytest.fixture(scope="module")
def generator():
    return tiny_stylegan2(channels=CHANNELS)


@pytest.fixture
def make(generator):
    """Start a trainer; keywords that are not its own change settings."""
    return lambda generator=generator, **options: paper_trainer(generator, **options)


# Losses that are no numbers


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_discriminator_loss_that_is_no_number_moves_nothing(make, accumulation):
    reals = Reals()
    trainer = advanced(make(reals=reals, accumulation=accumulation), 2)
    before = digests(trainer)
    take = reals.take
    reals.take = lambda start, count: take(start, count) * (math.nan if start % 4 == 2 * (accumulation - 1) else 1)
    with pytest.raises(FloatingPointError, match=r"The discriminator's loss is not finite \(nan\)"):
        trainer.step()
    assert changed(trainer, before) == set()


def test_a_penalty_that_is_no_number_is_not_taken(make, monkeypatch):
    trainer = make()
    before = digests(trainer)
    monkeypatch.setattr(losses, "r1_penalty", lambda logits, real: logits.sum() * math.inf)
    with pytest.raises(FloatingPointError, match="The discriminator's penalty is not finite"):
        trainer.step()
    assert changed(trainer, before) == JUDGES  # of the step before


def test_an_alpha_loss_that_is_no_number_does_not_move_the_alpha_network(make, monkeypatch):
    trainer = make()
    before = digests(trainer)
    calls = []

    def second_is_none(alpha):
        calls.append(1)
        return alpha.mean() * (math.nan if len(calls) == 2 else 1)

    monkeypatch.setattr(losses, "binarization", second_is_none)
    with pytest.raises(FloatingPointError, match=r"The alpha network's loss is not finite \(nan\)"):
        trainer.step()
    assert changed(trainer, before) == JUDGES
    assert all(p.requires_grad for p in trainer.discriminator.parameters())


# The check


def test_the_check_is_of_what_is_kept(make):
    for faithful in (False, True):
        trainer = advanced(make(faithful=faithful), 2)
        health = trainer.check()
        other = trainer.average.module if faithful else trainer.network
        other.head.bias.data.fill_(50)
        assert trainer.check() == health
        trainer.kept.head.bias.data.fill_(50)
        assert "are full" in trainer.check().problem


def test_shown_samples_are_the_same_in_batches_of_any_size(make, generator):
    small, large = make(batch_size=2), make(batch_size=5)
    layers = small.show(range(5))
    assert isinstance(layers, LayeredImage)
    assert [x.shape for x in layers] == [(5, 3, 16, 16), (5, 3, 16, 16), (5, 1, 16, 16)]
    for ours, theirs in zip(layers, large.show(range(5)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    first = generator.draw_ws(derive_seed(0, trainer_module._SHOWN), 0, 0.7)
    expected = generator.synthesize(first).image.reshape(1, 3, 16, 2, 16, 2).mean(dim=(3, 5))
    torch.testing.assert_close(layers.foreground[:1], expected)


# State


class TestContract(TrainerContract):
    ENOUGH = 3
    VARIANTS = ({}, {"samples": {"style_mixing": 0.5}, "accumulation": 3}, {"faithful": True})
    OTHER = ({"discriminator": {"channel_max": 4}}, "Discriminator")

    @pytest.fixture
    def make(self, make):
        return make


def test_given_weights_do_not_matter(make, generator):
    trainers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        trainers.append(advanced(make(network=PaperNetwork(generator.feature_specs, 32)), 1))
    assert digests(trainers[0]) == digests(trainers[1])
