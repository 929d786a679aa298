"""Both trainers with augmentation: what the discriminator is shown, and that a resumed run goes on the same."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import tiny_stylegan2
from tests.tiny_paper import CHANNELS, paper_trainer
from tests.tiny_run import tiny_config

from labels4free.networks.merge_network import MergeNetwork
from labels4free.training.alpha.feature_cache import build_cache
from labels4free.training.alpha.trainer import AlphaTrainer
from labels4free.training_loop.run_dir import state_digest

pytestmark = pytest.mark.slow

ADAPTIVE = {"mode": "adaptive", "target": -0.9, "length": 200, "interval": 1}  # rises at once
BRIGHTER = {  # or darker, every image, and nothing else
    "mode": "fixed",
    "probability": 1.0,
    **dict.fromkeys(("rotate_90", "shift", "contrast", "flip_luma", "hue", "saturation"), False),
}


@pytest.fixture(scope="module")
def cache(tiny_generator, tmp_path_factory):
    levels = MergeNetwork(tiny_generator.feature_specs, 64).levels
    return build_cache(tiny_generator, levels, tiny_config(), tmp_path_factory.mktemp("cache"))[0]


@pytest.fixture(params=["replay", "paper"])
def make(request, cache, tiny_generator):
    """Start a trainer of either recipe with these settings of augmentation."""

    def replay(**augmentation):
        config = tiny_config(augmentation=augmentation)
        network = MergeNetwork(cache.projection.specs(tiny_generator.feature_specs), 64, width=config.alpha.width)
        return AlphaTrainer(cache, network, config)

    def paper(**augmentation):
        return paper_trainer(tiny_stylegan2(channels=CHANNELS), accumulation=2, augmentation=augmentation)

    def make(**augmentation):
        trainer = {"replay": replay, "paper": paper}[request.param](**augmentation)
        torch.nn.init.constant_(trainer.discriminator.final_linear[1].bias, 10)  # finds everything real: it overfits
        return trainer

    return make


def advanced(trainer, steps):
    for _ in range(steps):
        logs = trainer.step()
    return logs


def test_off_is_the_default_and_leaves_no_trace(make):
    trainer = make()
    logs = advanced(trainer, 2)
    assert "augmenter" not in trainer.state_dict()
    assert "augmentation_probability" not in logs


def test_the_probability_adapts_and_is_logged(make):
    trainer = make(**ADAPTIVE)
    seen = [trainer.step()["augmentation_probability"] for _ in range(4)]
    assert seen == sorted(seen)
    assert seen[-1] > seen[0] > 0


def test_a_resumed_trainer_goes_on_the_same(make):
    whole, stopped, resumed = make(**ADAPTIVE), make(**ADAPTIVE), make(**ADAPTIVE)
    advanced(whole, 6)
    advanced(stopped, 3)
    resumed.load_state_dict(stopped.state_dict())
    advanced(resumed, 3)
    assert resumed.augmenter.probability == whole.augmenter.probability > 0
    assert state_digest(resumed.state_dict()) == state_digest(whole.state_dict())


def test_the_discriminator_sees_changed_reals_and_composites(make, monkeypatch):
    trainer = make(**BRIGHTER)
    given, shown = [], []
    augment, judge = trainer.augmenter.__call__, trainer.discriminator.forward
    monkeypatch.setattr(
        type(trainer.augmenter),
        "__call__",
        lambda _, images, *rest, **how: given.append(images) or augment(images, *rest, **how),
    )
    monkeypatch.setattr(trainer.discriminator, "forward", lambda images: shown.append(images) or judge(images))
    advanced(trainer, 1)
    assert len(given) >= 2
    changed = [images for images in given if not any(torch.equal(images, seen) for seen in shown)]
    assert len(changed) >= 2, "the discriminator was shown the images as they are"
