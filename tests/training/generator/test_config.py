from __future__ import annotations

import dataclasses
import json

import pytest
from tests.tiny_generator_run import changed

from labels4free.errors import ConfigError
from labels4free.settings_fields import build, change
from labels4free.training.config_file import as_toml, assemble, read_config_file
from labels4free.training.generator.config import (
    ChecksConfig,
    DiscriminatorSection,
    GeneratorConfig,
    GeneratorSection,
    NetworkConfig,
)
from labels4free.training.generator.presets import CONFIGS
from labels4free.training.presets import preset_named

# Formulas


@pytest.mark.parametrize(
    ("resolution", "batch", "rate", "gamma", "half_life"),
    [
        (8, 32, 0.0025, 0.0004, 10_000),  # never more than 32 images
        (64, 32, 0.0025, 0.0002 * 4096 / 32, 10_000),
        (256, 16, 0.0025, 0.8192, 5000),
        (512, 8, 0.0025, 6.5536, 2500),
        (1024, 4, 0.002, 52.4288, 1250),
        (2048, 4, 0.002, 209.7152, 1250),  # never fewer than 4
    ],
)
def test_what_the_formulas_give(resolution, batch, rate, gamma, half_life):
    own = GeneratorConfig(resolution=resolution).resolved
    assert own == (batch, rate, rate, pytest.approx(gamma), half_life)


def test_a_batch_of_ones_own_is_in_the_formulas():
    own = GeneratorConfig(resolution=256, batch_size=64).resolved
    assert own == (64, 0.0025, 0.0025, pytest.approx(0.2048), 20_000)


def test_what_is_set_counts_more():
    config = GeneratorConfig(
        resolution=256,
        batch_size=3,
        generator=GeneratorSection(learning_rate=0.01, ema_half_life=0.0),
        discriminator=DiscriminatorSection(r1_gamma=0.0),
    )
    assert config.resolved == (3, 0.01, 0.01, 0.0, 0.0)  # 0 is a value; the discriminator follows the generator
    own = dataclasses.replace(config, discriminator=DiscriminatorSection(learning_rate=0.5)).resolved
    assert (own.generator_learning_rate, own.discriminator_learning_rate) == (0.01, 0.5)


def test_the_clock_in_steps():
    config = GeneratorConfig(
        images=1000,
        batch_size=16,
        checkpoint_images=160,
        picture_images=1,
        checks=ChecksConfig(interval=320, grace=8000, max_restarts=2),
    )
    assert (config.steps, config.checkpoint_interval, config.picture_interval) == (62, 10, 1)
    assert config.total_steps(0) == config.total_steps(3) == 62
    assert config.monitor == (20, 500, 2, 0.0, 0)
    assert dataclasses.replace(config, images=1).steps == 1


def test_what_is_kept():
    assert not GeneratorConfig().keeps_best
    assert GeneratorConfig(checks=ChecksConfig(keep="best")).keeps_best


def test_each_restart_doubles_the_penalty():
    config = GeneratorConfig(resolution=256, discriminator=DiscriminatorSection(frozen_blocks=2))
    assert config.hardened(0) is config
    for restart, gamma in ((1, 1.6384), (3, 6.5536)):
        harder = config.hardened(restart)
        assert harder.resolved.r1_gamma == pytest.approx(gamma)
        assert harder.discriminator.frozen_blocks == 2
        assert config.hardening(restart) == f"a discriminator.r1_gamma of {gamma:g}"


def test_adaptive_augmentation_is_that_of_the_paper():
    own = GeneratorConfig().augmentation
    assert (own.mode, own.target, own.length, own.interval) == ("adaptive", 0.6, 500_000, 4)
    off = {name for name, value in dataclasses.asdict(own).items() if value is False}
    assert off == {"mirror"}


def test_it_comes_back_from_json():
    for config in (GeneratorConfig(), *(config for config, _ in CONFIGS.values())):
        assert build(GeneratorConfig, json.loads(json.dumps(config.to_json()))) == config


# Refusals


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("images=0", "images must be at least 1, got 0."),
        ("images=1.5", "images must be int, got '1.5'."),
        ("checkpoint_images=0", "checkpoint_images must be at least 1, got 0."),
        ("picture_images=-1", "picture_images must be at least 1, got -1."),
        ("resolution=48", "resolution must be a power of two of at least 8, got 48."),
        ("resolution=4", "resolution must be a power of two of at least 8, got 4."),
        ("resolution=0", "resolution must be a power of two of at least 8, got 0."),
        ("resolution=-64", "resolution must be a power of two of at least 8, got -64."),
        ("batch_size=0", "batch_size must be at least 1, got 0."),
        ("accumulation=0", "accumulation must be at least 1, got 0."),
        ("accumulation=3", "accumulation must divide the batch of 32 images, got 3."),
        ("loss.adversarial=hinge", "loss.adversarial must be one of nonsaturating, relativistic, got 'hinge'."),
        ("precision=float64", "precision must be one of auto, float32, bfloat16, float16, got 'float64'."),
        ("network.channel_base=0", "network.channel_base must be at least 1, got 0."),
        ("network.channel_max=0", "network.channel_max must be at least 1, got 0."),
        ("network.z_dim=0", "network.z_dim must be at least 1, got 0."),
        ("network.w_dim=-1", "network.w_dim must be at least 1, got -1."),
        ("network.mapping_layers=0", "network.mapping_layers must be at least 1, got 0."),
        ("network.stddev_group=-1", "network.stddev_group must be at least 0, got -1."),
        ("network.conv_clamp=0", "network.conv_clamp must be above 0, got 0.0."),
        ("generator.learning_rate=0", "generator.learning_rate must be above 0, got 0.0."),
        ("generator.learning_rate=nan", "generator.learning_rate must be float or none, got nan."),
        ("generator.style_mixing=1.1", "generator.style_mixing must lie in [0, 1], got 1.1."),
        ("generator.path_length=-1", "generator.path_length must be at least 0, got -1.0."),
        ("generator.path_length=inf", "generator.path_length must be float, got inf."),
        ("generator.path_length_interval=0", "generator.path_length_interval must be at least 1, got 0."),
        ("generator.path_length_shrink=0", "generator.path_length_shrink must be at least 1, got 0."),
        ("generator.path_length_decay=2", "generator.path_length_decay must lie in [0, 1], got 2.0."),
        ("generator.ema_half_life=-1", "generator.ema_half_life must be at least 0, got -1.0."),
        ("generator.ema_ramp=-1", "generator.ema_ramp must be at least 0, got -1.0."),
        ("discriminator.learning_rate=-1", "discriminator.learning_rate must be above 0, got -1.0."),
        ("discriminator.r1_gamma=-1", "discriminator.r1_gamma must be at least 0, got -1.0."),
        ("discriminator.r1_gamma=nan", "discriminator.r1_gamma must be float or none, got nan."),
        ("discriminator.r1_interval=0", "discriminator.r1_interval must be at least 1, got 0."),
        ("discriminator.frozen_blocks=-1", "discriminator.frozen_blocks must be at least 0, got -1."),
        ("loss.r2=maybe", "loss.r2 must be bool, got 'maybe'."),
        ("checks.interval=0", "checks.interval must be at least 1, got 0."),
        ("checks.samples=1", "checks.samples must be at least 2, got 1."),
        ("checks.grace=-1", "checks.grace must be at least 0, got -1."),
        ("checks.max_restarts=-1", "checks.max_restarts must be at least 0, got -1."),
        ("checks.min_diversity=1.5", "checks.min_diversity must lie in [0, 1], got 1.5."),
        ("checks.keep=first", "checks.keep must be one of best, last, got 'first'."),
        ("augmentation.target=1", "augmentation.target must lie between -1 and 1, both excluded, got 1.0."),
    ],
)
def test_refusals(setting, said):
    with pytest.raises(ConfigError) as caught:
        change(GeneratorConfig(), settings=[setting])
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: GeneratorConfig(images=True), "images must be int, got True."),
        (lambda: GeneratorConfig(network=None), "network must be a NetworkConfig, got None."),
        (lambda: NetworkConfig(channel_max="8"), "network.channel_max must be int or none, got '8'."),
        (lambda: ChecksConfig(interval=1.0), "checks.interval must be int, got 1.0."),
        (
            lambda: changed(batch_size=6, accumulation=4),
            "accumulation must divide the batch of 6 images, got 4.",
        ),
    ],
)
def test_refusals_in_python(make, said):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == said


def test_unknown_names_are_listed():
    with pytest.raises(ConfigError) as caught:
        change(GeneratorConfig(), settings=["discriminator.gamma=1"])
    said = "Unknown setting 'discriminator.gamma'; the valid names there are learning_rate, r1_gamma, "
    assert str(caught.value).startswith(said)


# Presets


@pytest.mark.parametrize("name", CONFIGS)
def test_every_preset_comes_back_from_toml(name, tmp_path):
    config, source = CONFIGS[name]
    preset = preset_named(name)
    assert (preset.config, preset.source, preset.recipe) == (config, source, "stylegan2")
    file = tmp_path / "own.toml"
    file.write_text(as_toml(config), encoding="utf-8")
    assert assemble(None, read_config_file(file)) == config
    assert assemble(config, read_config_file(file)) == config


def numbers(name):
    config = CONFIGS[name][0]
    own, network = config.resolved, config.network
    return {
        "images": config.images,
        "resolution": config.resolution,
        "batch": own.batch_size,
        "base": network.channel_base,
        "max": network.channel_max or 512,
        "latents": (network.z_dim or 512, network.w_dim or 512),
        "mapping": network.mapping_layers or 2,
        "group": network.stddev_group,
        "rates": (own.generator_learning_rate, own.discriminator_learning_rate),
        "gamma": own.r1_gamma,
        "half life": (own.ema_half_life, config.generator.ema_ramp),
        "path length": dataclasses.astuple(config.generator)[2:6],
        "intervals": (config.generator.path_length_interval, config.discriminator.r1_interval),
        "mixing": config.generator.style_mixing,
        "augmentation": config.augmentation.mode,
        "mirror": config.mirror,
    }


ALL = {
    "max": 512,
    "latents": (512, 512),
    "mapping": 8,
    "path length": (2.0, 4, 2, 0.01),
    "intervals": (4, 16),
    "mixing": 0.9,
}


def test_rosinality_by_hand():
    """Its flags: iter 800000, batch 16, size 256, r1 10, lr 0.002, channel_multiplier 2, no augment, mirrored; the
    average decays by 0.5 ** (32 / 10000) a step."""
    assert numbers("rosinality") == ALL | {
        "images": 800_000 * 16,
        "resolution": 256,
        "batch": 16,
        "base": 32768,
        "group": 4,
        "rates": (0.002, 0.002),
        "gamma": 10.0,
        "half life": (10_000 / 32 * 16, 0.0),
        "augmentation": "off",
        "mirror": True,
    }


@pytest.mark.parametrize(
    ("resolution", "batch", "base", "group", "rate", "gamma", "half_life"),
    [
        (256, 64, 16384, 8, 0.0025, 1.0, 20_000),
        (512, 64, 32768, 8, 0.0025, 0.5, 20_000),
        (1024, 32, 32768, 4, 0.002, 2.0, 10_000),
    ],
)
def test_the_papers_by_hand(resolution, batch, base, group, rate, gamma, half_life):
    """As in the table of configurations of NVIDIA's train.py: mb, fmaps, mbstd, lrate, gamma, ema."""
    assert numbers(f"paper{resolution}") == ALL | {
        "images": 25_000_000,
        "resolution": resolution,
        "batch": batch,
        "base": base,
        "group": group,
        "rates": (rate, rate),
        "gamma": gamma,
        "half life": (half_life, 0.0),
        "augmentation": "adaptive",
        "mirror": False,
    }


def test_tiny_is_narrow_and_otherwise_the_default():
    found, default = numbers("tiny"), GeneratorConfig()
    assert (found["resolution"], found["base"], found["max"], found["latents"]) == (64, 2048, 64, (128, 128))
    assert (found["mapping"], found["gamma"], found["half life"]) == (2, pytest.approx(0.0512), (5000, 0.05))
    assert found["path length"][0] == 0
    tiny = CONFIGS["tiny"][0]
    assert tiny.discriminator == default.discriminator
    assert tiny.checks == default.checks
    assert dataclasses.replace(tiny.augmentation, length=500_000) == default.augmentation
