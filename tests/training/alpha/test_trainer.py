from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from tests.tiny_run import tiny_config
from tests.training.trainer_contract import TrainerContract, advanced, digests

from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha import trainer as alpha_trainer
from labels4free.training.alpha.backgrounds import draw_backgrounds
from labels4free.training.alpha.config import LossConfig
from labels4free.training.alpha.feature_cache import build_cache
from labels4free.training.alpha.trainer import AlphaTrainer
from labels4free.training_loop.run_dir import state_digest

pytestmark = pytest.mark.slow

CONFIG = tiny_config()
WARMUP = CONFIG.discriminator.warmup_steps


@pytest.fixture(scope="module")
def cache(tiny_generator, tmp_path_factory):
    levels = MergeNetwork(tiny_generator.feature_specs, 64).levels
    return build_cache(tiny_generator, levels, CONFIG, tmp_path_factory.mktemp("cache"))[0]


@pytest.fixture
def make(cache, tiny_generator):
    """Start a trainer; a cache, an attempt and real images may be given, the other keywords change settings."""

    def make(*, cache=cache, restart=0, reals=None, config=None, **changes):
        specs = cache.projection.specs(tiny_generator.feature_specs)
        network = MergeNetwork(specs, 64, width=CONFIG.alpha.width)
        return AlphaTrainer(cache, network, config or tiny_config(**changes), restart=restart, reals=reals)

    return make


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


# Warm-up


def test_the_alpha_network_moves_only_after_the_warm_up(make):
    trainer = make()
    start = digests(trainer)
    for iteration in range(1, WARMUP + 1):
        logs = trainer.step()
        now = digests(trainer)
        assert {n for n in now if now[n] != start[n]} == {"iteration", "discriminator", "discriminator_optimizer"}
        assert set(logs) <= {"loss_discriminator", "accuracy", "r1"}
        assert (trainer.iteration, trainer.alpha_step) == (iteration, iteration - WARMUP)
    logs = trainer.step()
    now = digests(trainer)
    assert all(now[name] != start[name] for name in ("network", "average", "alpha_optimizer"))
    assert {"loss_discriminator", "accuracy", "loss_adversarial", "binarization", "foreground_ratio"} <= set(logs)
    assert all(math.isfinite(value) for value in logs.values())
    assert trainer.total == WARMUP + CONFIG.steps


def test_without_a_warm_up_the_first_step_is_one_of_training(make):
    trainer = make(discriminator={"warmup_steps": 0})
    before = weights(trainer.network)
    assert "loss_adversarial" in trainer.step()
    assert any(not torch.equal(value, before[name]) for name, value in trainer.network.state_dict().items())


def test_a_later_attempt_warms_up_longer_from_other_weights(make):
    first, second = make(), make(restart=1)
    assert second.warmup == 2 * first.warmup
    assert second.total == first.total + first.warmup
    for name in ("network", "discriminator"):
        assert digests(first)[name] != digests(second)[name]
    advanced(first, 1)
    advanced(second, 1)
    assert digests(first)["discriminator"] != digests(second)["discriminator"]


def test_during_the_warm_up_the_masks_are_random_ones(make, monkeypatch):
    trainer = make()
    calls = []
    monkeypatch.setattr(trainer.network, "merge", lambda levels: calls.append(1) or torch.zeros(2, 1, 16, 16))
    advanced(trainer, WARMUP)
    assert calls == []


# One step


def test_draws_of_two_steps_differ(make, monkeypatch):
    seen = []
    draw = AlphaTrainer._draw

    def spy(self, rng):
        drawn = draw(self, rng)
        seen.append((tuple(drawn[1].tolist()), tuple(drawn[2].tolist())))
        return drawn

    monkeypatch.setattr(AlphaTrainer, "_draw", spy)
    advanced(make(batch_size=8), 3)
    assert len(seen) == 6
    assert len(set(seen)) == 6


def test_samples_kept_apart_are_no_foregrounds_and_no_reals(make, cache):
    """Not a number in their images and maps: training does not see it, the check does."""
    images, levels = cache.images.clone(), [level.clone() for level in cache.levels]
    kept = CONFIG.monitor.samples
    for x in (images, *levels):
        x[-kept:] = math.nan
    poisoned = dataclasses.replace(cache, images=images, levels=levels)
    trainer = make(cache=poisoned, batch_size=8)
    advanced(trainer, trainer.total)
    assert trainer.check().hopeless


@pytest.mark.parametrize("fraction", ["random_mask_fraction", "perturbed_mask_fraction"])
def test_shares_of_the_masks_that_the_discriminator_sees(make, fraction, monkeypatch):
    fractions = {"random_mask_fraction": 0.0, "perturbed_mask_fraction": 0.0}
    kinds = {"random_mask_fraction": "random_masks", "perturbed_mask_fraction": "disturb"}
    trainer = make(discriminator={**fractions, fraction: 1.0, "warmup_steps": 0})
    monkeypatch.setattr(alpha_trainer, kinds[fraction], lambda *arguments: torch.full((2, 1, 16, 16), 0.25))
    batch, *_ = trainer._draw(torch.Generator().manual_seed(0))
    masks = trainer._masks_to_judge(batch, torch.Generator().manual_seed(0))
    expected = 0.25 if fraction == "random_mask_fraction" else 1 / (1 + math.exp(-0.25))  # a disturbed one is a logit
    torch.testing.assert_close(masks, torch.full((2, 1, 16, 16), expected))
    own = make(discriminator={**fractions, "warmup_steps": 0})
    torch.testing.assert_close(own._masks_to_judge(batch, torch.Generator()), own.network.merge(batch.levels).sigmoid())


def test_the_penalty_comes_once_in_so_many_discriminator_steps(make):
    settings = {"warmup_steps": 5, "r1_interval": 4, "steps_per_alpha_step": 3}
    trainer = make(discriminator=settings)
    with_penalty = [iteration for iteration in range(trainer.total) if "r1" in trainer.step()]
    # discriminator steps 0-4 are the warm-up; alpha step k then does 5 + 3 k, 6 + 3 k and 7 + 3 k
    due = [i for i in range(5) if i % 4 == 0]
    due += [5 + k for k in range(CONFIG.steps) if any((5 + 3 * k + turn) % 4 == 0 for turn in range(3))]
    assert with_penalty == due


def test_real_images_take_the_place_of_the_cache(make):
    class Folder:
        asked: list[int]

        def __init__(self):
            self.asked = []

        def __len__(self):
            return 3

        def batch(self, indices):
            self.asked += indices
            return torch.full((len(indices), 3, 16, 16), math.nan if self.broken else 0.5)

        broken = False

    folder = Folder()
    trainer = advanced(make(reals=folder), WARMUP + 1)
    per_alpha_step = CONFIG.discriminator.steps_per_alpha_step
    assert len(folder.asked) == CONFIG.batch_size * (WARMUP + per_alpha_step)
    assert set(folder.asked) <= {0, 1, 2}
    assert digests(trainer)["discriminator"] != digests(advanced(make(), WARMUP + 1))["discriminator"]
    folder.broken = True
    with pytest.raises(FloatingPointError):
        trainer.step()


def test_filled_backgrounds_come_when_they_are_due(make, monkeypatch):
    fractions = []

    def spy(*args, fraction, **kwargs):
        fractions.append(fraction)
        return draw_backgrounds(*args, fraction=fraction, **kwargs)

    monkeypatch.setattr(alpha_trainer, "draw_backgrounds", spy)
    trainer = make(background={"filled_from_step": 2, "filled_full_step": 4, "filled_fraction": 0.5})
    advanced(trainer, trainer.warmup + 2)
    assert set(fractions) == {0.0}
    advanced(trainer, 2)
    assert sorted(set(fractions)) == [0.0, 0.25]
    advanced(trainer, 1)
    assert fractions[-1] == 0.5


# Losses that are no numbers


def poisoned(cache):
    return dataclasses.replace(cache, images=torch.full_like(cache.images, math.nan))


@pytest.mark.parametrize("steps", [0, WARMUP])
def test_a_discriminator_loss_that_is_no_number_moves_nothing(make, cache, steps):
    trainer = advanced(make(), steps)
    before = digests(trainer)
    trainer.cache = poisoned(cache)
    with pytest.raises(FloatingPointError, match=r"The discriminator's loss is not finite \(nan\)"):
        trainer.step()
    assert digests(trainer) == before


def test_an_alpha_loss_that_is_no_number_does_not_move_the_alpha_network(make):
    infinite = tiny_config(loss=LossConfig(coverage=math.inf).__dict__)
    trainer = advanced(make(config=infinite), WARMUP)
    before = digests(trainer)
    with pytest.raises(FloatingPointError, match="The alpha network's loss is not finite"):
        trainer.step()
    now = digests(trainer)
    for name in ("network", "average", "alpha_optimizer", "iteration"):
        assert now[name] == before[name], name


# The check


def test_the_check_is_of_the_average(make):
    trainer = advanced(make(), WARMUP + 5)
    health = trainer.check()
    kept = torch.arange(len(trainer.cache) - CONFIG.monitor.samples, len(trainer.cache))
    with torch.no_grad():
        alpha = trainer.average.module.merge(trainer.cache.take(kept).levels).sigmoid()
    assert health.numbers["foreground_ratio"] == pytest.approx(alpha.mean().item(), abs=1e-6)
    trainer.network.head.bias.data.fill_(50)
    assert trainer.check() == health
    trainer.average.module.head.bias.data.fill_(50)
    assert trainer.check().numbers["foreground_ratio"] == pytest.approx(1)
    assert "are full" in trainer.check().problem


def test_the_average_follows_the_network(make):
    trainer = advanced(make(alpha={"ema_half_life": 0.0}), WARMUP + 3)
    assert state_digest(weights(trainer.average.module)) == state_digest(weights(trainer.network))
    slow = advanced(make(alpha={"ema_half_life": 50.0}), WARMUP + 8)
    assert state_digest(weights(slow.average.module)) != state_digest(weights(slow.network))


# State


class TestContract(TrainerContract):
    ENOUGH = WARMUP + 5
    OTHER = ({"discriminator": {"channel_max": 4}}, "Discriminator")

    @pytest.fixture
    def make(self, make):
        return make


def test_given_weights_do_not_matter_and_stay_as_they_are(cache, tiny_generator):
    trainers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = MergeNetwork(cache.projection.specs(tiny_generator.feature_specs), 64, width=4)
        before = weights(network)
        trainers.append(advanced(AlphaTrainer(cache, network, CONFIG), WARMUP + 1))
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert digests(trainers[0]) == digests(trainers[1])
