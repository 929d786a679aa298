"""What the trainers of both recipes find when they check the network that they would keep."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import tiny_stylegan2
from tests.tiny_paper import CHANNELS, advanced, paper_trainer
from tests.tiny_run import tiny_config

from labels4free.generators.views import render_again
from labels4free.metrics.masks import soft_agreement
from labels4free.networks.merge_network import MergeNetwork
from labels4free.seeds import derive_seed
from labels4free.training.alpha.monitor import label_free_score
from labels4free.training.alpha.paper_trainer import _SHOWN
from labels4free.training.alpha.run import CachedRecipe
from labels4free.training.alpha.trainer import AlphaTrainer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def generator():
    return tiny_stylegan2(channels=CHANNELS)


def steadiness(health):
    return health.numbers.get("agreement_noise"), health.numbers.get("agreement_mixing")


# The paper's recipe


def test_the_published_recipe_renders_again_for_its_checks(generator):
    trainer = advanced(paper_trainer(generator, monitor={"samples": 3, "noise_samples": 2}), 2)
    health = trainer.check()
    seed, psi = derive_seed(trainer.config.seed, _SHOWN), trainer.config.samples.truncation_psi
    alpha = trainer.show(range(3)).alpha
    for augmentation, number, found in (
        ("noise", 2, health.numbers["agreement_noise"]),
        ("mixing", 3, health.numbers["agreement_mixing"]),
    ):
        again = []
        for k in range(number):
            ws = generator.draw_ws(seed, 2 * k, psi)
            again.append(
                trainer._shrunk(trainer.kept(render_again(generator, augmentation, ws, seed, 2 * k, psi).features))
            )
        assert found == pytest.approx(soft_agreement(alpha[:number], torch.cat(again)))
    assert 0 < min(steadiness(health)) <= max(steadiness(health)) < 1
    assert health.score == label_free_score(health.numbers["inpainting_error"], health.numbers["agreement_mixing"])
    assert trainer.check() == health


def test_what_is_not_asked_for_is_not_rendered(generator, monkeypatch):
    trainer = paper_trainer(generator, monitor={"samples": 2, "noise_samples": 0, "mixing_samples": 0})
    monkeypatch.setattr("labels4free.training.alpha.paper_trainer.render_again", None)
    health = trainer.check()
    assert steadiness(health) == (None, None)
    assert health.score == health.numbers["inpainting_error"]


def test_restarted_the_published_recipe_has_stronger_guards(generator):
    trainers = [paper_trainer(generator, restart=k) for k in range(3)]
    weights = [trainer.config.loss.foreground_coverage for trainer in trainers]
    assert weights == [weights[0], 2 * weights[0], 4 * weights[0]]
    assert weights[0] > 0


# The default recipe


@pytest.fixture(scope="module")
def recipe(tiny_generator, tmp_path_factory):
    recipe = CachedRecipe(tiny_generator, tiny_config(members=2, monitor={"noise_samples": 2}))
    recipe.prepare(tmp_path_factory.mktemp("cache"), lambda done, total: None)
    return recipe


def test_the_default_recipe_checks_on_samples_of_the_cache_rendered_again(recipe):
    trainer = recipe.trainer()
    assert {augmentation: len(levels[0]) for augmentation, levels in trainer.augmentations.items()} == {
        "noise": 2,
        "mixing": 4,
    }
    for _ in range(trainer.total):
        trainer.step()
    health = trainer.check()
    alpha = trainer.held_out_alpha(trainer.kept)
    assert alpha.shape == (4, 1, 16, 16)
    for augmentation, found in zip(("noise", "mixing"), steadiness(health), strict=True):
        levels = [x.float() for x in trainer.augmentations[augmentation]]
        again = trainer.kept.merge(levels).sigmoid().detach()
        assert found == pytest.approx(soft_agreement(alpha[: len(again)], again))
    assert 0.5 < min(steadiness(health)) < 1


def test_the_views_are_of_the_samples_that_are_checked_on(recipe, tiny_generator):
    """With the fine styles' own noise and styles put back, a view would be the cache's sample."""
    config, cache = recipe.config, recipe.cache
    first = config.cache.size - config.monitor.samples
    coarse = recipe.augmentations["mixing"][0]  # of a level whose styles are not exchanged
    assert torch.equal(coarse, cache.levels[0][first : first + len(coarse)])
    assert not torch.equal(recipe.augmentations["mixing"][-1], cache.levels[-1][first : first + len(coarse)])
    assert not torch.equal(recipe.augmentations["noise"][0], cache.levels[0][first : first + 2])


def test_a_trainer_without_views_knows_no_agreement(recipe, tiny_generator):
    config = tiny_config(members=1)
    network = MergeNetwork(recipe.cache.projection.specs(tiny_generator.feature_specs), 64, width=config.alpha.width)
    health = AlphaTrainer(recipe.cache, network, config).check()
    assert steadiness(health) == (None, None)


def test_members_have_their_own_seeds_and_attempts_their_guards(recipe):
    members = [recipe.config.of_member(k) for k in range(2)]
    seeds = {recipe.trainer(member, number).config.seed for number in range(2) for member in members}
    assert len(seeds) == 2
    first, again = recipe.trainer(members[1]), recipe.trainer(members[1], 1)
    assert again.warmup == 2 * first.warmup
    assert again.total == again.warmup + recipe.config.steps
    assert again.config.loss.coverage == 2 * first.config.loss.coverage
