from __future__ import annotations

import math

import pytest
import torch
from tests.tiny import tiny_stylegan2
from tests.tiny_paper import (
    CHANNELS,
    PAPER,
    Reals,
    advanced,
    changed,
    digests,
    paper_trainer,
    small_discriminator,
)

from labels4free import losses
from labels4free.layered import composite
from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha import paper_trainer as trainer_module
from labels4free.training.alpha.paper_trainer import PaperTrainer
from labels4free.training_loop.run_dir import state_digest

pytestmark = pytest.mark.slow

NETWORKS = {"network", "average", "alpha_optimizer"}
JUDGES = {"discriminator", "discriminator_optimizer"}


@pytest.fixture(scope="module")
def generator():
    return tiny_stylegan2(channels=CHANNELS)


@pytest.fixture
def make(generator):
    """Start a trainer; keywords that are not its own change settings."""
    return lambda generator=generator, **options: paper_trainer(generator, **options)


# The step


def test_a_step_moves_everything_and_logs_every_term(make):
    trainer = make()
    before = digests(trainer)
    logs = trainer.step()
    assert changed(trainer, before) == {*NETWORKS, *JUDGES, "iteration"}
    assert set(logs) == {
        "loss_discriminator",
        "accuracy",
        "r1",
        "loss_adversarial",
        "binarization",
        "foreground_ratio",
        "loss_foreground_coverage",
        "loss_background_coverage",
    }
    assert all(math.isfinite(value) for value in logs.values())
    assert (trainer.iteration, trainer.total, trainer.warmup) == (1, PAPER.steps, 0)


def test_the_penalty_comes_in_the_first_and_then_in_every_so_manieth_step(make):
    trainer = make(discriminator={"r1_interval": 3}, steps=7)
    assert [i for i in range(7) if "r1" in trainer.step()] == [0, 3, 6]


def test_the_penalty_takes_a_step_of_its_own(make):
    steps = []
    trainer = make()
    step = trainer.discriminator_update.optimizer.step
    trainer.discriminator_update.optimizer.step = lambda: steps.append(trainer.iteration) or step()
    advanced(trainer, 3)
    assert steps == [0, 0, 1, 2, 2]


def test_the_generator_is_not_touched(make):
    generator = tiny_stylegan2(channels=CHANNELS)
    before = state_digest(generator.state_dict())
    advanced(make(generator=generator), 2)
    assert state_digest(generator.state_dict()) == before
    assert all(buffer.grad is None for buffer in generator.buffers())


def test_the_discriminator_has_no_gradient_of_the_alpha_network(make):
    trainer = make()
    with trainer_module._frozen(trainer.discriminator):
        trainer._move(trainer.alpha_update, "The loss", trainer._alpha_loss)
    assert all(p.grad is None for p in trainer.discriminator.parameters())
    assert all(p.grad is not None for p in trainer.network.parameters())
    assert all(p.requires_grad for p in trainer.discriminator.parameters())


def test_terms_and_their_weights(make):
    """By the equations: the loss is the weighted sum of the terms that are logged."""
    weights = {"adversarial": 0.5, "binarization": 3.0, "foreground_coverage": 7.0, "background_coverage": 11.0}
    trainer = make(loss={**weights, "min_foreground_coverage": 0.9, "min_background_coverage": 0.8})
    loss, logs = trainer._alpha_loss(0)
    terms = ["loss_adversarial", "binarization", "loss_foreground_coverage", "loss_background_coverage"]
    assert all(logs[name] > 0 for name in terms)
    assert loss.item() == pytest.approx(
        sum(w * logs[t] for w, t in zip(weights.values(), terms, strict=True)), rel=1e-6
    )
    layers = trainer._draw_layers(trainer_module._FOR_ALPHA, 0)
    assert logs["loss_foreground_coverage"] == pytest.approx(losses.foreground_coverage(layers.alpha, 0.9).item())
    assert logs["loss_background_coverage"] == pytest.approx(losses.background_coverage(layers.alpha, 0.8).item())


def test_the_optimisers_are_corrected_for_lazy_regularisation(make):
    trainer = make(alpha={"learning_rate": 0.01}, discriminator={"learning_rate": 0.03, "r1_interval": 16})
    updates = (trainer.alpha_update, trainer.discriminator_update)
    alpha, judge = (update.optimizer.param_groups[0] for update in updates)
    assert alpha["lr"] == pytest.approx(0.01 * 4 / 5)
    assert alpha["betas"] == pytest.approx((0, 0.99 ** (4 / 5)))
    assert judge["lr"] == pytest.approx(0.03 * 16 / 17)
    assert judge["betas"] == pytest.approx((0, 0.99 ** (16 / 17)))
    assert alpha["eps"] == judge["eps"] == 1e-8
    (plain,) = make(alpha={"learning_rate": 0.01, "lazy_interval": 0, "beta1": 0.5}).alpha_update.optimizer.param_groups
    assert (plain["lr"], plain["betas"]) == (0.01, (0.5, 0.99))


# Accumulation


def test_micro_batches_are_averaged(make, monkeypatch):
    """Two micro-batches that are the same are one."""
    monkeypatch.setattr(PaperTrainer, "_rng", _without_micro_batch(PaperTrainer._rng))
    one, two = make(accumulation=1, reals=Reals()), make(accumulation=2, reals=Reals())
    logs = one.step(), two.step()
    assert logs[1] == pytest.approx(logs[0], rel=1e-5)
    for a, b in zip(one.network.parameters(), two.network.parameters(), strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(a.grad, b.grad)  # Adam's first step does not depend on its scale


def _without_micro_batch(rng):
    return lambda self, purpose, m, device="cpu": rng(self, purpose, 0, device)


def test_micro_batches_differ_and_do_not_depend_on_their_number(make):
    two, three = make(accumulation=2), make(accumulation=3)
    for m in range(2):
        ours, theirs = (t._draw_layers(trainer_module._FOR_ALPHA, m) for t in (two, three))
        assert torch.equal(ours.foreground, theirs.foreground)
    first, second = (two._draw_layers(trainer_module._FOR_ALPHA, m).foreground for m in range(2))
    assert not torch.equal(first, second)


def test_every_micro_batch_has_real_images_of_its_own(make):
    reals = Reals()
    advanced(make(reals=reals, accumulation=3), 2)
    assert reals.asked == [(0, 2), (2, 2), (4, 2), (6, 2), (8, 2), (10, 2)]


# What is rendered


def test_draws_of_steps_and_phases_differ(make):
    trainer = make(accumulation=1)
    drawn = []
    for _ in range(2):
        drawn += [trainer._draw_layers(p, 0).foreground for p in (1, 2)] + [trainer._draw_reals(0)]
        trainer.step()
    prints = {tuple(x.flatten()[:3].tolist()) for x in drawn}
    assert len(prints) == 6


def test_layers_are_of_two_latents_and_faithfully_of_one(make, generator, monkeypatch):
    seen = []
    synthesize = type(generator).synthesize

    def spy(self, ws, *, noise="fixed", background=None, rng=None):
        seen.append((ws, noise, background))
        return synthesize(self, ws, noise=noise, background=background, rng=rng)

    monkeypatch.setattr(type(generator), "synthesize", spy)
    for options, same in (({}, False), ({"faithful": True}, True), ({"samples": {"same_latent": True}}, True)):
        seen.clear()
        samples = {"truncation_psi": 1.0, **options.pop("samples", {})}
        make(samples=samples, **options)._draw_layers(1, 0)
        (ws, noise, mode), (behind, noise_behind, mode_behind) = seen
        assert torch.equal(ws, behind) is same
        assert (noise, noise_behind) == ("random", "random")
        assert (mode, mode_behind) == (None, "zero_first_conv")


def test_the_noise_is_fresh_in_both_layers(make, generator, monkeypatch):
    """With one latent and the background whole, the layers differ in their noise alone."""
    synthesize = type(generator).synthesize
    monkeypatch.setattr(
        type(generator),
        "synthesize",
        lambda self, ws, *, noise="fixed", background=None, rng=None: synthesize(self, ws, noise=noise, rng=rng),
    )
    layers = make(faithful=True, samples={"truncation_psi": 1.0})._draw_layers(1, 0)
    assert not torch.equal(layers.foreground, layers.background)
    correlation = torch.corrcoef(torch.stack([layers.foreground.flatten(), layers.background.flatten()]))[0, 1]
    assert 0.5 < correlation < 0.999


def test_the_foreground_is_truncated_and_the_background_by_its_own_psi(make, generator):
    trainer = make(samples={"truncation_psi": 0.25, "background_truncation_psi": 0.5})
    latents = trainer._draw_latents(torch.Generator().manual_seed(0))
    w = generator.map(latents.coarse)
    for psi in (0.25, 0.5, 1.0):
        expected = generator.w_avg + psi * (w - generator.w_avg)
        torch.testing.assert_close(trainer._styles(latents, psi), expected)
    asked = []
    trainer._styles = lambda latents, psi: asked.append(psi) or w
    trainer._draw_layers(1, 0)
    assert asked == [0.25, 0.5]


def test_another_background_mode(make, generator):
    modes = [
        make(samples={"background_mode": mode})._draw_layers(1, 0).background for mode in generator.background_modes
    ]
    assert not torch.equal(*modes)
    assert torch.equal(make()._draw_layers(1, 0).background, modes[0])


def test_style_mixing_takes_fine_rows_of_another_latent(make, generator):
    trainer = make(batch_size=64, samples={"style_mixing": 0.75})
    latents = trainer._draw_latents(torch.Generator().manual_seed(0))
    ws = trainer._styles(latents, 1.0)
    coarse, fine = generator.map(latents.coarse), generator.map(latents.fine)
    mixed = 0
    for k, crossover in enumerate(latents.crossover.tolist()):
        assert 1 <= crossover <= generator.num_ws
        mixed += crossover < generator.num_ws
        assert torch.equal(ws[k, :crossover], coarse[k, :crossover])
        assert torch.equal(ws[k, crossover:], fine[k, crossover:])
    assert 0.55 < mixed / 64 < 0.95
    assert len(set(latents.crossover.tolist())) == generator.num_ws  # every crossover comes, and no crossover
    assert advanced(trainer, 1).iteration == 1


def test_composites_are_averaged_to_the_resolution(make, generator):
    trainer = make(resolution=16)
    layers = trainer._draw_layers(1, 0)
    assert layers.alpha.shape == (2, 1, 32, 32)
    expected = composite(*layers).reshape(2, 3, 16, 2, 16, 2).mean(dim=(3, 5))
    torch.testing.assert_close(trainer._composite(layers), expected)
    assert trainer._draw_reals(0).shape == (2, 3, 16, 16)
    whole = make(resolution=None)
    assert whole.discriminator.resolution == 32
    assert torch.equal(whole._composite(layers), composite(*layers))
    assert whole._draw_reals(0).shape == (2, 3, 32, 32)


def test_a_generator_with_classes(make):
    generator = tiny_stylegan2(channels=CHANNELS, c_dim=3)
    trainer = make(generator=generator, batch_size=32, accumulation=1)
    labels = trainer._draw_latents(torch.Generator().manual_seed(0)).labels
    assert labels.shape == (32, 3)
    assert (labels.sum(dim=0) > 0).all()
    assert torch.equal(labels.sum(dim=1), torch.ones(32))
    advanced(make(generator=generator), 1).check()


def test_our_own_network_serves_as_well(make, generator):
    network = MergeNetwork(generator.feature_specs, 32, width=4)
    trainer = advanced(make(network=network), 2)
    assert isinstance(trainer.kept, MergeNetwork)
    assert trainer.kept.width == 4


# Networks


def test_a_pretrained_discriminator_is_copied(make):
    pretrained = small_discriminator().requires_grad_(False)
    before = state_digest(pretrained.state_dict())
    trainer = make(pretrained=pretrained)
    assert state_digest(trainer.discriminator.state_dict()) == before
    advanced(trainer, 1)
    assert state_digest(pretrained.state_dict()) == before
    assert state_digest(trainer.discriminator.state_dict()) != before


@pytest.mark.parametrize(("multiplier", "most", "expected"), [(1, 512, 256), (2, 512, 512), (2, 500, 500)])
def test_channels_of_a_new_discriminator(make, multiplier, most, expected):
    generator = tiny_stylegan2()
    settings = {"channel_multiplier": multiplier, "channel_max": most}
    channels = make(generator=generator, resolution=None, discriminator=settings).discriminator.channels
    assert channels == {4: most, 8: most, 16: most, 32: most, 64: expected}


def test_the_average_is_kept_and_faithfully_the_last_network(make):
    trainer, faithful = advanced(make(), 3), advanced(make(faithful=True), 3)
    assert trainer.kept is trainer.average.module
    assert faithful.kept is faithful.network
    assert state_digest(trainer.kept.state_dict()) != state_digest(trainer.network.state_dict())


def test_an_average_of_few_steps_is_not_one_of_the_first_weights(make):
    """With the original half life alone, 50 steps would leave nine tenths of them in it."""
    average = make().average
    first_weights = math.prod(average.decay(step) for step in range(50))
    assert first_weights < 1e-3
    assert average.decay(100_000) == pytest.approx(0.5 ** (32 / 10_000))


def test_the_faithful_penalty_has_the_first_real_logit(make):
    real = make()._draw_reals(0)
    right, faithful = make(), make(faithful=True)
    logit = right.discriminator(real)[0].item()
    assert faithful._penalty(real)[0].item() - right._penalty(real)[0].item() == pytest.approx(logit, rel=1e-5)
    assert right._penalty(real)[0].item() == pytest.approx(10 / 2 * 2 * right._penalty(real)[1]["r1"])
