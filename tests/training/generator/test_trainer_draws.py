"""What a generator's trainer draws for a step: micro-batches, styles, classes."""

from __future__ import annotations

import pytest
import torch
from tests.tiny_generator_run import Reals, generator_trainer
from tests.training.trainer_contract import advanced

from labels4free.training.generator.trainer import GeneratorTrainer

FIXED = {"mode": "fixed", "probability": 1.0}
PLAIN = {"augmentation": {"mode": "off"}, "generator": {"path_length": 0.0}}


@pytest.fixture
def make():
    """Start a trainer; keywords that are not its own change settings."""
    return generator_trainer


# Accumulation


def test_micro_batches_are_averaged(make, monkeypatch):
    """Two micro-batches of the same draws are one of them."""
    rng = GeneratorTrainer._rng
    monkeypatch.setattr(
        GeneratorTrainer, "_rng", lambda self, purpose, m, part=0, device="cpu": rng(self, purpose, 0, part, device)
    )

    class Alike(Reals):
        def take(self, start, count):
            return super().take(0, count)

    alike = {"reals": Alike(), "discriminator": {"r1_gamma": 1.0}, "augmentation": FIXED}
    one, two = make(**alike, batch_size=2), make(**alike, batch_size=4, accumulation=2)
    logs = one.step(), two.step()
    assert (logs[0].pop("images"), logs[1].pop("images")) == (2, 4)
    assert logs[1] == pytest.approx(logs[0], rel=1e-4)
    for a, b in zip(one.network.parameters(), two.network.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_every_micro_batch_has_real_images_of_its_own_and_a_step_has_the_same_in_all(make):
    whole, parts = Reals(), Reals()
    advanced(make(reals=whole, **PLAIN, discriminator={"r1_gamma": 0.0}), 2)
    advanced(make(reals=parts, **PLAIN, discriminator={"r1_gamma": 0.0}, accumulation=2), 2)
    assert whole.asked == [(0, 4), (4, 4)]
    assert parts.asked == [(0, 2), (2, 2), (4, 2), (6, 2)]


@pytest.mark.slow
def test_a_step_in_parts_is_near_one_of_the_whole(make):
    """Other latents, the same real images: what is said of the real ones alone is the same, the rest near it."""
    plain = {**PLAIN, "batch_size": 16, "network": {"stddev_group": 1}}
    whole, parts = make(**plain).step(), make(**plain, accumulation=4).step()
    assert parts["r1"] == pytest.approx(whole["r1"], rel=0.1)
    assert parts["loss_discriminator"] == pytest.approx(whole["loss_discriminator"], rel=0.1)
    assert parts["loss_adversarial"] == pytest.approx(whole["loss_adversarial"], rel=0.1)


def test_micro_batches_differ(make):
    trainer = make(accumulation=2)
    first, second = (trainer._fakes(1, m).images for m in range(2))
    assert first.shape == second.shape == (2, 3, 16, 16)
    assert not torch.equal(first, second)


def test_draws_of_steps_and_purposes_differ(make):
    trainer = make(**PLAIN)
    seen = []
    for _ in range(2):
        seen += [trainer._fakes(purpose, 0).images for purpose in (1, 2)] + [trainer._reals(0).images]
        trainer.step()
    assert len({tuple(images.flatten()[:3].tolist()) for images in seen}) == 6


# Styles


def test_without_style_mixing_all_rows_are_of_one_latent(make):
    trainer = make(generator={"style_mixing": 0.0})
    ws, labels = trainer._styles(torch.Generator().manual_seed(0), 8)
    assert labels is None
    assert torch.equal(ws, ws[:, :1].expand_as(ws))
    z = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ws, trainer.network.map(z))


def test_style_mixing_takes_fine_rows_of_another_latent(make):
    trainer = make(generator={"style_mixing": 0.75})
    count, rows = 128, trainer.network.num_ws
    ws, _ = trainer._styles(torch.Generator().manual_seed(0), count)
    rng = torch.Generator().manual_seed(0)
    coarse, fine = (trainer.network.map(torch.randn(count, 8, generator=rng)) for _ in range(2))
    crossovers = []
    for k in range(count):
        own = (ws[k] - coarse[k]).abs().amax(dim=1) < 1e-5
        crossover = int(own.sum())
        assert bool(own[:crossover].all())  # the coarse ones are its own, the fine ones the other's
        torch.testing.assert_close(ws[k, crossover:], fine[k, crossover:])
        crossovers.append(crossover)
    assert set(crossovers) == set(range(1, rows + 1))
    assert sum(crossover < rows for crossover in crossovers) / count == pytest.approx(0.75, abs=0.12)


def test_noise_is_fresh_and_latents_are_not_truncated(make, monkeypatch):
    seen = []
    synthesize = type(make().network).synthesize

    def spy(self, ws, *, noise="fixed", background=None, rng=None):
        seen.append((self.training, noise, background))
        return synthesize(self, ws, noise=noise, background=background, rng=rng)

    trainer = make()
    monkeypatch.setattr(type(trainer.network), "synthesize", spy)
    trainer.step()
    assert {(noise, background) for _, noise, background in seen} == {("random", None)}
    seen.clear()
    trainer.sample(3)
    assert {noise for _, noise, _ in seen} == {"fixed"}


# Classes


@pytest.mark.parametrize("mixing", [0.0, 1.0])
def test_classes_are_drawn_as_often_as_the_real_images_have_them(make, mixing):
    trainer = make(labels=[2, 0, 2, 2], c_dim=3, generator={"style_mixing": mixing})
    ws, labels = trainer._styles(torch.Generator().manual_seed(0), 400)
    assert labels.shape == (400, 3)
    assert torch.equal(labels.sum(dim=1), torch.ones(400))
    assert (labels.mean(dim=0) - torch.tensor([0.25, 0.0, 0.75])).abs().max() < 0.07
    z = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ws[:, 0], trainer.network.map(z, labels=labels)[:, 0])


def test_the_discriminator_sees_each_image_with_its_own_class(make):
    trainer = make(labels=[2, 0, 1, 1], c_dim=3, batch_size=2, **PLAIN)
    seen, judge = [], trainer.discriminator.forward
    trainer.discriminator.forward = lambda image, labels: (
        seen.append(labels.argmax(dim=1).tolist()) or judge(image, labels)
    )
    trainer._discriminator_loss(0)
    assert seen[0] == [2, 0]
    trainer.iteration = 1
    trainer._discriminator_loss(0)
    assert seen[2] == [1, 1]
    assert advanced(trainer, 1).check().problem is None
