from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.tiny_generator_run import SETTINGS, STEPS, Reals, generator_trainer
from tests.training.trainer_contract import TrainerContract, advanced, digests

from labels4free import losses
from labels4free.errors import CheckpointError, ConfigError
from labels4free.training.generator import trainer as trainer_module

GENERATORS = {"network", "average", "generator_optimizer"}
JUDGES = {"discriminator", "discriminator_optimizer"}
FIXED = {"mode": "fixed", "probability": 1.0}
PLAIN = {"augmentation": {"mode": "off"}, "generator": {"path_length": 0.0}}


@pytest.fixture
def make():
    """Start a trainer; keywords that are not its own change settings."""
    return generator_trainer


@pytest.mark.slow
class TestContract(TrainerContract):
    VARIANTS = (
        {},
        {"loss": {"adversarial": "relativistic", "r2": True}, "discriminator": {"frozen_blocks": 1}, "accumulation": 2},
        {"discriminator": {"pseudo_reals": True}, "augmentation": {"mode": "fixed", "probability": 0.5}},
    )
    OTHER = ({"network": {"channel_max": 6}}, "size mismatch")


def changed_parts(trainer, before):
    """The parts that are not what they were."""
    return {name for name, digest in digests(trainer).items() if digest != before[name]}


# The step


def test_a_step_moves_everything_and_logs_every_term(make):
    trainer = make()
    before = digests(trainer)
    logs = trainer.step()
    assert changed_parts(trainer, before) == {*GENERATORS, *JUDGES, "iteration", "augmenter", "mean_path_length"}
    assert set(logs) == {
        "images",
        "loss_discriminator",
        "accuracy",
        "augmentation_probability",
        "overfitting",
        "r1",
        "loss_adversarial",
        "path_length",
        "path_length_penalty",
    }
    assert all(math.isfinite(value) for value in logs.values())
    assert (trainer.iteration, trainer.total, trainer.warmup) == (1, STEPS, 0)


def test_the_clock_is_images_seen(make):
    trainer = make(**PLAIN)
    assert [trainer.step()["images"] for _ in range(3)] == [4.0, 8.0, 12.0]
    assert trainer.images_seen == 12


@pytest.mark.slow
def test_the_lazy_terms_come_in_the_first_and_then_in_every_so_manieth_step(make):
    trainer = make(images=28, generator={"path_length_interval": 2}, discriminator={"r1_interval": 3})
    logs = [trainer.step() for _ in range(7)]
    assert [i for i, numbers in enumerate(logs) if "r1" in numbers] == [0, 3, 6]
    assert [i for i, numbers in enumerate(logs) if "path_length" in numbers] == [0, 2, 4, 6]


def test_lazy_terms_of_weight_0_never_come(make):
    trainer = make(generator={"path_length": 0.0}, discriminator={"r1_gamma": 0.0}, loss={"r2": True})
    assert not {"r1", "r2", "path_length"} & trainer.step().keys()
    assert trainer.mean_path_length == 0
    for update, rate in ((trainer.generator_update, 0.0025), (trainer.discriminator_update, 0.0025)):
        (group,) = update.optimizer.param_groups  # no correction for what is not there
        assert (group["lr"], group["betas"]) == (rate, (0.0, 0.99))


def test_the_optimisers_are_corrected_for_lazy_regularisation(make):
    trainer = make(
        generator={"learning_rate": 0.01, "path_length_interval": 4},
        discriminator={"learning_rate": 0.03, "r1_interval": 16},
    )
    updates = (trainer.generator_update, trainer.discriminator_update)
    (make_group,), (judge,) = (update.optimizer.param_groups for update in updates)
    assert make_group["lr"] == pytest.approx(0.01 * 4 / 5)
    assert make_group["betas"] == pytest.approx((0, 0.99 ** (4 / 5)))
    assert judge["lr"] == pytest.approx(0.03 * 16 / 17)
    assert judge["betas"] == pytest.approx((0, 0.99 ** (16 / 17)))
    assert make_group["eps"] == judge["eps"] == 1e-8


def test_each_network_moves_in_its_own_turn(make):
    trainer = make()
    before = digests(trainer)
    trainer._move(trainer.discriminator_update, "a", trainer._discriminator_loss)
    trainer._move(trainer.discriminator_update, "b", trainer._penalty)
    assert changed_parts(trainer, before) == JUDGES
    before = digests(trainer)
    judging = copy.deepcopy([weight.grad for weight in trainer.discriminator.parameters()])
    with trainer_module._frozen(trainer._judging):
        trainer._move(trainer.generator_update, "c", trainer._generator_loss)
    trainer._move(trainer.generator_update, "d", trainer._path_length)
    assert changed_parts(trainer, before) == GENERATORS - {"average"}
    after = [weight.grad for weight in trainer.discriminator.parameters()]
    torch.testing.assert_close(after, judging, rtol=0, atol=0)
    assert all(weight.requires_grad for weight in trainer.discriminator.parameters())


def test_the_average_follows_with_the_half_life_in_images(make):
    plain = {**PLAIN, "generator": {"path_length": 0.0, "ema_half_life": 8.0, "ema_ramp": 0.0}}
    trainer = make(**plain)  # 4 images a step: an old weight counts half after two
    assert trainer.average.decay(100) == pytest.approx(0.5 ** (1 / 2))
    before = trainer.average.module.constant.clone()
    trainer.step()
    expected = torch.lerp(before, trainer.network.constant.detach(), 1 - 0.5**0.5)
    torch.testing.assert_close(trainer.average.module.constant.detach(), expected)
    ramped = make(**{**plain, "generator": {**plain["generator"], "ema_ramp": 0.05}})
    assert ramped.average.decay(20) == pytest.approx(0.5 ** (1 / (0.05 * 20)))


# Terms, by the equations


def test_the_discriminators_loss_and_what_is_said_of_it(make):
    trainer = make(augmentation={"mode": "off"})
    loss, logs = trainer._discriminator_loss(0)
    real = trainer.discriminator(Reals().take(0, 4))
    fake = trainer.discriminator(trainer._fakes(trainer_module._FOR_DISCRIMINATOR, 0).images)
    assert loss.item() == pytest.approx(losses.discriminator_logistic(real, fake).item(), rel=1e-5)
    assert logs["loss_discriminator"] == loss.item()
    right = int((real > 0).sum()) + int((fake < 0).sum())
    assert logs["accuracy"] == pytest.approx(right / 8)


def test_the_penalty_is_weighted_by_half_of_gamma_and_by_the_interval(make):
    trainer = make(discriminator={"r1_gamma": 6.0, "r1_interval": 5}, augmentation={"mode": "off"})
    penalty, logs = trainer._penalty(0)
    real = Reals().take(0, 4).requires_grad_()
    expected = losses.r1_penalty(trainer.discriminator(real), real).item()
    assert logs == {"r1": pytest.approx(expected, rel=1e-4)}
    assert penalty.item() == pytest.approx(6 / 2 * 5 * expected, rel=1e-4)


def test_r2_is_the_same_penalty_on_generated_images(make):
    trainer = make(loss={"r2": True}, discriminator={"r1_gamma": 2.0}, augmentation={"mode": "off"})
    penalty, logs = trainer._penalty(0)
    fake = trainer._fakes(trainer_module._FOR_DISCRIMINATOR, 0).images.detach().requires_grad_()
    expected = losses.r1_penalty(trainer.discriminator(fake), fake).item()
    assert logs["r2"] == pytest.approx(expected, rel=1e-4)
    assert penalty.item() == pytest.approx(3 * (logs["r1"] + logs["r2"]), rel=1e-4)
    assert {"r1", "r2"} <= trainer.step().keys()


def test_the_relativistic_loss_compares_the_two(make):
    trainer = make(loss={"adversarial": "relativistic"}, augmentation={"mode": "off"})
    real = trainer.discriminator(Reals().take(0, 4))
    for purpose, term in ((1, trainer._discriminator_loss), (2, trainer._generator_loss)):
        fake = trainer.discriminator(trainer._fakes(purpose, 0).images)
        difference = real - fake if purpose == 1 else fake - real
        assert term(0)[0].item() == pytest.approx(torch.log1p((-difference).exp()).mean().item(), rel=1e-5)
    plain = make(augmentation={"mode": "off"})
    assert plain._generator_loss(0)[0].item() != trainer._generator_loss(0)[0].item()
    assert advanced(trainer, 2).iteration == 2


def test_the_path_length_penalty_by_its_equation(make):
    trainer = make(generator={"path_length": 3.0, "path_length_interval": 4, "path_length_decay": 0.25})
    trainer.mean_path_length = 0.5
    loss, logs = trainer._path_length(0)
    ws, _ = trainer._styles(trainer._rng(trainer_module._PATHS, 0), 2)  # half of the batch
    noise = trainer._rng(trainer_module._PATHS, 0, trainer_module._NOISE)
    image = trainer.network.synthesize(ws, noise="random", rng=noise).image
    rng = trainer._rng(trainer_module._PATHS, 0, trainer_module._AUGMENTATION)
    lengths = losses.path_lengths(image, ws, torch.randn(image.shape, generator=rng))
    mean = 0.5 + 0.25 * (lengths.mean() - 0.5)
    penalty = (lengths - mean).square().mean().item()
    assert logs["path_length"] == pytest.approx(lengths.mean().item(), rel=1e-5)
    assert logs["path_length_penalty"] == pytest.approx(penalty, rel=1e-4)
    assert loss.item() == pytest.approx(3 * 4 * penalty, rel=1e-4)


def test_the_mean_path_length_moves_by_its_decay(make):
    trainer = make(generator={"path_length_interval": 2, "path_length_decay": 0.25})
    first = trainer.step()["path_length"]
    assert trainer.mean_path_length == pytest.approx(0.25 * first)
    trainer.step()
    assert trainer.mean_path_length == pytest.approx(0.25 * first)  # it rests in between
    second = trainer.step()["path_length"]
    assert trainer.mean_path_length == pytest.approx(0.75 * 0.25 * first + 0.25 * second)


def test_path_lengths_of_a_batch_of_one(make):
    trainer = make(batch_size=1, generator={"path_length_shrink": 8})
    assert math.isfinite(trainer.step()["path_length"])


# Frozen blocks


def test_frozen_blocks_keep_their_weights(make):
    trainer = make(discriminator={"frozen_blocks": 2})
    before = {name: value.clone() for name, value in trainer.discriminator.named_parameters()}
    advanced(trainer, 3)
    after = dict(trainer.discriminator.named_parameters())
    kept = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(("convs.0.", "convs.1."))}
    assert frozen
    assert kept == frozen
    assert not any(after[name].requires_grad for name in frozen)
    assert all(after[name].requires_grad for name in before.keys() - frozen)


@pytest.mark.parametrize("count", [3, 9])
def test_all_blocks_cannot_be_frozen(make, count):
    with pytest.raises(ConfigError) as caught:
        make(discriminator={"frozen_blocks": count})
    assert str(caught.value) == (
        f"discriminator.frozen_blocks must be below 3, the blocks of a discriminator of 16 pixels, got {count}."
    )


# Augmentation


def test_the_probability_is_part_of_the_state(make):
    trainer = advanced(make(), 3)
    state = copy.deepcopy(trainer.state_dict())
    assert state["augmenter"]["probability"] == pytest.approx(3 * 4 / 100)
    again = make()
    again.load_state_dict(state)
    assert again.augmenter.probability == trainer.augmenter.probability
    assert again.step() == trainer.step()
    assert "augmenter" not in make(augmentation={"mode": "off"}).state_dict()


def test_real_and_generated_images_are_augmented_and_checks_are_not(make):
    plain, turned = make(augmentation={"mode": "off"}), make(augmentation=FIXED)
    assert torch.equal(plain.sample(4), turned.sample(4))
    assert torch.equal(plain._reals(0).images, Reals().take(0, 4))
    assert not torch.equal(turned._reals(0).images, Reals().take(0, 4))
    for ours, theirs in ((plain._discriminator_loss, turned._discriminator_loss), (plain._penalty, turned._penalty)):
        assert ours(0)[0].item() != theirs(0)[0].item()
    assert plain._generator_loss(0)[0].item() != turned._generator_loss(0)[0].item()


# What goes wrong


def poison(trainer, what):
    """Have one of the four losses be no number."""
    term = getattr(trainer, what)

    def broken(m):
        loss, logs = term(m)
        return loss * math.nan, logs

    setattr(trainer, what, broken)


@pytest.mark.parametrize(
    ("what", "moved", "sentence"),
    [
        ("_discriminator_loss", set(), "The discriminator's loss is not finite (nan)"),
        ("_penalty", JUDGES | {"augmenter"}, "The discriminator's penalty is not finite (nan)"),
        ("_generator_loss", JUDGES | {"augmenter"}, "The generator's loss is not finite (nan)"),
        (
            "_path_length",
            JUDGES | {"augmenter", "network", "generator_optimizer"},
            "The path-length penalty is not finite (nan)",
        ),
    ],
)
def test_a_loss_that_is_no_number_leaves_its_network_as_it_was(make, what, moved, sentence):
    trainer = make()
    poison(trainer, what)
    before = digests(trainer)
    with pytest.raises(FloatingPointError) as caught:
        trainer.step()
    assert str(caught.value) == sentence
    assert changed_parts(trainer, before) == moved
    assert all(weight.requires_grad for weight in trainer.discriminator.parameters())
    assert all(bool(value.isfinite().all()) for value in trainer.network.state_dict().values())
    assert all(bool(value.isfinite().all()) for value in trainer.discriminator.state_dict().values())


@pytest.mark.parametrize("lacking", [{}, {"mean_path_length": None}, {"mean_path_length": 1}])
def test_a_state_without_its_mean_path_length_is_refused(make, lacking):
    state = make().state_dict()
    state.pop("mean_path_length")
    with pytest.raises(CheckpointError, match="The checkpoint does not fit this run: it has no mean_path_length"):
        make().load_state_dict(state | lacking)


def test_a_restart_is_more_careful(make):
    first, second = make(), make(restart=2)
    assert second.config.resolved.r1_gamma == 4 * first.config.resolved.r1_gamma
    assert second.config.hardened(0) == second.config
    assert SETTINGS.hardening(1) == f"a discriminator.r1_gamma of {2 * SETTINGS.resolved.r1_gamma:g}"
    assert not torch.equal(first.network.constant, second.network.constant)


# The check


def test_the_check_finds_a_collapse(make):
    trainer = make(checks={"min_diversity": 0.3})
    assert trainer.check().problem is None
    for block in trainer.kept.styled_blocks():
        block.to_rgb.weight.data.zero_()
    check = trainer.check()
    assert check.numbers["diversity"] == pytest.approx(0, abs=1e-6)
    assert check.problem == (
        "the generator has collapsed: its images differ from each other by 0% of what real ones do, less than 30%"
    )
    assert not check.hopeless


def test_the_same_latents_are_shown_each_time(make):
    trainer = make()
    five = trainer.sample(5)
    assert five.shape == (5, 3, 16, 16)
    torch.testing.assert_close(trainer.sample(3), five[:3])
    ws = trainer.kept.draw_ws(SETTINGS.seed, 2)
    torch.testing.assert_close(trainer.kept.synthesize(ws).image, five[2:3])


# Adaptive pseudo augmentation


def pseudo(make, probability):
    return make(
        discriminator={"pseudo_reals": True}, augmentation={"mode": "fixed", "probability": probability}, accumulation=1
    )


@torch.no_grad()
def test_generated_images_stand_in_for_real_ones_with_the_probability(make):
    plain = make(augmentation={"mode": "off"}, accumulation=1)._reals(0).images
    assert torch.equal(pseudo(make, 0.0)._reals(0).images, plain)
    trainer = pseudo(make, 1.0)
    assert torch.equal(trainer._reals(0).images, trainer._fakes(trainer_module._PSEUDO_REALS, 0).images)
    trainer, replaced = pseudo(make, 0.5), []
    for trainer.iteration in range(40):
        fakes = trainer._fakes(trainer_module._PSEUDO_REALS, 0).images
        replaced += (trainer._reals(0).images == fakes).flatten(1).all(dim=1).tolist()
    assert 0.35 < sum(replaced) / len(replaced) < 0.65


def test_pseudo_reals_move_the_discriminators_loss(make):
    logs = {p: pseudo(make, p).step() for p in (0.0, 1.0)}
    assert logs[0.0]["loss_discriminator"] != logs[1.0]["loss_discriminator"]
