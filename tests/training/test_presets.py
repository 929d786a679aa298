from __future__ import annotations

import pytest

from labels4free.errors import ConfigError
from labels4free.training.alpha.config import TrainConfig
from labels4free.training.alpha.paper_config import PaperConfig
from labels4free.training.generator.presets import CONFIGS as OF_GENERATORS
from labels4free.training.presets import AUTO, PRESETS, preset_named

# loss_multiplier, iterations, trunc, lr, sat_weight, background coverage weight and value, size, processes
PAPER = {
    "ffhq-paper": (1.2, 1200, 1.0, 0.0002, 1.0, 0.0, 0.75, 1024, 4),
    "horse-paper": (3.0, 500, 1.0, 0.0002, 1.0, 0.0, 0.75, 256, 4),
    "cat-paper": (3.0, 900, 0.5, 0.0002, 1.0, 0.0, 0.75, 256, 4),
    "car-paper": (10.0, 50, 0.3, 0.002, 1.0, 0.0, 0.75, 512, 1),
    "ffhq-single-gpu": (1.2, 2000, 1.0, 0.0002, 1.0, 3.0, 0.40, 1024, 1),
    "horse-single-gpu": (3.0, 2000, 1.0, 0.0002, 1.0, 6.0, 0.60, 256, 1),
    "cat-single-gpu": (3.0, 2000, 0.5, 0.0002, 1.0, 4.0, 0.35, 256, 1),
    "car-single-gpu": (20.0, 750, 0.3, 0.0008, 0.1, 40.0, 0.75, 512, 1),
}


def test_names():
    assert set(PRESETS) == {*PAPER, AUTO, *OF_GENERATORS}
    assert all(preset.name == name for name, preset in PRESETS.items())
    assert all(preset.source.endswith(".") and len(preset.source) > 30 for preset in PRESETS.values())


@pytest.mark.parametrize("name", PAPER)
def test_published_settings(name):
    preset = preset_named(name)
    config, loss = preset.config, preset.config.loss
    assert isinstance(config, PaperConfig)
    assert config.alpha.learning_rate == config.discriminator.learning_rate
    assert loss.binarization == loss.foreground_coverage
    assert (
        loss.binarization,
        config.steps,
        config.samples.truncation_psi,
        config.alpha.learning_rate,
        loss.adversarial,
        loss.background_coverage,
        loss.min_background_coverage,
        preset.resolution,
        config.accumulation,
    ) == PAPER[name]
    assert (config.batch_size, config.faithful, preset.recipe) == (2, False, "paper")
    assert config.checkpoint_interval == {"car-paper": 25, "car-single-gpu": 50}.get(name, 100)
    assert config.discriminator.pretrained == ("generator" if name == "car-paper" else None)


def test_auto_is_the_default():
    assert preset_named(AUTO).config == TrainConfig()
    assert preset_named(AUTO).recipe == "replay"
    for resolution in (32, 256, 1024):
        preset_named(AUTO).check_fits(resolution)


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        preset_named("dog-paper")
    assert str(caught.value) == f"Unknown preset 'dog-paper'; the presets are {', '.join(PRESETS)}."


def test_a_preset_for_another_resolution_says_what_would_do():
    preset_named("horse-paper").check_fits(256)
    with pytest.raises(ConfigError) as caught:
        preset_named("horse-paper").check_fits(1024)
    assert str(caught.value) == (
        "The preset horse-paper is for generators of 256x256 pixels, and this one makes 1024x1024; ffhq-paper and "
        "ffhq-single-gpu and auto would do. To use its settings all the same, write them to a file: labels4free "
        "presets horse-paper > my.toml, then train with --config my.toml."
    )
    with pytest.raises(ConfigError, match="makes 64x64; auto would do"):
        preset_named("car-single-gpu").check_fits(64)
